"""Several GPUs as one, on the stand-in; tests/emulated has them with the real pycuda."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from doubles import fake_tensorrt

from flair_engine import RunOptions, segment
from flair_engine.errors import EngineError
from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.manifest import read_model_spec


@pytest.fixture
def two(monkeypatch):
    """A host with two GPUs."""
    machine = fake_tensorrt.Machine("10.4.0", gpus=2).install(monkeypatch)
    yield machine
    assert not machine.memory
    assert not machine.contexts


@pytest.fixture
def request_of(fp16_path, tmp_path):
    lines = []

    def make(**changes):
        request = Request(
            model=fp16_path, spec=read_model_spec(fp16_path), batch=3, device="cuda:0,cuda:1",
            plan_cache=tmp_path / "plans", notify=lines.append,
        )  # fmt: skip
        return replace(request, **changes)

    make.lines = lines
    return make


def test_the_map_is_that_of_one_gpu(two, make_raster, fp16_path, tmp_path, expected_cross):
    path, image = make_raster(height=100, width=93)
    run = RunOptions(engine="trt", batch=3, plan_cache=tmp_path / "plans")
    maps, reports = [], []
    for device in ("cuda:1", "cuda:0,cuda:1", "cuda:all"):
        reports.append(segment(fp16_path, path, tmp_path / "map.tif", replace(run, device=device)))
        maps.append((tmp_path / "map.tif").read_bytes())
        with rasterio.open(tmp_path / "map.tif") as dataset:
            assert (dataset.read(1) == expected_cross(image)).all()
        (tmp_path / "map.tif").unlink()
    assert maps[0] == maps[1] == maps[2]
    assert two.builds == 1
    one, several, _ = reports
    assert (several.device, several.slots) == ("cuda:0,cuda:1", 2)
    assert [use.device for use in several.devices] == ["cuda:0", "cuda:1"]
    assert sum(use.batches for use in several.devices) == one.devices[0].batches
    assert all(use.batches for use in several.devices)
    assert [use.agreement_first for use in several.devices] == [None, None]
    assert [use.agreement_fp32 for use in several.devices] == [1.0, 1.0]
    times = several.devices[1].timeline[0]
    assert times.copy_in[1] <= times.compute[0] <= times.compute[1] <= times.copy_out[0]


def test_cards_of_two_models_are_compared(two, request_of, monkeypatch):

    def name(device):
        two.name = "AB"[device.index]
        return two.name

    monkeypatch.setattr(two.driver.Device, "name", name)
    backend = open_backend(request_of(), "trt")
    assert backend.identity.count(";") == 1
    assert request_of.lines[-1].startswith("cuda:1 gives 100.00% the labels of cuda:0 on ")
    assert [use.agreement_first for use in backend.devices] == [None, 1.0]
    assert [use.batches for use in backend.devices] == [0, 0]
    assert backend.difference_fp32 is None
    backend.close()
    backend.close()


def test_one_that_cannot_be_used_closes_the_others(two, request_of):
    with pytest.raises(EngineError, match=r"there is no cuda:5: this machine has 2 CUDA devices"):
        open_backend(request_of(device="cuda:0,cuda:5"), "trt")


def test_slots_are_of_each_gpu_in_turn(two, request_of):
    backend = open_backend(request_of(slots=3), "auto")
    assert [slot.device for slot in backend.slots] == ["cuda:0", "cuda:1"] * 3
    assert set(backend.busy_s.values()) == {0.0}
    assert np.shape(backend.slots[0].images_nchw) == (3, 2, 32, 32)
    backend.close()
    assert not backend.slots
