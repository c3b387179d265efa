"""A stand-in for `tensorrt`, or `tensorrt_rtx`, that offers exactly the names of one release.

tests/data/tensorrt_names.json lists, for each release, the members of the classes used here, as
read from the release's own bindings; any other name raises AttributeError, and nothing here may
have a name that no release has. The graph is run by ONNX Runtime on the CPU, so labels come out. It
checks our calls and proves nothing about speed or numbers. What it says of building is as the real
TensorRT for RTX says it (tests/export/test_real_plans.py).
"""

from __future__ import annotations

import enum
import json
import sys
import types
from pathlib import Path

import onnx

from doubles import fake_cuda

NAMES = json.loads((Path(__file__).parents[1] / "data" / "tensorrt_names.json").read_text())
RELEASES = tuple(NAMES)
RTX = "1.7.1.116"
"""The release of TensorRT for RTX among them."""
ENUMS = ("BuilderFlag", "DataType", "LayerType", "MemoryPoolType", "TacticSource")
RTX_ENUMS = ("ComputeCapability", "EngineValidity", "EngineInvalidityDiagnostics")
LIBRARIES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
NO_DRIVER = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient "
    "for CUDA runtime version))"
)
"""What every error is followed by where there is no GPU."""


class Machine(fake_cuda.Machine):
    """A host with GPUs, its driver and one TensorRT release."""

    def __init__(self, release, **gpus):
        super().__init__(**gpus)
        self.release = release
        self.spoil = None
        """Changes the labels of FP16 plans, where given."""
        self.builds = self.compilations = 0
        self.cancelled = self.finished = False
        self.configs = []
        self.is_rtx = release == RTX
        self.title = f"TensorRT for RTX {release}" if self.is_rtx else f"TensorRT {release}"
        self.activations = 1 << 20
        self.tensorrt = make_tensorrt(self)
        if self.is_rtx:
            self.capability = (8, 9)

    def install(self, monkeypatch, beside=None):
        """Take the place of every TensorRT there is; `beside` is another that is installed too."""
        for name in LIBRARIES:
            monkeypatch.setitem(sys.modules, name, None)
        for tensorrt in filter(None, (self.tensorrt, beside and beside.tensorrt)):
            monkeypatch.setitem(sys.modules, tensorrt.__name__, tensorrt)
        return super().install(monkeypatch)


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
        if not self._machine.is_rtx:
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
        self._logger.log(machine.tensorrt.ILogger.VERBOSE, "After dead-layer removal: 15 layers")
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
        if "wait" in machine.fail:
            machine.building.set()
            machine.signalled.wait(10)
        if monitor := getattr(config, "progress_monitor", None):
            monitor.phase_start("Building engine", None, 2)
            monitor.phase_start("Cloning network graph", "Building engine", 1)
            if not monitor.step_complete("Cloning network graph", 0):
                self._error(self._logger, "IBuilder::buildSerializedNetwork: Error Code 7: "
                            "BuildCanceled (Build canceled by user In next)")  # fmt: skip
                machine.cancelled = True
                return None
            monitor.phase_finish("Cloning network graph")
            monitor.step_complete("Building engine", 0)
            monitor.phase_finish("Building engine")
        machine.finished = True
        ((name, shape),) = config._profiles[0]._shapes.items()
        head = {"release": machine.release, "gpu": machine.name, "shapes": {name: shape},
                "fp16": network._is_fp16, "cards": config._cards}  # fmt: skip
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
        what = "API Usage Error (node_of_logits: second input has type Int64)"
        return f"Invalid Node - node_of_logits\n{what}\n{NO_DRIVER}\n{what}\n{NO_DRIVER}"


