"""The sub-commands of flair-post: from names of files to published outputs and a closing line."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio

from flair_engine.errors import OutputError, SourceError
from flair_engine.mapping.standing import MAP_TAG, foreign_style, names_of, stands, style_of
from flair_engine.mapping.targets import check_maps, output_path
from flair_engine.overwriting import refuse_inputs
from flair_engine.post import change as changes
from flair_engine.post import polygons as outlines
from flair_engine.post.extras import needed
from flair_engine.post.hectares import zone_hectares
from flair_engine.post.map_file import open_map, strips
from flair_engine.post.place import check_file, put, workplace
from flair_engine.post.raster_file import model_of, sidecars, stale, style, tags_of, write_raster
from flair_engine.post.regions import measured
from flair_engine.post.sieve import rewritten, sieved
from flair_engine.post.table_file import TABLE_SUFFIXES, is_our_table, write_table
from flair_engine.post.vector_file import (
    VECTOR_SUFFIXES,
    add_style,
    is_our_vector,
    is_polygon_style,
    polygon_style,
    write_polygons,
)
from flair_engine.post.virtual import is_virtual_map, maps_in, open_maps, write_virtual
from flair_engine.post.zones import read_zones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from rasterio.io import DatasetReader

    from flair_engine.options import Listener
    from flair_engine.post.hectares import ZoneHectares
    from flair_engine.post.map_file import MapFile
    from flair_engine.post.zones import Zones

CACHE_MIB = 64
"""Of GDAL's blocks: a row of blocks of 100,000 columns; else it is a share of the memory."""
OTHER_NAME = "give a name that does not exist"
MANY = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Passes over the pixels of a map, counted together."""

    listener: Listener
    pixels: int
    passes: int

    def of(
        self, number: int, parts: Iterable[tuple[int, np.ndarray]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the strips of a pass, telling how far it is."""
        done = number * self.pixels
        for top, strip_hw in parts:
            yield top, strip_hw
            done += strip_hw.size
            self.listener.progress(done, self.passes * self.pixels)


def environment() -> rasterio.Env:
    """Return the settings of GDAL that a sub-command runs under."""
    return rasterio.Env(GDAL_CACHEMAX=CACHE_MIB)


def sieve(path: Path, output: Path, min_m2: float, *, overwrite: bool, listener: Listener) -> str:
    """Write a map whose regions are `min_m2` at least; return a closing line."""
    _check_amount(min_m2, "--min-m2")
    check_maps(output, ["labels"], may_replace=overwrite, remedy=OTHER_NAME)
    _refuse_inputs([output, style_of(output)], [path])
    with ExitStack() as stack:
        folder = stack.enter_context(workplace(output))
        opened = stack.enter_context(open_maps(path, folder, listener.notify))
        steps = Progress(listener=listener, pixels=opened.pixels, passes=3)
        made, said = _sieved(opened, folder, output.name, min_m2, steps)
        files = sidecars(output, opened, opened.classes, model_of(opened.dataset), folder)
        put([*files, (made, output)], remove=stale(output))
    return f"{output}: {said}"


def polygons(
    path: Path,
    output: Path,
    min_m2: float,
    simplify_m: float,
    *,
    overwrite: bool,
    listener: Listener,
) -> str:
    """Write the polygons of a map; return a closing line."""
    _check_amount(min_m2, "--min-m2")
    _check_amount(simplify_m, "--simplify")
    for name in ("shapely", "pyogrio", "pyarrow"):
        needed(name)
    check_file(output, VECTOR_SUFFIXES, is_our_vector, overwrite=overwrite)
    _refuse_inputs([output, style_of(output)], [path])
    with ExitStack() as stack:
        folder = stack.enter_context(workplace(output))
        opened = stack.enter_context(open_maps(path, folder, listener.notify))
        passes = 5 if min_m2 else 2
        steps = Progress(listener=listener, pixels=opened.pixels, passes=passes)
        said = ""
        labels = opened
        if min_m2:
            made, said = _sieved(opened, folder, "sieved.tif", min_m2, steps)
            labels = stack.enter_context(open_map(made))
        count = _write_outlines(labels, opened, folder / output.name, simplify_m, steps)
        files = _polygon_style(output, folder, opened, listener.notify)
        put([*files, (folder / output.name, output)])
    return f"{output}: {count:,} polygons" + (f"; {said}" if said else "")


