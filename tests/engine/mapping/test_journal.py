import errno
import json
import os
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from doubles.damage import damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from flair_engine.errors import OutputError, WriteError
from flair_engine.mapping.journal import (
    JOURNAL_SCHEMA,
    AbandonedError,
    Journal,
    clear_finished,
    done_folder,
    unfinished,
)

IDENTITY = {"model": "abc", "geometry": (512, 128), "on_error": "stop", "source": {}}


def open_journal(tmp_path, identity=IDENTITY, *, told=None, started="first", **options):
    return Journal(
        tmp_path / "run", identity, started=started,
        **{"resume": False, "restart": False, **options},
        notify=(told if told is not None else []).append,
    )  # fmt: skip


SPOILT = "the journal of the unfinished run was spoilt: it is started again"


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


@pytest.mark.parametrize("torn", range(1, 250, 16))
def test_what_is_torn_at_the_end_is_dropped(tmp_path, torn):
    ends = []
    data = tmp_path / "run" / "strips.bin"
    with open_journal(tmp_path) as journal:
        for i in range(2):
            journal.append(0, i, strip(1))
            ends.append(data.stat().st_size)
    data.write_bytes(data.read_bytes()[:-torn])
    with open_journal(tmp_path, resume=True) as journal:
        left = journal.finished(("labels",))
        assert left == ({(0, 0)} if torn <= ends[1] - ends[0] else set())
        assert journal.spoilt == (torn != ends[1] - ends[0])
        journal.append(0, 1, strip(7))
        if left:
            assert (journal.load(0, 0, "labels") == 1).all()
        assert (journal.load(0, 1, "labels") == 7).all()


def test_a_hole_in_a_record_costs_its_strip_alone(tmp_path):
    """A file system may know the length of a file before its content, when the power goes."""
    with open_journal(tmp_path) as journal:
        for i in range(3):
            journal.append(0, i, strip(i))
    data = tmp_path / "run" / "strips.bin"
    content = data.read_bytes()
    end = content.index(b'{"panel": 0, "i": 2')
    data.write_bytes(content[: end - 4] + bytes(4) + content[end:])
    for _ in range(2):  # once found, it is taken back
        with open_journal(tmp_path, resume=True) as journal:
            assert journal.finished(("labels",)) == {(0, 0), (0, 2)}
    assert not journal.spoilt


@settings(max_examples=200)
@given(data=st.data(), outputs=st.sampled_from([("labels",), ("labels", "confidence")]))
def test_a_journal_damaged_anywhere_holds_what_was_put_there_or_nothing(
    tmp_path_factory, data, outputs
):
    folder = tmp_path_factory.mktemp("damaged")
    names = {f"{n}.tif": [5, n] for n in range(2)}
    identity = {**IDENTITY, "source": names}
    rng = np.random.default_rng(1)
    strips = {
        (panel, i): {
            name: rng.integers(0, 2, (1, 4, 30)).astype(np.uint8) * (i % 2 == 0) for name in outputs
        }
        for panel in range(2)
        for i in range(3)
    }
    with open_journal(folder, identity) as journal:
        for (panel, i), arrays in strips.items():
            journal.append(panel, i, arrays)
        journal.drop([(0, 1)])
        journal.append(0, 1, strips[0, 1])
    path = folder / "run" / "strips.bin"
    before = path.read_bytes()
    path.write_bytes(after := data.draw(damaged(before)))
    told = []
    with open_journal(folder, identity, resume=True, told=told) as journal:
        left = journal.finished(outputs)
        assert left <= strips.keys()
        assert before != after or left == strips.keys()
        assert told in ([], [SPOILT])
        assert not (told and left)
        # Untold only where nothing shows that there was more.
        whole = before.startswith(after) or left == strips.keys()
        assert told or journal.spoilt or whole or after.count(b"{") < before.count(b"{")
        for strip in strips.keys() - left:
            journal.append(*strip, strips[strip])
        for (panel, i), arrays in strips.items():
            for name in outputs:
                assert (journal.load(panel, i, name) == arrays[name]).all()
    with open_journal(folder, identity, resume=True) as journal:
        assert journal.finished(outputs) == strips.keys()
        assert not journal.spoilt


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
    other = {**IDENTITY, "model": "xyz", "batch": 4}
    message = r"differs in model \(abc, now xyz\); batch \(None, now 4\): run it as it was"
    with pytest.raises(OutputError, match=message):
        open_journal(tmp_path, other, resume=True)
    assert unfinished(tmp_path / "run")


