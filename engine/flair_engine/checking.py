"""Checks of what a caller asks for, before anything is opened: types, choices, sizes and names.

The command line refuses most of it by itself, a library and a notebook do not.
"""

from __future__ import annotations

import math
import os
import stat
import types
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from flair_engine.errors import EngineError, FlairError, ManifestError, OutputError, SourceError
from flair_engine.manifest import expected_tensors
from flair_engine.options import Inputs, MapOptions, ReadOptions, RunOptions
from flair_engine.starting import BASE_BYTES
from flair_engine.system import address_space_bytes, available_cpus, memory_bytes

if TYPE_CHECKING:
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Job

MOST_BATCH = 1024
"""Tiles of a batch: no device gains from more, and 1024 of 512 px are 1.3 GB a slot."""
MOST_SLOTS = 64
"""Batches in flight: two already keep a device busy."""
MOST_THREADS = 256
"""CPU threads, or MOST_THREADS_PER_CPU for each CPU where that is more. More than the CPUs gain
where files come over a network; with thousands no time is left for work."""
MOST_THREADS_PER_CPU = 4

NAME_BYTES = 255
"""Of a name, on all file systems in use."""
BESIDE_BYTES = 48
"""What the longest of the names beside a map has more than its own: a temporary one of
`NAME.probabilities.tif.aux.xml`."""

THREAD_BYTES = 2**24
"""Addresses of a thread: its stack, 8 MiB, and its share of the allocator's."""

KINDS: dict[type, type[FlairError]] = {
    Inputs: SourceError,
    ReadOptions: SourceError,
    RunOptions: EngineError,
    MapOptions: OutputError,
}
"""What is raised of each kind of choices."""


def check_package(option: str, package: str, extra: str) -> None:
    """Raise OutputError where the package is missing that an option needs."""
    try:
        import_module(package)
    except ImportError as error:
        raise OutputError(
            f"{option} needs one package more", f"run pip install 'flair-engine[{extra}]'"
        ) from error


def check_job(job: Job) -> None:
    """Raise a FlairError for what no run can be told, whatever the model and the files."""
    for options, kind in zip((job.inputs, job.read, job.write), KINDS_OF_JOB, strict=True):
        _check_types(options, kind)
    check_run(job.run)
    _check_read(job.read)
    if not any(job.inputs.given.values()):
        raise SourceError("no image given", "name files as INPUT, or with --rvb and --irc")
    for name in (name for names in job.inputs.given.values() for name in names):
        _check_name(name, "an input", SourceError)
    check_model_name(job.model)
    _check_output(job)
    box = job.write.bbox
    if box is not None and any(map(math.isnan, box)):
        raise OutputError(
            f"bbox {','.join(f'{edge:g}' for edge in box)} holds what is no number",
            "give xmin,ymin,xmax,ymax in the CRS of the images",
        )
    if job.write.aoi is not None:
        _check_name(job.write.aoi, "the file of shapes", SourceError)
    elif job.write.aoi_layer is not None:
        raise OutputError(
            f"aoi_layer {job.write.aoi_layer} is of no file of shapes", "give aoi, or leave it out"
        )
    if job.write.whole_cores and box is None and job.write.aoi is None:
        raise OutputError("whole_cores says how bbox and aoi are mapped", "give one of them")
    if job.write.report is not None:
        _check_report(job.write.report)


KINDS_OF_JOB = (Inputs, ReadOptions, MapOptions)


def check_model_name(model: Path | str) -> None:
    """Raise ManifestError for a name that is that of no model file."""
    _check_name(str(model), "the model", ManifestError)
    kind = "a folder" if os.path.isdir(model) else "a pipe" if _is_pipe(Path(model)) else ""  # noqa: PTH112
    if kind:
        raise ManifestError(f"{model}: is {kind}", "give the .onnx that flair-export wrote")


def check_run(options: RunOptions) -> None:
    """Raise EngineError for a way to run a model that means nothing, or no machine has room for."""
    _check_types(options, RunOptions)
    check_counts(batch=options.batch, slots=options.slots, threads=options.threads)
    if options.memory_mib is not None and options.memory_mib < 1:
        raise EngineError(f"memory {options.memory_mib} MiB holds nothing", "use 1 or more")
    _check_addresses(options.threads or available_cpus())


def check_counts(*, batch: int | None, slots: int, threads: int | None) -> None:
    """Raise EngineError for numbers that do nothing, or that no machine has a use for."""
    most_threads = max(MOST_THREADS, MOST_THREADS_PER_CPU * available_cpus())
    counts = {
        "batch": (batch, MOST_BATCH),
        "slots": (slots, MOST_SLOTS),
        "threads": (threads, most_threads),
    }
    for name, (count, limit) in counts.items():
        if count is not None and count < 1:
            raise EngineError(f"{name} {count} does nothing", "use 1 or more")
        if count is not None and count > limit:
            raise EngineError(
                f"{name} {count} is more than this machine has a use for", f"use {limit} or less"
            )


