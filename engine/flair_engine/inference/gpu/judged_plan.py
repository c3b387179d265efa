"""The plan of a request: one that was kept and has passed, or a new one, built, judged and kept.

A plan passes where its labels agree with those of its graph in FP32 on tiles of the raster. Where
there is no raster yet it is judged on noise, and again as soon as there are images. A plan that was
built ahead, on a machine without a GPU, is judged where it first meets one; what was found is kept,
the plan stays where it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flair_engine.agreement import TILES, Agreement, compare, in_fp32, noise_tiles
from flair_engine.errors import DeviceMemoryError, EngineError, InferenceError, PlanError
from flair_engine.inference.gpu.ahead import BUILD_AHEAD_AGAIN, AheadPlan, read_ahead
from flair_engine.inference.gpu.cuda import Device, device_index
from flair_engine.inference.gpu.library import (
    capabilities,
    check_device,
    installed_libraries,
    library_for,
    library_name,
    library_named,
)
from flair_engine.inference.gpu.plan import (
    PlanOptions,
    build_plan,
    check_precision,
    flags_text,
    profile_text,
)
from flair_engine.inference.gpu.plan_cache import (
    NoPlan,
    PlanCache,
    PlanFacts,
    PlanKey,
)
from flair_engine.inference.gpu.slots import CUDA_BATCH
from flair_engine.inference.gpu.tensor_rt import Loadable, TrtBackend
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.inference.stream import stream
from flair_engine.manifest import INPUT_NAME
from flair_engine.model_file import model_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    import numpy as np

    from flair_engine.inference.base import Request


def open_tensorrt(request: Request) -> TrtBackend:
    """Load the plan that was given, else that of the cache, or build, judge and keep one.

    Raises EngineError where TensorRT, pycuda, a GPU or an FP16 model is missing, where a plan
    cannot be built or is of another model, card, library or release, and where it does not agree
    with FP32.
    """
    installed_libraries()  # said to be missing before the GPU is
    ahead = None if request.plan is None else read_ahead(request.plan, request)
    device = Device(device_index(request.device or "cuda:0"))
    try:
        check_precision(request.model, request.spec)
        if ahead is not None:
            return _given(_wanted_ahead(request, device, ahead), ahead)
        return _kept_or_built(_wanted(request, device))
    except BaseException:  # a signal too: the context is given back
        device.close()
        raise


def _kept_or_built(wanted: _Wanted) -> TrtBackend:
    backend = _kept(wanted)
    if isinstance(backend, NoPlan) and wanted.request.plan_sha256:
        raise _other_plan(wanted, backend)
    if isinstance(backend, NoPlan):
        with wanted.cache.locked(wanted.key, lambda: _tell_of_waiting(wanted.request)):
            backend = _kept(wanted)  # another process may have built it meanwhile
            if isinstance(backend, NoPlan):
                backend = _built(wanted, backend)
    return backend


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """The plan that a request needs: of which library, for which device, and where it is kept."""

    request: Request
    trt: Any
    device: Device
    options: PlanOptions
    key: PlanKey
    cache: PlanCache


def _wanted(request: Request, device: Device) -> _Wanted:
    trt = library_for(device, request.notify)
    named = device.compute_capability in capabilities(trt)
    options = PlanOptions(
        batch=request.batch or CUDA_BATCH,
        precision=request.spec.precision,
        tactic_sources=request.tactic_sources,
        capabilities=(device.compute_capability,) if named else (),
    )
    return _of_key(request, trt, device, options, flags_text(trt, options))


def _wanted_ahead(request: Request, device: Device, ahead: AheadPlan) -> _Wanted:
    """Return what a plan built ahead is used as, where it is for this card and release."""
    trt = library_named(ahead.key.library)
    check_device(trt, device)
    ahead.check_place(trt, device)
    options = PlanOptions(
        batch=ahead.key.batch,
        precision=request.spec.precision,
        capabilities=(device.compute_capability,),
    )
    return _of_key(request, trt, device, options, f"built ahead, {ahead.key.flags}")


def _of_key(
    request: Request, trt: Any, device: Device, options: PlanOptions, flags: str
) -> _Wanted:
    key = PlanKey(
        onnx_sha256=model_sha256(request.model),
        library=library_name(trt),
        tensorrt=str(trt.__version__),
        gpu=device.name,
        compute_capability=device.compute_capability,
        multiprocessors=device.multiprocessors,
        profile=profile_text(request.spec, options.batch),
        flags=flags,
    )
    cache = PlanCache(request.plan_cache, request.plan_sha256)
    return _Wanted(request=request, trt=trt, device=device, options=options, key=key, cache=cache)


def _given(wanted: _Wanted, ahead: AheadPlan) -> TrtBackend:
    """Open a plan that was built ahead; judge it unless it was, on images, on such a GPU."""
    try:
        backend = _opened(wanted, ahead.plan)
    except PlanError as error:
        raise EngineError(f"{ahead.path}: {error.what}", BUILD_AHEAD_AGAIN) from error
    except DeviceMemoryError as error:
        raise EngineError(
            f"{ahead.path}: {error.what}",
            f"give one built with --batch {max(1, ahead.key.batch // 2)}, or leave out --plan",
        ) from error
    facts = wanted.cache.facts(wanted.key, ahead.plan)
    if facts is not None and facts.agreement.origin == "images":
        backend.difference_fp32 = facts.agreement.difference
    elif facts is None or wanted.request.samples is not None:
        _judge_and_keep(wanted, backend, ahead.plan, ahead.built_s, lies_at=ahead.path)
    return backend


def _other_plan(wanted: _Wanted, missing: NoPlan) -> EngineError:
    """Return the error of a plan that has to be a certain one, and is not to be had."""
    return EngineError(
        f"the TensorRT plan of all parts is not to be had in {wanted.cache.folder}: {missing.why}",
        "use machines of one GPU and TensorRT that see that folder, or plan the job again",
    )


def _tell_of_waiting(request: Request) -> None:
    request.notify("another process is building this plan: waiting for it")


def _kept(wanted: _Wanted) -> TrtBackend | NoPlan:
    """Open the plan in the cache; judge it on images where it was judged on noise alone."""
    found = wanted.cache.find(wanted.key)
    if isinstance(found, NoPlan):
        return found
    try:
        backend = _opened(wanted, found.plan)
    except PlanError as error:
        return NoPlan(why=f"the plan kept there does not serve: {error.what}")
    if found.facts.agreement.origin == "images":
        backend.difference_fp32 = found.facts.agreement.difference
    elif wanted.request.samples is not None and not wanted.request.plan_sha256:
        _judge_and_keep(wanted, backend, found.plan, found.facts.built_s)
    return backend


def _built(wanted: _Wanted, missing: NoPlan) -> TrtBackend:
    """Build the plan, and keep it where it passes."""
    request, options = wanted.request, wanted.options
    request.notify(
        f"building a TensorRT plan of {request.spec.name} for {wanted.device.name}, batches of "
        f"{options.batch}, to be kept in {wanted.cache.folder}: {missing.why}"
    )
    start = time.monotonic()
    plan = _plan_of(wanted, request.model.read_bytes(), options)
    built_s = round(time.monotonic() - start, 1)
    backend = _opened(wanted, plan)
    _judge_and_keep(wanted, backend, plan, built_s)
    return backend


def _plan_of(wanted: _Wanted, model: bytes, options: PlanOptions) -> bytes:
    """Build a plan on the device with the timings kept for it, and keep those it adds."""
    built = build_plan(
        wanted.trt,
        model,
        wanted.request.spec,
        options,
        timings=wanted.cache.timings(wanted.key),
        current=wanted.device.current,
        status=wanted.request.status,
    )
    if built.timings:
        wanted.cache.store_timings(wanted.key, built.timings)
    return built.plan


def _opened(wanted: _Wanted, plan: bytes, *, owns_device: bool = True) -> TrtBackend:
    """Load a plan, with what the runtime compiled of it before where the plan is the key's."""
    compiled = wanted.cache.compiled(wanted.key) if owns_device else b""
    if capabilities(wanted.trt) and not compiled:
        wanted.request.status(f"compiling the plan for {wanted.device.name}")
    backend = TrtBackend(
        Loadable(trt=wanted.trt, plan=plan, compiled=compiled),
        wanted.request.spec,
        wanted.device,
        batch=wanted.options.batch,
        slots=wanted.request.slots,
        owns_device=owns_device,
    )
    if owns_device:
        _keep_compiled(wanted, backend, compiled)
    return backend


