"""Files of polygons: GeoPackage and GeoParquet, written batch by batch, with a QGIS style."""

from __future__ import annotations

import json
import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.errors import WriteError, first_line
from flair_engine.mapping.legend import style_text
from flair_engine.mapping.standing import MAP_TAG
from flair_engine.post.extras import needed
from flair_engine.post.place import RUN_AGAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from rasterio.crs import CRS

    from flair_engine.post.map_file import MapClass

VECTOR_SUFFIXES = (".gpkg", ".parquet")
MARK = b"flair-engine"
"""Key of a Parquet file's metadata that holds the tags of the map."""
GEOPARQUET = "1.1.0"
BOX = ("xmin", "ymin", "xmax", "ymax")
TYPES = {"value": "int16", "class": "string", "color": "string", "area_m2": "float64",
         "confidence": "float64", "geometry": "binary"}  # fmt: skip


def write_polygons(
    path: Path,
    layer: str,
    batches: Iterable[dict[str, Any]],
    crs: CRS,
    tags: Mapping[str, str],
    *,
    confidence: bool,
) -> int:
    """Write polygons, columns by name with `geometry`, which are used up; return how many.

    Raises WriteError, and SourceError where a package is missing.
    """
    arrow = needed("pyarrow")
    counted = _Counted(batches)
    names = [name for name in TYPES if name != "confidence" or confidence]
    try:
        if path.suffix.lower() == ".parquet":
            _write_parquet(path, counted, names, crs, tags)
        else:
            _write_gpkg(path, layer, counted, names, crs, tags)
    except (arrow.ArrowException, OSError, RuntimeError) as error:  # the last are pyogrio's
        if counted.error:  # raised by what makes the polygons, handed on by GDAL in its own words
            raise counted.error from error
        raise WriteError(
            f"{path.name}: cannot be written ({first_line(error)})", RUN_AGAIN
        ) from error
    return counted.count


class _Counted:
    """Batches that are counted, and whose error is kept."""

    def __init__(self, batches: Iterable[dict[str, Any]]) -> None:
        self._batches = batches
        self.count = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            for batch in self._batches:
                self.count += len(batch["geometry"])
                yield batch
        except GeneratorExit:  # whoever writes has given up
            raise
        except BaseException as error:
            self.error = error
            raise


def _write_gpkg(
    path: Path,
    layer: str,
    batches: Iterable[dict[str, Any]],
    names: list[str],
    crs: CRS,
    tags: Mapping[str, str],
) -> None:
    arrow, pyogrio = needed("pyarrow"), needed("pyogrio")
    schema = arrow.schema([(name, TYPES[name]) for name in names])
    made = (_record_batch(schema, batch) for batch in batches)
    pyogrio.write_arrow(
        arrow.RecordBatchReader.from_batches(schema, made),
        path,
        layer=layer,
        driver="GPKG",
        geometry_name="geometry",
        geometry_type="Polygon",
        crs=crs.to_wkt(),
        dataset_metadata=dict(tags),
    )


def _record_batch(schema: Any, batch: dict[str, Any]) -> Any:
    arrow, shapely = needed("pyarrow"), needed("shapely")
    # Taken out, so that shapes and bytes of a huge polygon are not in memory together for long.
    batch["geometry"] = shapely.to_wkb(batch["geometry"])
    arrays = [arrow.array(batch.pop(field.name), field.type) for field in schema]
    return arrow.RecordBatch.from_arrays(arrays, schema=schema)


