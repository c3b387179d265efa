"""ONNX to TensorRT plan, on releases 8.5 to 11 and for RTX by asking for features, not versions.

Every call that can answer None or False is checked; what TensorRT logged is the explanation, so the
logger keeps its errors. A plan is built in a thread of its own: TensorRT calls our Python from the
thread that builds, and what a signal raises there is lost in it.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from flair_engine.errors import EngineError
from flair_engine.inference.base import batch_shape
from flair_engine.inference.gpu.library import capabilities, capability_of, titled
from flair_engine.manifest import INPUT_NAME, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

WORKSPACE_BYTES = 4 << 30
"""What one layer may use as scratch at most; trtexec's `--memPoolSize=workspace:4096`."""

TACTIC_SOURCES = ("CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
"""Every name trtexec's `--tacticSources` has known; a release offers some of them."""


TICK_S = 1.0
"""Between two lines that say how far a build is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """What the builder is told beside the model."""

    batch: int
    precision: str
    """`fp16` or `fp32`, that of the graph."""
    tactic_sources: str | None = None
    """As in trtexec: `-CUBLAS,+JIT_CONVOLUTIONS`; None is the release's choice."""
    capabilities: tuple[str, ...] = ()
    """Compute capabilities to build for, such as `8.9`, where the library can; with none it builds
    for the GPU at hand, TensorRT for RTX for all that it takes without being named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltPlan:
    """What the builder made."""

    plan: bytes
    timings: bytes
    """Timing cache grown by building it; empty where the library has none."""


def check_precision(model: Path, spec: ModelSpec) -> None:
    """Refuse an FP32 graph: it would run at a fraction of the speed without saying why."""
    if spec.precision == "fp16":
        return
    raise EngineError(
        f"{model}: is {spec.precision}, TensorRT is given FP16 graphs here",
        f"run flair-export {model} --precision fp16 -o {model.with_suffix('.fp16.onnx')}",
    )


@cache  # TensorRT keeps the first logger of a process
def logger_of(trt: Any) -> Any:
    """Return the logger that keeps TensorRT's errors for messages; see `logged`."""
    severities = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc]  # a class of the release at hand
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            """Keep errors; TensorRT calls from its own threads, so this does next to nothing."""
            if severity in severities:
                self.errors.append(msg)

    return Logger()


def logged(trt: Any) -> str:
    """Return what TensorRT has logged as errors since the last call, as one line."""
    errors = logger_of(trt).errors
    text = _in_one_line(errors)
    errors.clear()
    return text or "it does not say why"


def _in_one_line(messages: Iterable[str]) -> str:
    """Return the first three different lines of what TensorRT says.

    Without a driver it adds to each that there is none (cudaError 35): no reason beside others.
    """
    lines = [" ".join(line.split()) for message in messages for line in message.splitlines()]
    telling = [line for line in lines if line and "cudaError 35" not in line] or lines
    return "; ".join(list(dict.fromkeys(telling))[:3])


def build_plan(
    trt: Any,
    model: bytes,
    spec: ModelSpec,
    options: PlanOptions,
    *,
    timings: bytes = b"",
    current: Callable[[], AbstractContextManager[None]] = nullcontext,
    status: Callable[[str], None] = lambda _: None,
) -> BuiltPlan:
    """Build the plan of an ONNX model.

    `current` makes the device's context current, which all need but TensorRT for RTX. `status` is
    called about once a second. What is raised meanwhile, by a signal above all, cancels the build,
    from TensorRT 10 on before its next step. Raises EngineError with TensorRT's own words.
    """
    progress = _Progress()

    def build() -> BuiltPlan:
        with current():
            return _built(trt, model, spec, options, timings, progress)

    start = time.monotonic()
    with ThreadPoolExecutor(1, "plan-build") as thread:
        building = thread.submit(build)
        try:
            while True:
                status(f"building the TensorRT plan: {time.monotonic() - start:.0f} s{progress}")
                if wait([building], timeout=TICK_S).done:
                    return building.result()
        finally:
            progress.cancelled = True


