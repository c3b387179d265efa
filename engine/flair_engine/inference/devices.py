"""Names of devices: `cpu`, `cuda`, `cuda:N`, several GPUs as `cuda:0,cuda:1`, or `cuda:all`."""

from __future__ import annotations

import re

from flair_engine.errors import EngineError

ALL_GPUS = "cuda:all"


def check_device(device: str) -> None:
    """Raise EngineError for a name that no device has, or for one device given twice."""
    if device in ("cpu", ALL_GPUS):
        return
    if not re.fullmatch(r"cuda(:\d+)?(,cuda(:\d+)?)*", device, re.ASCII):
        raise EngineError(
            f"device {device} is unknown",
            "use cpu, cuda, cuda:N, several GPUs such as cuda:0,cuda:1, or cuda:all",
        )
    names = _numbered(device)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise EngineError(f"device {device} names {twice} twice", "name each GPU once")


def kind_of(device: str) -> str:
    """Return `cpu` or `cuda`."""
    return device[:4].partition(":")[0]


def devices_of(device: str) -> tuple[str, ...]:
    """Return the name of each device, GPUs by their numbers.

    Raises EngineError where all GPUs are asked for and none can be found.
    """
    if device != ALL_GPUS:
        return _numbered(device)
    # Imported only here, as it needs a Unix system.
    from flair_engine.inference.gpu.cuda import device_count

    count = device_count()
    if not count:
        raise EngineError("this machine has no CUDA device", "use --engine ort --device cpu")
    return tuple(f"cuda:{index}" for index in range(count))


def _numbered(device: str) -> tuple[str, ...]:
    names = ("cuda:0" if name == "cuda" else name for name in device.split(","))
    return tuple(re.sub(r":0+(?=\d)", ":", name) for name in names)
