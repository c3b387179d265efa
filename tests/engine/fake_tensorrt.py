"""A stand-in for `tensorrt` and `pycuda.driver` that offers exactly the names of one release.

tests/data/tensorrt_names.json lists, for each release, the members of the classes used here, as
read from the release's own bindings; any other name raises AttributeError. The graph is run by ONNX
Runtime on the CPU, so labels come out. Streams only note what is queued and run as late as they
may; every operation is checked at once against all that touch the same memory: two that conflict
and are not ordered by a stream, an event or a wait of the host raise Hazard. It checks our calls
and proves nothing about speed or numbers.
"""

from __future__ import annotations

import enum
import json
import sys
import threading
import types
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

NAMES = json.loads((Path(__file__).parents[1] / "data" / "tensorrt_names.json").read_text())
RELEASES = tuple(NAMES)
ENUMS = ("BuilderFlag", "DataType", "LayerType", "MemoryPoolType", "TacticSource")
POISON = 0xEE


class Hazard(AssertionError):  # noqa: N818  a finding, not an error of the code that raises it
    """Memory touched while in flight, or a call without a current context."""


class Mark:
    """A recorded event: how far a stream had got."""

    def __init__(self, stream, index, clock):
        self.stream, self.index, self.clock, self.time = stream, index, clock, None


class Machine:
    """A host with GPUs, its driver and one TensorRT release."""

    def __init__(self, release, *, gpus=1, name="NVIDIA Stand-in", memory=1 << 30):
        self.release, self.gpus, self.name, self.memory_bytes = release, gpus, name, memory
        self.fail = set()
        """Calls that answer as the real ones do when they fail."""
        self.spoil = None
        """Changes the labels of FP16 plans, where given."""
        self.builds = 0
        self.configs = []
        self.memory, self.pinned, self.next_address = {}, {}, 1 << 20
        self.accesses, self.streams, self.host_clock = defaultdict(list), {}, {}
        self.local = threading.local()
        self.driver = make_driver(self)
        self.tensorrt = make_tensorrt(self)

    def install(self, monkeypatch):
        pycuda = types.ModuleType("pycuda")
        pycuda.driver = self.driver
        modules = {"tensorrt": self.tensorrt, "pycuda": pycuda, "pycuda.driver": self.driver}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        return self

    @property
    def stack(self):
        if not hasattr(self.local, "stack"):
            self.local.stack = []
        return self.local.stack

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
            return (9, 0)

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

    def init():
        if "init" in machine.fail:
            raise Error("cuInit failed: no CUDA-capable device is detected")

    driver.device_attribute = types.SimpleNamespace(MULTIPROCESSOR_COUNT="sms")
    driver.event_flags = types.SimpleNamespace(DEFAULT=0, BLOCKING_SYNC=1, DISABLE_TIMING=2)
    for thing in (Error, MemoryError, Device, Context, Stream, Event, mem_alloc, pagelocked_empty,
                  memcpy_htod_async, memcpy_dtoh_async, init):  # fmt: skip
        setattr(driver, thing.__name__, thing)
    return driver


def queue_inference(machine, stream, context, onnx_bytes, addresses, shapes, spoil=None):
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
        stream.time += 5.0

    inputs = [("device", addresses[name]) for name in shapes]
    outputs = [("device", a) for name, a in addresses.items() if name not in shapes]
    machine.queue(stream, "inference", run, reads=inputs, writes=[*outputs, key])


class Played:
    """An object of which only the names of the release can be used from outside."""

    _names: frozenset[str]
    _machine: Machine

    def __getattribute__(self, name):
        if not name.startswith("_") and name not in object.__getattribute__(self, "_names"):
            raise AttributeError(f"{type(self).__name__} of this release has no {name}")
        return object.__getattribute__(self, name)

    def __setattr__(self, name, value):
        if not name.startswith("_") and name not in self._names:
            raise AttributeError(f"{type(self).__name__} of this release has no {name}")
        object.__setattr__(self, name, value)

    def _fails(self, call):
        return call in self._machine.fail

    def _make(self, name, *arguments):
        return self._machine.tensorrt._classes[name](*arguments)

    def _error(self, logger, message):
        logger.log(self._machine.tensorrt.ILogger.ERROR, message)


class IHostMemory(Played):
    def __init__(self, content):
        self._content = content

    def __bytes__(self):
        return self._content


