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

import numpy as np

from flair_engine.errors import DeviceMemoryError, EngineError, InferenceError
from flair_engine.inference.base import BatchTimes, DeviceUse
from flair_engine.manifest import INPUT_NAME, expected_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flair_engine.agreement import LabelDifference
    from flair_engine.inference.gpu.cuda import Device, DeviceBuffer, Event, Stream
    from flair_engine.manifest import ModelSpec

STAGES = ("copy-in", "compute", "copy-out")

TIMELINE_BATCHES = 24
"""The first ones, whose times are kept: enough to see how the stages follow one another."""

CUDA_BATCH = 16
"""Tiles per batch over page-locked memory, unless told otherwise. Enough to fill a large GPU, not
measured; 16 tiles of 5 bands are 21 MB of memory."""


class CudaSlot:
    """One batch: page-locked and device buffers by tensor name, and the events of its stages."""

    def __init__(
        self, owner: CudaSlots, number: int, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._owner = owner
        self._number = number
        self._in_flight = False
        device = owner.device
        self.device = f"cuda:{device.index}"
        self.host: dict[str, np.ndarray] = {}
        self.buffers: dict[str, DeviceBuffer] = {}
        self._starts: dict[str, Event] = {}
        self._ends: dict[str, Event] = {}
        owner.slots.append(self)  # which frees what there is, should memory run out here
        for name, shape in shapes.items():
            self.host[name] = device.page_locked(shape)
            self.buffers[name] = device.allocate(math.prod(shape))
        self.images_nchw = self.host[INPUT_NAME]
        """uint8 [N, bands, T, T], page-locked."""
        for stage in STAGES:
            self._starts[stage] = device.event()
            self._ends[stage] = device.event()

    def submit(self) -> None:
        """Queue copy-in, inference and copy-out; see Slot."""
        assert not self._in_flight, "submit before wait"
        with self._owner.device.current():
            self._owner.begin()
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
            self._owner.note(self._number, self._starts, self._ends)
        self._in_flight = False
        return {name: self.host[name] for name in self._outputs}

    def is_ready(self) -> bool:
        """Return whether `wait` would return at once; see Slot."""
        with self._owner.device.current():
            return self._ends["copy-out"].is_reached()

    def free(self) -> None:
        """Free device memory, and let go of all else, which a failed call may hold the slot of."""
        for buffer in self.buffers.values():
            buffer.free()
        for held in (self.buffers, self.host, self._starts, self._ends):
            held.clear()
        self.images_nchw = np.empty((0, 0, 0, 0), np.uint8)

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
        self.batches = 0
        self.timeline: list[BatchTimes] = []
        self._origin: Event | None = None
        self._is_begun = False
        self.slots: list[CudaSlot] = []
        shapes = {name: (batch, *shape) for name, shape in expected_tensors(spec).items()}
        with device.current():
            self.streams = {stage: device.stream() for stage in STAGES}
            try:
                for number in range(count):
                    CudaSlot(self, number, shapes)
                self._origin = device.event()
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
        """Count batches and busy seconds from here."""
        self.busy_s.update(dict.fromkeys(STAGES, 0.0))
        self.batches = 0
        self.timeline.clear()
        self._is_begun = False

    def begin(self) -> None:
        """Mark when the first batch begins, which the timeline is counted from."""
        if not self._is_begun:
            self._marked.record(self.streams["copy-in"])
            self._is_begun = True

    def note(self, slot: int, starts: Mapping[str, Event], ends: Mapping[str, Event]) -> None:
        """Count a batch that has ended."""
        for stage in STAGES:
            self.busy_s[stage] += ends[stage].seconds_since(starts[stage])
        self.batches += 1
        if len(self.timeline) < TIMELINE_BATCHES:
            copy_in, compute, copy_out = (
                (starts[s].seconds_since(self._marked), ends[s].seconds_since(self._marked))
                for s in STAGES
            )
            times = BatchTimes(slot=slot, copy_in=copy_in, compute=compute, copy_out=copy_out)
            self.timeline.append(times)

    def use(self, difference: LabelDifference | None) -> DeviceUse:
        """Return what the device has done; `difference` is that of its labels from FP32's."""
        return DeviceUse(
            device=f"cuda:{self.device.index}",
            name=self.device.name,
            batches=self.batches,
            busy_s=dict(self.busy_s),
            agreement_fp32=difference.share if difference is not None else None,
            timeline=tuple(self.timeline),
        )

    @property
    def _marked(self) -> Event:
        assert self._origin is not None, "made in the constructor"
        return self._origin

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
        for slot in self.slots:
            slot.free()
        self.slots.clear()
        self.streams.clear()
        self._origin = None


def out_of_memory(what: str, *, batch: int, slots: int) -> DeviceMemoryError:
    """Return the error for memory that does not hold `slots` batches, naming what to try."""
    remedy = f"try --batch {batch // 2}" if batch > 1 else "try --slots 1, or another device"
    return DeviceMemoryError(f"out of memory for {slots} slots of {batch} tiles: {what}", remedy)
