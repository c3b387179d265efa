"""Runs taken up again: files that changed meanwhile, maps that are there already, bytes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from doubles.disturbed import contents
from doubles.field import box_labels, noise, write
from doubles.paths import TINY, listing
from doubles.tiny_model import write_box_model

from flair_engine import Inputs, MapOptions, ReadOptions, RunOptions, run, segment
from flair_engine import contents as contents_of_files
from flair_engine.errors import CompleteError, OutputError, ReadError
from flair_engine.mapping.journal import Journal

CPU = RunOptions(engine="ort", device="cpu", threads=2)
HEIGHT, WIDTH = 64, 48
JOURNAL = ".map.tif.flair-run"


@pytest.fixture
def files(tmp_path):
    """Four files one below the other: 16 strips of 16 rows, each of 4 files."""
    return [
        write(tmp_path / "in" / f"{n}.tif", noise(2, HEIGHT, WIDTH, n), row=HEIGHT * n)
        for n in range(4)
    ]


@pytest.fixture
def mapped(files, tmp_path):
    """Map the files, or what is given, and return what was told and how many strips were made."""

    def mapped(output="map.tif", *, inputs=None, share=2.0, resume=False, on_error="stop", **write):
        told, made = [], []

        def stop(done, total):
            made.append(done)
            if done >= share * total:
                raise KeyboardInterrupt

        segment(
            TINY, inputs or Inputs(images=tuple(map(str, files))), tmp_path / output, CPU,
            read=ReadOptions(on_error=on_error), write=MapOptions(resume=resume, **write),
            progress=stop, notify=told.append,
        )  # fmt: skip
        return told, len(made) - 1

    return mapped


@pytest.fixture
def interrupted(mapped, tmp_path):
    """A run that has made three of four files' strips."""
    with pytest.raises(KeyboardInterrupt):
        mapped(share=0.75)
    assert listing(tmp_path) == [JOURNAL, "in"]


def labels_of(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def expected(files):
    image = np.concatenate([rasterio.open(path).read() for path in files], axis=1)
    return box_labels(*image)


def test_what_saw_a_file_that_changed_is_made_again(mapped, files, interrupted, tmp_path):
    write(files[0], noise(2, HEIGHT, WIDTH, 9))
    told, made = mapped(resume=True)
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()
    mapped("fresh.tif")
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "fresh.tif").read_bytes()
    (line,) = told
    assert line.startswith(f"{files[0]}: changed since the run began, ")
    # Four strips of its own and two below that its pixels may reach.
    assert "6 of 1" in line
    assert line.endswith(" finished strips are made again")
    assert made < 12


