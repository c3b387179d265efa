"""The TensorRT library at hand: TensorRT of the data centre, or TensorRT for RTX.

The only importer of either, and of one of them in a process: both bind the same C++ types. Whoever
uses it asks it for features; its name stands in messages and in the key of plans, because neither
reads the other's.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from flair_engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flair_engine.inference.gpu.cuda import Device

TENSORRT, RTX = "tensorrt", "tensorrt_rtx"

MODULES = {TENSORRT: ("tensorrt",), RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""Modules of each library; that of the bindings is there without the metapackage."""

LIBRARY_TITLES = {TENSORRT: "TensorRT", RTX: "TensorRT for RTX"}

INSTALL = {
    TENSORRT: "pip install 'flair-engine[trt]' --extra-index-url https://pypi.nvidia.com",
    RTX: "pip install 'flair-engine[rtx]'",
}

RTX_CAPABILITIES = ("7.5", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities in NVIDIA's support matrix of TensorRT for RTX 1.5."""

OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""Driver on Linux that each CUDA needs at least: table 1 of NVIDIA's minor version compatibility
(docs.nvidia.com/deploy/cuda-compatibility)."""


NEWER_DRIVER = "install a newer NVIDIA driver"


def installed_libraries() -> list[str]:
    """Return the names of those that are installed. Raises EngineError where none is."""
    found = [name for name, modules in MODULES.items() if any(map(_is_installed, modules))]
    if not found:
        raise EngineError(
            f"TensorRT is not usable (no module named {' or '.join(MODULES)})",
            f"run {INSTALL[RTX]} for an RTX card, {INSTALL[TENSORRT]} for other NVIDIA GPUs",
        )
    return found


def library_for(device: Device, notify: Callable[[str], None]) -> Any:
    """Import the library that serves a device: of two that are installed the one made for it.

    `notify` is told which of two. Raises EngineError where none can be imported, is for such a
    GPU, or fits the driver.
    """
    installed = installed_libraries()
    for_rtx = device.compute_capability in RTX_CAPABILITIES
    order = sorted(installed, key=lambda name: (name == RTX) != for_rtx)
    trt, faults = _first_imported(order)
    check_device(trt, device)
    place = f"{device.name}, compute capability {device.compute_capability}"
    if faults:
        notify(f"{titled(trt)} is taken: {'; '.join(faults)}")
    elif len(installed) > 1:
        notify(f"{titled(trt)} is taken for {place}: {LIBRARY_TITLES[order[1]]} is installed too")
    return trt


def library_named(name: str) -> Any:
    """Import one library. Raises EngineError where it is not installed or cannot be imported."""
    if name not in installed_libraries():
        raise EngineError(f"{LIBRARY_TITLES[name]} is not installed", f"run {INSTALL[name]}")
    return _first_imported([name])[0]


def check_device(trt: Any, device: Device) -> None:
    """Raise EngineError for a GPU older than any the library is for, and for an old driver."""
    _check_driver(trt, device.driver_cuda)
    known = capabilities(trt)
    if known and _number(device.compute_capability) < _number(known[0]):
        raise EngineError(
            f"{titled(trt)} serves GPUs of compute capability {known[0]} and later, {device.name} "
            f"has {device.compute_capability}",
            f"run {INSTALL[TENSORRT]}",
        )


def newer_driver(trt: Any) -> str:
    """Return what to do where the driver is too old for the library."""
    cuda = _cuda_of(trt)
    return f"install NVIDIA driver {OLDEST_DRIVER[cuda]} or newer" if cuda else NEWER_DRIVER


def library_name(trt: Any) -> str:
    """Return `tensorrt` or `tensorrt_rtx`."""
    return RTX if trt.__name__ in MODULES[RTX] else TENSORRT


def titled(trt: Any) -> str:
    """Return the library and its release for people, such as `TensorRT for RTX 1.7.1.116`."""
    return f"{LIBRARY_TITLES[library_name(trt)]} {trt.__version__}"


def capabilities(trt: Any) -> tuple[str, ...]:
    """Return the compute capabilities a plan can be built for without a GPU, lowest first.

    Such as `8.9`; none where the library builds on the GPU at hand alone.
    """
    known = getattr(trt, "ComputeCapability", None)
    numbers = [int(name[2:]) for name in dir(known) if name.startswith("SM")]
    return tuple(f"{number // 10}.{number % 10}" for number in sorted(numbers))


def capability_of(trt: Any, capability: str) -> Any:
    """Return the library's own value of a compute capability such as `8.9`."""
    return getattr(trt.ComputeCapability, "SM" + capability.replace(".", ""))


def _first_imported(names: Sequence[str]) -> tuple[Any, list[str]]:
    """Import the first that can be; also return what those before it are missing."""
    faults: list[str] = []
    for name in names:
        module = next(filter(_is_installed, MODULES[name]))
        try:
            return import_module(module), faults
        except (ImportError, OSError) as error:
            reason = " ".join(str(error).split())
            faults.append(f"{LIBRARY_TITLES[name]} is installed and cannot be imported ({reason})")
    raise EngineError(
        "; ".join(faults),
        "install it again, with libraries and Python bindings of one release and one CUDA",
    )


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    return find_spec(module) is not None


def _number(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))


def _check_driver(trt: Any, driver_cuda: int) -> None:
    """Raise EngineError where the driver is of an older CUDA than the library was made with.

    `driver_cuda` is as cuDriverGetVersion says it: 12040 is 12.4.
    """
    cuda = _cuda_of(trt)
    if cuda is not None and driver_cuda // 1000 < cuda:
        raise EngineError(
            f"{titled(trt)} is made for CUDA {cuda}, the NVIDIA driver serves CUDA "
            f"{driver_cuda // 1000}.{driver_cuda % 1000 // 10}",
            f"{newer_driver(trt)} (nvidia-smi shows which is there), or the packages of an older "
            "CUDA",
        )


def _cuda_of(trt: Any) -> int | None:
    """Return the CUDA that the installed bindings are made for; None where no package says it."""
    library = library_name(trt).replace("_", "-")
    for cuda in OLDEST_DRIVER:
        with suppress(metadata.PackageNotFoundError):
            metadata.version(f"{library}-cu{cuda}-bindings")
            return cuda
    return None
