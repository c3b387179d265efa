"""The chapter on geometry: what tile and margin cost and do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_bench.show.tables import Chapter, Table
from flair_bench.show.wording import NONE, geometry_label, percent, with_spread

if TYPE_CHECKING:
    from flair_bench.figures import GeometryCost, GeometryFigures


def geometry_chapter(figures: GeometryFigures) -> Chapter:
    """Return a row per geometry, the first one first."""
    columns = ("tile / margin", "= whole %", "= first %", "seams ≠ %", "elsewhere ≠ %", "OA %")
    first, whole_oa = figures.geometries[0], figures.whole_oa
    return Chapter(
        title="Tile and margin",
        lead=(
            f"{figures.engine} on {figures.height} x {figures.width} px, against the same network "
            "run over the whole raster at once; per new megapixel. Seams are the pixels within "
            f"{figures.seam_px} px of a core edge."
        ),
        tables=(
            Table(
                title="Tile and margin, px, per new megapixel",
                columns=(*columns, "GFLOP/Mpx", "s/Mpx", "speed-up"),
                rows=tuple(_row(cost, first) for cost in figures.geometries),
            ),
        ),
        notes=() if whole_oa is None else (f"the whole raster at once: OA {whole_oa:.3f} %",),
    )


def _row(cost: GeometryCost, first: GeometryCost) -> tuple[str, ...]:
    seams = (cost.seam_different, cost.elsewhere_different)
    return (
        geometry_label(cost),
        percent(cost.equal_to_whole),
        percent(cost.equal_to_first),
        *(NONE if share is None else f"{100 * share:.3f}" for share in seams),
        NONE if cost.oa is None else f"{cost.oa:.3f}",
        f"{cost.gflop_per_new_mpx:.0f}",
        with_spread(cost.s_per_new_mpx, cost.s_per_new_mpx_spread, 2),
        f"{first.s_per_new_mpx / cost.s_per_new_mpx:.2f}",
    )
