"""The STAC Item of a map that is put together from parts, as one run would write it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from flair_engine.mapping.stac import MapFacts, acquired_span, item_json
from flair_engine.mapping.standing import item_of
from flair_engine.mapping.targets import output_path
from flair_engine.provenance import given_time
from flair_engine.sidecars import lineage_of, raster_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from flair_engine.mapping.landcover import MapStyle
    from flair_engine.mapping.targets import Target
    from flair_engine.provenance import EngineFacts
    from flair_engine.territory.plan_file import Plan


def item_beside(
    plan: Plan,
    style: MapStyle,
    engine: EngineFacts,
    run: str,
    target: Target,
    rasters: Mapping[str, Path],
) -> dict[Path, bytes]:
    """Return the Item of a map by its path, of finished rasters by output.

    `run` is the id of the whole.
    """
    grid, path = plan.frame.pixel_grid.of(target.window), target.path
    created = given_time() or dt.datetime.now(dt.timezone.utc)
    began = given_time() or dt.datetime.fromisoformat(plan.started)
    facts = MapFacts(
        path=path,
        spec=style.spec,
        values=style.values,
        cog=style.cog,
        grid=grid,
        files=[
            raster_file(output_path(path, name), name, file, grid, digest=True)
            for name, file in rasters.items()
        ],
        sources=[str(plan.model), *_shown_files(plan, target)],
        software={plan.run.engine: engine.identity},
        lineage=lineage_of(style.spec, engine.precision),
        run=run,
        acquired=acquired_span(plan.write.acquired) if plan.write.acquired else (began, created),
        created=created,
    )
    return {item_of(path): item_json(facts).encode()}


def _shown_files(plan: Plan, target: Target) -> list[str]:
    """Return the files whose pixels a map may show."""
    files = [file for files in plan.files.values() for file in files]
    met = [file for file in files if file.window.intersection(target.window).pixels]
    return list(dict.fromkeys(path for file in met for path in file.facts))
