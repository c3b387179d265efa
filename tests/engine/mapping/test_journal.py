import json
import os
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from flair_engine.errors import OutputError, WriteError
from flair_engine.mapping.journal import (
    JOURNAL_SCHEMA,
    AbandonedError,
    Journal,
    done_folder,
    unfinished,
)

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
        journal.append(5, 0, strip(3))
        assert (journal.load(0, 1, "labels") == strip(2, height=3)["labels"]).all()
        assert (journal.load(5, 0, "labels") == 3).all()
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


def test_values_are_counted_strip_by_strip(tmp_path):
    mixed = {"labels": np.random.default_rng(1).integers(0, 256, (1, 30, 40)).astype(np.uint8)}
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, {**strip(1), "confidence": strip(9)["labels"]})
        journal.append(0, 1, strip(3))
        journal.append(7, 0, {**mixed, "confidence": strip(8)["labels"]})
        counts = dict(journal.counts("labels"))
    assert counts.keys() == {(0, 0), (0, 1), (7, 0)}
    assert all(found.dtype == np.int64 and found.shape == (256,) for found in counts.values())
    assert (counts[0, 0][1], counts[0, 0].sum()) == (24, 24)
    assert (counts[0, 1][3], counts[0, 1].sum()) == (24, 24)
    assert (counts[7, 0] == np.bincount(mixed["labels"].ravel(), minlength=256)).all()


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
        journal.append(1, 1, strip(2))
        assert not loaded.done()
        journal.append(0, 1, strip(3))
        assert (loaded.result() == 3).all()
        assert journal.waited_s >= 0.04


def test_nobody_waits_for_an_abandoned_run(tmp_path):
    with open_journal(tmp_path) as journal, ThreadPoolExecutor(1) as thread:
        loaded = thread.submit(journal.load, 3, 1, "labels")
        journal.abandon()
        with pytest.raises(AbandonedError, match="strip 1 of panel 3 is not wanted any more"):
            loaded.result()


def test_damage_on_disk_is_seen(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(5, 2, strip(1))
        data = tmp_path / "run" / "strips.bin"
        content = bytearray(data.read_bytes())
        content[-1] ^= 1
        data.write_bytes(content)
        message = r"strips\.bin: strip 2 of panel 5 was damaged on disk: start again with --overwr"
        with pytest.raises(WriteError, match=message):
            journal.load(5, 2, "labels")
        with pytest.raises(WriteError, match=message):
            list(journal.counts("labels"))


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
    message = (
        f"of layout {schema or ('none' if schema is None else 0)}, "
        f"this engine continues {JOURNAL_SCHEMA}: start again with --overwrite"
    )
    with pytest.raises(OutputError, match=message):
        open_journal(tmp_path, resume=True)
    assert unfinished(tmp_path / "run")


def test_a_record_is_a_line_of_json_and_its_packed_pixels(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(7, 2, strip(1))
        line, packed = (tmp_path / "run" / "strips.bin").read_bytes().split(b"\n", 1)
    assert json.loads(line) == {
        "panel": 7,
        "i": 2,
        "name": "labels",
        "shape": [1, 4, 6],
        "length": len(packed),
        "crc32": zlib.crc32(packed),
    }


BOTH = ("labels", "confidence")


def both(value):
    return {name: strip(value)["labels"] for name in BOTH}


def starts_of_records(data):
    """Offsets of the line and of the pixels of each record, then the end."""
    places, end = [], 0
    while end < len(data):
        pixels = data.index(b"\n", end) + 1
        places += [end, pixels]
        end = pixels + json.loads(data[end:pixels])["length"]
    return [*places, end]


@pytest.mark.parametrize("hole", range(4))
def test_a_hole_anywhere_in_the_last_strip_is_dropped(tmp_path, hole):
    """All outputs of a strip are put on disk at once: any of them may be the one that is not."""
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, both(1))
        journal.append(0, 1, both(2))
    path = tmp_path / "run" / "strips.bin"
    data = path.read_bytes()
    places = starts_of_records(data)
    start, stop = places[4 + hole], places[5 + hole]
    path.write_bytes(data[:start] + bytes(stop - start) + data[stop:])
    with open_journal(tmp_path, resume=True) as journal:
        assert journal.finished(BOTH) == {(0, 0)}
        journal.append(0, 1, both(3))
        assert all((journal.load(0, 1, name) == 3).all() for name in BOTH)


@pytest.mark.parametrize("left", range(1, 9))
def test_a_strip_with_some_of_its_outputs_is_made_again(tmp_path, left):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, both(1))
        journal.append(0, 1, both(2))
    path = tmp_path / "run" / "strips.bin"
    data = path.read_bytes()
    path.write_bytes(data[: starts_of_records(data)[left]])
    with open_journal(tmp_path, resume=True) as journal:
        whole = left // 4  # a strip is two records
        assert journal.finished(BOTH) == {(0, i) for i in range(whole)}
        for i in range(whole, 2):
            journal.append(0, i, both(5))
        for name in BOTH:
            assert (journal.load(0, 0, name) == (1 if whole else 5)).all()
            assert dict(journal.counts(name)).keys() == {(0, 0), (0, 1)}
            assert sum(found[5] for _, found in journal.counts(name)) == 24 * (2 - whole)


def test_what_an_earlier_kill_left_of_a_run_that_was_done_is_deleted(tmp_path):
    left = done_folder(tmp_path / "run")
    left.mkdir()
    (left / "strips.bin").write_bytes(b"old")
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        journal.remove()
    assert list(tmp_path.iterdir()) == []
