"""Synthetic aerial image with its land cover: a village between fields, woods and a river.

Everything is placed in a road frame: `along` the main road and `across` from it, in pixels of
0.2 m. Ground comes first (fields, river, gardens, roads), then what stands on it (houses,
greenhouses, trees), then the light. Each step paints colour, height and label together, so the
labels are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_export.synthetic.buildings import build_greenhouses, build_houses
from flair_export.synthetic.ground import paint_fields, paint_gardens, paint_river, paint_roads
from flair_export.synthetic.light import expose
from flair_export.synthetic.palette import GRASS
from flair_export.synthetic.picture import Picture
from flair_export.synthetic.trees import plant_trees

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


SCENE_CRS = "EPSG:2154"
"""Lambert-93, where a scene is put that is written as a raster."""
SCENE_ORIGIN_M = (700_000.0, 6_600_000.0)
"""Easting and northing of its top-left corner: the origin of the projection."""


def synthetic_orthophoto(
    height: int, width: int, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a scene of `height` x `width` pixels of 0.2 m; the same arguments give the same scene.

    Returns the image, uint8 [5, H, W] of red, green, blue, near infrared and elevation
    (clip(5 * height in metres, 0, 255)), and the labels, uint8 [H, W] of FLAIR values 1..19.
    Raises ValueError where a side is shorter than one pixel.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a scene of {height} x {width} px has no pixel: give sides of 1 or more")
    picture = Picture(height, width, seed, GRASS)
    paint_fields(picture)
    paint_river(picture)
    village = paint_gardens(picture)
    paint_roads(picture)
    build_houses(picture, village)
    build_greenhouses(picture)
    plant_trees(picture)
    return expose(picture), picture.label
