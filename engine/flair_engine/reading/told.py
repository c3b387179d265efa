"""Notices of the inputs, before the first pixel is read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flair_engine.crs import ground_px_m, is_local, same_crs
from flair_engine.grid import Window
from flair_engine.reading.bands import name_of
from flair_engine.reading.pixel_grid import differs
from flair_engine.reading.products import IMAGES
from flair_engine.reading.sheets import covering
from flair_engine.tolerances import EXTENT_TOLERANCE
from flair_engine.window_index import union_px

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flair_engine.options import ReadOptions
    from flair_engine.reading.bands import Chosen
    from flair_engine.reading.file_info import FileInfo
    from flair_engine.reading.layers import Raster
    from flair_engine.reading.pixel_grid import PixelGrid
    from flair_engine.reading.products import Given

MANY_BANDS = 4
"""Bands from which an alpha band may as well be near infrared tagged so."""


def band_notices(products: Iterable[Given], options: ReadOptions) -> list[str]:
    """Tell which bands are taken otherwise than in their order, for a mask, or for metres."""
    notices = []
    for product in products:
        if product.name in IMAGES:
            notices += _once([n for f in product.files if (n := _reordered(f, options))])
            notices += _once([n for f in product.files if (n := _alpha(f, options))])
        elif product.name == "ndsm":
            files = [f.info for f in product.files if f.choice.metres]
            notices += _once(
                [f"{info.name}: {info.bands[0].dtype}, taken as metres" for info in files]
            )
        notices += _once([n for f in product.files if (n := _unknown(f))])
    return notices


def _reordered(file: Chosen, options: ReadOptions) -> str | None:
    """Return what is said of a file whose bands are taken by their names."""
    numbers, info = file.choice.numbers, file.info
    if options.bands or numbers == tuple(range(1, len(numbers) + 1)):
        return None
    taken = ", ".join(f"{name_of(info.bands[n - 1]) or 'band'} from {n}" for n in numbers)
    return f"{info.name}: bands are taken by the colours they are tagged with ({taken})"


def _alpha(file: Chosen, options: ReadOptions) -> str | None:
    """Return what is said of a file whose alpha band may hold something else."""
    band, info = file.choice.mask_band, file.info
    if options.mask is not None or band is None or info.count < MANY_BANDS:
        return None
    return (
        f"{info.name}: band {band} is tagged alpha and taken for a mask; --mask none if it is "
        "near infrared"
    )


def _unknown(file: Chosen) -> str | None:
    """Return what is said of a VRT that does not say which of its pixels its sources cover."""
    info, choice = file.info, file.choice
    told = choice.masked or choice.mask_band or None not in choice.nodata
    known = all(
        band is not None and not any(pasted.below for pasted in band) for band in info.pasted
    )
    if told or known:
        return None
    return (
        f"{info.name}: is computed or warped, or holds what is: what its sources cover is not "
        "known, and without alpha or nodata every pixel counts"
    )


def _once(said: Sequence[str]) -> list[str]:
    """Return the first of what is said of many files, and how many more there are."""
    if not said:
        return []
    return [said[0] + (f" (and {len(said) - 1} files more)" if len(said) > 1 else "")]


def place_notices(infos: Sequence[FileInfo], options: ReadOptions) -> list[str]:
    """Tell where --gsd overrides what files say, or leaves a map without its place."""
    if options.gsd_m is None:
        return []
    gcps = [
        f"{info.name}: its ground control points are not used, the map has no georeference"
        for info in infos
        if info.gcps
    ]
    other = [
        f"{info.name}: says {size_m[0]:.4g} m, taken as {options.gsd_m:g} m as told"
        for info in infos
        if info.crs and info.placed and not info.crs.is_geographic
        for size_m in [ground_px_m(info.crs, info.transform, info.width / 2, info.height / 2)]
        if math.isfinite(size_m[0]) and differs(size_m, options.gsd_m)
    ]
    return _once(gcps) + _once(other)


def crs_notices(pixel_grid: PixelGrid, infos: Iterable[FileInfo]) -> list[str]:
    """Tell of files whose CRS is taken for that of the map though it does not say so."""
    if not pixel_grid.crs or not pixel_grid.crs.to_epsg():
        return []
    nameless = [
        info
        for info in infos
        if info.crs and info.crs.to_epsg() is None and same_crs(info.crs, pixel_grid.crs)
    ]
    return _once(
        [
            f"{info.name}: CRS "
            + (
                f"of no place, taken as {pixel_grid.crs} by its name"
                if info.crs and is_local(info.crs)
                else f"without a name, taken as {pixel_grid.crs} by its definition"
            )
            for info in nameless
        ],
    )


def warp_notices(pixel_grid: PixelGrid, products: Iterable[Given]) -> list[str]:
    """Tell of images that are not read in place, by product."""
    notices = []
    for product in products:
        if product.name in IMAGES:
            elsewhere = [info for info in product.infos if pixel_grid.place(info) is None]
            notices += _once(
                [
                    f"{info.name}: is on another grid, warped to that of the map"
                    for info in elsewhere
                ],
            )
    return notices


def overlap_notices(
    infos: Sequence[FileInfo], windows: Sequence[Window], *, apart: bool
) -> list[str]:
    """Tell of files that cover one another by more than a seam."""
    then = "mapped apart" if apart else "where both are valid the first of them is mapped"
    return _once(
        [
            f"{infos[one].name} and {infos[other].name} cover one another: {then}"
            for one, other in covering(windows)
        ],
    )


def extent_notices(raster: Raster, names: Sequence[str]) -> list[str]:
    """Tell where a product covers less of the raster than the leading one; `names` by product."""
    whole = Window(top=0, left=0, height=raster.height, width=raster.width)
    shares = [
        union_px(layer.window.intersection(whole) for layer in product.layers) / whole.pixels
        for product in raster.products
    ]
    return [
        f"{name} covers {share:.1%} of the raster, {names[0]} {shares[0]:.1%}: what one of them "
        "lacks " + ("becomes nodata" if product.required else "counts as height 0")
        for name, share, product in zip(names[1:], shares[1:], raster.products[1:], strict=True)
        if abs(share - shares[0]) > EXTENT_TOLERANCE
    ]
