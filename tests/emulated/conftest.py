"""A small job beside emulated GPUs, and what ONNX Runtime makes of it."""

import numpy as np
import pytest
from doubles.emulated_gpu import Job, skip_unless_built
from doubles.field import write
from doubles.tiny_model import write_cross_model


@pytest.fixture(scope="session")
def job(tmp_path_factory):
    """361 tiles in batches of 5: the last batch has one tile and is padded."""
    skip_unless_built()
    folder = tmp_path_factory.mktemp("emulated")
    image = np.random.default_rng(1).integers(0, 256, (2, 300, 293), dtype=np.uint8)
    raster = folder / "in.tif"
    write(raster, image)
    found = Job(folder=folder, model=write_cross_model(folder), raster=raster, batch=5)
    assert found.run("ort.tif", "--engine", "ort", "--device", "cpu").code == 0
    first = found.run("first.tif")
    assert (first.code, first.found) == (0, []), first.said
    return found


@pytest.fixture(scope="session")
def whole(job):
    """The bytes of the map of one GPU with two slots."""
    return (job.folder / "first.tif").read_bytes()
