"""CUDA through pycuda: the primary context, page-locked and device memory, streams, events.

The only module that imports pycuda, and only when a Device is made: importing it needs no GPU.
The primary context is the one that ONNX Runtime and TensorRT use too, so pointers can be passed
between them; `pycuda.autoinit` would make a second one. pycuda keeps a stack of contexts per
thread: whatever touches the device stands inside `with device.current():`, in one thread at a time.
"""

from __future__ import annotations

import math
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.errors import DeviceMemoryError, EngineError, InferenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: a stream made without it waits for the legacy default stream."""


class Device:
    """One CUDA device by its number from 0.

    Raises EngineError where pycuda, the driver or the device is missing. Buffers, streams and
    events made by a Device must be dropped before it is closed, while it is current.
    """

    def __init__(self, index: int = 0) -> None:
        self._context: Any = None
        self._driver = import_driver()
        count = int(self._driver.Device.count())
        if index >= count:
            raise _no_such_device(index, count)
        device = self._driver.Device(index)
        self.index = index
        self.name = str(device.name())
        self.compute_capability = "{}.{}".format(*device.compute_capability())
        """Such as `9.0`."""
        attribute = self._driver.device_attribute.MULTIPROCESSOR_COUNT
        self.multiprocessors = int(device.get_attribute(attribute))
        self.memory_bytes = int(device.total_memory())
        self.driver_cuda = int(self._driver.get_driver_version())
        """CUDA that the driver serves: 12040 is 12.4."""
        try:
            self._context = device.retain_primary_context()
        except self._driver.Error as error:
            raise EngineError(
                f"device cuda:{index} ({self.name}) cannot be used ({error})",
                "check with nvidia-smi that it is neither exclusive to another process nor full",
            ) from error

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the device's context current in this thread.

        Raises InferenceError for what CUDA reports inside; work in flight reports late.
        """
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise InferenceError(
                f"device cuda:{self.index} ({self.name}) failed: {error}",
                "if it happens again, check nvidia-smi and dmesg",
            ) from error
        finally:
            self._context.pop()

    def page_locked(self, shape: Sequence[int]) -> np.ndarray:
        """Return uint8 zeros of `shape` in page-locked host memory, freed with the last view.

        Only from such memory does a copy run beside computation. Raises DeviceMemoryError.
        """
        try:
            array: np.ndarray = self._driver.pagelocked_empty(tuple(shape), np.uint8)
        except self._driver.Error as error:
            raise DeviceMemoryError(
                f"{math.prod(shape) / 2**20:.0f} MiB of page-locked memory could not be had "
                f"({error})",
                "use a smaller --batch",
            ) from error
        array[...] = 0
        return array

    def allocate(self, size: int) -> DeviceBuffer:
        """Return `size` bytes on the device, aligned to 256. Raises DeviceMemoryError."""
        try:
            return DeviceBuffer(self._driver.mem_alloc(size))
        except self._driver.Error as error:
            raise DeviceMemoryError(
                f"{size / 2**20:.0f} MiB on cuda:{self.index} ({self.name}, "
                f"{self.memory_bytes / 2**30:.0f} GiB) could not be had ({error})",
                "use a smaller --batch",
            ) from error

    def stream(self) -> Stream:
        """Return a new non-blocking stream."""
        return Stream(self._driver, self._driver.Stream(NON_BLOCKING))

    def event(self) -> Event:
        """Return a new event with timing, whose waiter sleeps instead of spinning."""
        return Event(self._driver.Event(self._driver.event_flags.BLOCKING_SYNC))

    def close(self) -> None:
        """Give the context back; a second call does nothing.

        Dropped without `detach`, pycuda would ask the driver to detach a primary context, which it
        refuses, and the context would stay; so it would if it were detached in another thread than
        the one that made it without being current there.
        """
        context, self._context = self._context, None
        if context is not None:
            with suppress(self._driver.Error):  # of a device that has failed
                context.push()
                context.detach()


class DeviceBuffer:
    """Bytes on the device, valid until `free`."""

    def __init__(self, allocation: Any) -> None:
        self._allocation: Any = allocation
        self.address = int(allocation)

    def free(self) -> None:
        """Free the memory, which nothing in flight may use; a second call does nothing."""
        allocation, self._allocation = self._allocation, None
        if allocation is not None:
            allocation.free()


class Stream:
    """Work that the device does in the order it was queued, beside other streams."""

    def __init__(self, driver: Any, stream: Any) -> None:
        self._driver = driver
        self.raw = stream
        self.handle = int(stream.handle)
        """The CUstream as a number, as TensorRT and ONNX Runtime take it."""

    def copy_in(self, target: DeviceBuffer, source: np.ndarray) -> None:
        """Queue a copy of page-locked `source`, which must stay as it is until it has run."""
        self._driver.memcpy_htod_async(target.address, source, self.raw)

    def copy_out(self, target: np.ndarray, source: DeviceBuffer) -> None:
        """Queue a copy into page-locked `target`, which is undefined until it has run."""
        self._driver.memcpy_dtoh_async(target, source.address, self.raw)

    def wait_for(self, event: Event) -> None:
        """Let what is queued from now on start only after the last `record` of `event`."""
        self.raw.wait_for_event(event.raw)

    def synchronize(self) -> None:
        """Return when everything queued so far has run."""
        self.raw.synchronize()


class Event:
    """A point in a stream, with the time at which the device reached it."""

    def __init__(self, event: Any) -> None:
        self.raw = event

    def record(self, stream: Stream) -> None:
        """Mark the end of what is queued in `stream`."""
        self.raw.record(stream.raw)

    def synchronize(self) -> None:
        """Return when the device has reached the mark."""
        self.raw.synchronize()

    def is_reached(self) -> bool:
        """Return whether the device has reached the mark."""
        return bool(self.raw.query())

    def seconds_since(self, start: Event) -> float:
        """Return the device's seconds from `start` to here; both must have been reached."""
        return float(self.raw.time_since(start.raw)) / 1000


def import_driver() -> Any:
    """Import and start pycuda's driver. Raises EngineError where it or a GPU is missing."""
    try:
        import pycuda.driver
    except ImportError as error:
        raise EngineError(
            f"CUDA is not usable from Python ({error})",
            "run pip install pycuda, which compiles it, on a machine with the CUDA toolkit whose "
            "NVIDIA driver answers nvidia-smi",
        ) from error
    driver = pycuda.driver
    try:
        driver.init()
    except driver.Error as error:
        raise EngineError(
            f"no NVIDIA GPU can be used ({error})",
            "check that nvidia-smi lists one, and that a container was started with --gpus all",
        ) from error
    return driver


def device_count() -> int:
    """Return how many CUDA devices there are. Raises EngineError without pycuda or a driver."""
    return int(import_driver().Device.count())


def _no_such_device(index: int, count: int) -> EngineError:
    devices = "1 CUDA device" if count == 1 else f"{count} CUDA devices"
    remedies = {0: "use --engine ort --device cpu", 1: "use cuda:0"}
    return EngineError(
        f"there is no cuda:{index}: this machine has {devices}",
        remedies.get(count, f"use cuda:0 to cuda:{count - 1}"),
    )


def has_pycuda() -> bool:
    """Return whether pycuda is installed; whether a GPU is there is another matter."""
    try:
        import pycuda.driver  # noqa: F401
    except ImportError:
        return False
    return True


def device_index(device: str) -> int:
    """Return N of `cuda:N`, 0 of `cuda`."""
    return int(device.partition(":")[2] or 0)
