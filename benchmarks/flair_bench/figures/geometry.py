"""Geometry: what tile and margin cost and do."""

from dataclasses import dataclass

from flair_bench.figures.rounds import Spread


@dataclass(frozen=True, kw_only=True, slots=True)
class GeometryCost:
    """One export, by its tile and margin."""

    tile_px: int
    margin_px: int
    precision: str
    """Of the file."""
    equal_to_whole: float
    """Share of labels equal to the network's over the whole raster at once."""
    equal_to_first: float
    """Share of labels equal to those of the first export."""
    seam_different: float | None
    """Share of labels unlike the whole raster's beside core edges; None without such pixels."""
    elsewhere_different: float | None
    """The same far from core edges."""
    oa: float | None
    """Pixels labelled as the mask says, percent; None without a mask."""
    overlap: float
    """Pixels read per pixel kept."""
    gflop_per_tile: float
    """10^9 operations, a multiplication and its addition counted as two."""
    gflop_per_new_mpx: float
    s_per_new_mpx: float
    s_per_new_mpx_spread: Spread


@dataclass(frozen=True, kw_only=True, slots=True)
class GeometryFigures:
    """Exports of several geometries on one raster."""

    engine: str
    height: int
    """Pixels, like `width`."""
    width: int
    seam_px: int
    """Pixels this near a core edge count as its seam."""
    border_px: int
    """Pixels this near the raster's border are left out of the seams."""
    whole_oa: float | None
    """Of the whole raster at once, percent."""
    geometries: tuple[GeometryCost, ...]
    """At least one."""
