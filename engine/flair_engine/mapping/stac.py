"""STAC Item of a map: what catalogues read of it, in one JSON beside the map.

STAC 1.1 with the extensions projection, classification, processing and file. Hrefs are relative to
the Item where they can be, so that a folder of maps can be moved.
"""

from __future__ import annotations

import calendar
import datetime as dt
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from rasterio.warp import transform

from flair_engine.errors import OutputError
from flair_engine.gdal import UNTRANSFORMABLE
from flair_engine.mapping.legend import NODATA
from flair_engine.mapping.published import bbox_of, crs_text
from flair_engine.mapping.standing import SOFTWARE
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flair_engine.crs import OnGrid
    from flair_engine.manifest import ModelSpec
    from flair_engine.mapping.published import OutputFile
    from flair_engine.options import LabelValues

EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/classification/v1.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
GEOTIFF = "image/tiff; application=geotiff"
SHA256_MULTIHASH = "1220"
"""What a multihash of SHA-256 begins with: its code and length (multiformats.io)."""
EDGE_POINTS = 9
"""Points of each edge of a footprint: straight lines of a projection are none in degrees."""
DEGREES_DECIMALS = 7
"""A centimetre."""
TITLES = {
    "labels": "Land cover",
    "confidence": "Confidence of the land cover, 255 is certain",
    "probabilities": "Probability of each class, 255 is certain",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MapFacts:
    """What an Item says of a map."""

    path: Path
    spec: ModelSpec
    values: LabelValues
    cog: bool
    grid: OnGrid
    files: Sequence[OutputFile]
    """Its rasters and its preview."""
    sources: Sequence[str]
    """The model, and every file that the map shows."""
    software: Mapping[str, str]
    lineage: str
    run: str
    acquired: tuple[dt.datetime, dt.datetime]
    created: dt.datetime


def acquired_span(text: str) -> tuple[dt.datetime, dt.datetime]:
    """Return the first and the last second of a day, month or year, or of START/END, in UTC.

    Raises OutputError for anything else, and for what ends before it begins.
    """
    parts = text.split("/")
    try:
        first, last = _span(parts[0])[0], _span(parts[-1])[1]
    except ValueError:
        first, last = dt.datetime.max, dt.datetime.min
    if len(parts) > 2 or first > last:
        raise OutputError(
            f"--acquired {text}: is no day, month, year or START/END",
            "give e.g. 2023-07-14, 2023-07, 2023 or 2023-06-01/2023-08-31",
        )
    return first, last


def _span(text: str) -> tuple[dt.datetime, dt.datetime]:
    """Return the first and the last second of `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, in UTC."""
    if not re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", text):
        raise ValueError(text)
    year, *rest = (int(part) for part in text.split("-"))
    first_month, first_day = [*rest, 1, 1][:2]
    last_month = rest[0] if rest else 12
    last_day = rest[1] if len(rest) == 2 else calendar.monthrange(year, last_month)[1]
    zone = dt.timezone.utc
    return (
        dt.datetime(year, first_month, first_day, tzinfo=zone),
        dt.datetime(year, last_month, last_day, 23, 59, 59, tzinfo=zone),
    )


def item_json(facts: MapFacts) -> str:
    """Return the Item of a map."""
    import pystac

    geometry, bbox = _footprint(facts)
    first, last = facts.acquired
    item = pystac.Item(
        id=facts.path.stem,
        geometry=geometry,
        bbox=bbox,
        datetime=None,
        start_datetime=first,
        end_datetime=last,
        properties=_properties(facts),
        stac_extensions=list(EXTENSIONS),
    )
    for name, asset in _assets(facts).items():
        item.add_asset(name, pystac.Asset.from_dict(asset))
    for source in facts.sources:
        item.add_link(pystac.Link("derived_from", _href(source, facts.path.parent)))
    found = item.to_dict(include_self_link=False, transform_hrefs=False)
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _properties(facts: MapFacts) -> dict[str, Any]:
    spec = facts.spec
    found: dict[str, Any] = {
        "title": f"Land cover of {facts.path.stem} by {spec.name}",
        "created": _time(facts.created),
        "gsd": spec.gsd_m,
        "processing:software": {SOFTWARE: __version__, **facts.software},
        "processing:lineage": facts.lineage,
        "processing:datetime": _time(facts.created),
        "flair:model": spec.name,
        "flair:weights_sha256": spec.weights_sha256,
        "flair:run": facts.run,
        "proj:shape": [facts.grid.height, facts.grid.width],
        "proj:transform": list(facts.grid.transform)[:6],
    }
    if crs := facts.grid.crs:
        coded = crs.to_authority() is not None
        found["proj:code"] = crs_text(crs) if coded else None
        if not coded:
            found["proj:wkt2"] = crs.to_wkt(version="WKT2_2019")
        found["proj:bbox"] = list(bbox_of(facts.grid) or ())
    return found


def _footprint(facts: MapFacts) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Return outline and box in longitude and latitude; None where the place is unknown."""
    grid = facts.grid
    if not grid.crs:
        return None, None
    steps = np.linspace(0, 1, EDGE_POINTS)[:-1]
    ones, zeros = np.ones_like(steps), np.zeros_like(steps)
    # From the lower left corner counterclockwise, as GeoJSON wants it (RFC 7946, 3.1.6).
    cols = np.concatenate([steps, ones, 1 - steps, zeros]) * grid.width
    rows = np.concatenate([ones, 1 - steps, zeros, steps]) * grid.height
    xs, ys = zip(*(grid.transform @ place for place in zip(cols, rows, strict=True)), strict=True)
    try:
        lons, lats = transform(grid.crs, "EPSG:4326", xs, ys)
    except UNTRANSFORMABLE:
        return None, None
    if not np.isfinite([*lons, *lats]).all():
        return None, None
    ring = [[round(v, DEGREES_DECIMALS) for v in p] for p in zip(lons, lats, strict=True)]
    if _is_clockwise(ring):  # of a grid that is mirrored
        ring.reverse()
    lons, lats = zip(*ring, strict=True)
    box = [min(lons), min(lats), max(lons), max(lats)]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, box


def _is_clockwise(ring: Sequence[Sequence[float]]) -> bool:
    """Return whether the area between a ring and the x axis, by the shoelace formula, is below."""
    turned = [*ring[1:], ring[0]]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, turned, strict=True)) < 0


def _assets(facts: MapFacts) -> dict[str, dict[str, Any]]:
    found = {}
    for file in facts.files:
        name, asset = file.kind, _file(file, facts)
        if name == "preview":
            found[name] = {**asset, "type": "image/png", "roles": ["overview"]}
            continue
        asset["type"] = f"{GEOTIFF}; profile=cloud-optimized" if facts.cog else GEOTIFF
        asset["title"] = TITLES[name]
        asset["roles"] = ["data"]
        asset["data_type"] = "uint8"
        if name == "labels":
            asset["nodata"] = NODATA[facts.values]
            asset["classification:classes"] = _classes(facts)
        if name == "confidence":
            asset["nodata"] = 0
        if name == "probabilities":
            names = {entry.value: entry.name for entry in facts.spec.classes}
            asset["bands"] = [
                {"name": names.get(value, str(value))} for value in range(1, max(names) + 1)
            ]
        found[name] = asset
    return found


def _file(file: OutputFile, facts: MapFacts) -> dict[str, Any]:
    return {
        "href": _href(file.path, facts.path.parent),
        "file:size": file.size,
        "file:checksum": f"{SHA256_MULTIHASH}{file.sha256}",
    }


def _classes(facts: MapFacts) -> list[dict[str, Any]]:
    """Return the values that the map can hold; each is described, as some readers want it."""
    shift = facts.values == "zero-based"
    classes = [
        {
            "value": entry.value - shift,
            "name": _plain(entry.name) or f"class_{entry.value}",
            "title": entry.name,
            "description": entry.name,
            "color_hint": entry.color.removeprefix("#"),
        }
        for entry in facts.spec.active_classes
    ]
    nodata = {
        "value": NODATA[facts.values],
        "name": "no_data",
        "title": "no data",
        "description": "not mapped",
        "nodata": True,
    }
    return [*classes, nodata]


def _plain(name: str) -> str:
    """Return a name in the letters that the classification extension allows, if it has any."""
    return re.sub(r"[^0-9A-Za-z-]+", "_", name).strip("_")


def _href(name: str, folder: Path) -> str:
    """Return the reference (RFC 3986) of a file, relative to the Item's folder where that can be.

    What is no file on disk stands as it is called.
    """
    if "://" in name or name.startswith("/vsi"):
        return quote(name, safe="/:?=&%#@+,;~!$'()*[]")
    try:
        relative = os.path.relpath(Path(name).absolute(), folder.absolute())
    except ValueError:  # another drive of Windows
        return Path(name).absolute().as_uri()
    path = quote(Path(relative).as_posix(), safe="/@+,;~!$'()*")
    return path if path.startswith("../") else f"./{path}"


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
