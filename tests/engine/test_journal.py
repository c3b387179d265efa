import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flair_engine.errors import OutputError, WriteError
from flair_engine.journal import Journal, pack, sync_folder, unfinished, unpack

IDENTITY = {"model": "abc", "geometry": (512, 128)}


def open_journal(tmp_path, identity=IDENTITY, *, resume=False, restart=False, started="first"):
    return Journal(tmp_path / "run", identity, started=started, resume=resume, restart=restart)


def strip(value, height=4, width=6):
    return {"labels": np.full((1, height, width), value, np.uint8)}


@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 99)),
              elements=st.integers(0, 3)))  # fmt: skip
def test_what_is_packed_is_unpacked(array):
    assert (unpack(pack(array), array.shape) == array).all()


def test_runs_are_short_and_noise_is_raw():
    assert len(pack(np.ones((1, 256, 5000), np.uint8))) == 8
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64), dtype=np.uint8)
    assert len(pack(noise)) == noise.size + 3


def test_finished_strips_are_found_again(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        journal.append(0, 1, strip(2, height=3))
    assert unfinished(tmp_path / "run")
    with open_journal(tmp_path, resume=True, started="second") as journal:
        assert journal.started == "first"
        assert journal.finished(("labels",)) == {(0, 0), (0, 1)}
        assert journal.finished(("labels", "confidence")) == set()
        journal.append(512, 0, strip(3))
        assert (journal.load(0, 1, "labels") == strip(2, height=3)["labels"]).all()
        assert (journal.load(512, 0, "labels") == 3).all()
        journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_torn_line_and_what_it_would_name_are_dropped(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        journal.append(0, 1, strip(2))
    lines = tmp_path / "run" / "journal.jsonl"
    lines.write_bytes(lines.read_bytes()[:-5])
    with open_journal(tmp_path, resume=True) as journal:
        assert journal.finished(("labels",)) == {(0, 0)}
        journal.append(0, 1, strip(7))
        assert (journal.load(0, 0, "labels") == 1).all()
        assert (journal.load(0, 1, "labels") == 7).all()
    assert len(lines.read_bytes().splitlines()) == 2


def test_another_run_is_refused_by_what_differs(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
    other = {"model": "xyz", "geometry": (512, 128), "batch": 4}
    message = r"differs in model \(abc, now xyz\); batch \(None, now 4\): run it as it was"
    with pytest.raises(OutputError, match=message):
        open_journal(tmp_path, other, resume=True)
    assert unfinished(tmp_path / "run")


def test_an_unfinished_run_is_not_lost_by_accident(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
    with pytest.raises(OutputError, match="holds an unfinished run: continue it with --resume"):
        open_journal(tmp_path)
    with open_journal(tmp_path, restart=True) as journal:
        assert journal.finished(("labels",)) == set()


def test_a_run_without_a_strip_leaves_nothing(tmp_path):
    with open_journal(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_runs_on_one_output(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        probe = (
            "import sys, pathlib\nfrom flair_engine.journal import Journal\n"
            "Journal(pathlib.Path(sys.argv[1]), {}, started='', resume=True, restart=False)"
        )
        other = subprocess.run(
            [sys.executable, "-c", probe, tmp_path / "run"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "OutputError" in other.stderr
        assert "another run is writing this output" in other.stderr
        assert journal.finished(("labels",)) == {(0, 0)}


def test_another_run_in_this_process(tmp_path):
    with open_journal(tmp_path), pytest.raises(OutputError, match="another run is writing"):
        open_journal(tmp_path)


def test_damage_on_disk_is_seen(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        data = tmp_path / "run" / "strips.bin"
        content = bytearray(data.read_bytes())
        content[4] ^= 1
        data.write_bytes(content)
        with pytest.raises(WriteError, match="strip 0 at column 0 was damaged on disk"):
            journal.load(0, 0, "labels")


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(WriteError, match="the disk is full: free some space, then continue"):
            journal.append(0, 1, strip(2))
    monkeypatch.undo()
    with open_journal(tmp_path, resume=True) as journal:
        assert journal.finished(("labels",)) == {(0, 0)}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(WriteError, match="cannot be written"):
        open_journal(tmp_path)


def test_the_record_is_readable(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record == {"started": "first", "identity": {"model": "abc", "geometry": [512, 128]}}
    sync_folder(tmp_path)
