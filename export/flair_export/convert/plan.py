"""TensorRT plan of an FP16 model, built ahead of its first run.

On this machine's GPU, judged and kept in the plan folder; or without one by TensorRT for RTX, as a
file for all cards of some compute capabilities, which is judged where it first meets a GPU.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flair_engine.checking import check_counts
from flair_engine.errors import OutputError, WriteError
from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.inference.gpu.ahead import AheadKey, AheadPlan, sidecar_of, write_ahead
from flair_engine.inference.gpu.library import (
    RTX,
    capabilities,
    library_name,
    library_named,
    titled,
)
from flair_engine.inference.gpu.plan import (
    PlanOptions,
    build_plan,
    check_precision,
    flags_text,
    profile_text,
)
from flair_engine.inference.gpu.slots import CUDA_BATCH
from flair_engine.manifest import read_model_spec
from flair_engine.model_file import model_sha256
from flair_engine.overwriting import refuse_inputs
from flair_export.errors import OptionError
from flair_export.proof.samples import check_images, evenly, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.manifest import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class PrebuildOptions:
    """How flair-run will be called: a plan serves one GPU, one batch and one set of sources."""

    device: str | None = None
    """`cuda` or `cuda:N`; None is what flair-run would take."""
    batch: int | None = None
    plan_cache: Path | None = None
    tactic_sources: str | None = None
    verify: tuple[Path, ...] = ()
    """Rasters to judge the plan on; with none it is judged on noise, and again at the first run."""


def prebuild_plan(
    model: Path,
    options: PrebuildOptions,
    notify: Callable[[str], None],
    status: Callable[[str], None],
) -> str:
    """Build, judge and keep the plan, or find it kept; return what it will run on.

    Raises EngineError where flair-run --engine trt would, ImageError for rasters it cannot use.
    """
    spec = read_model_spec(model)
    check_images(options.verify, spec.bands)
    request = Request(
        model=model,
        spec=spec,
        device=options.device,
        batch=options.batch,
        plan_cache=options.plan_cache,
        tactic_sources=options.tactic_sources,
        samples=partial(_tiles, spec, options.verify) if options.verify else None,
        notify=notify,
        status=status,
    )
    backend = open_backend(request, "trt")
    backend.close()
    return backend.description


@dataclass(frozen=True, kw_only=True, slots=True)
class AheadOptions:
    """What a plan file is for and where it goes."""

    cards: tuple[str, ...]
    """Compute capabilities as NVIDIA's compilers call them: `sm89`."""
    output: Path
    overwrite: bool = False
    batch: int | None = None
    tactic_sources: str | None = None


def build_ahead(model: Path, options: AheadOptions, status: Callable[[str], None]) -> str:
    """Build a plan without a GPU, write it with its sidecar, and return what it is, for people.

    Raises EngineError where TensorRT for RTX is missing or refuses the graph, OptionError for cards
    it does not build for, OutputError for a place it cannot be written to, WriteError.
    """
    spec = read_model_spec(model)
    check_precision(model, spec)
    check_counts(batch=options.batch, slots=1, threads=None)
    _check_output(options, model)
    trt = library_named(RTX)
    told = PlanOptions(
        batch=CUDA_BATCH if options.batch is None else options.batch,
        precision=spec.precision,
        tactic_sources=options.tactic_sources,
        capabilities=_capabilities(trt, options.cards),
    )
    start = time.monotonic()
    built = build_plan(trt, model.read_bytes(), spec, told, status=status)
    ahead = AheadPlan(
        path=options.output,
        plan=built.plan,
        key=AheadKey(
            onnx_sha256=model_sha256(model),
            library=library_name(trt),
            tensorrt=str(trt.__version__),
            compute_capabilities=told.capabilities,
            profile=profile_text(spec, told.batch),
            flags=flags_text(trt, told),
        ),
        built_s=round(time.monotonic() - start, 1),
    )
    try:
        write_ahead(ahead)
    except OSError as error:
        raise WriteError(
            f"{options.output}: {len(built.plan) / 1e6:.0f} MB cannot be written ({error})",
            "free some space or choose another folder",
        ) from error
    return (
        f"{options.output}: {len(built.plan) / 1e6:.1f} MB, built in {ahead.built_s:.1f} s by "
        f"{titled(trt)} for compute capability {', '.join(told.capabilities)} and batches of "
        f"{told.batch}; not judged before it meets a GPU"
    )


def _capabilities(trt: Any, cards: tuple[str, ...]) -> tuple[str, ...]:
    """Return `8.9` of `sm89`, lowest first."""
    by_name = {f"sm{known.replace('.', '')}": known for known in capabilities(trt)}
    if unknown := [card for card in cards if card not in by_name]:
        raise OptionError(
            f"{titled(trt)} does not build for {', '.join(map(repr, unknown))}",
            f"use some of {', '.join(by_name)}",
        )
    return tuple(known for name, known in by_name.items() if name in cards)


def _check_output(options: AheadOptions, model: Path) -> None:
    """Raise OutputError unless a plan can be put at the output, where no input may stand."""
    output, sidecar = options.output, sidecar_of(options.output)
    if output.suffix != ".plan":
        raise OutputError(f"{output}: is no name for a plan", f"use {output.stem}.plan")
    if not output.parent.is_dir():
        raise OutputError(f"{output}: its folder does not exist", "create it first")
    if output.is_dir() or sidecar.is_dir():
        raise OutputError(f"{output}: is a folder, or its sidecar is", "give another name")
    refuse_inputs([output, sidecar], [str(model)])
    there = [path for path in (output, sidecar) if os.path.lexists(path)]
    if there and not options.overwrite:
        raise OutputError(f"{there[0]}: exists", "give another name, or --overwrite to replace it")


def _tiles(spec: ModelSpec, images: Sequence[Path], count: int) -> list[np.ndarray]:
    """Return tiles spread evenly over the images."""
    *_, source = sources(spec, images)
    chosen = set(evenly(source.count, count))
    return [tile.image for number, tile in enumerate(source.tiles) if number in chosen]
