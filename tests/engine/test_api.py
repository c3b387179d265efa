"""The engine as a library: arrays through `Model`, files through `segment`."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import rasterio

from flair_engine import FlairError, Inputs, MapOptions, Model, ReadOptions, RunOptions, segment
from flair_engine.errors import EngineError, InferenceError, OutputError, SourceError

SIZES = [(1, 1), (1, 40), (7, 5), (16, 16), (17, 31), (33, 48), (65, 129), (100, 1)]


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_predict_equals_the_whole_array_computation(
    tiny_path, expected_labels, height, width, batch, slots
):
    image = np.random.default_rng(width).integers(0, 256, (2, height, width), dtype=np.uint8)
    with Model(tiny_path, RunOptions(batch=batch, slots=slots, device="cpu")) as model:
        assert (model.predict(image) == expected_labels(image)).all()


@pytest.mark.parametrize(
    "image",
    [np.zeros((3, 9, 9), np.uint8), np.zeros((2, 9, 9), np.float32), np.zeros((9, 9), np.uint8)],
)
def test_predict_refuses_other_arrays(tiny_path, image):
    with (
        Model(tiny_path) as model,
        pytest.raises(SourceError, match=r"image is .*: give uint8 \[2,"),
    ):
        model.predict(image)


def test_nobody_need_listen(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    nothing = {"progress": None, "notify": None, "status": None}
    report = segment(tiny_path, [path], tmp_path / "map.tif", **nothing)
    assert report.pixels == 70 * 53


def test_names_are_paths_texts_or_products(make_raster, tiny_path, tmp_path, expected_labels):
    path, image = make_raster()
    named = ([path], [str(path)], (path,), Inputs(images=(str(path),)))
    for number, inputs in enumerate(named):
        output = tmp_path / f"map{number}.tif"
        segment(str(tiny_path), inputs, str(output), RunOptions(device="cpu"))
        with rasterio.open(output) as dataset:
            assert (dataset.read(1) == expected_labels(image)).all()


def test_a_caller_hears_what_goes_on(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    (tmp_path / "map.qml").write_text("a style of somebody else")
    done, told = [], []
    report = segment(
        tiny_path, [path], tmp_path / "map.tif",
        progress=lambda *pixels: done.append(pixels), notify=told.append,
    )  # fmt: skip
    assert done[-1] == (report.pixels, report.pixels)
    assert tuple(told) == report.notices != ()


def test_the_report_is_returned_and_written(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    where = tmp_path / "run.json"
    report = segment(tiny_path, [path], tmp_path / "map.tif", write=MapOptions(report=where))
    assert where.read_text() == report.to_json() + "\n"


@pytest.mark.parametrize("bands", [(1, 1), (2, 1)])
def test_a_file_is_labelled_as_its_array_is(make_raster, tiny_path, tmp_path, bands):
    path, image = make_raster(height=90, width=61)
    segment(tiny_path, [path], tmp_path / "map.tif", read=ReadOptions(bands=bands))
    with Model(tiny_path) as model, rasterio.open(tmp_path / "map.tif") as dataset:
        chosen = np.ascontiguousarray(image[[band - 1 for band in bands]])
        assert (model.predict(chosen) == dataset.read(1)).all()


def test_a_refusal_has_its_exit_code(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    (tmp_path / "map.tif").write_text("not a map")
    with pytest.raises(OutputError, match="exists already and is no map of flair-engine") as error:
        segment(tiny_path, [path], tmp_path / "map.tif", write=MapOptions(overwrite=True))
    assert error.value.exit_code == 2
    assert (tmp_path / "map.tif").read_text() == "not a map"


def test_predict_refuses_an_empty_array(tiny_path):
    with Model(tiny_path) as model, pytest.raises(FlairError, match="has no pixel"):
        model.predict(np.zeros((2, 0, 5), np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ort", "openvino"])
@pytest.mark.parametrize("options", [{}, {"slots": 3, "batch": 2}, {"slots": 1}])
def test_many_threads_may_ask_one_model(tiny_path, expected_labels, engine, options):
    """1,000 images of many sizes from 8 threads: none is labelled otherwise."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    draw = np.random.default_rng(0)
    images = [
        draw.integers(0, 256, (2, *draw.integers(1, 90, 2)), dtype=np.uint8) for _ in range(40)
    ]
    expected = [expected_labels(image) if min(image.shape[1:]) > 2 else None for image in images]
    with Model(tiny_path, RunOptions(engine=engine, device="cpu", **options)) as model:
        expected = [
            model.predict(image) if labels is None else labels  # too small for the oracle's mirror
            for image, labels in zip(images, expected, strict=True)
        ]

        def is_wrong(n):
            return not np.array_equal(model.predict(images[n % 40]), expected[n % 40])

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(is_wrong, range(1000))) == 0