class Builder(Played):
    def __init__(self, logger):
        self._machine.need_context()
        if self._fails("builder"):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def create_network(self, flags=0):
        return None if self._fails("network") else self._make("INetworkDefinition", flags)

    def create_builder_config(self):
        return None if self._fails("config") else self._make("IBuilderConfig")

    def create_optimization_profile(self):
        return None if self._fails("profile") else self._make("IOptimizationProfile")

    def build_serialized_network(self, network, config):
        machine, flags = self._machine, config._flags
        machine.builds += 1
        machine.configs.append(config)
        strong = hasattr(machine.tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
        if strong and "FP16" in flags:
            self._error(self._logger, "FP16 is not a flag of strongly typed networks")
            return None
        if not strong and network._is_fp16 and "FP16" not in flags:
            self._error(self._logger, "fp16 precision has been set but is not configured")
            return None
        if self._fails("build") or len(config._profiles) != 1:
            self._error(self._logger, "Could not find any implementation for node {Conv_0}.")
            return None
        if monitor := getattr(config, "progress_monitor", None):
            monitor.phase_start("Building Engine", None, 2)
            assert monitor.step_complete("Building Engine", 0)
            monitor.phase_finish("Building Engine")
        ((name, shape),) = config._profiles[0]._shapes.items()
        head = {"release": machine.release, "gpu": machine.name, "shapes": {name: shape},
                "fp16": network._is_fp16}  # fmt: skip
        return self._make("IHostMemory", json.dumps(head).encode() + b"\n" + network._model)


class INetworkDefinition(Played):
    def __init__(self, flags):
        known = self._machine.tensorrt.NetworkDefinitionCreationFlag
        for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED"):
            assert not hasattr(known, name) or flags & 1 << getattr(known, name), name
        assert not flags & ~sum(1 << int(flag) for flag in known), "unknown bits"
        assert not any(flag.name.startswith("PREFER") and flags & 1 << flag for flag in known), (
            "a number of another release"
        )
        self._model, self._is_fp16, self._layers = b"", False, []

    def _parse(self, content):
        self._model = content
        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
        types_ = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
        self._is_fp16 = onnx.TensorProto.FLOAT16 in types_.values()
        self._layers = [self._make("ILayer", node.op_type, types_.get(node.output[0], 2))
                        for node in graph.node]  # fmt: skip

    @property
    def num_layers(self):
        return len(self._layers)

    def get_layer(self, index):
        return self._layers[index]


class ILayer(Played):
    num_outputs = 1

    def __init__(self, op, elem_type):
        kinds = self._machine.tensorrt.LayerType
        self._op, self._type = op, elem_type
        elementwise = op in ("Sub", "Div", "Mul", "Add")
        self._kind = kinds.ELEMENTWISE if elementwise else kinds.CONVOLUTION

    @property
    def type(self):
        return self._kind

    def get_output(self, _index):
        known = self._machine.tensorrt.DataType
        tensor = self._make("ITensor")
        by_number = {1: known.FLOAT, 10: known.HALF}
        object.__setattr__(tensor, "dtype", by_number.get(self._type, known.INT32))
        return tensor


class ITensor(Played):
    pass


class ParserError(Played):
    def node(self):
        return 1

    def desc(self):
        return "No importer registered for op: NoSuchOperator"


class OnnxParser(Played):
    def __init__(self, network, _logger):
        self._network, self._errors = network, []

    def parse(self, content):
        try:
            onnx.checker.check_model(onnx.load_from_string(content))
        except onnx.checker.ValidationError:
            self._errors = [self._make("ParserError")]
            return False
        self._network._parse(content)
        return True

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]


class IOptimizationProfile(Played):
    def __init__(self):
        self._shapes = {}

    def set_shape(self, name, least, best, most):
        assert least == best == most
        self._shapes[name] = list(best)


class ITimingCache(Played):
    def __init__(self, content):
        self._content = content

    def serialize(self):
        if self._fails("serialize"):
            return None
        return self._make("IHostMemory", self._content + b"+")


class IBuilderConfig(Played):
    progress_monitor = None

    def __init__(self):
        self._flags, self._profiles, self._pools, self._timing = set(), [], {}, None
        known = self._machine.tensorrt.TacticSource
        self._sources = sum(1 << int(source) for source in known)

    def set_memory_pool_limit(self, pool, size):
        self._pools[pool.name] = size

    def set_flag(self, flag):
        self._flags.add(flag.name)

    def add_optimization_profile(self, profile):
        if self._fails("add_profile"):
            return -1
        self._profiles.append(profile)
        return 0

    def get_tactic_sources(self):
        return self._sources

    def set_tactic_sources(self, sources):
        if self._fails("tactic_sources"):
            return False
        self._sources = sources
        return True

    def create_timing_cache(self, content):
        return None if self._fails("timing_cache") else self._make("ITimingCache", bytes(content))

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        self._timing = cache._content
        return not (self._fails("old_timings") and cache._content)


