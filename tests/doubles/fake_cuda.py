"""A stand-in for `pycuda.driver` that watches what the streams of a GPU do to memory.

Streams only note what is queued and run as late as they may; every operation is checked at once
against all that touch the same memory: two that conflict and are not ordered by a stream, an event
or a wait of the host raise Hazard. It checks our calls and proves nothing about speed.
"""

from __future__ import annotations

import sys
import threading
import types
from collections import defaultdict

import numpy as np
import onnxruntime

POISON = 0xEE


class Hazard(AssertionError):  # noqa: N818  a finding, not an error of the code that raises it
    """Memory touched while in flight, or a call without a current context."""


class Mark:
    """A recorded event: how far a stream had got."""

    def __init__(self, stream, index, clock):
        self.stream, self.index, self.clock, self.time = stream, index, clock, None


class Machine:
    """A host with GPUs and their driver."""

    def __init__(self, *, gpus=1, name="NVIDIA Stand-in", memory=1 << 30):
        self.gpus, self.name, self.memory_bytes = gpus, name, memory
        self.capability, self.driver_cuda = (9, 0), 13010
        self.contexts = 0
        self.fail = set()
        """Calls that answer as the real ones do when they fail."""
        self.memory, self.pinned, self.next_address = {}, {}, 1 << 20
        self.accesses, self.streams, self.host_clock = defaultdict(list), {}, {}
        self.local = threading.local()
        self.driver = make_driver(self)

    def install(self, monkeypatch):
        pycuda = types.ModuleType("pycuda")
        pycuda.driver = self.driver
        modules = {"pycuda": pycuda, "pycuda.driver": self.driver}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        return self

    @property
    def stack(self):
        if not hasattr(self.local, "stack"):
            self.local.stack = []
        return self.local.stack

    def queue_inference(self, *what):
        queue_inference(self, *what)

    def need_context(self):
        if not self.stack:
            raise Hazard("no context is current in this thread")

    def queue(self, stream, label, run, reads=(), writes=()):
        """Note an operation after checking it against all that touch the same memory."""
        self.need_context()
        clock = merged(stream.clock, self.host_clock)
        index = clock[stream.key] = len(stream.operations) + 1
        for key in {*reads, *writes}:
            for other, other_index, other_label, wrote in self.accesses[key]:
                if (key in writes or wrote) and clock.get(other, 0) < other_index:
                    raise Hazard(f"{label} touches {key} while {other_label} may be in flight")
        for key in {*reads, *writes}:
            self.accesses[key].append((stream.key, index, label, key in writes))
        stream.clock = clock
        stream.operations.append(run)
        return Mark(stream, index, clock)

    def reach(self, mark):
        """Run a stream up to a mark and no further."""
        stream = mark.stream
        while stream.done < mark.index:
            stream.done += 1
            stream.operations[stream.done - 1]()

    def host_waits(self, mark):
        self.need_context()
        if "synchronize" in self.fail:
            raise self.driver.Error("cuEventSynchronize failed: an illegal memory access")
        self.reach(mark)
        self.host_clock = merged(self.host_clock, mark.clock)

    def idle(self, key):
        """Say whether the host has waited for everything that touches `key`."""
        return all(self.host_clock.get(s, 0) >= index for s, index, *_ in self.accesses[key])


def merged(*clocks):
    return {key: max(c.get(key, 0) for c in clocks) for key in set().union(*clocks)}