def _keep_compiled(wanted: _Wanted, backend: TrtBackend, before: bytes) -> None:
    """Keep what the runtime has compiled, where it is new; without it only the start is slower."""
    try:
        now = backend.compiled
        if now and now != before:
            wanted.cache.store_compiled(wanted.key, now)
    except (EngineError, InferenceError) as error:
        wanted.request.notify(f"what was compiled is not kept: {error.what}")


def _judge_and_keep(
    wanted: _Wanted,
    backend: TrtBackend,
    plan: bytes,
    built_s: float,
    lies_at: Path | None = None,
) -> None:
    """Judge the plan and keep it where it passes; close the backend where it does not.

    Of a plan that `lies_at` some place only what was found is kept.
    """
    request, cache = wanted.request, wanted.cache
    try:
        agreement = _agreement(wanted, backend)
        agreement.check(f"the TensorRT plan of {request.spec.name}")
        facts = PlanFacts(built_s=built_s, agreement=agreement)
        store = cache.store if lies_at is None else cache.store_facts
        path = store(wanted.key, plan, facts)
    except (EngineError, InferenceError):
        backend.close()
        raise
    if agreement.origin == "images":
        backend.difference_fp32 = agreement.difference
    request.notify(f"{lies_at or path}: {agreement}")


def _agreement(wanted: _Wanted, backend: TrtBackend) -> Agreement:
    """Compare the labels of the plan with FP32 on tiles of the raster, or on noise."""
    request = wanted.request
    images = request.samples(TILES) if request.samples is not None else ()
    tiles = images or noise_tiles(request.spec)
    request.status(f"comparing the plan with FP32 on {len(tiles)} tiles")
    found = [labels_hw.copy() for labels_hw in _labels_of(backend, tiles)]
    agreement = compare(
        request.spec,
        "images" if images else "noise",
        zip(_reference_labels(wanted, tiles), found, strict=True),
    )
    backend.forget_busy()
    return agreement


def _reference_labels(wanted: _Wanted, tiles: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield FP32 labels: by ONNX Runtime on the CPU where it is there, else by another plan."""
    twin = in_fp32(wanted.request.model)
    try:
        session = open_session(twin, threads=wanted.request.threads)
    except EngineError:
        plan = _plan_of(wanted, twin, replace(wanted.options, precision="fp32"))
        reference = _opened(wanted, plan, owns_device=False)
        try:
            yield from _labels_of(reference, tiles)
        finally:
            reference.close()
        return
    for tile in tiles:
        (labels,) = session.run(["labels"], {INPUT_NAME: tile[None]})
        yield labels[0]


def _labels_of(backend: TrtBackend, tiles: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the labels uint8 [C, C] of each tile, borrowed until the next step."""
    for _, outputs in stream(enumerate(tiles), backend.slots):
        yield outputs["labels"]
