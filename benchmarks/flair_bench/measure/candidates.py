"""Candidates of a throughput measurement: an engine on an exported model, and its name."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from flair_bench.figures import with_int8
from flair_engine.manifest import read_model_spec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flair_bench.measure.engines import Choice
    from flair_engine.manifest import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One engine on one model."""

    choice: Choice
    model: Path
    spec: ModelSpec
    name: str
    """What results call it."""


def list_candidates(choices: Sequence[Choice], models: Sequence[Path]) -> list[Candidate]:
    """Return every engine on the first model, then on the next."""
    specs = [read_model_spec(model) for model in models]
    return [
        Candidate(
            choice=choice,
            model=model,
            spec=spec,
            name=candidate_name(choice, spec, among_models=len(models)),
        )
        for (model, spec), choice in product(zip(models, specs, strict=True), choices)
    ]


def candidate_name(choice: Choice, spec: ModelSpec, *, among_models: int) -> str:
    """Return what results call an engine; of several models the geometry, and INT8, too."""
    if among_models == 1:
        return choice.label
    return f"{with_int8(choice.label, spec.precision)} {geometry_name(spec)}"


def geometry_name(spec: ModelSpec) -> str:
    """Return tile and margin: `512-128`."""
    return f"{spec.tile_px}-{spec.margin_px}"