def make_driver(machine):
    """Return what the engine uses of pycuda.driver."""
    driver = types.ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class MemoryError(Error):  # noqa: A001  the driver's own name
        pass

    class Context:
        def __init__(self, index):
            self.index = index
            machine.contexts += 1

        def detach(self):
            assert machine.stack.pop() is self, "detached elsewhere it would stay"
            machine.contexts -= 1

        def push(self):
            machine.stack.append(self)

        @staticmethod
        def pop():
            machine.stack.pop()

    class Device:
        def __init__(self, index):
            assert index < machine.gpus
            self.index = index

        @staticmethod
        def count():
            return machine.gpus

        def name(self):
            return machine.name

        def compute_capability(self):
            return machine.capability

        def get_attribute(self, attribute):
            return {"sms": 132}[attribute]

        def total_memory(self):
            return machine.memory_bytes

        def retain_primary_context(self):
            if "context" in machine.fail:
                raise Error("cuDevicePrimaryCtxRetain failed: device busy")
            return Context(self.index)

    class Stream:
        def __init__(self, flags=0):
            machine.need_context()
            assert flags == 1, "a blocking stream waits for the default stream"
            self.key = self.handle = 1000 + len(machine.streams)
            self.clock, self.operations, self.done, self.time = {}, [], 0, 0.0
            machine.streams[self.key] = self

        def wait_for_event(self, event):
            mark = event.mark

            def run():
                machine.reach(mark)
                self.time = max(self.time, mark.time)

            self.clock = merged(self.clock, mark.clock)
            machine.queue(self, "wait", run)

        def synchronize(self):
            machine.host_waits(Mark(self, len(self.operations), self.clock))

    class Event:
        def __init__(self, flags=0):
            machine.need_context()
            assert flags == 1, "waiting must not spin"

        def record(self, stream):
            def run():
                mark.time = stream.time

            mark = self.mark = machine.queue(stream, "record", run)

        def synchronize(self):
            machine.host_waits(self.mark)

        def query(self):
            machine.need_context()
            machine.reach(self.mark)
            machine.host_clock = merged(machine.host_clock, self.mark.clock)
            return True

        def time_since(self, start):
            assert None not in (self.mark.time, start.mark.time), "not reached"
            return self.mark.time - start.mark.time

    class Allocation:
        def __init__(self, address):
            self.address = address

        def __int__(self):
            return self.address

        def free(self):
            machine.need_context()
            dead = "synchronize" in machine.fail
            if not dead and not machine.idle(("device", self.address)):
                raise Hazard("memory freed while in flight")
            del machine.memory[self.address]

    def mem_alloc(size):
        machine.need_context()
        if sum(map(len, machine.memory.values())) + size > machine.memory_bytes:
            raise MemoryError("cuMemAlloc failed: out of memory")
        address = machine.next_address
        machine.next_address += -(-size // 256) * 256
        machine.memory[address] = np.full(size, POISON, np.uint8)
        return Allocation(address)

    def pagelocked_empty(shape, dtype):
        machine.need_context()
        if "page-locked" in machine.fail:
            raise MemoryError("cuMemHostAlloc failed: out of memory")
        array = np.full(shape, POISON, dtype)
        machine.pinned[array.ctypes.data] = array  # kept, so that no address comes twice
        return array

    def host_key(array):
        if array.ctypes.data not in machine.pinned:
            raise Hazard("copy with memory that is not page-locked runs beside nothing")
        return "host", array.ctypes.data

    def memcpy_htod_async(address, source, stream):
        before = source.copy()

        def run():
            if not (before == source).all():
                raise Hazard("the input was changed while in flight")
            machine.memory[address][...] = source.ravel()
            stream.time += 1.0

        key = host_key(source)
        machine.queue(stream, "copy in", run, reads=[key], writes=[("device", address)])

    def memcpy_dtoh_async(target, address, stream):
        target[...] = POISON

        def run():
            target[...] = machine.memory[address].reshape(target.shape)
            stream.time += 2.0

        key = host_key(target)
        machine.queue(stream, "copy out", run, reads=[("device", address)], writes=[key])

    def get_driver_version():
        return machine.driver_cuda

    def init():
        if "init" in machine.fail:
            raise Error("cuInit failed: no CUDA-capable device is detected")

    driver.device_attribute = types.SimpleNamespace(MULTIPROCESSOR_COUNT="sms")
    driver.event_flags = types.SimpleNamespace(DEFAULT=0, BLOCKING_SYNC=1, DISABLE_TIMING=2)
    for thing in (Error, MemoryError, Device, Context, Stream, Event, mem_alloc, pagelocked_empty,
                  memcpy_htod_async, memcpy_dtoh_async, init, get_driver_version):  # fmt: skip
        setattr(driver, thing.__name__, thing)
    return driver


def queue_inference(machine, stream_handle, context, onnx_bytes, addresses, shapes, spoil=None):
    """Queue a run of the graph; `context` is touched too, as it owns the activations."""
    key = ("context", id(context))

    def run():
        session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
        (name,) = (tensor.name for tensor in session.get_inputs())
        image = machine.memory[addresses[name]].reshape(shapes[name])
        names = [tensor.name for tensor in session.get_outputs()]
        for output, value in zip(names, session.run(names, {name: image}), strict=True):
            if spoil:
                value = spoil(value)
            machine.memory[addresses[output]][...] = value.ravel()
        machine.streams[stream_handle].time += 5.0

    inputs = [("device", addresses[name]) for name in shapes]
    outputs = [("device", a) for name, a in addresses.items() if name not in shapes]
    machine.queue(
        machine.streams[stream_handle], "inference", run, reads=inputs, writes=[*outputs, key]
    )
