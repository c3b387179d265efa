"""`flair-job`: sub-commands that parse, call one function, print lines."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from flair_engine.command import SETTINGS, SKIPPED, run_command, say
from flair_engine.errors import FAILED, FlairError
from flair_engine.mapping.legend import hectares_said
from flair_engine.option_groups import (
    AREA,
    FILE,
    INPUTS,
    ITEMS,
    MAPS,
    READING,
    RUNNING,
    fields_of,
    options,
)
from flair_engine.options import Inputs, Listener, MapOptions, OnError, ReadOptions, RunOptions
from flair_engine.territory.finish import finish as put_together
from flair_engine.territory.part import Worker, run_parts
from flair_engine.territory.plan import PART_EDGE_PX
from flair_engine.territory.plan import plan as make_plan
from flair_engine.territory.plan_file import read_plan
from flair_engine.territory.progress import progress_of
from flair_engine.territory.state import StateName, is_failed, states
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flair_engine.territory.plan_file import JobPart, Plan
    from flair_engine.territory.state import PartRecord

PROGRAM = "flair-job"
FOLDER = click.Path(path_type=Path)
TALKING = (
    click.option("-q", "--quiet", is_flag=True, help="No notes or closing lines; warnings stay."),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
)


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name=PROGRAM)
def command() -> None:
    """Map a territory in parts, by any number of processes, with the bytes of one run.

    JOB is a folder that all of them see.
    """


@command.command()
@click.argument("folder", metavar="JOB", type=FOLDER)
@click.argument("images", metavar="[INPUT...]", nargs=-1, type=FILE)
@options(INPUTS, READING, AREA, MAPS, ITEMS, RUNNING)
@click.option(
    "--part-px",
    type=int,
    default=PART_EDGE_PX,
    show_default=True,
    help="Edge of a part, about, in px.",
)
@click.option(
    "--update", is_flag=True, help="Replace another plan; what sees no change stays done."
)
@options(TALKING)
def plan(
    folder: Path,
    images: tuple[str, ...],
    model: Path,
    part_px: int,
    update: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Look at all inputs once, and write JOB/plan.json, which every part goes by."""
    made = make_plan(
        model,
        Inputs(images=images, **fields_of(Inputs, given, but=("images",))),
        folder,
        RunOptions(**fields_of(RunOptions, given)),
        read=ReadOptions(**fields_of(ReadOptions, given)),
        write=MapOptions(**fields_of(MapOptions, given)),
        part_px=part_px,
        update=update,
        notify=_listener(quiet).notify,
    )
    if not quiet:
        files = sum(map(len, made.files.values()))
        size = made.frame.pixel_grid
        say(
            f"{folder}: {len(made.parts):,} parts of {size.width:,} x {size.height:,} px from "
            f"{files:,} files",
            PROGRAM,
        )


