"""The chapter on raster input and output: reading and writing beside GDAL, and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_bench.figures.raster_io import MOSAIC_PX
from flair_bench.show.tables import Chapter, Table
from flair_bench.show.wording import NONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flair_bench.figures import IoSpeed, RasterIoFigures


def raster_io_chapter(figures: RasterIoFigures) -> Chapter:
    """Return reading and writing beside GDAL, and memory."""
    rows = [
        (*_beside_gdal(f"read {name}", entry), f"{entry.blocks_requested} / {entry.blocks}")
        for name, entry in figures.reading.items()
    ]
    columns = ("work", "Mpx/s", "GDAL Mpx/s", "x GDAL", "spread", "blocks read / stored")
    return Chapter(
        title="Reading and writing",
        lead=(
            f"{figures.size_px} x {figures.size_px} px, {figures.threads} threads, "
            f"{figures.repeats} rounds, files in the page cache. GDAL alone does the same work "
            "with as many threads and throws away what it read."
        ),
        tables=(
            Table(
                title="Reading and writing alone, beside GDAL",
                columns=columns,
                rows=(*rows, (*_beside_gdal("write labels", figures.writing), NONE)),
            ),
            *_wide(figures),
            Table(
                title="Memory of whole runs with a model that costs nothing",
                columns=("what is mapped", "peak MiB"),
                rows=tuple((name, f"{mib:.0f}") for name, mib in figures.memory.items()),
            ),
        ),
        notes=(),
    )


def _wide(figures: RasterIoFigures) -> Iterator[Table]:
    if figures.wide:
        yield Table(
            title=f"Blocks decoded of a mosaic of {MOSAIC_PX} px across",
            columns=("files, tile/margin", "blocks decoded / distinct", "stored", "peak MiB"),
            rows=tuple(
                (name, f"{wide.decode_factor:.3f}", f"{wide.blocks}", f"{wide.peak_mib:.0f}")
                for name, wide in figures.wide.items()
            ),
        )


def _beside_gdal(name: str, speed: IoSpeed) -> tuple[str, ...]:
    return (
        name,
        f"{speed.mpx_per_s:.1f}",
        f"{speed.gdal_mpx_per_s:.1f}",
        f"{speed.of_gdal.median:.2f}",
        " to ".join(f"{ratio:.2f}" for ratio in speed.of_gdal.spread),
    )
