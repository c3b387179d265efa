"""Names and colours of classes, as GDAL and QGIS read them beside a map."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flair_engine.manifest import ModelSpec
    from flair_engine.options import LabelValues

NODATA = {"flair": 0, "zero-based": 255}
"""Value of what is not mapped, by how labels are written."""

CONFIDENCE_NODATA = 0
"""Of confidence: 255 times the largest of some shares that sum up to 1 is never 0."""
CONFIDENCE_RAMP = {0: "#440154", 64: "#3b528b", 128: "#21918c", 191: "#5ec962", 255: "#fde725"}
"""Colours by value: viridis, which is read without colour vision too."""

STYLE_MARK = "<!--style of flair-engine-->"
"""What tells our style from others: QGIS ignores it, and drops it where a user saves another."""
NAMES_MARK = '<Metadata domain="flair-engine">'
"""What tells our class names from others: GDAL shows it to nobody, and keeps it beside statistics
that it adds."""


def category_names(spec: ModelSpec, values: LabelValues) -> str:
    """Return GDAL's PAM sidecar: category n names pixel value n. rasterio cannot write it."""
    shift = values == "zero-based"
    names = {entry.value - shift: entry.name for entry in spec.classes}
    if not shift:
        names[NODATA["flair"]] = "no data"
    return names_sidecar(names, spec.name)


def names_sidecar(names: Mapping[int, str], model: str) -> str:
    """Return GDAL's PAM sidecar of names by pixel value; `model` is what made the map."""
    root = ET.Element("PAMDataset")
    mark = ET.SubElement(root, "Metadata", domain="flair-engine")
    ET.SubElement(mark, "MDI", key="names").text = model
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    band.append(categories(names))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def categories(names: Mapping[int, str]) -> ET.Element:
    """Return GDAL's element of names by pixel value; those between have none."""
    root = ET.Element("CategoryNames")
    for value in range(max(names, default=-1) + 1):
        ET.SubElement(root, "Category").text = names.get(value, "")
    return root


def qgis_style(spec: ModelSpec, values: LabelValues) -> str:
    """Return a QGIS layer style: one entry of the legend for each class that can occur."""
    shift = values == "zero-based"
    return palette_style(
        (entry.value - shift, entry.name, entry.color, 255) for entry in spec.active_classes
    )


def palette_style(entries: Iterable[tuple[int, str, str, int]]) -> str:
    """Return a QGIS style of a raster: an entry for each (value, name, colour, opacity of 255)."""
    root, renderer = _raster_style(type="paletted")
    palette = ET.SubElement(renderer, "colorPalette")
    for value, name, color, alpha in entries:
        ET.SubElement(
            palette,
            "paletteEntry",
            value=str(value),
            color=color,
            alpha=str(alpha),
            label=name,
        )
    return style_text(root)


def _raster_style(**attributes: str) -> tuple[ET.Element, ET.Element]:
    """Return the root of a style of the first band, and its renderer."""
    root = ET.Element("qgis", styleCategories="Symbology")
    whole = {"band": "1", "opacity": "1", "alphaBand": "-1"}
    pipe = ET.SubElement(root, "pipe")
    return root, ET.SubElement(pipe, "rasterrenderer", {**attributes, **whole})


def style_text(root: ET.Element) -> str:
    """Return a QGIS style as a file holds it, with the mark of flair-engine."""
    ET.indent(root)
    return f"<!DOCTYPE qgis>\n{STYLE_MARK}\n" + ET.tostring(root, encoding="unicode") + "\n"


def confidence_style() -> str:
    """Return a QGIS layer style of confidence: from what is doubtful, dark, to what is certain."""
    root, renderer = _raster_style(
        type="singlebandpseudocolor", classificationMin="0", classificationMax="255"
    )
    shader = ET.SubElement(
        ET.SubElement(renderer, "rastershader"), "colorrampshader", colorRampType="INTERPOLATED"
    )
    for value, color in CONFIDENCE_RAMP.items():
        ET.SubElement(
            shader,
            "item",
            value=str(value),
            color=color,
            alpha="255",
            label=f"{value / 255:.0%}",
        )
    return style_text(root)


def hectares_said(hectares: float) -> str:
    """Return hectares with two decimals; what is there is never said to be 0."""
    return f"{hectares:,.2f}" if hectares >= 0.005 or not hectares else "< 0.01"


def share_said(share: float) -> str:
    """Return a share in percent with one decimal; what is there is never said to be 0 or all."""
    if 0 < share < 0.0005:
        return "< 0.1%"
    return "> 99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def rgba(color: str) -> tuple[int, int, int, int]:
    """Return red, green, blue and full opacity of `#rrggbb`."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue, 255