def hectares(
    path: Path,
    zones_path: Path,
    field: str,
    layer: str | None,
    output: Path,
    *,
    overwrite: bool,
    listener: Listener,
) -> str:
    """Write the table of what zones hold; return a closing line."""
    for name in ("shapely", "pyogrio", "exactextract"):
        needed(name)
    if output.suffix.lower() == ".parquet":
        needed("pyarrow")
    check_file(output, TABLE_SUFFIXES, is_our_table, overwrite=overwrite)
    _refuse_inputs([output], [path, zones_path])
    if not zones_path.exists():
        raise SourceError(f"{zones_path}: does not exist", "name the file of zones")
    with ExitStack() as stack:
        folder = stack.enter_context(workplace(output))
        opened = stack.enter_context(open_maps(path, folder, listener.notify))
        ground = opened.ground()
        zones = read_zones(zones_path, field, layer, opened, listener.notify)
        found = zone_hectares(opened, zones, ground, listener.progress)
        if partly := [name for name, out in zip(zones.ids, found.outside, strict=True) if out]:
            more = f" and {len(partly) - MANY} more" if len(partly) > MANY else ""
            names = ", ".join(partly[:MANY])
            listener.notify(f"{len(partly)} zones reach beyond the map: {names}{more}")
        columns = _zone_columns(field, zones, found, opened)
        write_table(folder / output.name, columns, tags_of(opened.dataset, "hectares"))
        put([(folder / output.name, output)])
    mapped = sum(columns["mapped_ha"])
    return f"{output}: {len(zones.ids):,} zones, {mapped:,.2f} ha mapped"


def change(
    old_path: Path,
    new_path: Path,
    output: Path,
    map_path: Path | None,
    *,
    resample: bool,
    overwrite: bool,
    listener: Listener,
) -> str:
    """Write the table of changes, and a map of them where asked; return a closing line."""
    check_file(output, TABLE_SUFFIXES, is_our_table, overwrite=overwrite)
    if output.suffix.lower() == ".parquet":
        needed("pyarrow")
    if map_path:
        check_maps(map_path, ["labels"], may_replace=overwrite, remedy=OTHER_NAME)
    outputs = [output, *([map_path, style_of(map_path)] if map_path else [])]
    _refuse_inputs(outputs, [old_path, new_path])
    with ExitStack() as stack:
        folder = stack.enter_context(workplace(output))
        old_map = stack.enter_context(open_maps(old_path, folder, listener.notify))
        beside = stack.enter_context(workplace(map_path)) if map_path else folder
        new_map = stack.enter_context(open_maps(new_path, beside, listener.notify))
        old = stack.enter_context(changes.on_grid_of(new_map, old_map, resample=resample))
        steps = Progress(listener=listener, pixels=new_map.pixels, passes=2 if map_path else 1)

        def progress(done: int, _total: int) -> None:
            listener.progress(done, steps.passes * steps.pixels)

        found = changes.compared(old, old_map, new_map, new_map.ground(), progress)
        for told in changes.only_in_one(found, old_map, new_map):
            listener.notify(told)
        tags = tags_of(new_map.dataset, f"change from {model_of(old_map.dataset)}")
        write_table(folder / output.name, changes.table_of(found), tags)
        files = [(folder / output.name, output)]
        if map_path:
            shown = steps.of(1, changes.change_strips(old, old_map, new_map, found))
            files += _change_map(map_path, beside, new_map, found, shown, tags, listener)
        put(files, remove=stale(map_path) if map_path else ())
    return f"{output}: {_change_said(found)}"