class OnnxParser(Played):
    def __init__(self, network, logger):
        self._network, self._errors, self._logger = network, [], logger

    def parse(self, content):
        try:
            onnx.checker.check_model(onnx.load_from_string(content))
        except onnx.checker.ValidationError:
            self._errors = [self._make("ParserError")]
            self._error(self._logger, "ModelImporter.cpp:140: While parsing node number 1")
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
    num_compute_capabilities = 0

    def __init__(self):
        self._flags, self._profiles, self._pools, self._timing = set(), [], {}, None
        self._cards = []
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

    def set_compute_capability(self, capability, index):
        if self._fails("capability"):
            return False
        assert index == len(self._cards) < self.num_compute_capabilities
        self._cards.append(f"{capability // 10}.{capability % 10}")
        return True

    def create_timing_cache(self, content):
        assert not self._machine.is_rtx, "deprecated in TensorRT-RTX 1.2: a no-op, with a warning"
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

    def get_engine_validity(self, _plan):
        trt = self._machine.tensorrt
        if fault := next((f for f in trt.EngineInvalidityDiagnostics if self._fails(f.name)), 0):
            return trt.EngineValidity.INVALID, int(fault)
        if self._fails("unexplained"):
            return trt.EngineValidity.INVALID, 0
        return trt.EngineValidity.VALID, 0

    def deserialize_cuda_engine(self, plan):
        self._machine.need_context()
        head, _, model = bytes(plan).partition(b"\n")
        facts = json.loads(head)
        if self._fails("deserialize"):
            self._error(self._logger, "Serialization assertion failed: version tag does not match")
            return None
        assert facts["release"] == self._machine.release, "the cache must not let it come here"
        if facts["cards"]:
            capability = "{}.{}".format(*self._machine.capability)
            assert capability in facts["cards"], "neither cache nor sidecar let it come here"
        else:
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

    @property
    def device_memory_size(self):
        return self._machine.activations

    device_memory_size_v2 = device_memory_size

    def create_runtime_config(self):
        return self._make("IRuntimeConfig")

    def create_execution_context(self, config=None):
        if self._machine.is_rtx and (config is None or config._cache._content is None):
            self._machine.compilations += 1
        if config is not None:
            config._cache._content = self._facts["shapes"]
        if self._fails("execution_context"):
            self._error(self._logger, "Requested amount of GPU memory could not be allocated.")
            return None
        return self._make("IExecutionContext", self)


class IRuntimeConfig(Played):
    _cache = None

    def create_runtime_cache(self):
        return self._make("IRuntimeCache")

    def set_runtime_cache(self, cache):
        self._cache = cache
        return True


class IRuntimeCache(Played):
    def __init__(self):
        self._content = None

    def serialize(self):
        self._machine.need_context()
        if self._fails("serialize_compiled"):
            return None
        driver = self._machine.driver_cuda
        return self._make("IHostMemory", json.dumps([driver, self._content]).encode())

    def deserialize(self, content):
        self._machine.need_context()
        driver, kernels = json.loads(content)
        if driver != self._machine.driver_cuda:
            return False
        self._content = kernels
        return True


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
        queued = machine.queue_inference(
            stream_handle,
            self,
            self._engine._model,
            dict(self._addresses),
            facts["shapes"],
            machine.spoil if facts["fp16"] else None,
        )
        return queued is not False


def make_tensorrt(machine):
    """Return a module with the classes, enumerations and names of `machine.release`."""
    names = NAMES[machine.release]
    module = types.ModuleType("tensorrt_rtx" if machine.is_rtx else "tensorrt")
    module.__version__ = machine.release
    module._classes = {}
    for name in ENUMS:
        setattr(module, name, enumeration(name, names[name]))
    if machine.is_rtx:
        for name in RTX_ENUMS:
            setattr(module, name, numbered(name, names[name]))
        module.IRuntimeCache = type("IRuntimeCache", (), {})
    module.NetworkDefinitionCreationFlag = network_flags(names["NetworkDefinitionCreationFlag"])
    severities = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
    severity = enum.IntEnum("Severity", severities, start=0)
    assert set(severities) <= set(names["ILogger"])
    module.ILogger = type("ILogger", (), {s: severity[s] for s in severities})
    if "IProgressMonitor" in names:
        module.IProgressMonitor = type("IProgressMonitor", (), {})
    for kind in Played.__subclasses__():
        if kind.__name__ not in names:
            continue
        check_names(kind)
        members = {"_names": frozenset(names[kind.__name__]), "_machine": machine}
        module._classes[kind.__name__] = type(kind.__name__, (kind,), members)
    for name in ("Builder", "OnnxParser", "Runtime"):
        setattr(module, name, module._classes[name])
    return module


def check_names(kind):
    """Nothing that is played may have a name that no real library has."""
    real = set().union(*(release.get(kind.__name__, ()) for release in NAMES.values()))
    made_up = {name for name in vars(kind) if not name.startswith("_")} - real
    assert not made_up, f"no {kind.__name__} has {made_up}"


def numbered(name, members):
    """An enumeration of TensorRT for RTX whose numbers count."""
    own = [m for m in members if m not in ("name", "value") and not m.startswith("__")]
    bits = ("VERSION_MISMATCH", "UNSUPPORTED_CC", "OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME",
            "INSUFFICIENT_GPU_MEMORY", "MALFORMED_ENGINE", "CUDA_ERROR")  # fmt: skip
    known = {"NONE": 0, "CURRENT": 1, "VALID": 0, "SUBOPTIMAL": 1, "INVALID": 2}
    known |= {bit: 1 << place for place, bit in enumerate(bits)}
    return enum.IntEnum(name, {m: int(m[2:]) if m.startswith("SM") else known[m] for m in own})


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
