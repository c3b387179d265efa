"""TensorRT plan of an FP16 model, built ahead of its first run, on this machine's GPU."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.manifest import read_model_spec
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


def _tiles(spec: ModelSpec, images: Sequence[Path], count: int) -> list[np.ndarray]:
    """Return tiles spread evenly over the images."""
    *_, source = sources(spec, images)
    chosen = set(evenly(source.count, count))
    return [tile.image for number, tile in enumerate(source.tiles) if number in chosen]