def test_a_file_that_no_finished_strip_saw_costs_nothing(mapped, files, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        mapped(share=0.25)
    write(files[3], noise(2, HEIGHT, WIDTH, 9), row=3 * HEIGHT)
    (line,), _ = mapped(resume=True)
    assert ", 0 of " in line
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()


def test_many_files_that_changed_are_one_line(mapped, files, interrupted, tmp_path):
    for path in files:
        path.write_bytes(path.read_bytes() + b"0")
    (line,), _ = mapped(resume=True)
    assert f"{files[0]} and 3 more: changed since the run began" in line
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()


class AtOnce:
    """Does what it is given in the caller's thread."""

    def __init__(self, *_, **__):
        self.done = []

    def submit(self, function, *arguments):
        self.done.append((function(*arguments), *arguments))

    def shutdown(self, **_):
        pass


@pytest.fixture
def known(mapped, tmp_path, monkeypatch):
    """A run that has made three of four files' strips, and knows what the files held."""
    monkeypatch.setattr(contents_of_files, "ThreadPoolExecutor", AtOnce)
    with pytest.raises(KeyboardInterrupt):
        mapped(share=0.75)


@pytest.mark.parametrize("copied", [False, True])
def test_files_that_were_touched_or_copied_again_cost_nothing(
    mapped, files, known, tmp_path, copied
):
    for path in files:
        if copied:
            shutil.move(shutil.copy(path, tmp_path), path)
        else:
            os.utime(path)
    told, made = mapped(resume=True)
    assert told == []
    assert made <= 5
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()


def test_other_pixels_of_the_same_size_are_a_change(mapped, files, known, tmp_path):
    before = files[0].stat()
    content = bytearray(files[0].read_bytes())
    write(files[0], noise(2, HEIGHT, WIDTH, 9))
    assert files[0].stat().st_size == before.st_size
    assert files[0].read_bytes() != content
    (line,), _ = mapped(resume=True)
    assert line.startswith(f"{files[0]}: changed since the run began, 6 of ")
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()


def test_a_file_is_known_by_what_the_run_read(mapped, files, tmp_path, monkeypatch):
    """One that was changed after its strips and before its content was taken is not."""
    taken = contents_of_files.digest_of

    def changed_before(name, stopped):
        write(files[0], noise(2, HEIGHT, WIDTH, 9))
        return taken(name, stopped)

    monkeypatch.setattr(contents_of_files, "ThreadPoolExecutor", AtOnce)
    monkeypatch.setattr(contents_of_files, "digest_of", changed_before)
    with pytest.raises(KeyboardInterrupt):
        mapped(share=0.75)
    monkeypatch.undo()
    (line,), _ = mapped(resume=True)
    assert line.startswith(f"{files[0]}: changed since the run began, 6 of ")
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()


def test_a_run_killed_as_strips_are_taken_back_takes_them_back(
    mapped, files, interrupted, tmp_path, monkeypatch
):
    write(files[0], noise(2, HEIGHT, WIDTH, 9))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "renew", killed)
    with pytest.raises(KeyboardInterrupt):
        mapped(resume=True)
    monkeypatch.undo()
    (line,), _ = mapped(resume=True)
    assert ", 0 of " in line
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()


def test_what_does_not_change_a_file_costs_nothing(
    mapped, files, interrupted, tmp_path, monkeypatch
):
    """What QGIS and gdaladdo put beside files, links, and other spellings of a path."""
    for path in files:
        Path(f"{path}.aux.xml").write_text("<PAMDataset/>")
    copy = Path(shutil.copy(files[0], tmp_path))  # rasterio has no -ro
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(copy, "r+") as dataset:
        dataset.build_overviews([2])
    Path(f"{copy}.ovr").rename(f"{files[0]}.ovr")
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    names = ["in/0.tif", str(tmp_path / "in" / ".." / "in" / "1.tif"), "link/2.tif", str(files[3])]
    told, made = mapped(resume=True, inputs=Inputs(images=tuple(names)))
    assert told == []
    assert made <= 5
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()


def test_a_file_of_another_kind_is_another_run(mapped, files, interrupted):
    write(files[0], noise(2, HEIGHT, WIDTH, 0), nodata=7)
    with pytest.raises(OutputError, match="differs in inputs: run it as it was"):
        mapped(resume=True)


def test_other_files_are_another_run(mapped, files, interrupted, tmp_path):
    moved = files[0].rename(tmp_path / "in" / "moved.tif")
    inputs = Inputs(images=tuple(map(str, [moved, *files[1:]])))
    with pytest.raises(OutputError, match=r"differs in source \(.*tif and 1 more\): run it as it"):
        mapped(resume=True, inputs=inputs)


def test_what_cannot_be_read_may_be_skipped_after_all(mapped, files, tmp_path):
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"2\.tif: block .* cannot be"):
        mapped()
    told, made = mapped(resume=True, on_error="skip")
    assert made <= 12
    assert any("unreadable blocks skipped" in line for line in told)
    labels = labels_of(tmp_path / "map.tif")
    assert (labels == 0).any()
    assert (labels[: 2 * HEIGHT - 2] == expected(files[:2])[:-2]).all()


