import sys

import numpy as np
import pytest
from doubles import fake_cuda, fake_tensorrt

from flair_engine.errors import DeviceMemoryError, EngineError, InferenceError
from flair_engine.inference.gpu.cuda import Device, device_count, device_index, has_pycuda


def test_a_device_tells_what_a_plan_depends_on(one_machine):
    device = Device()
    facts = (device.name, device.compute_capability, device.multiprocessors)
    assert facts == ("NVIDIA Stand-in", "9.0", 132)
    assert (one_machine.contexts, device_count()) == (1, 1)
    device.close()
    device.close()
    assert one_machine.contexts == 0


def test_a_copy_there_and_back(one_machine):
    device = Device()
    with device.current():
        there, back = device.page_locked((2, 3)), device.page_locked((2, 3))
        buffer, stream, start, end = (
            device.allocate(6), device.stream(), device.event(), device.event(),
        )  # fmt: skip
        assert not there.any()
        there[...] = np.arange(6).reshape(2, 3)
        start.record(stream)
        stream.copy_in(buffer, there)
        stream.copy_out(back, buffer)
        end.record(stream)
        end.synchronize()
        assert end.is_reached()
        assert (back == there).all()
        assert end.seconds_since(start) == pytest.approx(0.003)
        stream.synchronize()
        buffer.free()
        buffer.free()
    assert not one_machine.memory
    assert not one_machine.stack


def test_without_pycuda_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    assert not has_pycuda()
    with pytest.raises(EngineError, match=r"CUDA is not usable .* pip install pycuda, which"):
        Device()


def test_without_a_gpu(one_machine):
    one_machine.fail.add("init")
    with pytest.raises(EngineError, match=r"no NVIDIA GPU .*no CUDA-capable device.*nvidia-smi"):
        Device()


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        (0, r"there is no cuda:7: this machine has 0 CUDA devices: use --engine ort --device cpu$"),
        (1, r"has 1 CUDA device: use cuda:0$"),
        (2, r"has 2 CUDA devices: use cuda:0 to cuda:1$"),
    ],
)
def test_a_device_out_of_range(monkeypatch, gpus, message):
    fake_tensorrt.Machine("10.4.0", gpus=gpus).install(monkeypatch)
    with pytest.raises(EngineError, match=message):
        Device(7)


def test_a_device_that_others_hold(one_machine):
    one_machine.fail.add("context")
    with pytest.raises(
        EngineError, match=r"cuda:0 \(NVIDIA Stand-in\) cannot be used .*device busy"
    ):
        Device()


def test_memory_that_is_not_there(one_machine):
    device = Device()
    with device.current():
        with pytest.raises(DeviceMemoryError, match=r"2048 MiB on cuda:0 .*1 GiB\) could not be"):
            device.allocate(2 << 30)
        one_machine.fail.add("page-locked")
        with pytest.raises(DeviceMemoryError, match="1 MiB of page-locked memory could not be"):
            device.page_locked((1 << 20,))


def test_what_cuda_reports_late_is_an_inference_error(one_machine):
    device = Device()
    with device.current():
        stream = device.stream()
    one_machine.fail.add("synchronize")
    with pytest.raises(InferenceError, match="cuda:0 .* failed: .*illegal memory access"):  # noqa: SIM117
        with device.current():
            stream.synchronize()
    assert not one_machine.stack


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_the_number_of_a_device(name, index):
    assert device_index(name) == index


def test_the_stand_in_sees_what_it_is_for(one_machine):
    """Each way to touch memory in flight is caught, or the checks with it would mean nothing."""
    device = Device()
    with pytest.raises(fake_cuda.Hazard, match="no context is current"):
        device.stream()
    with device.current():
        host, buffer, one, two = (
            device.page_locked((4,)), device.allocate(4), device.stream(), device.stream(),
        )  # fmt: skip
        one.copy_in(buffer, host)
        with pytest.raises(fake_cuda.Hazard, match="copy in touches .* copy in may be in fl"):
            two.copy_in(buffer, host)
        with pytest.raises(fake_cuda.Hazard, match="copy out touches"):
            two.copy_out(device.page_locked((4,)), buffer)
        with pytest.raises(fake_cuda.Hazard, match="freed while in flight"):
            buffer.free()
        with pytest.raises(fake_cuda.Hazard, match="not page-locked"):
            one.copy_in(buffer, np.zeros(4, np.uint8))
        host[0] = 1
        with pytest.raises(fake_cuda.Hazard, match="changed while in flight"):
            one.synchronize()