def test_what_differs_is_told_in_a_line_that_can_be_read(tmp_path):
    sources = {f"{n}.tif": [1, 1] for n in range(2000)}
    identity = {**IDENTITY, "reading": {"mask": None, "bands": None}, "source": sources}
    with open_journal(tmp_path, identity) as journal:
        journal.append(0, 0, strip(1))
    for name, changed, said in (
        ("reading", {"mask": None, "bands": [2, 1]}, r"differs in reading \(bands\): run"),
        ("source", {**sources, "more.tif": [1]}, r"differs in source \(more\.tif\): run"),
        ("source", {}, r"differs in source \(0\.tif and 1999 more\): run it as it was"),
        ("model", "x" * 300, "differs in model: run it as it was"),
        ("model", "0" * 64, "differs in model: run it as it was"),
    ):
        with pytest.raises(OutputError, match=said) as error:
            open_journal(tmp_path, {**identity, name: changed}, resume=True)
        assert len(str(error.value)) < 300 + len(str(tmp_path))


def test_files_may_change_and_their_strips_be_taken_back(tmp_path):
    before = {**IDENTITY, "source": {"a": [1, 1], "b": [1, 1]}}
    after = {**IDENTITY, "source": {"a": [1, 1], "b": [1, 2]}}
    with open_journal(tmp_path, before) as journal:
        assert (journal.changed, journal.sources) == ((), before["source"])
        for i in range(3):
            journal.append(0, i, strip(i))
    for _ in range(2):  # killed before the files of now are taken for those of the run
        with open_journal(tmp_path, after, resume=True) as journal:
            assert (journal.changed, journal.sources) == (("b",), after["source"])
            journal.drop([(0, 1), (0, 1)])
            assert journal.finished(("labels",)) == {(0, 0), (0, 2)}
    with open_journal(tmp_path, after, resume=True) as journal:
        journal.renew()
        assert journal.changed == ()
        journal.append(0, 1, strip(7))
    with open_journal(tmp_path, after, resume=True, started="second") as journal:
        assert (journal.changed, journal.started) == ((), "first")
        assert journal.finished(("labels",)) == {(0, 0), (0, 1), (0, 2)}
        assert (journal.load(0, 1, "labels") == 7).all()
    with open_journal(tmp_path, before, resume=True) as journal:
        assert journal.changed == ("b",)


def test_blocks_may_be_skipped_from_now_on_and_not_the_other_way_round(tmp_path):
    skip = {**IDENTITY, "on_error": "skip"}
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
    with open_journal(tmp_path, skip, resume=True) as journal:
        assert journal.skipped == set()
        journal.append(0, 1, strip(1), {("a", 0, 0), ("a", 0, 64)})
        journal.append(0, 2, strip(1), {("a", 0, 0), ("a", 0, 64), ("b", 64, 0)})
    with pytest.raises(OutputError, match=r"differs in on_error \(skip, now stop\): run it as it"):
        open_journal(tmp_path, resume=True)
    with open_journal(tmp_path, skip, resume=True) as journal:
        assert journal.skipped == {("a", 0, 0), ("a", 0, 64), ("b", 64, 0)}
        journal.append(0, 3, strip(1), {("a", 0, 64), ("c", 0, 0)})  # one is met again
    with open_journal(tmp_path, skip, resume=True) as journal:
        assert journal.skipped == {("a", 0, 0), ("a", 0, 64), ("b", 64, 0), ("c", 0, 0)}