def test_close_waits_for_what_is_under_way(tiny_path, expected_labels):
    image = np.random.default_rng(1).integers(0, 256, (2, 700, 700), dtype=np.uint8)
    model = Model(tiny_path, RunOptions(device="cpu"))
    begun, found = threading.Event(), []
    first = model._backend.slots[0]
    submit = first.submit

    def submit_and_tell():
        begun.set()
        submit()

    first.submit = submit_and_tell
    thread = threading.Thread(target=lambda: found.append(model.predict(image)))
    thread.start()
    begun.wait()
    assert not found
    model.close()
    thread.join(timeout=0.5)
    assert (found[0] == expected_labels(image)).all()
    model.close()  # does nothing
    with pytest.raises(EngineError, match="^this Model is closed: open it again$"):
        model.predict(image)


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_a_model_serves_after_a_failure(tiny_path, expected_labels, monkeypatch, engine):
    """A failure, or Ctrl-C in a notebook, leaves other slots in flight."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    image = np.random.default_rng(1).integers(0, 256, (2, 90, 80), dtype=np.uint8)
    with Model(tiny_path, RunOptions(engine=engine, device="cpu", slots=3)) as model:
        slot_class, calls = type(model._backend.slots[0]), []
        wait = slot_class.wait

        def fail_once(slot):
            calls.append(slot)
            if len(calls) == 4:
                raise InferenceError("gone", "again")
            if len(calls) == 14:
                raise KeyboardInterrupt
            return wait(slot)

        monkeypatch.setattr(slot_class, "wait", fail_once)
        with pytest.raises(InferenceError, match="gone"):
            model.predict(image)
        with pytest.raises(KeyboardInterrupt):
            model.predict(image)
        assert (model.predict(image) == expected_labels(image)).all()


def refusal(model):
    """Return what another process is told."""
    try:
        model.predict(np.zeros((2, 9, 9), np.uint8))
    except EngineError as error:
        model.close()
        return str(error)
    return "predicted"


def tell(model, answers):
    answers.put(refusal(model))


REFUSED = (
    "this Model was opened in another process, and a fork copies no threads: open it in the "
    "process that uses it, or start that with spawn"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@needs_fork
@pytest.mark.parametrize("engine", ["ort", "openvino"])
@pytest.mark.parametrize("ends", ["os._exit(0)", "sys.exit(0)", "del model, error; sys.exit(0)"])
def test_a_forked_child_is_refused_and_ends(tiny_path, engine, ends, tmp_path):
    """Whether it ends at once, or lets Python take everything apart."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    program = f"""
import os, sys, numpy as np
from flair_engine import FlairError, Model, RunOptions

image = np.zeros((2, 40, 40), np.uint8)
model = Model({str(tiny_path)!r}, RunOptions(engine={engine!r}, device="cpu"))
before = model.predict(image)
if (child := os.fork()) == 0:
    with model:
        try:
            model.predict(image)
        except FlairError as refused:
            print(error := refused, flush=True)
    {ends}
_, status = os.waitpid(child, 0)
assert (model.predict(image) == before).all()
model.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=30
    )
    assert (ended.returncode, ended.stdout) == (0, REFUSED + "\n"), ended.stderr


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_multiprocessing_by_fork_is_refused(tiny_path):
    fork = get_context("fork")
    answers = fork.SimpleQueue()
    with Model(tiny_path, RunOptions(device="cpu")) as model:
        process = fork.Process(target=tell, args=(model, answers))
        process.start()
        process.join(timeout=20)
        assert process.exitcode == 0
        assert answers.get() == REFUSED
        assert refusal(model) == "predicted"


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_model_is_not_copied(tiny_path, copied):
    with (
        Model(tiny_path, RunOptions(device="cpu")) as model,
        pytest.raises(EngineError, match="cannot be pickled or copied: it holds a runtime"),
    ):
        copied(model)


def test_one_name_is_one_file(make_raster, tiny_path, tmp_path, expected_labels):
    path, image = make_raster()
    for number, inputs in enumerate((str(path), path, Inputs(images=path))):
        output = tmp_path / f"one{number}.tif"
        segment(tiny_path, inputs, output, RunOptions(device="cpu"))
        with rasterio.open(output) as dataset:
            assert (dataset.read(1) == expected_labels(image)).all()


def test_predict_refuses_what_is_no_array(tiny_path):
    with Model(tiny_path) as model, pytest.raises(SourceError, match="image is list: give an arr"):
        model.predict([[1]])


def test_options_are_refused_before_the_model_is_read():
    with pytest.raises(OutputError, match="labels is 'iso': give 'flair' or 'zero-based'"):
        segment("absent.onnx", "a.tif", "m.tif", write=MapOptions(labels="iso"))
    with pytest.raises(EngineError, match="threads 0 does nothing: use 1 or more"):
        Model("absent.onnx", RunOptions(threads=0))


def test_a_loaded_model_maps_rasters_too(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    segment(tiny_path, path, tmp_path / "one.tif", RunOptions(device="cpu", threads=1))
    with Model(tiny_path, RunOptions(device="cpu", threads=1)) as model:
        reports = [segment(model, path, tmp_path / f"{n}.tif") for n in (2, 3)]
    content = (tmp_path / "one.tif").read_bytes()
    assert [(tmp_path / f"{n}.tif").read_bytes() for n in (2, 3)] == [content, content]
    assert reports[1].busy_s["infer"] < reports[1].wall_s, "what came before is counted too"
    with pytest.raises(EngineError, match="this Model is closed"):
        segment(model, path, tmp_path / "4.tif")
