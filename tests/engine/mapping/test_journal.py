import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from flair_engine.errors import OutputError, WriteError
from flair_engine.mapping.journal import JOURNAL_SCHEMA, AbandonedError, Journal, unfinished

IDENTITY = {"model": "abc", "geometry": (512, 128)}


def open_journal(tmp_path, identity=IDENTITY, *, resume=False, restart=False, started="first"):
    return Journal(tmp_path / "run", identity, started=started, resume=resume, restart=restart)


def strip(value, height=4, width=6):
    return {"labels": np.full((1, height, width), value, np.uint8)}


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


@pytest.mark.parametrize("torn", range(1, 130, 16))
def test_what_is_torn_at_the_end_is_dropped(tmp_path, torn):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        journal.append(0, 1, strip(2))
    data = tmp_path / "run" / "strips.bin"
    data.write_bytes(data.read_bytes()[:-torn])
    with open_journal(tmp_path, resume=True) as journal:
        left = journal.finished(("labels",))
        assert left == ({(0, 0)} if torn < 110 else set())
        journal.append(0, 1, strip(7))
        if left:
            assert (journal.load(0, 0, "labels") == 1).all()
        assert (journal.load(0, 1, "labels") == 7).all()


def test_a_hole_in_the_last_record_is_dropped(tmp_path):
    """A file system may know the length of a file before its content, when the power goes."""
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        journal.append(0, 1, strip(2))
    data = tmp_path / "run" / "strips.bin"
    data.write_bytes(data.read_bytes()[:-4] + bytes(4))
    with open_journal(tmp_path, resume=True) as journal:
        assert journal.finished(("labels",)) == {(0, 0)}


def test_values_of_all_strips_are_counted(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, {**strip(1), "confidence": strip(9)["labels"]})
        journal.append(0, 1, strip(3))
        counts = journal.count_values("labels")
    assert (counts[1], counts[3], counts.sum()) == (24, 24, 48)


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
            "import sys, pathlib\nfrom flair_engine.mapping.journal import Journal\n"
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


def test_a_strip_is_waited_for(tmp_path):
    with open_journal(tmp_path) as journal, ThreadPoolExecutor(1) as thread:
        journal.append(0, 0, strip(1))
        journal.load(0, 0, "labels")
        assert journal.waited_s < 0.05
        loaded = thread.submit(journal.load, 0, 1, "labels")
        time.sleep(0.05)
        journal.append(512, 1, strip(2))
        assert not loaded.done()
        journal.append(0, 1, strip(3))
        assert (loaded.result() == 3).all()
        assert journal.waited_s >= 0.04


def test_nobody_waits_for_an_abandoned_run(tmp_path):
    with open_journal(tmp_path) as journal, ThreadPoolExecutor(1) as thread:
        loaded = thread.submit(journal.load, 0, 1, "labels")
        journal.abandon()
        with pytest.raises(AbandonedError, match="strip 1 at column 0 is not wanted"):
            loaded.result()


def test_damage_on_disk_is_seen(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        data = tmp_path / "run" / "strips.bin"
        content = bytearray(data.read_bytes())
        content[-1] ^= 1
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
        assert (0, 0) in journal.finished(("labels",))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(WriteError, match="cannot be written"):
        open_journal(tmp_path)


def test_the_record_is_readable(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        record = json.loads((tmp_path / "run" / "run.json").read_text())
    identity = {"model": "abc", "geometry": [512, 128]}
    assert record == {"schema": JOURNAL_SCHEMA, "started": "first", "identity": identity}


@pytest.mark.parametrize("schema", [None, 0, JOURNAL_SCHEMA + 1])
def test_a_run_of_another_layout_is_not_continued(tmp_path, schema):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    record.pop("schema")
    path.write_text(json.dumps(record if schema is None else {**record, "schema": schema}))
    with pytest.raises(OutputError, match="layout .*, this engine continues 1: start again with"):
        open_journal(tmp_path, resume=True)
