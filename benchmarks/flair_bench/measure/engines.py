"""Engines and precisions: which there are, and which of them can run here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from flair_engine.errors import EngineError
from flair_engine.inference.choose import load
from flair_engine.inference.open_vino import named_precision
from flair_engine.options import EngineName, Precision, RunOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec

OWN_PRECISIONS: Mapping[str, Sequence[Precision]] = {"openvino": ("fp32", "bf16")}
"""What engines that choose their own precision can compute in; the others follow the file."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and, where it chooses one, a precision."""

    engine: EngineName
    precision: Precision | None = None

    @property
    def label(self) -> str:
        """`ort`, `openvino bf16`."""
        return f"{self.engine} {self.precision}" if self.precision else self.engine

    def computes_in(self, spec: ModelSpec) -> str:
        """Return the precision that the opened backend of a model says it has.

        Of `auto`, which judges by the raster, the file's.
        """
        return named_precision(spec, self.precision) if self.precision else spec.precision

    def options(self, **others: Any) -> RunOptions:
        """Return the run options that name this engine."""
        return RunOptions(engine=self.engine, precision=self.precision, **others)

    def arguments(self) -> list[str]:
        """Return the same for the command line of flair-run."""
        own = ["--precision", self.precision] if self.precision else []
        return ["--engine", self.engine, *own]


BY_ITSELF: Sequence[Choice] = (Choice("auto"), Choice("auto", "fp32"))
"""What flair-run takes without --engine: only whole runs tell which engine that is."""


def every_choice() -> list[Choice]:
    """Return all engines of the library in all their precisions."""
    names = [name for name in get_args(EngineName) if name != "auto"]
    return [Choice(name, own) for name in names for own in OWN_PRECISIONS.get(name, (None,))]


def chosen(labels: Sequence[str]) -> list[Choice]:
    """Return the choices by label, all where none is named. Raises EngineError."""
    every = every_choice()
    known = {choice.label: choice for choice in (*every, *BY_ITSELF)}
    if unknown := [label for label in labels if label not in known]:
        raise EngineError(f"engine {unknown[0]!r} is unknown", f"choose from {', '.join(known)}")
    return [known[label] for label in labels] or every


def opened(model: Path, spec: ModelSpec, options: RunOptions) -> Backend:
    """Load a model. Raises EngineError."""
    return load(model, spec, options)


def probe(
    model: Path, spec: ModelSpec, choices: Sequence[Choice]
) -> tuple[list[Choice], dict[str, str]]:
    """Open each choice once; return those that can run, and the reason of each that cannot."""
    reasons = {choice: _reason(model, spec, choice) for choice in choices}
    usable = [choice for choice, reason in reasons.items() if reason is None]
    return usable, {choice.label: reason for choice, reason in reasons.items() if reason}


def _reason(model: Path, spec: ModelSpec, choice: Choice) -> str | None:
    """Return why a choice cannot run here, None where it can."""
    try:
        opened(model, spec, choice.options(slots=1)).close()
    except EngineError as error:
        return str(error)
    return None
