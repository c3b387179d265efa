"""The engine as a library: arrays through `Model`, files through `segment`."""

import numpy as np
import pytest
import rasterio

from flair_engine import FlairError, Inputs, MapOptions, Model, ReadOptions, RunOptions, segment
from flair_engine.errors import OutputError, SourceError

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