def shard_of(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """Return `I/N` as two numbers; raise click.BadParameter unless 0 <= I < N."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    if not match or int(match[1]) >= int(match[2]):
        raise click.BadParameter(f"{value!r} is not I/N with I from 0 to N - 1, such as 0/8")
    return int(match[1]), int(match[2])


@command.command()
@click.argument("folder", metavar="JOB", type=FOLDER)
@click.option(
    "--shard", callback=shard_of, metavar="I/N", help="Every N-th part, from the I-th, counted "
    "from 0."
)  # fmt: skip
@click.option("--only", multiple=True, metavar="ID", help="This part, such as r0003_c0007.")
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    help="Instead of what the job was planned with.",
)
@click.option("--failed", is_flag=True, help="Only the parts that have failed.")
@click.option(
    "--workers",
    type=click.Choice(["ray"]),
    help="Processes of Ray at work on all of them, instead of this one.",
)
@click.option("--address", metavar="HOST:PORT", help="Head of a running Ray; default: one here.")
@click.option(
    "--gpus-per-worker", type=float, help="Of a job for GPUs, less than 1 to share one; default: 1."
)
@options(TALKING)
def part(
    folder: Path,
    shard: tuple[int, int] | None,
    only: tuple[str, ...],
    failed: bool,
    quiet: bool,
    **given: Any,
) -> int:
    """Map the parts that are not done yet: all, those of a shard, named ones, failed ones."""
    job = read_plan(folder)
    parts = _chosen(job, shard, only, failed=failed)
    failures = skipped = 0
    for done, (each, found) in enumerate(_made(job, parts, _listener(quiet), **given), 1):
        if isinstance(found, FlairError):
            failures += 1
            click.echo(f"{PROGRAM}: {each.id} failed: {found}", err=True)
            continue
        skipped += found.skipped_blocks
        if not quiet:
            say(f"{each.id}: {_said(found)} ({done} of {len(parts)})", PROGRAM)
    if failures:
        return FAILED
    return SKIPPED if skipped else 0


def _made(
    job: Plan,
    parts: Sequence[JobPart],
    listener: Listener,
    *,
    on_error: OnError | None,
    workers: str | None,
    address: str | None,
    gpus_per_worker: float | None,
    **_given: Any,
) -> Iterator[tuple[JobPart, PartRecord | FlairError]]:
    """Yield parts as they end, made by this process or by those of Ray."""
    if workers == "ray":
        # Imported only here, as it is an extra.
        from flair_engine.territory.ray import run_parts_on_ray

        yield from run_parts_on_ray(
            job,
            parts,
            address=address,
            gpus_per_worker=gpus_per_worker,
            on_error=on_error,
            listener=listener,
        )
        return
    for name, value in (("--address", address), ("--gpus-per-worker", gpus_per_worker)):
        if value is not None:
            raise click.UsageError(f"{name} is for --workers ray: give both, or none")
    with Worker(job, on_error=on_error, listener=listener) as worker:
        yield from run_parts(worker, parts)


def _chosen(
    job: Plan, shard: tuple[int, int] | None, only: Sequence[str], *, failed: bool
) -> Sequence[JobPart]:
    if shard and only:
        raise click.UsageError("both --shard and --only say which parts: give one of them")
    first, step = shard or (0, 1)
    parts = [job.part(name) for name in only] or job.parts[first::step]
    return [part for part in parts if is_failed(job, part)] if failed else parts


def _said(record: PartRecord) -> str:
    if record.state == "empty":
        return "empty"
    return f"{record.inferred_pixels / 1e6:.2f} Mpx in {record.wall_s:.1f} s"


@command.command()
@click.argument("folder", metavar="JOB", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@options(TALKING)
def status(folder: Path, as_json: bool, **_given: Any) -> None:
    """Say how far a job is: parts done, empty, failed, running and missing."""
    job = read_plan(folder)
    found = states(job)
    progress = progress_of(job, found)
    if as_json:
        say(json.dumps(progress, indent=2), PROGRAM)
        return
    counts = Counter(state.name for state in found)
    say(", ".join(f"{counts[name]:,} {name}" for name in get_args(StateName)), PROGRAM)
    for state in found:
        if state.failure:
            say(f"{state.part.id} failed: {state.failure.reason}", PROGRAM)
    if progress["mpx_per_s"]:
        left_s = progress["left_s"]
        say(f"{progress['mpx_per_s']:.2f} Mpx/s, {left_s / 3600:.1f} h left", PROGRAM)


@command.command()
@click.argument("folder", metavar="JOB", type=FOLDER)
@click.argument("output", metavar="OUT", type=FOLDER)
@click.option(
    "--allow-missing", is_flag=True, help="Leave out what is not there, with exit code 3."
)
@click.option("--overwrite", is_flag=True, help="Replace an output of flair-engine.")
@click.option(
    "--shard", callback=shard_of, metavar="I/N", help="Of a folder every N-th map alone, from the "
    "I-th."
)  # fmt: skip
@options(TALKING)
def finish(
    folder: Path,
    output: Path,
    allow_missing: bool,
    overwrite: bool,
    shard: tuple[int, int] | None,
    quiet: bool,
    **_given: Any,
) -> int:
    """Put the parts together as OUT.vrt, as OUT.tif, or as a folder of maps and a VRT over it.

    The maps of a folder are those of the inputs, if planned so, else of the parts.
    """
    done = put_together(
        read_plan(folder),
        output,
        allow_missing=allow_missing,
        overwrite=overwrite,
        shard=shard,
        listener=_listener(quiet),
    )
    if shard and not quiet:
        say(f"{output}: {len(done.outputs):,} maps of shard {shard[0]}/{shard[1]}", PROGRAM)
    elif not quiet:
        for name, area in sorted(done.hectares_by_class.items(), key=lambda pair: -pair[1]):
            say(f"{name}: {hectares_said(area)} ha", PROGRAM)
        maps = f"{len(done.outputs):,} maps in {output}" if len(done.outputs) > 1 else f"{output}"
        say(f"{maps}: {sum(done.hectares_by_class.values()):,.2f} ha", PROGRAM)
    return SKIPPED if done.left_out or done.skipped_blocks else 0


def _listener(quiet: bool) -> Listener:
    """Return what is told on stderr, line by line: most of these run unattended."""

    def warn(line: str) -> None:
        click.echo(f"{PROGRAM}: warning: {line}", err=True)

    def notify(line: str) -> None:
        if not quiet:
            click.echo(f"{PROGRAM}: note: {line}", err=True)

    return Listener(notify=notify, warn=warn)


def main() -> None:
    """Entry point of flair-job."""
    run_command(command, PROGRAM, kept="finished strips and parts are kept, run it again")