class _Progress:
    """What the thread that builds and the one that waits tell each other."""

    def __init__(self) -> None:
        self.phase = ""
        self.cancelled = False

    def __str__(self) -> str:
        return self.phase and f", {self.phase}"


def _built(
    trt: Any,
    model: bytes,
    spec: ModelSpec,
    options: PlanOptions,
    timings: bytes,
    progress: _Progress,
) -> BuiltPlan:
    logged(trt)  # of earlier calls
    builder = made(trt, "builder", trt.Builder)
    network = checked(trt, "network", builder.create_network(_network_flags(trt)))
    parser = trt.OnnxParser(network, logger_of(trt))
    if not parser.parse(model):
        raise EngineError(
            f"{spec.name}: {titled(trt)} refuses the ONNX graph ({_parser_errors(parser)})",
            "export it again, or use --engine ort",
        )
    config = checked(trt, "builder configuration", builder.create_builder_config())
    if not _is_one_layer(trt):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    _set_precision(trt, network, config, options)
    _set_tactic_sources(trt, config, options.tactic_sources)
    _set_capabilities(trt, config, options.capabilities)
    _set_profile(trt, builder, config, spec, options.batch)
    timing_cache = _set_timings(trt, config, timings)
    if hasattr(config, "progress_monitor") and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{spec.name}: {titled(trt)} could not build a plan for batches of "
            f"{options.batch} ({logged(trt)})",
            f"if memory ran out, try --batch {max(1, options.batch // 2)}; else use --engine ort",
        )
    grown = None if timing_cache is None else timing_cache.serialize()
    return BuiltPlan(plan=bytes(plan), timings=b"" if grown is None else bytes(grown))


def made(trt: Any, what: str, kind: Any) -> Any:
    """Return `kind(logger)`, a builder or a runtime. Raises EngineError where there is none."""
    try:
        return kind(logger_of(trt))
    except TypeError as error:  # how the bindings say that the library returned nothing
        raise _not_made(trt, what) from error


def checked(trt: Any, what: str, result: Any) -> Any:
    """Return `result`. Raises EngineError where it is None."""
    if result is None:
        raise _not_made(trt, what)
    return result


def _not_made(trt: Any, what: str) -> EngineError:
    return EngineError(
        f"{titled(trt)} could not make a {what} ({logged(trt)})",
        "check that this release serves the GPU and its driver, or use --engine ort",
    )


