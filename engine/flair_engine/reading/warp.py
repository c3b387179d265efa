"""Layers of files on one grid: those that share it read in place, the others warped to it.

Several files of a product are one mosaic: tiles see across file edges.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from flair_engine.errors import SourceError
from flair_engine.reading.files import FileLayer, choose_bands, describe, open_dataset, short
from flair_engine.reading.pixel_grid import PixelGrid, same_crs
from flair_engine.reading.vrt import Placed, joined_vrt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rasterio.io import DatasetReader

    from flair_engine.options import Nodata, OnError
    from flair_engine.reading.files import FileInfo, Opener
    from flair_engine.reading.layers import Layer


def layers_on(
    pixel_grid: PixelGrid,
    infos: Sequence[FileInfo],
    numbers: Sequence[int],
    *,
    validity_bands: int | None = None,
    nodata: Nodata = None,
    on_error: OnError = "stop",
) -> list[Layer]:
    """Return bands `numbers` of every file as layers on `pixel_grid`, warped where they must be."""
    warp = partial(
        warped,
        pixel_grid,
        numbers=numbers,
        validity_bands=validity_bands,
        nodata=nodata,
        on_error=on_error,
    )
    places = [pixel_grid.place(info) for info in infos]
    if None in places and (joined := joined_infos(infos)):
        return [warp(joined)]
    return [
        warp([Placed(info, 0, 0)])
        if place is None
        else FileLayer(
            info,
            choose_bands(info, numbers, validity_bands=validity_bands, nodata=nodata),
            top=place[0],
            left=place[1],
            on_error=on_error,
        )
        for info, place in zip(infos, places, strict=True)
    ]


def joined_infos(infos: Sequence[FileInfo]) -> list[Placed] | None:
    """Return files that share one grid among themselves, placed on it; else None."""
    first = infos[0]
    pixel_grid = PixelGrid(height=1, width=1, crs=first.crs, transform=first.transform)
    placed = [(info, pixel_grid.place(info)) for info in infos]
    if any(place is None for _, place in placed):
        return None
    return [Placed(info, *place) for info, place in placed if place]


def warped(
    pixel_grid: PixelGrid,
    placed: Sequence[Placed],
    numbers: Sequence[int],
    *,
    validity_bands: int | None = None,
    nodata: Nodata = None,
    on_error: OnError = "stop",
) -> FileLayer:
    """Return files that share a grid of their own, warped together (bilinear) to `pixel_grid`."""
    opener = warper(pixel_grid, placed, numbers, nodata=nodata)
    info = describe(placed[0].info.name, opener)
    # The warper has turned nodata and masks into the alpha band it adds as the last.
    choice = choose_bands(
        info, range(1, len(numbers) + 1), validity_bands=validity_bands, nodata="none"
    )
    return FileLayer(info, replace(choice, mask_band=info.count), opener=opener, on_error=on_error)


def warper(
    pixel_grid: PixelGrid,
    placed: Sequence[Placed],
    numbers: Sequence[int],
    *,
    nodata: Nodata = None,
) -> Opener:
    """Return a function that opens the files warped to `pixel_grid`, an alpha band as the last.

    Raises SourceError where a file has no CRS to warp from.
    """
    first = placed[0].info
    if not first.crs or not pixel_grid.crs:
        raise SourceError(
            f"{short(first.name)}: is on another grid and cannot be warped, because it or the "
            "image has no CRS",
            "assign one with gdal_edit.py -a_srs",
        )
    choice = choose_bands(first, numbers, nodata=nodata)
    text = joined_vrt(placed, choice)
    # A nameless CRS equal in definition would be transformed by the datum it fails to name.
    source_crs = pixel_grid.crs if same_crs(pixel_grid.crs, first.crs) else first.crs

    def open_warped() -> DatasetReader:
        return WarpedVRT(
            open_dataset(text),
            src_crs=source_crs,
            crs=pixel_grid.crs,
            transform=pixel_grid.transform,
            height=pixel_grid.height,
            width=pixel_grid.width,
            resampling=Resampling.bilinear,
            src_nodata=choice.nodata,
            add_alpha=True,
        )

    return open_warped
