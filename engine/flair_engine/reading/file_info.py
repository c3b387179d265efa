"""Facts that a raster file states of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS

    from flair_engine.reading.vrt import Pasted


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """What a band of a file says of itself."""

    dtype: str
    kind: str
    """Colour interpretation: red, green, blue, gray, alpha, palette, undefined..."""
    description: str
    nodata: float | None
    scale: float
    offset: float
    """What is measured is value * scale + offset, in `unit`."""
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """What a dataset says of itself."""

    name: str
    height: int
    width: int
    bands: tuple[Band, ...]
    crs: CRS | None
    transform: Affine
    block_px: tuple[int, int]
    masked: bool
    """A mask stands beside the bands (internal or .msk), other than nodata and alpha."""
    files: tuple[str, ...]
    """The files it is made of, those inside VRTs too."""
    pasted: tuple[tuple[Pasted, ...] | None, ...]
    """By band where the sources of a VRT lie, None where that is not known; of no other file."""
    interleaved: bool
    """Blocks hold all bands."""
    unwritten: bool
    """It is a TIFF some of whose blocks were never written; looked for in sources of VRTs alone."""
    gcps: bool
    """It is placed by ground control points alone."""

    @property
    def count(self) -> int:
        """Bands."""
        return len(self.bands)

    @property
    def alpha(self) -> int | None:
        """Number of the last band that is tagged alpha."""
        alphas = [number for number, band in enumerate(self.bands, 1) if band.kind == "alpha"]
        return alphas[-1] if alphas else None

    @property
    def placed(self) -> bool:
        """Whether it says where its pixels lie, if not in which CRS."""
        return not self.transform.is_identity
