"""Result files: one JSON file per machine, a section per kind of measurement.

A section says when, at which commit, with which versions and by which command it was made. A
section measured again replaces the one that is there; a file never mixes machines. Reading is
strict: a key that is missing or unknown, or a value of another type, is refused, and so are texts
with what terminals and pages take for a command.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping  # noqa: TC003  decoding reads the annotations
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    TypedDict,
    TypeVar,
    cast,
    get_args,
    get_type_hints,
)

import cattrs
from cattrs.cols import is_namedtuple

from flair_bench import provenance
from flair_bench.errors import ResultError
from flair_bench.figures import (
    AccuracyFigures,
    Figures,
    GeometryFigures,
    InstallFigures,
    ParityFigures,
    RasterIoFigures,
    ThroughputFigures,
)
from flair_bench.machine import Machine, this_machine
from flair_engine import bounded_json
from flair_engine.durable import write_whole
from flair_engine.errors import OutputError
from flair_engine.overwriting import refuse_inputs
from flair_engine.texts import is_shown, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

RESULT_SCHEMA = 3
"""Raised when a figure or another field is added, renamed or given another meaning."""
FAULTS_SAID = 3
"""Faults of a file that are named in the message."""

F = TypeVar("F", bound=Figures)


@dataclass(frozen=True, kw_only=True, slots=True)
class Section(Generic[F]):
    """One measurement."""

    date: str
    """ISO 8601, UTC."""
    command: str
    commit: str
    """Of the repository; ends in `+` where the working tree differs from it, and is `A to B` where
    it changed while measuring."""
    versions: Mapping[str, str]
    figures: F


class Sections(TypedDict, total=False):
    """The measurements of a machine, those that were made, in the order they were."""

    accuracy: Section[AccuracyFigures]
    parity: Section[ParityFigures]
    geometry: Section[GeometryFigures]
    io: Section[RasterIoFigures]
    install: Section[InstallFigures]
    throughput: Section[ThroughputFigures]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A result file."""

    machine: Machine
    sections: Sections = field(default_factory=Sections)
    schema: int = RESULT_SCHEMA

    def with_section(self, section: Section[Any]) -> Result:
        """Return the result with one measurement added, or put in the place of the one it has."""
        sections = {**self.sections, name_of(type(section.figures)): section}
        return replace(self, sections=cast("Sections", sections))

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        text = json.dumps(_converter().unstructure(self), indent=1)
        write_whole(path, f"{text}\n".encode())


def load(path: Path) -> Result:
    """Read a result file. Raises ResultError where it is none."""
    try:
        value = bounded_json.load(path)
    except (OSError, ValueError) as error:
        raise _no_result(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(value, dict) or "schema" not in value:
        raise _no_result(path, "no schema")
    if value["schema"] != RESULT_SCHEMA or isinstance(value["schema"], (bool, float)):
        found = json.dumps(value["schema"])[:40]
        raise ResultError(
            f"{path}: result schema {found}, this flair-bench reads {RESULT_SCHEMA}",
            "measure again",
        )
    try:
        return _converter().structure(value, Result)
    except cattrs.BaseValidationError as error:
        raise _no_result(path, _in_one_line(error)) from error


def check_place(path: Path, inputs: Iterable[Path | str]) -> None:
    """Refuse, before anything is measured, a file that figures cannot be put into.

    Raises OutputError where it is one of the inputs or its folder is not there, ResultError where
    it is something else than results of this machine.
    """
    refuse_inputs([path], map(str, inputs))
    check_folder(path)
    _begun(path)


def check_folder(path: Path) -> None:
    """Raise OutputError unless a file can be put at `path`, or is there."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder", "give the name of a file in it")
    if not path.resolve().parent.is_dir():
        raise OutputError(f"{path}: its folder does not exist", "create it first")


def record(path: Path, figures: Figures) -> Result:
    """Put figures measured now on this machine into the file `path`, which may be new.

    Raises ResultError where the file holds figures of another machine, or something else.
    """
    result = _begun(path)
    added = result.with_section(made_now(figures))
    added.save(path)
    return added


def _begun(path: Path) -> Result:
    """Return what a file holds of this machine, nothing where there is none."""
    machine = this_machine()
    result = load(path) if os.path.lexists(path) else Result(machine=machine)
    if result.machine != machine:
        raise ResultError(
            f"{path}: holds results of {result.machine.title}; this is {machine.title}",
            "give another name",
        )
    return result


def made_now(figures: F) -> Section[F]:
    """Return figures with when, how and by what they were measured: now, by this process."""
    return Section(
        date=provenance.now(),
        command=provenance.command_line(),
        commit=provenance.commit_since_start(),
        versions=provenance.versions(),
        figures=figures,
    )


def name_of(kind: type[Figures]) -> str:
    """Return what a kind of figures is called in a result file: `throughput`."""
    sections = get_type_hints(Sections).items()
    return next(name for name, section in sections if get_args(section) == (kind,))


def _no_result(path: Path, why: str) -> ResultError:
    return ResultError(
        f"{path}: is no result of flair-bench ({why})", "give a file that --json wrote"
    )


@lru_cache(maxsize=1)
def _converter() -> cattrs.Converter:
    """Return the converter between dataclasses and JSON; it changes no value into another type."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind, accepted in ((str, str), (bool, bool), (int, int), (float, (float, int))):
        converter.register_structure_hook(kind, _exactly(accepted))

    converter.register_unstructure_hook(str, shown)  # so that what is written can be read

    def named_tuple(kind: Any) -> Callable[[Any, Any], Any]:
        members = tuple(get_type_hints(kind).values())  # which cattrs leaves as text
        return lambda value, _: kind(*converter.structure(value, cast("Any", tuple)[members]))

    converter.register_structure_hook_factory(is_namedtuple, named_tuple)
    return converter


def _exactly(accepted: Any) -> Callable[[Any, Any], Any]:
    """Return a hook that lets a value of a JSON type pass, and raises ValueError for others."""

    def check(value: Any, _: Any) -> Any:
        # A bool is an int to Python alone.
        if not isinstance(value, accepted) or (isinstance(value, bool) and accepted is not bool):
            raise ValueError(f"{json.dumps(value)[:40]} is of another type")
        if isinstance(value, str) and not is_shown(value):
            raise ValueError(f"{json.dumps(value)[:40]} holds control characters")
        return value

    return check


def _in_one_line(error: Exception) -> str:
    faults = cattrs.transform_error(error)
    more = [f"{len(faults) - FAULTS_SAID} more"] if len(faults) > FAULTS_SAID else []
    return "; ".join([*faults[:FAULTS_SAID], *more])
