"""The maps of a territory, put together from its parts once all of them are there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flair_engine.errors import FAILED, FlairError, OutputError
from flair_engine.manifest import read_model_spec
from flair_engine.mapping.creation import creation_options
from flair_engine.mapping.landcover import MapStyle
from flair_engine.mapping.targets import Target
from flair_engine.options import Listener
from flair_engine.post import work
from flair_engine.post.virtual import is_virtual_map
from flair_engine.provenance import EngineFacts, id_of, tags_of, with_engine
from flair_engine.territory.cost import COSTLY_PX, check_disk
from flair_engine.territory.delivery import Delivery, make_notes_folder
from flair_engine.territory.item import item_beside
from flair_engine.territory.state import map_of, states

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
    shard: tuple[int, int] | None = None,
    listener: Listener | None = None,
) -> Finished:
    """Put the maps of a plan together: a VRT of its parts, one map, or a folder of maps.

    `output` ends in .vrt, in .tif, or is a folder: of maps of `per_input`, else of the parts, with
    a VRT over them beside it. Of a folder `shard`, (I, N), writes every N-th map from the I-th
    alone; who finishes without it writes what is left, checks the bytes of all and writes the VRT.
    Raises UnfinishedError, which names them, where
    parts are missing or failed, unless that is allowed; OutputError for what cannot be written.
    """
    listener, output = listener or Listener(), Path(output)
    if shard:
        _check_shard(shard, output)
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
        if plan.write.stac:
            listener.notify(f"{output}: a VRT has no STAC Item, its maps would: finish OUT.tif")
        maps = [map_of(plan, state.part) for state in there]
        work.vrt_of(maps, output, overwrite=overwrite, listener=listener)
    else:
        style = _style(plan, read_model_spec(plan.model), engine, records)
        targets = _targets(plan, there, output)
        make_notes_folder(plan)
        run = id_of(_settings(plan, engine, records))
        beside = partial(item_beside, plan, style, engine, run) if plan.write.stac else None
        delivery = Delivery(plan, there, style, overwrite=overwrite, beside=beside)
        outputs = [target.path for target in _write(delivery, targets, shard, listener)]
        if output.is_dir() and not shard:
            _write_vrt(outputs, output, listener, overwrite=overwrite)
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
        EngineFacts(identity=r.engine, precision=r.precision, batch=r.batch) for r in records
    }
    if len(engines) > 1:
        raise OutputError(
            f"{plan.folder}: parts were made by {' and by '.join(sorted(map(str, engines)))}",
            "make them again with one engine",
        )
    return engines.pop()


def _write(
    delivery: Delivery,
    targets: Sequence[Target],
    shard: tuple[int, int] | None,
    listener: Listener,
) -> Sequence[Target]:
    """Write maps as one run would, all or those of a shard, and return these."""
    first, step = shard or (0, 1)
    own = targets[first::step]
    left = delivery.left(own)
    if len(targets) == 1 and left and left[0].window.pixels >= COSTLY_PX:
        cost = delivery.cost(left[0])
        listener.notify(f"{left[0].path}: takes {cost}")
        check_disk(left[0], cost)
    delivery.write(left, listener)
    if shard is None:  # what others have made, maybe long ago
        now = {target.path for target in left}
        delivery.check([target for target in targets if target.path not in now])
    return own


def _write_vrt(maps: Sequence[Path], folder: Path, listener: Listener, *, overwrite: bool) -> None:
    """Write a VRT over the maps of a folder, beside it."""
    path = folder.with_name(f"{folder.name}.vrt")
    work.vrt_of(maps, path, overwrite=overwrite or is_virtual_map(path), listener=listener)


def _targets(plan: Plan, there: Sequence[PartState], output: Path) -> list[Target]:
    """Return the maps to write. Raises OutputError where the output is of another kind."""
    one = output.suffix.lower() in (".tif", ".tiff")
    if not plan.write.per_input and (one or (output.suffix and not output.is_dir())):
        return [Target(path=output, window=each.window) for each in plan.maps]
    if one:
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
    if plan.write.per_input:
        return [Target(path=output / str(each.name), window=each.window) for each in plan.maps]
    parts = [state.part for state in there]
    return [Target(path=output / f"{part.id}.tif", window=part.window) for part in parts]


def _check_shard(shard: tuple[int, int], output: Path) -> None:
    """Raise OutputError for a shard that there is not, or of one file."""
    number, count = shard
    if not 0 <= number < count:
        raise OutputError(f"shard {number}/{count} is none", "count from 0 to one below")
    if output.suffix.lower() in (".vrt", ".tif", ".tiff"):
        raise OutputError(
            f"{output}: one file is written by one process",
            "name a folder for maps of tiles or parts, or leave out --shard",
        )


def _settings(plan: Plan, engine: EngineFacts, records: Sequence[PartRecord]) -> dict[str, Any]:
    """Return what makes the id of the whole."""
    settings = with_engine(plan.settings, engine)
    if any(record.skipped_blocks for record in records):
        settings["on_error"] = "skip"
    return settings


def _style(
    plan: Plan, spec: ModelSpec, engine: EngineFacts, records: Sequence[PartRecord]
) -> MapStyle:
    """Return what maps of the whole have in common: what one run would write."""
    settings = _settings(plan, engine, records)
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
