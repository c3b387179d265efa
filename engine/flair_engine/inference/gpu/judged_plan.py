"""The plan of a request: one that was kept and has passed, or a new one, built, judged and kept.

A plan passes where its labels agree with those of its graph in FP32 on tiles of the raster. Where
there is no raster yet it is judged on noise, and again as soon as there are images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flair_engine.agreement import TILES, Agreement, compare, in_fp32, noise_tiles
from flair_engine.errors import EngineError, InferenceError, PlanError
from flair_engine.inference.gpu.cuda import Device, device_index
from flair_engine.inference.gpu.plan import (
    PlanOptions,
    build_plan,
    flags_text,
    import_tensorrt,
    profile_text,
)
from flair_engine.inference.gpu.plan_cache import (
    NoPlan,
    PlanCache,
    PlanFacts,
    PlanKey,
)
from flair_engine.inference.gpu.slots import CUDA_BATCH
from flair_engine.inference.gpu.tensor_rt import TrtBackend
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.inference.stream import stream
from flair_engine.manifest import INPUT_NAME
from flair_engine.model_file import model_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from flair_engine.inference.base import Request


def open_tensorrt(request: Request) -> TrtBackend:
    """Load the plan of a model from the cache, or build, judge and keep it.

    Raises EngineError where TensorRT, pycuda, a GPU or an FP16 model is missing, where the plan
    cannot be built, and where it does not agree with FP32.
    """
    import_tensorrt()  # said to be missing before the GPU is
    device = Device(device_index(request.device or "cuda:0"))
    try:
        _check_precision(request)
        wanted = _wanted(request, device)
        backend = _kept(wanted)
        if isinstance(backend, NoPlan) and request.plan_sha256:
            raise _other_plan(wanted, backend)
        if isinstance(backend, NoPlan):
            with wanted.cache.locked(wanted.key, lambda: _tell_of_waiting(request)):
                backend = _kept(wanted)  # another process may have built it meanwhile
                if isinstance(backend, NoPlan):
                    backend = _built(wanted, backend)
    except (EngineError, InferenceError):
        device.close()
        raise
    return backend


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """The plan that a request needs: for which device, built how, and where it is kept."""

    request: Request
    device: Device
    options: PlanOptions
    key: PlanKey
    cache: PlanCache


def _wanted(request: Request, device: Device) -> _Wanted:
    trt = import_tensorrt()
    options = PlanOptions(
        batch=request.batch or CUDA_BATCH,
        precision=request.spec.precision,
        tactic_sources=request.tactic_sources,
    )
    key = PlanKey(
        onnx_sha256=model_sha256(request.model),
        tensorrt=str(trt.__version__),
        gpu=device.name,
        compute_capability=device.compute_capability,
        multiprocessors=device.multiprocessors,
        profile=profile_text(request.spec, options.batch),
        flags=flags_text(trt, options),
    )
    cache = PlanCache(request.plan_cache, request.plan_sha256)
    return _Wanted(request=request, device=device, options=options, key=key, cache=cache)


def _check_precision(request: Request) -> None:
    """Refuse an FP32 graph: it would run at a fraction of the speed without saying why."""
    if request.spec.precision == "fp16":
        return
    target = request.model.with_suffix(".fp16.onnx")
    raise EngineError(
        f"{request.model}: is {request.spec.precision}, TensorRT is given FP16 graphs here",
        f"run flair-export {request.model} --precision fp16 -o {target}",
    )


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
    with wanted.device.current():
        plan, timings = build_plan(
            import_tensorrt(),
            model,
            wanted.request.spec,
            options,
            timings=wanted.cache.timings(wanted.key),
            status=wanted.request.status,
        )
    wanted.cache.store_timings(wanted.key, timings)
    return plan


def _opened(wanted: _Wanted, plan: bytes, *, owns_device: bool = True) -> TrtBackend:
    return TrtBackend(
        plan,
        wanted.request.spec,
        wanted.device,
        batch=wanted.options.batch,
        slots=wanted.request.slots,
        owns_device=owns_device,
    )


def _judge_and_keep(wanted: _Wanted, backend: TrtBackend, plan: bytes, built_s: float) -> None:
    """Judge the plan and keep it where it passes; close the backend where it does not."""
    request = wanted.request
    try:
        agreement = _agreement(wanted, backend)
        agreement.check(f"the TensorRT plan of {request.spec.name}")
        facts = PlanFacts(built_s=built_s, agreement=agreement)
        path = wanted.cache.store(wanted.key, plan, facts)
    except (EngineError, InferenceError):
        backend.close()
        raise
    if agreement.origin == "images":
        backend.difference_fp32 = agreement.difference
    request.notify(f"{path}: {agreement}")


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
