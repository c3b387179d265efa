"""Layers as QGIS opens and draws them, without a window.

Run by a Python that has qgis (apt install python3-qgis):

    python3 docs/in_qgis.py PICTURE.png LAYER...

draws the layers, the first on top, and prints their legends as JSON: by layer, labels with colours.
The pictures of docs/after.md are made by it.
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
from qgis.PyQt.QtGui import QColor

EDGE_PX = 640


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


def draw(layers: list[QgsMapLayer], picture: str) -> None:
    """Draw the whole of the last layer with the others on it."""
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layers[-1].crs())
    settings.setExtent(layers[-1].extent())
    settings.setOutputSize(QSize(EDGE_PX, EDGE_PX))
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(picture)


def main() -> None:
    """Draw and print what the command line names."""
    application = QgsApplication([], False)
    application.initQgis()
    picture, *paths = sys.argv[1:]
    layers = [opened(path) for path in paths]
    draw(layers, picture)
    legends = {path: legend(layer) for path, layer in zip(paths, layers)}  # noqa: B905  Python 3.9
    print(json.dumps(legends), flush=True)
    os._exit(0)  # QGIS may crash as it ends


main()