def _write_parquet(
    path: Path,
    batches: Iterable[dict[str, Any]],
    names: list[str],
    crs: CRS,
    tags: Mapping[str, str],
) -> None:
    """Write GeoParquet with a box for each polygon, so that a part is read alone."""
    arrow, parquet = needed("pyarrow"), needed("pyarrow.parquet")
    shapely = needed("shapely")
    schema = arrow.schema([(name, TYPES[name]) for name in names])
    box_type = arrow.struct([(edge, "float64") for edge in BOX])
    boxed = schema.append(arrow.field("bbox", box_type))
    whole = np.array([np.inf, np.inf, -np.inf, -np.inf])
    with parquet.ParquetWriter(path, boxed, compression="zstd") as writer:
        for batch in batches:
            boxes = shapely.bounds(batch["geometry"])
            whole[:2] = np.minimum(whole[:2], boxes[:, :2].min(axis=0, initial=np.inf))
            whole[2:] = np.maximum(whole[2:], boxes[:, 2:].max(axis=0, initial=-np.inf))
            box = arrow.StructArray.from_arrays(list(boxes.T), fields=list(box_type))
            columns = [*_record_batch(schema, batch).columns, box]
            writer.write_batch(arrow.RecordBatch.from_arrays(columns, schema=boxed))
        facts = _geo(crs, whole if np.isfinite(whole).all() else None)
        writer.add_key_value_metadata({"geo": json.dumps(facts), MARK: json.dumps(dict(tags))})


def _geo(crs: CRS, bounds: np.ndarray | None) -> dict[str, Any]:
    """Return the metadata of GeoParquet 1.1."""
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": crs.to_dict(projjson=True),
        "covering": {"bbox": {edge: ["bbox", edge] for edge in BOX}},
    }
    if bounds is not None:
        column["bbox"] = bounds.tolist()
    return {"version": GEOPARQUET, "primary_column": "geometry", "columns": {"geometry": column}}


def is_our_vector(path: Path) -> bool:
    """Return whether polygons of flair-engine stand at `path`."""
    try:
        if path.suffix.lower() == ".parquet":
            return MARK in (needed("pyarrow.parquet").read_metadata(path).metadata or {})
        found = needed("pyogrio").read_info(path)["dataset_metadata"] or {}
    except Exception:  # noqa: BLE001  whatever libraries say of it
        return False
    return MAP_TAG in found


def polygon_style(classes: Iterable[MapClass]) -> str:
    """Return a QGIS style of polygons: a category for each class, by column `value`."""
    root = ET.Element("qgis", styleCategories="Symbology")
    renderer = ET.SubElement(root, "renderer-v2", type="categorizedSymbol", attr="value",
                             enableorderby="0", forceraster="0", symbollevels="0")  # fmt: skip
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for number, entry in enumerate(classes):
        ET.SubElement(categories, "category", symbol=str(number), value=str(entry.value),
                      label=entry.name, render="true", type="long")  # fmt: skip
        symbol = ET.SubElement(symbols, "symbol", name=str(number), type="fill", alpha="1",
                               clip_to_extent="1", force_rhr="0")  # fmt: skip
        layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1", locked="0",
                              **{"pass": "0"})  # fmt: skip
        options = ET.SubElement(layer, "Option", type="Map")
        color = ",".join(map(str, (*bytes.fromhex(entry.color[1:]), 255)))
        for name, value in (("color", color), ("outline_style", "no"), ("style", "solid")):
            ET.SubElement(options, "Option", name=name, type="QString", value=value)
    return style_text(root)


def is_polygon_style(path: Path) -> bool:
    """Return whether a style is one of polygons, not of a raster. Raises OSError."""
    return b"<renderer-v2" in path.read_bytes()


def add_style(path: Path, layer: str, style: str) -> None:
    """Put a style into a GeoPackage, where QGIS looks first. Raises WriteError.

    The table is QGIS's own, as its "Save style in database" makes it.
    """
    columns = (
        "f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), "
        "f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, "
        "useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), "
        "update_time DATETIME DEFAULT CURRENT_TIMESTAMP"
    )
    try:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(
                f"CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})"
            )
            database.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
                "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault) "
                "SELECT '', '', table_name, column_name, 'flair-engine', ?, '', 1 "
                "FROM gpkg_geometry_columns WHERE table_name = ?",
                (style, layer),
            )
            database.execute(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
                "VALUES ('layer_styles', 'attributes', 'layer_styles')"
            )
    except sqlite3.Error as error:
        raise WriteError(f"{path.name}: cannot be written ({error})", RUN_AGAIN) from error
