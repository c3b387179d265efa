"""Files that stand at the names of a map already, and which of them are of flair-engine."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import rasterio
from rasterio.errors import NotGeoreferencedWarning

from flair_engine import bounded_json
from flair_engine.mapping.legend import NAMES_MARK, STYLE_MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

MAP_TAG = "FLAIR_MODEL"
"""Tag that every map carries; its value is the name of the model."""
RUN_TAG = "FLAIR_RUN"
"""Tag whose value equal runs share."""
SOFTWARE = "flair-engine"
"""What a STAC Item of ours names as the software that made its map."""
PREVIEW_MARK = "preview of flair-engine"
"""Text at the beginning of a PNG that tells our preview from other pictures."""
MARK_BYTES = 4096
"""Where the mark of a preview stands: before its pixels."""
ITEM_BYTES = 2**26
"""More than any STAC Item of a map or a model is."""
GDAL_SUFFIXES = (".aux.xml", ".ovr", ".msk", ".aux")
"""Of files that GDAL takes for a part of the raster they stand beside."""


def names_of(raster: Path) -> Path:
    """Return where the class names of a map stand."""
    return Path(f"{raster}{GDAL_SUFFIXES[0]}")


def style_of(path: Path) -> Path:
    """Return where the QGIS style of a map stands."""
    return path.with_suffix(".qml")


def preview_of(path: Path) -> Path:
    """Return where the preview of a map stands."""
    return path.with_suffix(".preview.png")


def item_of(path: Path) -> Path:
    """Return where the STAC Item of a map stands."""
    return path.with_suffix(".json")


def is_preview(path: Path) -> bool:
    """Return whether a preview of flair-engine stands at `path`."""
    return path.is_file() and _holds(path, PREVIEW_MARK, most_bytes=MARK_BYTES)


def is_item(path: Path) -> bool:
    """Return whether a STAC Item of flair-engine stands at `path`."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            item = bounded_json.parse(file.read(ITEM_BYTES), largest_bytes=ITEM_BYTES)
        return SOFTWARE in item["properties"]["processing:software"]
    except (OSError, ValueError, TypeError, KeyError):
        return False


def made_beside(path: Path) -> list[Path]:
    """Return the preview and the Item of flair-engine that stand beside a map."""
    found = [(preview_of(path), is_preview), (item_of(path), is_item)]
    return [beside for beside, is_ours in found if is_ours(beside)]


def gdal_sidecars(raster: Path) -> list[Path]:
    """Return the names at which GDAL looks for parts of a raster."""
    return [Path(f"{raster}{suffix}") for suffix in GDAL_SUFFIXES]


def is_map(path: Path) -> bool:
    """Return whether a GeoTIFF with the tag of a map stands at `path`."""
    return MAP_TAG in map_tags(path)


def map_tags(path: Path) -> dict[str, str]:
    """Return the tags of a GeoTIFF at `path`, none where there is no other file or nothing.

    What a sidecar says does not count: it may be another file's.
    """
    if not path.is_file():  # a pipe would be waited for
        return {}
    with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED="NO"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path, driver="GTiff", sharing=False) as dataset:
                tags: dict[str, str] = dataset.tags()
                return tags
        except Exception:  # noqa: BLE001  whatever GDAL says of it, and it says much
            return {}


def stands(path: Path) -> bool:
    """Return whether anything stands at `path`, be it a link to nothing."""
    return os.path.lexists(path)


def foreign_sidecars(raster: Path) -> list[Path]:
    """Return the sidecars at a raster's name that no map of flair-engine left there."""
    names = names_of(raster)
    found = [path for path in gdal_sidecars(raster) if stands(path)]
    return [path for path in found if path != names or not _holds(path, NAMES_MARK)]


def foreign_style(path: Path) -> Path | None:
    """Return the QGIS style at a map's name where it is not of flair-engine, so stays."""
    style = style_of(path)
    return style if stands(style) and not _holds(style, STYLE_MARK) else None


def kept_styles(paths: Sequence[Path]) -> str | None:
    """Return what to tell of the maps at `paths` that get no style, since another stands there."""
    kept = [style for path in paths if (style := foreign_style(path))]
    if not kept:
        return None
    more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
    return f"{kept[0]}{more}: no style of flair-engine, kept; the map comes without one of its own"


def _holds(path: Path, mark: str, *, most_bytes: int = -1) -> bool:
    try:
        with path.open("rb") as file:
            return mark.encode() in file.read(most_bytes)
    except OSError:  # a folder, a link to nothing, or not for us
        return False
