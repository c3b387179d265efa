import json

import numpy as np
import pytest
import rasterio

from flair_engine import FlairError, Model, RunOptions, segment
from flair_engine.errors import SourceError

SIZES = [(1, 1), (1, 40), (7, 5), (16, 16), (17, 31), (33, 48), (65, 129), (100, 1)]


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_map_equals_the_whole_array_computation(
    make_raster, tiny_path, tmp_path, expected_labels, height, width, slots
):
    path, image = make_raster(height=height, width=width)
    output = tmp_path / "map.tif"
    report = segment(tiny_path, [path], output, RunOptions(slots=slots, batch=3, device="cpu"))
    with rasterio.open(path) as source, rasterio.open(output) as dataset:
        assert (dataset.read(1) == expected_labels(image)).all()
        assert (dataset.crs, dataset.transform) == (source.crs, source.transform)
    assert (report.height, report.width, report.slots, report.batch) == (height, width, slots, 3)
    assert sum(report.pixels_by_class.values()) == report.pixels == height * width


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_predict_equals_the_whole_array_computation(
    tiny_path, expected_labels, height, width, batch
):
    image = np.random.default_rng(width).integers(0, 256, (2, height, width), dtype=np.uint8)
    with Model(tiny_path, RunOptions(batch=batch, device="cpu")) as model:
        assert (model.predict(image) == expected_labels(image)).all()


@pytest.mark.parametrize(
    "image",
    [np.zeros((3, 9, 9), np.uint8), np.zeros((2, 9, 9), np.float32), np.zeros((9, 9), np.uint8)],
)
def test_predict_refuses_other_arrays(tiny_path, image):
    with Model(tiny_path) as model, pytest.raises(SourceError, match=r"the model wants uint8 \[2,"):
        model.predict(image)


def test_predict_refuses_an_empty_array(tiny_path):
    with Model(tiny_path) as model, pytest.raises(FlairError, match="has no pixel"):
        model.predict(np.zeros((2, 0, 5), np.uint8))


def test_progress_reaches_every_pixel(make_raster, tiny_path, tmp_path):
    path, _ = make_raster(height=40, width=20)
    seen = []
    segment(tiny_path, [path], tmp_path / "map.tif", progress=lambda *done: seen.append(done))
    assert seen == [(320, 800), (640, 800), (800, 800)]


def test_several_inputs_are_refused(tiny_path, tmp_path):
    with pytest.raises(SourceError, match="2 input rasters given, one expected"):
        segment(tiny_path, ["a.tif", "b.tif"], tmp_path / "map.tif")


def test_an_unreadable_block_leaves_nothing(make_raster, tiny_path, tmp_path):
    path, _ = make_raster(height=600, width=64, tiled=True, blockxsize=64, blockysize=64,
                          compress="deflate")  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FlairError, match="cannot be decoded") as caught:
        segment(tiny_path, [path], tmp_path / "map.tif")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_report_is_json_with_rates(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    report = segment(tiny_path, [path], tmp_path / "map.tif", RunOptions(device="cpu"))
    figures = json.loads(report.to_json())
    assert figures["pixels"] == 70 * 53
    assert figures["tiles"] == 5 * 4
    assert figures["mpx_per_s"] == pytest.approx(70 * 53 / 1e6 / report.wall_s)
    assert figures["km2_per_h"] == pytest.approx(figures["mpx_per_s"] * 0.04 * 3600)
    assert set(figures["busy_s"]) == {"read", "infer", "write"}
    assert figures["slowest_stage"] in report.closing_line


def test_options_name_the_bands(make_raster, tiny_path, tmp_path, expected_labels):
    path, image = make_raster(bands=4)
    segment(tiny_path, [path], tmp_path / "map.tif", RunOptions(bands=(3, 1)))
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.read(1) == expected_labels(image[[2, 0]])).all()
