"""TensorRT: a plan on a CUDA device, and how one is found, built and judged.

Not named tensorrt.py, which would hide the library from scripts run in this folder.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from flair_engine.agreement import Agreement, compare, fp32_twin, noise_tiles
from flair_engine.errors import EngineError, InferenceError, PlanError
from flair_engine.inference.gpu.cuda import Device, device_index
from flair_engine.inference.gpu.plan import (
    PlanOptions,
    build_plan,
    flags_text,
    import_tensorrt,
    logged,
    made,
    profile_text,
)
from flair_engine.inference.gpu.plan_cache import PlanCache, PlanKey, sha256_of
from flair_engine.inference.gpu.slots import DEFAULT_BATCH, CudaSlot, CudaSlots, out_of_memory
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.inference.stream import stream as run_through
from flair_engine.manifest import INPUT_NAME, expected_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from flair_engine.inference.base import Request
    from flair_engine.inference.gpu.cuda import Stream
    from flair_engine.manifest import ModelSpec

PROVISIONAL = "noise"
"""A plan judged on noise alone is judged again when there are images."""


class TrtBackend:
    """A plan deserialised on `device`, with slots around one execution context.

    One context on one stream: batches compute in the order of submission, each from its own slot's
    buffers. Raises EngineError where TensorRT refuses the plan or memory runs out.
    """

    engine = "trt"

    def __init__(
        self,
        plan: bytes,
        spec: ModelSpec,
        device: Device,
        *,
        batch: int,
        slots: int,
        owns_device: bool = True,
    ) -> None:
        self._trt = trt = import_tensorrt()
        self._device, self._owns_device = device, owns_device
        self._runtime: Any = None
        self._plan_engine: Any = None
        self._context: Any = None
        self._cuda: CudaSlots | None = None
        self.spec = spec
        self.precision = spec.precision
        self.agreement_fp32: float | None = None
        """Of the images the plan was judged on."""
        self.batch = batch
        self.device = f"cuda:{device.index}"
        # Another plan may flip near-ties, so a run is continued, and a map signed, with this one.
        name = hashlib.sha256(plan).hexdigest()[:8]
        self.description = (
            f"TensorRT {trt.__version__} on {device.name} ({self.device}), plan {name}"
        )
        try:
            with device.current():
                self._runtime = made(trt, "runtime", trt.Runtime)
                self._plan_engine = self._deserialized(plan)
                self._context = self._new_context(slots)
            self._cuda = CudaSlots(device, spec, batch=batch, count=slots, launch=self._launch)
            self._cuda.warm_up()
        except (EngineError, InferenceError):
            self._release()
            raise

    @property
    def slots(self) -> Sequence[CudaSlot]:
        """The slots; see Backend."""
        return self._open_slots.slots

    @property
    def busy_s(self) -> Mapping[str, float]:
        """The device's seconds of copy-in, compute and copy-out."""
        return self._open_slots.busy_s

    def forget_busy(self) -> None:
        """Count the busy seconds from here."""
        self._open_slots.forget_busy()

    def close(self) -> None:
        """Wait for work in flight and free everything; see Backend."""
        self._release()
        if self._owns_device:
            self._device.close()

    @property
    def _open_slots(self) -> CudaSlots:
        assert self._cuda is not None, "opened in the constructor"
        return self._cuda

    def _release(self) -> None:
        """Free slots, context, engine and runtime in this order; a second call does nothing."""
        if self._cuda is not None:
            self._cuda.close()
        if self._runtime is not None:
            with self._device.current():
                self._context = self._plan_engine = self._runtime = None

    def _deserialized(self, plan: bytes) -> Any:
        plan_engine = self._runtime.deserialize_cuda_engine(plan)
        if plan_engine is None:
            raise PlanError(f"TensorRT {self._trt.__version__} refuses it ({logged(self._trt)})")
        _check_tensors(self._trt, plan_engine, self.spec)
        return plan_engine

    def _new_context(self, slots: int) -> Any:
        """Return an execution context for the one shape of the plan."""
        context = self._plan_engine.create_execution_context()
        if context is None:  # it holds the memory of all activations
            raise out_of_memory(logged(self._trt), batch=self.batch, slots=slots)
        shape = (self.batch, *expected_tensors(self.spec)[INPUT_NAME])
        if not context.set_input_shape(INPUT_NAME, shape):
            raise PlanError(f"it does not serve batches of {self.batch} ({logged(self._trt)})")
        return context

    def _launch(self, slot: CudaSlot, stream: Stream) -> None:
        bound = all(
            self._context.set_tensor_address(name, buffer.address)
            for name, buffer in slot.buffers.items()
        )
        if not (bound and self._context.execute_async_v3(stream.handle)):
            raise InferenceError(
                f"TensorRT {self._trt.__version__} failed on a batch of {self.batch} tiles of "
                f"{self.spec.tile_px} px: {logged(self._trt)}. If memory ran out, use a smaller "
                "--batch"
            )


def open_tensorrt(request: Request) -> TrtBackend:
    """Load the plan of a model from the cache, or build, judge and keep it.

    Raises EngineError where TensorRT, pycuda, a GPU or an FP16 model is missing, where the plan
    cannot be built, and where it does not agree with FP32.
    """
    trt = import_tensorrt()
    device = Device(device_index(request.device or "cuda:0"))
    try:
        _check_precision(request)
        return _Plans(trt, device, request).backend()
    except (EngineError, InferenceError):
        device.close()
        raise


