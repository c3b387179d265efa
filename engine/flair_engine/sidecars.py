"""Files beside a map, made as it is published: its preview and its STAC Item; a page's pictures."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from flair_engine.checking import check_package
from flair_engine.errors import OutputError, WriteError, first_line
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.mapping.legend import share_said
from flair_engine.mapping.picture import (
    LegendEntry,
    MapPicture,
    Seen,
    image_file,
    map_file,
    map_picture,
)
from flair_engine.mapping.preview import EDGE_PX, Caption, preview_png
from flair_engine.mapping.published import OutputFile, bbox_of, crs_text, sha256_of
from flair_engine.mapping.stac import MapFacts, acquired_span, item_json
from flair_engine.mapping.standing import (
    item_of,
    names_of,
    preview_of,
)
from flair_engine.mapping.targets import is_page, output_path
from flair_engine.provenance import given_time, run_id
from flair_engine.reading.glance import glance
from flair_engine.tally import px_m

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from flair_engine.manifest import ModelSpec
    from flair_engine.options import MapOptions
    from flair_engine.reading.pixel_grid import PixelGrid
    from flair_engine.tally import LandCover
    from flair_engine.work import SheetTarget, Work

MOST_PICTURES = 6
"""Maps whose pictures are kept for a page."""


def check_beside(write: MapOptions, notify: Callable[[str], None]) -> None:
    """Raise OutputError where what is wanted beside maps cannot be made; tell what it lacks."""
    if write.preview:
        check_package("--preview", "PIL", "preview")
    if write.acquired is not None:
        acquired_span(write.acquired)
        if not write.stac:
            raise OutputError("--acquired is said in the Item of --stac alone", "add --stac")
    if write.stac:
        check_package("--stac", "pystac", "stac")
        if write.acquired is None:
            notify("the STAC Item says when the map was made; say when its images were: --acquired")


def is_counted(write: MapOptions) -> bool:
    """Return whether what each map holds is shown beside it."""
    return write.preview


def beside(
    work: Work, each: SheetTarget, found: LandCover, started: str, rasters: Mapping[str, Path]
) -> dict[Path, bytes]:
    """Return what stands beside a map, by path, noting what is written and shown.

    `rasters` are its finished files by output, under names that they do not keep; `found` is what
    it shows, where `is_counted`.
    """
    write, path = work.job.write, each.target.path
    written = [_raster_file(work, each, name, file) for name, file in rasters.items()]
    made: dict[Path, bytes] = {}
    paged = write.report is not None and is_page(write.report)
    if write.preview or (paged and len(work.meters.pictures) < MOST_PICTURES):
        picture = _picture(work, each, rasters["labels"])
        if paged and len(work.meters.pictures) < MOST_PICTURES:
            work.meters.pictures.append(_filed(path, picture))
        if write.preview:
            made[preview_of(path)] = preview_png(picture, _caption(work, each, found))
            written.append(_small_file(preview_of(path), "preview", made[preview_of(path)]))
    if write.stac:
        facts = _facts(work, each, written, started)
        made[item_of(path)] = item_json(facts).encode()
        written.append(_small_file(item_of(path), "item", made[item_of(path)]))
    work.meters.written += written
    return made


def noted(each: SheetTarget, sidecars: Mapping[Path, bytes]) -> list[OutputFile]:
    """Return the names and styles of a map, by path, as a record tells them."""
    names = names_of(each.target.path)
    return [
        _small_file(path, "names" if path == names else "style", content)
        for path, content in sidecars.items()
    ]


def _raster_file(work: Work, each: SheetTarget, name: str, file: Path) -> OutputFile:
    grid = each.sheet.pixel_grid.of(each.target.window)
    wanted = work.job.write.report is not None or work.job.write.stac
    return raster_file(output_path(each.target.path, name), name, file, grid, digest=wanted)


def raster_file(path: Path, name: str, file: Path, grid: PixelGrid, *, digest: bool) -> OutputFile:
    """Return a finished raster by the name that it will have; it is read once for its digest."""
    return OutputFile(
        path=str(path),
        kind=name,
        size=file.stat().st_size,
        sha256=sha256_of(file) if digest else None,
        height=grid.height,
        width=grid.width,
        crs=crs_text(grid.crs),
        bbox=bbox_of(grid),
    )


def _small_file(path: Path, kind: str, content: bytes) -> OutputFile:
    digest = hashlib.sha256(content).hexdigest()
    return OutputFile(path=str(path), kind=kind, size=len(content), sha256=digest)


def _picture(work: Work, each: SheetTarget, labels: Path) -> Seen:
    window = each.target.window
    image_bhw, seen_hw = glance(each.sheet, window, work.spec.bands, EDGE_PX, work.listener.notify)
    try:
        map_bhw = map_picture(labels, EDGE_PX)
    except GDAL_ERRORS as error:
        raise WriteError(
            f"{each.target.path}: cannot be read again for its picture ({first_line(error)})",
            "mend that, then use --resume, or leave --preview out",
        ) from error
    return Seen(
        image_bhw=image_bhw,
        seen_hw=seen_hw,
        map_bhw=map_bhw,
        across_m=px_m(work, each.sheet, window)[0] * window.width,
    )


def _filed(path: Path, picture: Seen) -> MapPicture:
    return MapPicture(
        path=path,
        size_px=(picture.seen_hw.shape[0], picture.seen_hw.shape[1]),
        image=image_file(picture.image_bhw, picture.seen_hw),
        drawn=map_file(picture.map_bhw),
    )


def _caption(work: Work, each: SheetTarget, found: LandCover) -> Caption:
    window, spec = each.target.window, work.spec
    labelled = int(found.pixels[1:].sum())
    entries = [
        LegendEntry(
            name=entry.name,
            color=entry.color,
            pixels=int(found.pixels[entry.value]),
            hectares=float(found.hectares[entry.value]),
            share=found.pixels[entry.value] / labelled,
        )
        for entry in spec.classes
        if found.pixels[entry.value]
    ]
    return Caption(
        title=each.target.path.name,
        about=(
            f"{found.hectares[1:].sum():,.2f} ha by {spec.name}, {window.width:,} x "
            f"{window.height:,} px of {spec.gsd_m:g} m"
        ),
        entries=sorted(entries, key=lambda entry: -entry.pixels),
        nodata=_nodata_said(int(found.pixels[0]), window.pixels),
    )


def _nodata_said(nodata_px: int, pixels: int) -> str:
    if not nodata_px:
        return "every pixel has a label"
    return f"no label on {share_said(nodata_px / pixels)} of the map"


def _facts(work: Work, each: SheetTarget, written: list[OutputFile], started: str) -> MapFacts:
    spec, backend, write = work.spec, work.backend, work.job.write
    created = given_time() or dt.datetime.now(dt.timezone.utc)
    began = given_time() or dt.datetime.fromisoformat(started)
    return MapFacts(
        path=each.target.path,
        spec=spec,
        values=write.labels,
        cog=write.cog,
        grid=each.sheet.pixel_grid.of(each.target.window),
        files=written,
        sources=[str(work.job.model), *_shown_files(work, each)],
        software={backend.engine: backend.identity},
        lineage=lineage_of(spec, backend.precision),
        run=run_id(work),
        acquired=acquired_span(write.acquired) if write.acquired else (began, created),
        created=created,
    )


def lineage_of(spec: ModelSpec, precision: str) -> str:
    """Return how a map came about, for its Item."""
    return (
        f"Labelled by {spec.name} (weights SHA-256 {spec.weights_sha256}) in {precision}, "
        f"tiles of {spec.tile_px} px with margins of {spec.margin_px} px"
    )


def _shown_files(work: Work, each: SheetTarget) -> list[str]:
    """Return the files whose pixels a map may show."""
    sheet = next(n for n, sheet in enumerate(work.opened.sheets) if sheet is each.sheet)
    return [
        file
        for file, places in work.opened.places.items()
        if any(n == sheet and w.intersection(each.target.window).pixels for n, w in places)
    ]