def strongly_typed(trt: Any) -> bool:
    """Return whether networks take their types from the ONNX file, as from 10.0 on."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def flags_text(trt: Any, options: PlanOptions) -> str:
    """Return what the builder is told, for the key of the plan cache."""
    typing = "strongly typed" if strongly_typed(trt) else f"weakly typed {options.precision}"
    sources = options.tactic_sources or "default"
    workspace = "any" if _is_one_layer(trt) else f"{WORKSPACE_BYTES >> 20} MiB"
    flags = f"{typing}, workspace {workspace}, tactic sources {sources}"
    return ", ".join((flags, *(f"for {name}" for name in options.capabilities)))


def _is_one_layer(trt: Any) -> bool:
    """Return whether a network is built as one layer, whose scratch is all there is between layers.

    TensorRT for RTX does so. 4 GiB are too little for 16 tiles of 2048 px in FP32.
    """
    return bool(capabilities(trt))


def profile_text(spec: ModelSpec, batch: int) -> str:
    """Return the one shape the plan serves, for the key of the plan cache."""
    return f"{INPUT_NAME} {'x'.join(map(str, batch_shape(spec, batch)))}"


def tactic_changes(text: str) -> dict[str, bool]:
    """Return {source: wanted} of `-CUBLAS,+JIT_CONVOLUTIONS`.

    Raises EngineError for what trtexec refuses.
    """
    changes = {}
    for part in (part.strip() for part in text.split(",")):
        if part[:1] not in ("+", "-") or part[1:] not in TACTIC_SOURCES:
            raise EngineError(
                f"tactic source {part!r} is unknown",
                f"write + or - before one of {', '.join(TACTIC_SOURCES)}, e.g. -CUBLAS,-CUDNN",
            )
        changes[part[1:]] = part[0] == "+"
    return changes


def _network_flags(trt: Any) -> int:
    """Explicit batch where it is a choice, strong typing where it exists.

    The numbers differ between releases (STRONGLY_TYPED is 1 in 10, 0 in 11), so none is written.
    """
    known = trt.NetworkDefinitionCreationFlag
    names = [name for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(known, name)]
    return sum(1 << int(getattr(known, name)) for name in names)


def _parser_errors(parser: Any) -> str:
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    found = (f"node {error.node()}: {_in_one_line([error.desc()])}" for error in errors)
    return "; ".join(found) or "no reason given"


def _set_precision(trt: Any, network: Any, config: Any, options: PlanOptions) -> None:
    """Say what only releases without strong typing need to be told of an FP16 graph."""
    if strongly_typed(trt) or options.precision != "fp16":
        return
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    # The flag lets the builder lower any layer: hold the normalisation and the label arithmetic,
    # the element-wise layers whose results the graph types FP32, where the graph has them.
    for layer in map(network.get_layer, range(network.num_layers)):
        is_float = layer.num_outputs == 1 and layer.get_output(0).dtype == trt.DataType.FLOAT
        if layer.type == trt.LayerType.ELEMENTWISE and is_float:
            layer.precision = trt.DataType.FLOAT


def _set_tactic_sources(trt: Any, config: Any, text: str | None) -> None:
    if text is None:
        return
    sources = config.get_tactic_sources()
    for name, wanted in tactic_changes(text).items():
        if hasattr(trt.TacticSource, name):
            bit = 1 << int(getattr(trt.TacticSource, name))
            sources = sources | bit if wanted else sources & ~bit
        elif wanted:
            raise EngineError(
                f"tactic source {name} does not exist in {titled(trt)}",
                f"leave out +{name}",
            )
    if not config.set_tactic_sources(sources):
        raise EngineError(
            f"{titled(trt)} refuses the tactic sources {text} ({logged(trt)})",
            "leave out --tactic-sources",
        )


def _set_profile(trt: Any, builder: Any, config: Any, spec: ModelSpec, batch: int) -> None:
    """One profile for one shape: every batch is submitted full."""
    shape = batch_shape(spec, batch)
    profile = checked(trt, "profile", builder.create_optimization_profile())
    profile.set_shape(INPUT_NAME, shape, shape, shape)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(
            f"{titled(trt)} refuses the shape {profile_text(spec, batch)} ({logged(trt)})",
            "try a smaller --batch",
        )


def _set_capabilities(trt: Any, config: Any, capabilities: tuple[str, ...]) -> None:
    if not capabilities:
        return
    config.num_compute_capabilities = len(capabilities)
    for index, name in enumerate(capabilities):
        if not config.set_compute_capability(capability_of(trt, name), index):
            raise EngineError(
                f"{titled(trt)} refuses to build for compute capability {name} ({logged(trt)})",
                "leave it out",
            )


def _set_timings(trt: Any, config: Any, timings: bytes) -> Any:
    """Attach earlier measurements, or none where TensorRT does not accept them.

    A build without them is slower and otherwise the same, so a refusal is no error. TensorRT for
    RTX, which compiles for the GPU where a plan is loaded, measures nothing and warns of them.
    """
    if hasattr(trt, "IRuntimeCache"):
        return None
    for content in dict.fromkeys((timings, b"")):
        timing_cache = config.create_timing_cache(content)
        if timing_cache is not None and config.set_timing_cache(timing_cache, False):
            return timing_cache
    return None


def _monitor(trt: Any, progress: _Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # a class of the release at hand
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, _parent: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            steps = self.steps.get(phase_name, step + 1)
            progress.phase = f"{phase_name} {step + 1} of {steps}"
            return not progress.cancelled

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