class _Plans:
    """Finds or makes the plan of one request."""

    def __init__(self, trt: Any, device: Device, request: Request) -> None:
        self.trt, self.device, self.request = trt, device, request
        self.batch = request.batch or DEFAULT_BATCH
        self.options = PlanOptions(
            batch=self.batch,
            precision=request.spec.precision,
            tactic_sources=request.tactic_sources,
        )
        self.cache = PlanCache(request.plan_cache)
        self.key = PlanKey(
            onnx_sha256=sha256_of(request.model),
            tensorrt=str(trt.__version__),
            gpu=device.name,
            compute_capability=device.compute_capability,
            multiprocessors=device.multiprocessors,
            profile=profile_text(request.spec, self.batch),
            flags=flags_text(trt, self.options),
        )

    def backend(self) -> TrtBackend:
        """Return a backend whose plan is kept and has passed."""
        found = self._kept()
        if isinstance(found, TrtBackend):
            return found
        with self.cache.locked(self.key, self._waiting):
            found = self._kept()  # another process may have built it meanwhile
            return found if isinstance(found, TrtBackend) else self._built(found)

    def _waiting(self) -> None:
        self.request.notify("another process is building this plan: waiting for it")

    def _kept(self) -> TrtBackend | str:
        """Return a backend with the plan in the cache, or why there is none."""
        found = self.cache.find(self.key)
        if isinstance(found, str):
            return found
        try:
            backend = self._open(found.plan)
        except PlanError as error:
            return f"the plan kept there does not serve: {error}"
        if found.facts.get("origin") != PROVISIONAL:
            backend.agreement_fp32 = found.facts.get("share")
        elif self.request.samples is not None:
            self._keep(backend, found.plan, {"built_s": found.facts.get("built_s")})
        return backend

    def _built(self, why: str) -> TrtBackend:
        request = self.request
        request.notify(
            f"building a TensorRT plan of {request.spec.name} for {self.device.name}, batches of "
            f"{self.batch}, to be kept in {self.cache.folder}: {why}"
        )
        start = time.monotonic()
        plan = self._build(request.model.read_bytes(), self.options)
        built_s = round(time.monotonic() - start, 1)
        backend = self._open(plan)
        self._keep(backend, plan, {"built_s": built_s})
        return backend

    def _build(self, model: bytes, options: PlanOptions) -> bytes:
        with self.device.current():
            plan, timings = build_plan(
                self.trt,
                model,
                self.request.spec,
                options,
                timings=self.cache.timings(self.key),
                status=self.request.status,
            )
        self.cache.store_timings(self.key, timings)
        return plan

    def _open(self, plan: bytes, *, owns_device: bool = True) -> TrtBackend:
        return TrtBackend(
            plan,
            self.request.spec,
            self.device,
            batch=self.batch,
            slots=self.request.slots,
            owns_device=owns_device,
        )

    def _keep(self, backend: TrtBackend, plan: bytes, facts: Mapping[str, Any]) -> None:
        """Judge the plan and keep it where it passes; close the backend where it does not."""
        try:
            agreement = self._agreement(backend)
            agreement.check(f"the TensorRT plan of {self.request.spec.name}")
            backend.agreement_fp32 = agreement.share if agreement.origin == "images" else None
            path = self.cache.store(self.key, plan, {**facts, **asdict(agreement)})
        except (EngineError, InferenceError):
            backend.close()
            raise
        self.request.notify(f"{path}: {agreement}")

    def _agreement(self, backend: TrtBackend) -> Agreement:
        """Compare the labels of the plan with FP32 on tiles of the raster, or on noise."""
        samples = self.request.samples
        tiles = noise_tiles(self.request.spec) if samples is None else samples()
        self.request.status(f"comparing the plan with FP32 on {len(tiles)} tiles")
        found = [labels.copy() for labels in _labels(backend, tiles)]
        agreement = compare(
            self.request.spec,
            "noise" if samples is None else "images",
            zip(self._reference(tiles), found, strict=True),
        )
        backend.forget_busy()
        return agreement

    def _reference(self, tiles: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield FP32 labels: by ONNX Runtime on the CPU where it is there, else by another plan."""
        twin = fp32_twin(self.request.model)
        try:
            session = open_session(twin, threads=self.request.threads)
        except EngineError:
            options = replace(self.options, precision="fp32")
            reference = self._open(self._build(twin, options), owns_device=False)
            try:
                yield from _labels(reference, tiles)
            finally:
                reference.close()
            return
        for tile in tiles:
            (labels,) = session.run(["labels"], {INPUT_NAME: tile[None]})
            yield labels[0]


def _labels(backend: TrtBackend, tiles: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for _, outputs in run_through(enumerate(tiles), backend.slots):
        yield outputs["labels"]


def _check_precision(request: Request) -> None:
    """Refuse an FP32 graph: it would run at a fraction of the speed without saying why."""
    if request.spec.precision == "fp16":
        return
    target = request.model.with_suffix(".fp16.onnx")
    raise EngineError(
        f"{request.model}: is {request.spec.precision}, TensorRT is given FP16 graphs here. Run: "
        f"flair-export {request.model} --precision fp16 -o {target}"
    )


def _check_tensors(trt: Any, plan_engine: Any, spec: ModelSpec) -> None:
    """Raise PlanError unless the plan has exactly the model's uint8 tensors."""
    names = [plan_engine.get_tensor_name(index) for index in range(plan_engine.num_io_tensors)]
    types = {plan_engine.get_tensor_dtype(name) for name in names}
    expected = expected_tensors(spec)
    if set(names) != set(expected) or types != {trt.DataType.UINT8}:
        raise PlanError(
            f"its tensors are {', '.join(sorted(names))}, the model's are {', '.join(expected)}, "
            "all uint8"
        )
