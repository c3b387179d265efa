import pytest
from doubles import fake_tensorrt

from flair_engine.errors import EngineError
from flair_engine.inference.devices import check_device, devices_of, kind_of


@pytest.mark.parametrize(
    ("device", "names"),
    [
        ("cpu", ("cpu",)),
        ("cuda", ("cuda:0",)),
        ("cuda:12", ("cuda:12",)),
        ("cuda:1,cuda:0", ("cuda:1", "cuda:0")),
        ("cuda,cuda:2", ("cuda:0", "cuda:2")),
    ],
)
def test_names_of_devices(device, names):
    check_device(device)
    assert devices_of(device) == names
    assert kind_of(device) == names[0].partition(":")[0]


@pytest.mark.parametrize(
    "device", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cuda:0,", "cpu,cuda:0", "cuda:0 ,cuda:1",
               "cuda:all,cuda:0", "cuda:\u0661"]
)  # fmt: skip
def test_names_that_mean_nothing(device):
    with pytest.raises(EngineError, match=r"^device .* is unknown: use cpu, cuda, cuda:N, several"):
        check_device(device)


@pytest.mark.parametrize("device", ["cuda:0,cuda:0", "cuda,cuda:0", "cuda:1,cuda:2,cuda:01"])
def test_a_device_given_twice(device):
    twice = "cuda:1" if "1" in device else "cuda:0"
    with pytest.raises(EngineError, match=f"^device {device} names {twice} twice: name each GPU"):
        check_device(device)


@pytest.mark.parametrize("gpus", [1, 3])
def test_all_that_there_are(monkeypatch, gpus):
    fake_tensorrt.Machine("10.4.0", gpus=gpus).install(monkeypatch)
    check_device("cuda:all")
    assert devices_of("cuda:all") == tuple(f"cuda:{n}" for n in range(gpus))


def test_all_of_none(monkeypatch):
    fake_tensorrt.Machine("10.4.0", gpus=0).install(monkeypatch)
    with pytest.raises(EngineError, match=r"^this machine has no CUDA device: use --engine ort"):
        devices_of("cuda:all")