def vrt(folder: Path, output: Path, *, overwrite: bool, listener: Listener) -> str:
    """Write a VRT of the maps of a folder; return a closing line."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: is no folder", "name the folder of flair-run --per-input")
    check_file(output, (".vrt",), is_virtual_map, overwrite=overwrite)
    return vrt_of(maps_in(folder), output, overwrite=overwrite, listener=listener)


def vrt_of(paths: Sequence[Path], output: Path, *, overwrite: bool, listener: Listener) -> str:
    """Write a VRT of some maps, at least one; return a closing line."""
    check_file(output, (".vrt",), is_virtual_map, overwrite=overwrite)
    _refuse_inputs([output, style_of(output)], paths)
    with workplace(output) as work:
        written = write_virtual(work, paths, output, output.parent, listener.notify)
        with open_map(paths[0]) as first:
            text = style(first.classes)
            if not first.named:
                listener.notify(f"{first.path}: no names of classes lie beside it")
        files = [(path, output.with_name(path.name)) for path in written]
        _check_beside([target for _, target in files[1:]])
        if not foreign_style(output):
            styled = work / style_of(output).name
            styled.write_text(text, encoding="utf-8")
            files.append((styled, style_of(output)))
        put([*files[1:], files[0]])
    listener.progress(len(paths), len(paths))
    return f"{output}: {len(paths):,} maps"


def _sieved(
    opened: MapFile, folder: Path, name: str, min_m2: float, steps: Progress
) -> tuple[Path, str]:
    """Write a map without small regions into `folder`; return it and what was done."""
    nodata = opened.nodata
    regions = measured(steps.of(0, opened.strips()), nodata, opened.ground())
    found = sieved(steps.of(1, opened.strips()), nodata, regions, min_m2)
    written = rewritten(steps.of(2, opened.strips()), nodata, regions, found.values)
    tags = tags_of(opened.dataset, f"sieve {min_m2:g} m2")
    made = write_raster(folder / name, opened, written, opened.classes, tags)
    said = f"{found.small - found.kept:,} of {regions.count:,} regions were below {min_m2:g} m²"
    if found.kept:
        said += f"; {found.kept:,} small ones stay, they touch nothing larger"
    return made, said


def _write_outlines(
    labels: MapFile, opened: MapFile, path: Path, simplify_m: float, steps: Progress
) -> int:
    """Write the polygons of `labels`, a map made of `opened`; return how many."""
    first = steps.passes - 2
    ground = opened.ground()
    with ExitStack() as stack:
        beside, confidence = opened.confidence_path(), None
        if beside:
            dataset = stack.enter_context(rasterio.open(beside))
            _check_same_size(beside, dataset, opened)
            confidence = strips(dataset, beside)
        regions = measured(steps.of(first, labels.strips()), labels.nodata, ground, confidence)
    if not regions.count:
        steps.listener.notify(f"{opened.path}: holds no data alone, so there is no polygon")
    found = outlines.outlined(steps.of(first + 1, labels.strips()), labels, regions)
    if simplify_m:
        across_m, down_m = ground.middle_px_m()
        found = outlines.simplified(found, simplify_m / (across_m * down_m) ** 0.5)
    # No generator, which would hold the shapes while they are written: one can be huge.
    batches = map(partial(outlines.columns_of, map_file=labels, regions=regions), found)
    tags = tags_of(labels.dataset, "polygons")
    has_confidence = regions.confidences is not None
    crs = opened.dataset.crs
    return write_polygons(path, path.stem, batches, crs, tags, confidence=has_confidence)


def _polygon_style(
    output: Path, folder: Path, opened: MapFile, notify: Callable[[str], None]
) -> list[tuple[Path, Path]]:
    """Put a style into a GeoPackage and one beside it, unless somebody else's is there."""
    text = polygon_style(opened.classes.values())
    if output.suffix.lower() == ".gpkg":
        add_style(folder / output.name, output.stem, text)
    beside = style_of(output)
    if foreign_style(output):
        return []
    if stands(beside) and not is_polygon_style(beside):  # that of the map of the same name
        if output.suffix.lower() != ".gpkg":
            notify(f"{beside}: is the style of a map, kept; {output.name} comes without one")
        return []
    temporary = folder / beside.name
    temporary.write_text(text, encoding="utf-8")
    return [(temporary, beside)]


