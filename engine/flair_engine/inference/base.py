"""The interface every inference runtime stands behind, and what the runtimes share.

A backend owns a few slots. A slot owns the buffers of one batch: the caller fills `images_nchw`,
calls `submit`, does something else, and calls `wait`. Two slots are double buffering; one is the
reference. A backend is opened with a Request, by its class or a function, and raises EngineError
where the runtime or device is missing or refuses the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flair_engine.errors import InferenceError
from flair_engine.manifest import INPUT_NAME, expected_tensors
from flair_engine.options import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.agreement import LabelDifference
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Precision

CPU_BATCH = 1
"""Tiles per batch on a CPU, unless told otherwise."""
CPU_INFERENCES = 2
"""Batches inferred at once on a CPU: threads that seldom wait for each other do more. Not tied to
the slots: the threads of one inference may decide near-ties, and labels are not to depend on the
number of slots."""


class Slot(Protocol):
    """The buffers of one batch and the work queued on them."""

    images_nchw: np.ndarray
    """uint8 [N, bands, T, T], filled by the caller while nothing is in flight."""

    @property
    def device(self) -> str:
        """`cpu` or `cuda:N`; the batches of one device end in the order of submission."""

    def submit(self) -> None:
        """Queue inference of `images_nchw`, which must stay untouched until `wait` returns."""

    def wait(self) -> Mapping[str, np.ndarray]:
        """Return the outputs by name, uint8 [N, ...], borrowed until the next `submit`.

        Raises InferenceError where the runtime failed.
        """

    def is_ready(self) -> bool:
        """Return whether `wait` would return at once, or raise; called after `submit`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchTimes:
    """When one batch was in the stages of a GPU, in its seconds since the first began."""

    slot: int
    """Its number on the device."""
    copy_in: tuple[float, float]
    """Begin and end."""
    compute: tuple[float, float]
    copy_out: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceUse:
    """What one GPU has done."""

    device: str
    """`cuda:N`."""
    name: str
    """Its model."""
    batches: int
    busy_s: Mapping[str, float]
    """Its seconds of copy-in, compute and copy-out."""
    agreement_fp32: float | None
    """Share of labels equal to FP32's on some tiles; None where not compared."""
    agreement_first: float | None = None
    """Share equal to the first GPU's on some tiles; None of that one, and where both are of one
    model and compute the same."""
    timeline: Sequence[BatchTimes]
    """The first batches."""


class Backend(Protocol):
    """A model loaded into a runtime on a device."""

    engine: str
    """Name of the runtime, as in `--engine`."""
    device: str
    """`cpu` or `cuda:N`, several with commas."""
    description: str
    """Runtime, version and device for people, e.g. `ONNX Runtime 1.20.1 on 8 CPU threads`."""
    identity: str
    """The part of it that a label may depend on: GPUs of one model are not told apart."""
    spec: ModelSpec
    precision: str
    """What it computes in: `fp32`, `fp16`, `bf16`, `int8` with the rest in FP32, or `int8 bf16`."""
    batch: int
    """Tiles per slot."""

    @property
    def slots(self) -> Sequence[Slot]:
        """The buffers to fill, all of them idle after opening."""

    @property
    def busy_s(self) -> Mapping[str, float]:
        """Seconds spent so far in each stage of inference, by the stage's name."""

    @property
    def difference_fp32(self) -> LabelDifference | None:
        """Labels that differ from FP32's on some tiles; None where not compared."""

    @property
    def measured_fp32(self) -> str | None:
        """When they were compared, ISO 8601; None where that is not known."""

    def forget_busy(self) -> None:
        """Count the busy seconds from here."""

    @property
    def devices(self) -> Sequence[DeviceUse]:
        """What each GPU has done so far; empty on a CPU, and where it cannot be told."""

    def close(self) -> None:
        """Wait for work in flight and free everything; a second call does nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A model and how it is to be run, as every engine is given it."""

    model: Path
    spec: ModelSpec
    device: str | None = None
    """`cpu`, `cuda` or `cuda:N`, of which the chooser takes several apart; None where the engine
    chooses."""
    batch: int | None = None
    """Tiles per slot; None where the engine chooses."""
    slots: int = 2
    threads: int | None = None
    """CPU threads of inference; None is one for every CPU of the process."""
    precision: Precision | None = None
    """What is computed in, beside INT8; None is what the engine does by itself."""
    plan_cache: Path | None = None
    """Folder of TensorRT plans and kept agreements; None is the one in the user's cache folder."""
    plan: Path | None = None
    """A TensorRT plan that was built ahead; None where one is built or kept here."""
    plan_sha256: str | None = None
    """The only TensorRT plan that is taken, whoever has put it into `plan_cache`; None for any of
    the user's own, or a new one."""
    tactic_sources: str | None = None
    """TensorRT's sources of kernels, as trtexec spells them: `-CUBLAS,-CUDNN`."""
    samples: Callable[[int], Sequence[np.ndarray]] | None = None
    """Gives so many tiles, uint8 [bands, T, T], fewer where there are not so many, to judge a new
    plan or bf16 on; None where there is no image."""
    wait: bool = True
    """Whether a backend is to be whole when it is opened, or may load on beside what comes next."""
    notify: Callable[[str], None] = silent
    """Called with lines people should read: what was chosen and why, what takes minutes."""
    status: Callable[[str], None] = silent
    """Called with lines that replace one another while something takes long."""


def threads_text(threads: int) -> str:
    """Return `1 CPU thread` or `8 CPU threads`, for descriptions."""
    return "1 CPU thread" if threads == 1 else f"{threads} CPU threads"


def batch_shape(spec: ModelSpec, batch: int) -> tuple[int, int, int, int]:
    """Return the shape [batch, bands, T, T] of the images of one slot."""
    bands, height, width = expected_tensors(spec)[INPUT_NAME]
    return batch, bands, height, width


def failed_batch(runtime: str, spec: ModelSpec, batch: int, why: str) -> InferenceError:
    """Return the error for a batch that `runtime` could not infer; `why` is in its own words."""
    return InferenceError(
        f"{runtime} failed on a batch of {batch} tiles of {spec.tile_px} px: {why}",
        "if memory ran out, use a smaller --batch",
    )
