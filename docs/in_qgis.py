r"""Layers as QGIS opens and draws them, without a window.

Run by a Python that has qgis (apt install python3-qgis):

    python3 docs/in_qgis.py PICTURE.png LAYER... [, LAYER...]...

draws the layers, the first on top, those after a comma beside them, and prints their legends as
JSON: by layer, labels with colours. That of docs/after.md is made of the demo's map:

    flair-post sieve demo/landcover.tif demo/clean.tif --min-m2 20
    flair-post polygons demo/landcover.tif demo/smooth.gpkg --min-m2 20 --simplify 0.5
    flair-post change demo/landcover.tif demo/clean.tif -o demo/change.csv --map demo/change.tif
    python3 docs/in_qgis.py docs/qgis.png demo/landcover.tif , demo/smooth.gpkg , \
        demo/change.tif demo/orthophoto.tif
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsMapLayer,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor, QImage, QPainter

EDGE_PX = 480
GAP_PX = 15


def opened(path: str) -> QgsMapLayer:
    """Return a layer with the style that QGIS finds for it; end the process where there is none."""
    is_raster = path.endswith((".tif", ".vrt"))
    layer = QgsRasterLayer(path, path) if is_raster else QgsVectorLayer(path, path)
    if not layer.isValid():
        sys.exit(f"{path}: QGIS cannot open it")
    return layer


def legend(layer: QgsMapLayer) -> list[list[str]]:
    """Return labels and colours, #rrggbb, as the panel of layers shows them."""
    if isinstance(layer, QgsRasterLayer):
        return [[label, color.name()] for label, color in layer.renderer().legendSymbologyItems()]
    items = layer.renderer().legendSymbolItems()
    return [[item.label(), item.symbol().color().name()] for item in items]


def drawn(layers: list[QgsMapLayer]) -> QImage:
    """Return a picture of the whole of the last layer with the others on it."""
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layers[-1].crs())
    settings.setExtent(layers[-1].extent())
    settings.setOutputSize(QSize(EDGE_PX, EDGE_PX))
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    return job.renderedImage()


def side_by_side(pictures: list[QImage]) -> QImage:
    """Return pictures from left to right, with gaps."""
    step = EDGE_PX + GAP_PX
    whole = QImage(step * len(pictures) - GAP_PX, EDGE_PX, QImage.Format_RGB32)
    whole.fill(QColor("white"))
    painter = QPainter(whole)
    for number, picture in enumerate(pictures):
        painter.drawImage(step * number, 0, picture)
    painter.end()
    return whole


def main() -> None:
    """Draw and print what the command line names."""
    application = QgsApplication([], False)
    application.initQgis()
    path, *names = sys.argv[1:]
    groups = [group.split() for group in " ".join(names).split(" , ")]
    layers = {name: opened(name) for group in groups for name in group}
    picture = side_by_side([drawn([layers[name] for name in group]) for group in groups])
    picture.convertToFormat(QImage.Format_Indexed8).save(path)
    print(json.dumps({name: legend(layer) for name, layer in layers.items()}), flush=True)
    os._exit(0)  # QGIS may crash as it ends


main()
