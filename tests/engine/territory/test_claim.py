"""Claims: one holder at a time, taken over from the dead alone."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from flair_engine.errors import BusyError, WriteError
from flair_engine.territory import claim as module
from flair_engine.territory.claim import Claim, ClaimLostError, is_held


def test_one_holds_it_and_gives_it_back(tmp_path):
    path = tmp_path / "a.claim"
    with Claim(path) as held:
        held.check()
        assert is_held(path)
        with pytest.raises(BusyError, match="another process is at work there: wait for it"):
            Claim(path)
    assert not is_held(path)
    assert list(tmp_path.iterdir()) == []


def test_of_many_threads_one_gets_it(tmp_path):
    got, refused = [], []

    def attempt():
        try:
            got.append(Claim(tmp_path / "a.claim"))
        except BusyError as error:
            refused.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 15)
    got[0].__exit__()


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    path = tmp_path / "a.claim"
    code = f"""
import os, pathlib
from flair_engine.territory.claim import Claim
Claim(pathlib.Path({str(path)!r}))
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert path.exists()
    assert not is_held(path)
    with Claim(path) as held:
        held.check()


def test_a_holder_elsewhere_is_dead_once_it_has_not_touched_it_for_long(tmp_path):
    path = tmp_path / "a.claim"
    path.write_text(json.dumps({"token": "theirs", "place": "another machine", "pid": 1}))
    assert is_held(path)
    long_ago = time.time() - module.STALE_S - 5
    os.utime(path, (long_ago, long_ago))
    assert not is_held(path)
    with Claim(path) as held:
        held.check()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_is_being_written_is_held(tmp_path):
    (tmp_path / "a.claim").touch()
    assert is_held(tmp_path / "a.claim")


def test_a_holder_touches_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    path = tmp_path / "a.claim"
    with Claim(path):
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_who_stood_still_and_was_replaced_is_told(tmp_path):
    path = tmp_path / "a.claim"
    with Claim(path) as held:
        path.unlink()
        with Claim(path):
            with pytest.raises(ClaimLostError, match="another has taken over"):
                held.check()
            held.__exit__()
            assert path.exists(), "the claim of the other is gone"


def test_a_new_claim_that_was_taken_for_a_dead_one_is_put_back(tmp_path, monkeypatch):
    path = tmp_path / "a.claim"
    path.write_text(json.dumps({"token": "dead"}))

    def replaced_meanwhile(_path):
        path.write_text(json.dumps({"token": "new"}))
        return False

    monkeypatch.setattr(module, "is_held", replaced_meanwhile)
    with pytest.raises(BusyError, match="another process"):
        Claim(path)
    assert json.loads(path.read_text())["token"] == "new"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WriteError, match="No such file.*check the job's folder"):
        Claim(tmp_path / "absent" / "a.claim")