def test_a_block_is_skipped_once_however_often_the_run_is_taken_up(mapped, files, tmp_path):
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[: len(whole) // 2])
    told, _ = mapped("at once.tif", on_error="skip")
    for share in (0.6, 0.7, 0.8):
        with pytest.raises(KeyboardInterrupt):
            mapped(resume=True, on_error="skip", share=share)
    assert mapped(resume=True, on_error="skip")[0] == told
    assert (labels_of(tmp_path / "map.tif") == labels_of(tmp_path / "at once.tif")).all()


def test_what_was_skipped_of_a_file_is_forgotten_once_it_is_fetched_again(mapped, files, tmp_path):
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KeyboardInterrupt):
        mapped(on_error="skip", share=0.9)
    files[2].write_bytes(whole)
    with pytest.raises(KeyboardInterrupt):  # taken back, and killed again
        mapped(resume=True, on_error="skip", share=0.9)
    told, _ = mapped(resume=True, on_error="skip")
    assert not any("skipped" in line for line in told)
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()


def test_what_was_skipped_is_not_taken_for_read(mapped, files):
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"2\.tif: block"):
        mapped()
    with pytest.raises(KeyboardInterrupt):
        mapped(resume=True, on_error="skip", share=0.75)
    with pytest.raises(OutputError, match=r"differs in on_error \(skip, now stop\)"):
        mapped(resume=True)


@pytest.mark.parametrize("per_input", [False, True])
def test_a_file_that_is_written_over_meanwhile_ends_the_run(
    mapped, files, tmp_path, monkeypatch, per_input
):
    output = "maps" if per_input else "map.tif"
    if per_input:
        (tmp_path / output).mkdir()
    known = run.read_strips

    def meanwhile(*arguments, **options):
        for n, strip in enumerate(known(*arguments, **options)):
            if n == 3:
                write(files[0], noise(2, HEIGHT, WIDTH, 9))
            yield strip

    monkeypatch.setattr(run, "read_strips", meanwhile)
    with pytest.raises(ReadError, match=r"0\.tif: changed while it was read: continue with --res"):
        mapped(output, per_input=per_input)
    published = [path for path in tmp_path.rglob("*.qml") if "flair-run" not in path.parent.name]
    assert published == []
    monkeypatch.undo()
    told, _ = mapped(output, per_input=per_input, resume=True)
    assert f"{files[0]}: changed since the run began" in told[0]
    if per_input:
        found = np.concatenate([labels_of(tmp_path / output / path.name) for path in files])
    else:
        found = labels_of(tmp_path / output)
    assert (found == expected(files)).all()


def test_a_file_that_is_deleted_meanwhile_ends_the_run(mapped, files, tmp_path, monkeypatch):
    def gone(*arguments, **options):
        yield from known(*arguments, **options)
        files[0].unlink()
        files[1].unlink()

    known = run.read_strips
    monkeypatch.setattr(run, "read_strips", gone)
    with pytest.raises(ReadError, match=r"0\.tif and 1 more: changed while it was read"):
        mapped()
    assert not (tmp_path / "map.tif").exists()


def leave_folders(tmp_path, name=JOURNAL):
    """What kills between the last map and the end of the run leave."""
    for folder in (tmp_path / name, tmp_path / f"{name}.done"):
        folder.mkdir()
        (folder / "lock").touch()
    (tmp_path / f"{name}.done" / "strips.bin").write_bytes(b"strips")


@pytest.mark.parametrize("output", ["map.tif", "maps"])
def test_a_finished_map_is_complete_and_what_is_left_is_cleared(mapped, tmp_path, output):
    options = {"per_input": output == "maps", "cog": True}
    if output == "maps":
        (tmp_path / output).mkdir()
    mapped(output, **options)
    before = contents(tmp_path)
    if output == "maps":
        leave_folders(tmp_path / "maps", ".flair-run")
    else:
        leave_folders(tmp_path)
    for _ in range(2):
        with pytest.raises(CompleteError, match=f"{output}: is complete: nothing is left") as end:
            mapped(output, resume=True, **options)
        assert end.value.exit_code == 0
        assert contents(tmp_path) == before


