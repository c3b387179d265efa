"""A network of one layer, exported at two geometries, and a small FLAIR dataset."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from doubles.networks import one_layer
from doubles.rasters import write_tiff

from flair_export.cards import ACTIVE_15, CHANNELS, find_card
from flair_export.network.modules import LabelNetwork
from flair_export.network.trace import build_graph
from flair_export.publish import ExportOptions, model_spec

TILE = 32


@pytest.fixture(scope="session")
def network():
    network = one_layer()
    inactive = [value - 1 for value in range(1, CHANNELS + 1) if value not in ACTIVE_15]
    with torch.no_grad():  # what was never trained for never wins
        network.segmentation_head[0].bias[inactive] = -1e4
    return network


@pytest.fixture(scope="session")
def exported(network, tmp_path_factory):
    """Return a function from a margin to the ONNX file of `network` at tile 32."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def make(margin_px) -> Path:
        if margin_px not in made:
            options = ExportOptions(tile_px=TILE, margin_px=margin_px)
            spec = model_spec(find_card("rgb_15cl_resnet34-unet"), "random", "0" * 64, options)
            path = folder / f"margin{margin_px}.onnx"
            onnx.save(build_graph(LabelNetwork(network, spec), spec), path)
            made[margin_px] = path
        return made[margin_px]

    return make


@pytest.fixture
def process(monkeypatch, capsys):
    """Return a function that runs a command's `main` with arguments, as a process would.

    It returns the exit code, what was printed, and what was said on stderr.
    """

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", [main.__module__, *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def write_image():
    """Return the function that writes uint8 [bands, H, W] as a GeoTIFF."""
    return write_tiff


@pytest.fixture
def image_file(tmp_path):
    """A 96 x 80 RGB raster; returns (path, image)."""
    image = np.random.default_rng(3).integers(0, 256, (3, 96, 80), dtype=np.uint8)
    return write_tiff(tmp_path / "image.tif", image), image


@pytest.fixture
def patches(tmp_path):
    """Three patches in the FLAIR layout; returns (folder, images, masks)."""
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (3, 3, TILE, TILE), dtype=np.uint8)
    masks = random.integers(1, 20, (3, 1, TILE, TILE), dtype=np.uint8)
    folder = tmp_path / "flair"
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        write_tiff(folder / f"aerial/D1/Z{number}/img/IMG_00{number}.tif", image)
        write_tiff(folder / f"labels/D1/Z{number}/msk/MSK_00{number}.tif", mask)
    return folder, images, masks
