"""Plans built ahead of their first run, with a TensorRT that is a stand-in."""

from __future__ import annotations

import numpy as np
import pytest
from doubles import fake_tensorrt
from doubles.networks import small_spec

from flair_export.cli import main
from flair_export.convert import plan
from flair_export.convert.fp16 import convert_to_fp16
from flair_export.convert.plan import PrebuildOptions, prebuild_plan
from flair_export.errors import ImageError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_images_of_other_bands_are_refused_before_anything_is_built(exported, make_raster):
    options = PrebuildOptions(verify=(make_raster(bands=5)[0],))
    with pytest.raises(ImageError, match="has 5 bands: give the 3 that the model reads"):
        prebuild_plan(exported, options, print, print)


def test_tiles_to_judge_on_are_spread_over_the_images(rgb, make_raster):
    spec = small_spec(rgb)
    images = [make_raster(name, height=64, width=64, bands=3) for name in ("a.tif", "b.tif")]
    tiles = plan._tiles(spec, [path for path, _ in images], 4)
    assert len(tiles) == 4
    for tile, (_, image) in zip(tiles[::2], images, strict=True):
        np.testing.assert_array_equal(tile[:, 8:, 8:], image[:, :24, :24])


@pytest.mark.parametrize("release", fake_tensorrt.RELEASES)
@pytest.mark.parametrize("with_image", [False, True])
def test_a_plan_is_built_ahead(
    release, with_image, exported, tmp_path, monkeypatch, make_raster, capsys
):
    machine = fake_tensorrt.Machine(release).install(monkeypatch)
    output = tmp_path / "model.fp16.onnx"
    convert_to_fp16(exported, output)
    arguments = [str(output), "--engine", "trt", "--batch", "2",
                 "--plan-cache", str(tmp_path / "plans")]  # fmt: skip
    if with_image:
        arguments += ["--verify", str(make_raster(bands=3)[0])]
    for _ in range(2):
        main(arguments)
    assert f"The plan for TensorRT {release} on NVIDIA Stand-in (cuda:0), plan " in (
        capsys.readouterr().out
    )
    assert machine.builds == 1
    assert not machine.memory
    (sidecar,) = (tmp_path / "plans").glob("*.json")
    assert ('"origin": "images"' if with_image else '"origin": "noise"') in sidecar.read_text()
