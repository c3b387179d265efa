"""The emulated driver sees what it is for, or the runs beside it would prove nothing."""

import pytest

BEFORE = """
import numpy
from contextlib import nullcontext
from flair_engine.inference.gpu.cuda import Device, Event, Stream
from flair_engine.inference.gpu.slots import CudaSlot, CudaSlots
submit, allocate, known = CudaSlot.submit, Device.allocate, {}
"""
MISTAKES = {
    "stages do not wait for one another": (
        "Stream.wait_for = lambda *_: None",
        "touches memory while inference may be in flight",
    ),
    "the host does not wait": (
        "Event.synchronize = lambda _: None; Event.seconds_since = lambda *_: 0.0",
        "touches memory while copy-out may be in flight",
    ),
    "slots share their memory": (
        "Device.allocate = lambda d, n: known.get(n) or known.setdefault(n, allocate(d, n))",
        "touches memory while copy-out may be in flight",
    ),
    "the source of a copy is changed": (
        "CudaSlot.submit = lambda s: (submit(s), s.images_nchw.fill(7))",
        "the source of a copy-in was changed in flight",
    ),
    "copies come from pageable memory": (
        "Device.page_locked = lambda _, shape: numpy.zeros(shape, 'u1')",
        "copy-in from memory that is not page-locked",
    ),
    "memory is freed in flight": (
        "CudaSlots.synchronize = lambda _: None; CudaSlot.wait = lambda s: s._owner.close()",
        "of memory in flight",
    ),
    "a context is dropped, not detached": (
        "Device.close = lambda d: setattr(d, '_context', None)",
        "cuCtxDetach, which a driver refuses for a primary context",
    ),
    "memory is not given back": (
        "CudaSlots._free = lambda s: s.streams.clear()",
        "released with 4 device buffers, 4 page-locked, 0 streams, ",
    ),
    "no context is current": (
        "Device.current = lambda _: nullcontext()",
        "without a context",
    ),
}
"""Programs that spoil the engine, and what the driver finds then."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(job, mistake):
    program, found = MISTAKES[mistake]
    ended = job.run("mistake.tif", "--overwrite", before=BEFORE + program)
    assert any(found in line for line in ended.found), (ended.found[:5], ended.said[-2000:])