def check_memory(spec: ModelSpec, options: RunOptions) -> None:
    """Raise EngineError where the images and outputs of all slots do not fit into memory.

    What a network takes beside them no file says.
    """
    if options.batch is None:
        return
    memory = memory_bytes()
    tile_bytes = sum(math.prod(shape) for shape in expected_tensors(spec).values())
    wanted = options.batch * options.slots * tile_bytes
    if wanted > memory:
        raise EngineError(
            f"batch {options.batch} x slots {options.slots} take {wanted / 2**30:.1f} GiB, this "
            f"machine has {memory / 2**30:.1f}",
            "use a smaller --batch",
        )


def _check_addresses(threads: int) -> None:
    """Raise EngineError where threads could not be started: a runtime then waits for ever."""
    limit = address_space_bytes()
    # Each inferring thread has one that decodes beside it.
    wanted = BASE_BYTES + 2 * threads * THREAD_BYTES
    if limit is not None and limit < wanted:
        raise EngineError(
            f"this process may have {limit / 2**30:.2f} GiB of addresses, {threads} threads want "
            f"{wanted / 2**30:.2f}",
            "raise ulimit -v, or use fewer --threads",
        )


def _check_types(options: Any, kind: Any) -> None:
    """Raise an error that names the first choice of a wrong type, and what it may be."""
    raised = KINDS[kind]
    if not isinstance(options, kind):
        raise raised(
            f"{_shown(options)} is given for {kind.__name__}", f"give {kind.__name__}(...)"
        )
    hints = get_type_hints(kind, localns={"Path": Path})
    for field in fields(kind):
        value, hint = getattr(options, field.name), hints[field.name]
        if not _fits(value, hint):
            raise raised(f"{field.name} is {_shown(value)}", f"give {_said(hint)}")


def _check_read(options: ReadOptions) -> None:
    if options.bands is not None and (not options.bands or min(options.bands) < 1):
        raise SourceError(
            f"bands is {_shown(options.bands)}", "give numbers from 1, one for each band of images"
        )
    if isinstance(options.mask, int) and options.mask < 1:
        raise SourceError(f"mask is {options.mask}", "give the number of a band, from 1")
    if isinstance(options.nodata, (int, float)) and not math.isfinite(options.nodata):
        raise SourceError(
            f"nodata is {options.nodata}, which no 8-bit image holds", "give a number, or none"
        )


def _check_output(job: Job) -> None:
    """Raise OutputError for an output whose name has no room for what stands beside it."""
    output = job.output
    _check_name(str(output), "the output", OutputError)
    if not job.write.per_input and output.name in ("", ".."):
        raise OutputError(f"{output}: is a folder", "give the name of the map, ending in .tif")
    size = len(os.fsencode(output.name))
    if size > NAME_BYTES - BESIDE_BYTES:
        raise OutputError(
            f"{output}: its name has {size} bytes, and files beside it longer ones",
            f"give one of {NAME_BYTES - BESIDE_BYTES} or less",
        )


def _check_report(path: Path) -> None:
    _check_name(str(path), "the report", OutputError)
    # A shell's >(command) is read already, and stands there.
    if _is_pipe(path) and not str(path).startswith(("/dev/", "/proc/")):
        raise OutputError(f"{path}: is a pipe, which is waited for", "give the name of a file")


def _is_pipe(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):  # absent; what else it is, is said where it is opened
        return False


def _check_name(name: str, what: str, raised: type[FlairError]) -> None:
    """Raise an error for a name that no file can have."""
    if not name:
        raise raised(f"{what} has an empty name", "give a name")
    if "\0" in name:
        raise raised(f"{name!r}: {what} has a null byte in its name", "give another name")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise raised(f"{name}: the name holds bytes that are not UTF-8", "rename it") from error
    on_disk = ":" not in name and not name.lstrip().startswith(("<", "{")) and "/vsi" not in name
    longest = max(Path(name).parts, key=len, default="")
    if on_disk and len(longest.encode()) > NAME_BYTES:
        raise raised(
            f"{longest[:40]}...: {what} has a name of {len(longest.encode())} bytes",
            f"give one of {NAME_BYTES} or less",
        )


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type as options spell them; lists count as tuples."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inside)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        kinds = inside[:1] * len(value) if inside[-1] is Ellipsis else inside
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if hint is float:
        hint = (int, float)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _said(hint: Any) -> str:
    """Return what a value may be, for people."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, inside))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_said, inside))
    if origin is tuple:
        count = "" if inside[-1] is Ellipsis else f"{len(inside)} "
        return f"a tuple of {count}{PLURALS.get(inside[0], 'values')}"
    return WORDS_OF_TYPES.get(hint, getattr(hint, "__name__", str(hint)))


WORDS_OF_TYPES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "True or False",
    type(None): "None",
    Path: "a path",
}
PLURALS = {int: "whole numbers", float: "numbers", str: "names"}


def _shown(value: Any) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001  of a caller's own class
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."
