import numpy as np
import pytest

from flair_engine import FlairError, Model, RunOptions, segment
from flair_engine.errors import SourceError

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


def test_predict_refuses_an_empty_array(tiny_path):
    with Model(tiny_path) as model, pytest.raises(FlairError, match="has no pixel"):
        model.predict(np.zeros((2, 0, 5), np.uint8))
