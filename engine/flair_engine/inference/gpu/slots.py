"""Slots on a CUDA device: page-locked and device buffers, three streams ordered by events.

Copy-in, computation and copy-out each have one stream, shared by all slots, so that the copies of
one batch run beside the computation of another while batches compute one after the other. Within
a slot the events order the three; between slots nothing is shared but the streams. A slot is
filled again only after `wait`, when its copy-out, and so all three, have ended.
"""

from __future__ import annotations

import math
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from flair_engine.errors import DeviceMemoryError, EngineError, InferenceError
from flair_engine.manifest import INPUT_NAME, expected_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np

    from flair_engine.inference.gpu.cuda import Device, DeviceBuffer, Stream
    from flair_engine.manifest import ModelSpec

STAGES = ("copy-in", "compute", "copy-out")

CUDA_BATCH = 16
"""Tiles per batch over page-locked memory, unless told otherwise. Enough to fill a large GPU, not
measured; 16 tiles of 5 bands are 21 MB of memory."""


class CudaSlot:
    """One batch: page-locked and device buffers by tensor name, and the events of its stages."""

    def __init__(self, owner: CudaSlots, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._owner = owner
        self._in_flight = False
        device = owner.device
        self.host = {name: device.page_locked(shape) for name, shape in shapes.items()}
        self.buffers: dict[str, DeviceBuffer] = {}
        owner.buffers.append(self.buffers)
        for name, shape in shapes.items():
            self.buffers[name] = device.allocate(math.prod(shape))
        self.images_nchw = self.host[INPUT_NAME]
        """uint8 [N, bands, T, T], page-locked."""
        self._starts = {stage: device.event() for stage in STAGES}
        self._ends = {stage: device.event() for stage in STAGES}

    def submit(self) -> None:
        """Queue copy-in, inference and copy-out; see Slot."""
        assert not self._in_flight, "submit before wait"
        with self._owner.device.current():
            with self._stage("copy-in") as stream:
                stream.copy_in(self.buffers[INPUT_NAME], self.host[INPUT_NAME])
            with self._stage("compute", after="copy-in") as stream:
                self._owner.launch(self, stream)
            with self._stage("copy-out", after="compute") as stream:
                for name in self._outputs:
                    stream.copy_out(self.host[name], self.buffers[name])
        self._in_flight = True

    def wait(self) -> Mapping[str, np.ndarray]:
        """Return views of the page-locked outputs, valid until the next `submit`; see Slot."""
        assert self._in_flight, "wait before submit"
        with self._owner.device.current():
            self._ends["copy-out"].synchronize()
            for stage in STAGES:
                busy = self._ends[stage].seconds_since(self._starts[stage])
                self._owner.busy_s[stage] += busy
        self._in_flight = False
        return {name: self.host[name] for name in self._outputs}

    @property
    def _outputs(self) -> list[str]:
        return [name for name in self.host if name != INPUT_NAME]

    @contextmanager
    def _stage(self, stage: str, after: str | None = None) -> Iterator[Stream]:
        """Yield the stream of `stage`, ordered after another stage of this slot, and time it."""
        stream = self._owner.streams[stage]
        if after:
            stream.wait_for(self._ends[after])
        self._starts[stage].record(stream)
        yield stream
        self._ends[stage].record(stream)


class CudaSlots:
    """`count` slots of `batch` tiles on `device`, run by `launch(slot, stream)`.

    `launch` queues inference from and to `slot.buffers` on the stream it is given. Raises
    EngineError where memory runs out, with a batch to try.
    """

    def __init__(
        self,
        device: Device,
        spec: ModelSpec,
        *,
        batch: int,
        count: int,
        launch: Callable[[CudaSlot, Stream], None],
    ) -> None:
        self.device = device
        self.launch = launch
        self.busy_s = dict.fromkeys(STAGES, 0.0)
        self.buffers: list[dict[str, DeviceBuffer]] = []
        self.slots: list[CudaSlot] = []
        shapes = {name: (batch, *shape) for name, shape in expected_tensors(spec).items()}
        with device.current():
            self.streams = {stage: device.stream() for stage in STAGES}
            try:
                self.slots.extend(CudaSlot(self, shapes) for _ in range(count))
            except DeviceMemoryError as error:
                self._free()
                raise out_of_memory(error.what, batch=batch, slots=count) from error

    def warm_up(self) -> None:
        """Run every slot once on zeros, so that the first real batch finds everything loaded.

        Raises EngineError where the model does not run.
        """
        try:
            for slot in self.slots:
                slot.submit()
                slot.wait()
        except InferenceError as error:
            raise EngineError(error.what, error.remedy) from error
        self.forget_busy()

    def forget_busy(self) -> None:
        """Count the busy seconds from here."""
        self.busy_s.update(dict.fromkeys(STAGES, 0.0))

    def synchronize(self) -> None:
        """Wait for work in flight, whatever comes of it; after `close` it does nothing."""
        if self.streams:
            with suppress(InferenceError), self.device.current():
                for stream in self.streams.values():
                    stream.synchronize()

    def close(self) -> None:
        """Wait for work in flight and free all memory; a second call does nothing."""
        if self.streams:
            self.synchronize()
            with suppress(InferenceError), self.device.current():
                self._free()

    def _free(self) -> None:
        for buffers in self.buffers:
            for buffer in buffers.values():
                buffer.free()
        self.buffers.clear()
        self.slots.clear()
        self.streams.clear()


def out_of_memory(what: str, *, batch: int, slots: int) -> DeviceMemoryError:
    """Return the error for memory that does not hold `slots` batches, naming what to try."""
    remedy = f"try --batch {batch // 2}" if batch > 1 else "try --slots 1, or another device"
    return DeviceMemoryError(f"out of memory for {slots} slots of {batch} tiles: {what}", remedy)
