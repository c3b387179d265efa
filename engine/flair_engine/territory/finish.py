"""The maps of a territory, put together from its parts once all of them are there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flair_engine.errors import FAILED, FlairError, OutputError, WriteError
from flair_engine.manifest import output_bands, read_model_spec
from flair_engine.mapping.creation import creation_options
from flair_engine.mapping.landcover import MapStyle, write_maps
from flair_engine.mapping.map_tiles import MapTiles
from flair_engine.mapping.published import sha256_of
from flair_engine.mapping.targets import Target, check_maps, output_path
from flair_engine.options import Listener
from flair_engine.overwriting import refuse_inputs
from flair_engine.post import work
from flair_engine.post.place import workplace
from flair_engine.provenance import EngineFacts, id_of, tags_of, with_engine
from flair_engine.territory.state import PARTS, map_of, states

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flair_engine.manifest import ModelSpec
    from flair_engine.territory.plan_file import Plan
    from flair_engine.territory.state import PartRecord, PartState

NAMED = 5
"""Parts that are named where something is wrong with many."""


class UnfinishedError(FlairError):
    """Parts of a territory that are missing or have failed."""

    exit_code = FAILED


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What was put together."""

    outputs: tuple[Path, ...]
    left_out: tuple[str, ...]
    """Ids of the parts that are not there."""
    skipped_blocks: int
    hectares_by_class: Mapping[str, float]


def finish(
    plan: Plan,
    output: Path | str,
    *,
    allow_missing: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Finished:
    """Put the maps of a plan together: a VRT of its parts, one map, or those of `per_input`.

    `output` ends in .vrt, in .tif, or is a folder. Raises UnfinishedError, which names them, where
    parts are missing or failed, unless that is allowed; OutputError for what cannot be written.
    """
    listener, output = listener or Listener(), Path(output)
    found = states(plan)
    absent = [state for state in found if state.record is None]
    if absent:
        unfinished = _unfinished(plan, absent)
        if not allow_missing:
            raise unfinished
        listener.warn(unfinished.what)
    there = [state for state in found if state.name == "done"]
    records = [state.record for state in found if state.record]
    if not there:
        raise UnfinishedError(
            f"{plan.folder}: no part holds a pixel with a label", "check the inputs"
        )
    engine = _engine_of(plan, records)
    outputs = [output]
    if output.suffix.lower() == ".vrt":
        maps = [map_of(plan, state.part) for state in there]
        work.vrt_of(maps, output, overwrite=overwrite, listener=listener)
    else:
        outputs = _write(plan, there, output, engine, overwrite=overwrite, listener=listener)
    return Finished(
        outputs=tuple(outputs),
        left_out=tuple(state.part.id for state in absent),
        skipped_blocks=sum(record.skipped_blocks for record in records),
        hectares_by_class=hectares(records),
    )


def hectares(records: Sequence[PartRecord]) -> dict[str, float]:
    """Return the hectares of each class in all parts together."""
    found: defaultdict[str, float] = defaultdict(float)
    for record in records:
        for name, area in record.hectares_by_class.items():
            found[name] += area
    return dict(found)


def _unfinished(plan: Plan, absent: Sequence[PartState]) -> UnfinishedError:
    """Return which parts are not there, those that failed first."""
    ordered = sorted(absent, key=lambda state: state.name != "failed")
    said = [
        f"{s.part.id} failed ({s.failure.reason})" if s.failure else f"{s.part.id} is {s.name}"
        for s in ordered[:NAMED]
    ]
    more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
    return UnfinishedError(
        f"{plan.folder}: {len(absent)} of {len(plan.parts)} parts are not there: "
        f"{'; '.join(said)}{more}",
        "make them with flair-job part, or use --allow-missing",
    )


def _engine_of(plan: Plan, records: Sequence[PartRecord]) -> EngineFacts:
    """Return the engine of all parts. Raises OutputError where they differ."""
    engines = {
        EngineFacts(description=r.engine, precision=r.precision, batch=r.batch) for r in records
    }
    if len(engines) > 1:
        raise OutputError(
            f"{plan.folder}: parts were made by {' and by '.join(sorted(map(str, engines)))}",
            "make them again with one engine",
        )
    return engines.pop()


def _write(
    plan: Plan,
    there: Sequence[PartState],
    output: Path,
    engine: EngineFacts,
    *,
    overwrite: bool,
    listener: Listener,
) -> list[Path]:
    """Write one map, or those of `per_input`, as one run would."""
    spec = read_model_spec(plan.model)
    targets = _targets(plan, output)
    names = [file.name for files in plan.files.values() for file in files]
    for target in targets:
        check_maps(target.path, spec.outputs, may_replace=overwrite, remedy="give another name")
    rasters = [output_path(target.path, name) for target in targets for name in spec.outputs]
    refuse_inputs(rasters, [*names, str(plan.model), *(str(map_of(plan, s.part)) for s in there)])
    _check_bytes(plan, there)
    style = _style(plan, spec, engine, [s.record for s in there if s.record])
    tiles = [(map_of(plan, state.part), state.part.window) for state in there]
    bands = output_bands(spec)
    with (
        workplace(targets[0].path, "flair-job") as folder,
        MapTiles(tiles, bands, plan.write.labels) as maps,
    ):
        for number, target in enumerate(targets, 1):
            write_maps(target, style, maps.read, folder)
            listener.progress(number, len(targets))
    return [target.path for target in targets]


def _targets(plan: Plan, output: Path) -> list[Target]:
    """Return the maps to write. Raises OutputError where the output is of another kind."""
    if not plan.write.per_input:
        return [Target(path=output, window=each.window) for each in plan.maps]
    if output.suffix.lower() in (".tif", ".tiff"):
        raise OutputError(
            f"{output}: the job was planned with --per-input, whose maps go to a folder",
            "name a folder, or a .vrt",
        )
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{output}: the folder cannot be made ({error.strerror})", "name another"
        ) from error
    return [Target(path=output / str(each.name), window=each.window) for each in plan.maps]


def _style(
    plan: Plan, spec: ModelSpec, engine: EngineFacts, records: Sequence[PartRecord]
) -> MapStyle:
    """Return what maps of the whole have in common: what one run would write."""
    settings = with_engine(plan.settings, engine)
    if any(record.skipped_blocks for record in records):
        settings["on_error"] = "skip"
    grid = plan.frame.pixel_grid
    return MapStyle(
        spec=spec,
        crs=grid.crs,
        transform=grid.transform,
        values=plan.write.labels,
        tags=tags_of(spec, engine, id_of(settings)),
        cog=plan.write.cog,
        creation=creation_options(plan.write.co, cog=plan.write.cog),
    )


def _check_bytes(plan: Plan, there: Sequence[PartState]) -> None:
    """Raise WriteError where the map of a part is not what was written."""
    for state in there:
        for name, (_, digest) in (state.record.files if state.record else {}).items():
            path = plan.folder / PARTS / name
            if sha256_of(path) != digest:
                raise WriteError(
                    f"{path}: is not as it was written", "delete it, and make the part again"
                )