def test_a_finished_map_of_other_settings_is_refused(mapped, files, tmp_path):
    mapped()
    before = contents(tmp_path)
    message = r"map\.tif: exists already, of a run with other settings, .*: use --overwrite, or an"
    for changes in ({"labels": "zero-based"}, {"cog": True}, {"on_error": "skip"}):
        with pytest.raises(OutputError, match=message) as error:
            mapped(resume=True, **changes)
        assert error.value.exit_code == 2
    with pytest.raises(OutputError, match=message):
        mapped(resume=True, inputs=Inputs(images=(str(files[0]),)))
    assert contents(tmp_path) == before
    mapped(resume=True, overwrite=True, labels="zero-based")
    assert labels_of(tmp_path / "map.tif").min() == 0


def test_a_map_that_is_older_than_its_files_is_refused(mapped, files, tmp_path):
    mapped()
    os.utime(files[1])
    with pytest.raises(OutputError, match=r"1\.tif has changed since: use --overwrite"):
        mapped(resume=True)


def test_maps_of_some_files_are_completed(mapped, files, tmp_path):
    (tmp_path / "maps").mkdir()
    mapped("maps", per_input=True)
    before = contents(tmp_path / "maps")
    (tmp_path / "maps" / "2.tif").unlink()
    mapped("maps", per_input=True, resume=True)
    assert contents(tmp_path / "maps") == before


def test_a_map_without_its_other_outputs_is_not_complete(files, tmp_path):
    outputs = ("labels", "confidence", "probabilities")
    model = write_box_model(tmp_path, "one", "two", outputs=outputs)
    output, resume = tmp_path / "map.tif", MapOptions(resume=True)
    segment(model, files, output, CPU, write=resume)
    before = contents(tmp_path)
    with pytest.raises(CompleteError, match="is complete"):
        segment(model, files, output, CPU, write=resume)
    (tmp_path / "map.confidence.tif").unlink()
    segment(model, files, output, CPU, write=resume)
    assert contents(tmp_path) == before
    other = write_box_model(tmp_path, "a", "b", outputs=outputs)
    output.unlink()
    with pytest.raises(OutputError, match=r"map\.confidence\.tif: exists already, of a run with"):
        segment(other, files, output, CPU, read=ReadOptions(bands=(2, 1)), write=resume)


@pytest.mark.parametrize("options", [{}, {"cog": True}, {"per_input": True}])
def test_equal_runs_in_two_places_give_equal_bytes(mapped, tmp_path, options):
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        mapped(place if options.get("per_input") else f"{place}/map.tif", **options)
    found = [contents(tmp_path / place) for place in ("one", "other")]
    assert len(found[0]) == (12 if options.get("per_input") else 3)
    assert found[0] == found[1]


def test_probabilities_of_equal_runs_have_equal_bytes(files, tmp_path):
    outputs = ("labels", "confidence", "probabilities")
    model = write_box_model(tmp_path, "one", "two", outputs=outputs)
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        segment(model, files, tmp_path / place / "map.tif", CPU)
    found = [contents(tmp_path / place) for place in ("one", "other")]
    assert len(found[0]) == 6
    assert found[0] == found[1]


def test_what_was_spoilt_is_told_with_what_is_kept(mapped, interrupted, files, tmp_path):
    path = tmp_path / JOURNAL / "strips.bin"
    content = bytearray(path.read_bytes())
    strips = content.count(b'{"panel"')
    line_end = content.index(b"\n", content.index(b'{"panel": 0, "i": 4'))
    content[line_end + 1] ^= 1  # the first of its packed pixels
    path.write_bytes(content)
    (line,), _ = mapped(resume=True)
    assert line == (
        f"the journal of the unfinished run was spoilt in part: {strips - 1} finished strips are "
        "kept, what else there was is made again"
    )
    assert (labels_of(tmp_path / "map.tif") == expected(files)).all()