def test_blocks_of_a_file_that_has_changed_are_forgotten(tmp_path):
    before = {**IDENTITY, "source": {"a": [1, 1], "b": [1, 1]}}
    after = {**IDENTITY, "source": {"a": [1, 1], "b": [1, 2]}}
    with open_journal(tmp_path, before) as journal:
        journal.append(0, 0, strip(1), {("a", 0, 0), ("b", 0, 0)})
        for name in "ab":
            journal.note_content(name, f"of {name}")
    for _ in range(2):  # killed before it is known whether it is another
        with open_journal(tmp_path, after, resume=True) as journal:
            assert journal.skipped == {("a", 0, 0), ("b", 0, 0)}
            assert journal.contents == {"a": "of a", "b": "of b"}
    with open_journal(tmp_path, after, resume=True) as journal:
        journal.renew(["b"])
        journal.append(0, 1, strip(1), {("b", 9, 9)})
    with open_journal(tmp_path, after, resume=True) as journal:
        assert journal.skipped == {("a", 0, 0), ("b", 9, 9)}
        assert journal.contents == {"a": "of a"}


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
            "Journal(pathlib.Path(sys.argv[1]), {'source': {}}, started='', resume=True, "
            "restart=False)"
        )
        other = subprocess.run(
            [sys.executable, "-c", probe, tmp_path / "run"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "BusyError" in other.stderr
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
        message = r"strips\.bin: strip 2 of panel 5 was damaged on disk: continue with --resume, w"
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


@pytest.mark.parametrize("error", [errno.EIO, errno.EDQUOT, errno.ENOSPC])
def test_after_a_failure_nothing_more_is_taken(tmp_path, monkeypatch, error):
    """It would come to lie on what was half written."""
    known = os.fsync

    def once(descriptor):
        monkeypatch.setattr(os, "fsync", known)
        raise OSError(error, os.strerror(error))

    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        monkeypatch.setattr(os, "fsync", once)
        with pytest.raises(WriteError, match="cannot be written|the disk is full"):
            journal.append(0, 1, strip(2))
        for refused in (lambda: journal.append(0, 2, strip(3)), journal.renew):
            with pytest.raises(WriteError, match="an earlier strip could not be stored: mend that"):
                refused()
    with open_journal(tmp_path, resume=True) as journal:
        assert (0, 0) in journal.finished(("labels",)) <= {(0, 0), (0, 1)}


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="the disk is full"):
        open_journal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_cannot_be_read_is_not_taken_for_none(tmp_path, monkeypatch):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
    known = Path.open

    def refuse(path, mode="r", *rest, **options):
        if path.name == "strips.bin" and mode == "rb":
            raise OSError(errno.EIO, "Input/output error")
        return known(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", refuse)
    for options in ({"resume": True}, {}):
        with pytest.raises(WriteError, match=r"cannot be written \(Input/output error\)"):
            open_journal(tmp_path, **options)
    monkeypatch.undo()
    assert unfinished(tmp_path / "run")


@pytest.mark.parametrize("content", [bytes(5000), b"garbage", b"\n\n", b"{}{}{\n{"])
def test_a_journal_without_a_header_is_started_again(tmp_path, content):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
    (tmp_path / "run" / "strips.bin").write_bytes(content)
    told = []
    with open_journal(tmp_path, resume=True, told=told) as journal:
        assert journal.finished(("labels",)) == set()
        journal.append(0, 0, strip(1))
    assert told == [SPOILT]
    with open_journal(tmp_path, resume=True) as journal:
        assert journal.finished(("labels",)) == {(0, 0)}


def lines_of(tmp_path):
    """Texts of the lines of a journal, and of their checksums; strips are one byte long."""
    content = (tmp_path / "run" / "strips.bin").read_bytes()
    lines = [line for line in content.split(b"\n") if b"{" in line]
    return [line[line.index(b"{") :].rsplit(b" ", 1) for line in lines]


def test_the_first_record_says_what_the_run_is(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
        ((text, crc32), _) = lines_of(tmp_path)
    identity = {**IDENTITY, "geometry": [512, 128]}
    assert json.loads(text) == {
        "schema": JOURNAL_SCHEMA,
        "started": "first",
        "identity": identity,
        "others": [],
    }
    assert crc32 == b"%08x" % zlib.crc32(text)


@pytest.mark.parametrize("schema", [0, JOURNAL_SCHEMA + 1])
def test_a_run_of_another_layout_is_not_continued(tmp_path, monkeypatch, schema):
    monkeypatch.setattr("flair_engine.mapping.journal.JOURNAL_SCHEMA", schema)
    with open_journal(tmp_path) as journal:
        journal.append(0, 0, strip(1))
    monkeypatch.undo()
    check_refused(tmp_path, schema)


def check_refused(tmp_path, schema):
    path = tmp_path / "run" / "strips.bin"
    before = path.read_bytes()
    message = f"of layout {schema}, this engine continues {JOURNAL_SCHEMA}: start again with --over"
    with pytest.raises(OutputError, match=message):
        open_journal(tmp_path, resume=True)
    assert path.read_bytes() == before


def test_a_run_of_the_layout_before_this_is_not_continued(tmp_path):
    """It has a file run.json, and strips without checksums."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"schema": 2}')
    line = b'{"panel": 0, "i": 3, "name": "labels", "shape": [1, 1, 1], "length": 1, "crc32": 9}\n'
    (tmp_path / "run" / "strips.bin").write_bytes(line + b"x")
    check_refused(tmp_path, "none")


def test_a_record_is_a_line_of_json_and_its_packed_pixels(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append(7, 2, strip(1), {("b", 5, 6), ("a", 3, 4)})
        content = (tmp_path / "run" / "strips.bin").read_bytes()
        _, (text, crc32) = lines_of(tmp_path)
    packed = content[content.index(crc32) + len(crc32) + 1 :]
    assert json.loads(text) == {
        "panel": 7,
        "i": 2,
        "name": "labels",
        "shape": [1, 4, 6],
        "length": len(packed),
        "crc32": zlib.crc32(packed),
        "skipped": [["a", 3, 4], ["b", 5, 6]],
    }
    assert crc32 == b"%08x" % zlib.crc32(text)


BOTH = ("labels", "confidence")


def both(value):
    return {name: strip(value)["labels"] for name in BOTH}


def starts_of_records(data):
    """Offsets of the line and of the pixels of each record after the first, then the end."""
    places, end = [], data.index(b"\n") + 1
    while end < len(data):
        pixels = data.index(b"\n", end) + 1
        places += [end, pixels]
        end = pixels + json.loads(data[end:pixels].rsplit(b" ", 1)[0])["length"]
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


def test_what_cannot_be_cleaned_up_is_a_notice(tmp_path, monkeypatch):
    told = []

    def refuse(path, *_, **__):
        raise OSError(13, "Permission denied")

    with open_journal(tmp_path, told=told) as journal:
        journal.append(0, 0, strip(1))
        monkeypatch.setattr("flair_engine.mapping.journal.shutil.rmtree", refuse)
        journal.remove()
        clear_finished(tmp_path / "run", told.append)
    assert told == [f"{tmp_path / 'run'}: cannot be cleaned up (Permission denied); delete it"] * 2
    monkeypatch.undo()
    clear_finished(tmp_path / "run", told.append)
    assert (list(tmp_path.iterdir()), len(told)) == ([], 2)


def test_leftovers_of_a_run_that_is_done_are_cleared_unless_another_has_begun(tmp_path):
    with open_journal(tmp_path) as journal:
        clear_finished(tmp_path / "run")
        journal.append(0, 0, strip(1))
    assert unfinished(tmp_path / "run")
    clear_finished(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
