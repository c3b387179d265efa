"""Fixtures shared by every part: small rasters, the golden model, and where real data may lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

SHARED = Path(__file__).parents[2] / "shared" / "data"
LAMBERT_93 = "EPSG:2154"


@pytest.fixture
def tiny_path():
    """The golden two-band model of tests/data/make_tiny.py."""
    return Path(__file__).parent / "data" / "tiny.onnx"


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real data not at {SHARED}")
    return SHARED


@pytest.fixture
def make_raster(tmp_path):
    """Write a seeded GeoTIFF and return (path, image_bhw)."""

    def make(name="in.tif", *, height=70, width=53, bands=2, dtype="uint8", gsd_m=0.2, **profile):
        seed = height * 7919 + width
        image = np.random.default_rng(seed).integers(0, 256, (bands, height, width)).astype(dtype)
        path = tmp_path / name
        profile = {
            "crs": LAMBERT_93,
            "transform": from_origin(721104.4, 6248980.8, gsd_m, gsd_m),
            **profile,
        }
        with rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=dtype,
            **profile,
        ) as dataset:  # fmt: skip
            dataset.write(image)
        return path, image

    return make


def box_labels(image_bhw):
    """What tests/data/tiny.onnx answers, by a direct computation over the whole array."""
    _, height, width = image_bhw.shape
    padded = np.pad(image_bhw.astype(int), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    sums = sum(padded[:, i : i + height, j : j + width] for i in range(5) for j in range(5))
    return np.where(sums[0] >= sums[1], 1, 3).astype(np.uint8)


@pytest.fixture
def expected_labels():
    """The oracle of the golden model."""
    return box_labels