class Runtime(Played):
    def __init__(self, logger):
        self._machine.need_context()
        if self._fails("runtime"):
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def deserialize_cuda_engine(self, plan):
        head, _, model = bytes(plan).partition(b"\n")
        facts = json.loads(head)
        if self._fails("deserialize"):
            self._error(self._logger, "Serialization assertion failed: version tag does not match")
            return None
        assert facts["release"] == self._machine.release, "the cache must not let it come here"
        assert facts["gpu"] == self._machine.name, "the cache must not let it come here"
        return self._make("ICudaEngine", facts, model, self._logger)


class ICudaEngine(Played):
    def __init__(self, facts, model, logger):
        self._facts, self._model, self._logger = facts, model, logger
        graph = onnx.load_from_string(model).graph
        self._io = [value.name for value in (*graph.input, *graph.output)]
        if self._fails("tensors"):
            self._io[0] = "picture"

    @property
    def num_io_tensors(self):
        return len(self._io)

    def get_tensor_name(self, index):
        return self._io[index]

    def get_tensor_dtype(self, _name):
        return self._machine.tensorrt.DataType.UINT8

    def create_execution_context(self):
        if self._fails("execution_context"):
            self._error(self._logger, "Requested amount of GPU memory could not be allocated.")
            return None
        return self._make("IExecutionContext", self)


class IExecutionContext(Played):
    def __init__(self, plan_engine):
        self._engine, self._addresses, self._shaped = plan_engine, {}, False

    def set_input_shape(self, name, shape):
        self._shaped = self._engine._facts["shapes"][name] == list(shape)
        return self._shaped and not self._fails("set_input_shape")

    def set_tensor_address(self, name, address):
        assert name in self._engine._io
        assert address % 256 == 0
        self._addresses[name] = address
        return not self._fails("set_tensor_address")

    def execute_async_v3(self, stream_handle):
        if self._fails("execute"):
            self._error(self._engine._logger, "Cuda Runtime (out of memory)")
            return False
        assert self._shaped
        machine, facts = self._machine, self._engine._facts
        queue_inference(
            machine,
            machine.streams[stream_handle],
            self,
            self._engine._model,
            dict(self._addresses),
            facts["shapes"],
            machine.spoil if facts["fp16"] else None,
        )
        return True


def make_tensorrt(machine):
    """Return a module with the classes, enumerations and names of `machine.release`."""
    names = NAMES[machine.release]
    module = types.ModuleType("tensorrt")
    module.__version__ = machine.release
    module._classes = {}
    for name in ENUMS:
        setattr(module, name, enumeration(name, names[name]))
    module.NetworkDefinitionCreationFlag = network_flags(names["NetworkDefinitionCreationFlag"])
    severities = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
    severity = enum.IntEnum("Severity", severities, start=0)
    assert set(severities) <= set(names["ILogger"])
    module.ILogger = type("ILogger", (), {s: severity[s] for s in severities})
    if "IProgressMonitor" in names:
        module.IProgressMonitor = type("IProgressMonitor", (), {})
    for kind in Played.__subclasses__():
        members = {"_names": frozenset(names[kind.__name__]), "_machine": machine}
        module._classes[kind.__name__] = type(kind.__name__, (kind,), members)
    for name in ("Builder", "OnnxParser", "Runtime"):
        setattr(module, name, module._classes[name])
    return module


def enumeration(name, members):
    own = [m for m in members if m not in ("name", "value") and not m.startswith("__")]
    return enum.IntEnum(name, own, start=0)


def network_flags(members):
    """The one enumeration whose numbers differ between releases, as they do."""
    if "EXPLICIT_BATCH" in members:
        numbers = {"EXPLICIT_BATCH": 0, "EXPLICIT_PRECISION": 1, "STRONGLY_TYPED": 1,
                   "PREFER_AOT_PYTHON_PLUGINS": 2, "PREFER_JIT_PYTHON_PLUGINS": 3}  # fmt: skip
    else:
        numbers = {"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1,
                   "PREFER_AOT_PYTHON_PLUGINS": 2}  # fmt: skip
    own = {name: number for name, number in numbers.items() if name in members}
    return enum.IntEnum("NetworkDefinitionCreationFlag", own)