def _zone_columns(
    field: str, zones: Zones, found: ZoneHectares, opened: MapFile
) -> dict[str, list[Any]]:
    """Return one row for each zone: its hectares in all, then those and the share of each class."""
    nodata_ha = found.by_value[:, opened.nodata]
    mapped = found.by_value.copy()
    mapped[:, opened.nodata] = 0
    mapped_ha = mapped.sum(axis=1)
    columns: dict[str, list[Any]] = {
        field: list(zones.ids),
        "zone_ha": (mapped_ha + nodata_ha + found.outside).tolist(),
        "mapped_ha": mapped_ha.tolist(),
        "nodata_ha": nodata_ha.tolist(),
        "outside_ha": found.outside.tolist(),
    }
    shown = sorted({*opened.classes, *(int(v) for v in mapped.any(axis=0).nonzero()[0])})
    for value in shown:
        name = opened.class_of(value).name.replace(" ", "_")
        columns[f"{name}_ha"] = mapped[:, value].tolist()
        share = mapped[:, value] / np.where(mapped_ha > 0, mapped_ha, 1)
        columns[f"{name}_share"] = share.tolist()
    return columns


def _change_map(
    path: Path,
    folder: Path,
    new_map: MapFile,
    found: changes.Change,
    shown: Iterable[tuple[int, np.ndarray]],
    tags: dict[str, str],
    listener: Listener,
) -> list[tuple[Path, Path]]:
    """Write a map of changes into `folder`; return (temporary, target) pairs, the map last."""
    if len(found.pairs) > changes.MOST_PAIRS:
        listener.notify(
            f"{path}: shows the {changes.MOST_PAIRS} largest of {len(found.pairs)} kinds of "
            "change, the others as no data"
        )
    classes = changes.change_classes(found, new_map)
    like = replace(new_map, nodata=0)
    made = write_raster(folder / path.name, like, shown, classes, tags)
    return [*sidecars(path, like, classes, tags[MAP_TAG], folder), (made, path)]


def _change_said(found: changes.Change) -> str:
    """Return how much has changed, and the largest changes."""
    both = found.hectares[1:, 1:].sum()
    changed = both - found.hectares[1:, 1:].trace()
    largest = [
        f"{found.names[o]} -> {found.names[n]} {found.hectares[o, n]:,.2f} ha"
        for o, n in found.pairs[:MANY]
    ]
    said = f"{changed:,.2f} of {both:,.2f} ha mapped in both have changed"
    return ": ".join(filter(None, [said, ", ".join(largest)]))


def _check_amount(value: float, option: str) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise OutputError(f"{option} is {value:g}, expected 0 or more", "give another")


def _check_same_size(path: Path, dataset: DatasetReader, opened: MapFile) -> None:
    if (dataset.width, dataset.height) != (opened.width, opened.height):
        raise SourceError(
            f"{path}: has {dataset.width} x {dataset.height} px, its map {opened.width} x "
            f"{opened.height}",
            "it belongs to another map: move it away",
        )


def _check_beside(targets: Iterable[Path]) -> None:
    for target in targets:
        if stands(target) and not is_virtual_map(target):
            raise OutputError(
                f"{target}: exists already and is not of flair-engine", "move it away"
            )


def _refuse_inputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raise OutputError where an output is an input, or what an input is made of."""
    files: list[str] = []
    for path in inputs:
        files.append(str(path))
        if path.is_dir():
            files += map(str, path.iterdir())
        elif is_virtual_map(path):
            with rasterio.open(path, driver="VRT") as dataset:
                files += dataset.files
        else:
            files += [str(names_of(path)), str(output_path(path, "confidence"))]
    outputs = [each for each in outputs if each != style_of(each) or not foreign_style(each)]
    refuse_inputs(outputs, dict.fromkeys(files))
