"""Names that a user gives, put together to one raster: products, bands, grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.manifest import ELEVATION
from flair_engine.reading.files import describe_all
from flair_engine.reading.height import HeightLayer
from flair_engine.reading.layers import Product, Raster
from flair_engine.reading.pixel_grid import PixelGrid, pixel_grid_of, span
from flair_engine.reading.warp import layers_on
from flair_engine.tolerances import EXTENT_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Inputs, ReadOptions
    from flair_engine.reading.files import FileInfo
    from flair_engine.reading.layers import Layer

SUPPLIES = {"rvb": ("red", "green", "blue"), "irc": ("nir",), "ndsm": (ELEVATION,)}
"""Bands a product supplies: RVB in its own order, of IRC (near infrared, red, green) the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """Inputs on one grid, ready to be read."""

    raster: Raster
    pixel_grid: PixelGrid
    delivered: tuple[tuple[str, Window], ...]
    """The leading product's files and the pixels each covers."""
    files: tuple[str, ...]
    """Every file, those inside VRTs too."""
    notices: list[str] = field(default_factory=list)

    @property
    def skipped_blocks(self) -> int:
        """Blocks that could not be decoded and were left out."""
        layers = (layer for product in self.raster.products for layer in product.layers)
        return sum(layer.skipped_blocks for layer in layers)

    def close(self) -> None:
        """Close every file."""
        for product in self.raster.products:
            for layer in product.layers:
                layer.close()


def open_inputs(spec: ModelSpec, inputs: Inputs, options: ReadOptions) -> Opened:
    """Describe every file, put all on one grid and check that the model can be run on it.

    Raises SourceError with the one thing to mend first.
    """
    groups = _groups(spec, inputs, options)
    infos = {name: describe_all(inputs.given[name]) for name in (*groups, *_heights(inputs))}
    leading = next(iter(groups))
    own = _own_bands(spec, inputs)
    for name, numbers in groups.items():
        for info in infos[name]:
            _check_bands(info, numbers, own)
    pixel_grid = pixel_grid_of(
        infos[leading],
        [info for group in infos.values() for info in group],
        gsd_m=spec.gsd_m,
        assumed_gsd_m=options.gsd_m,
        resample=options.resample,
    )
    notices = _crs_notices(pixel_grid, infos)
    products = [
        _image_product(spec, pixel_grid, name, numbers, infos[name], options)
        for name, numbers in groups.items()
    ]
    notices += _extent_notices(pixel_grid, products, list(groups))
    if inputs.dsm:
        layer = HeightLayer(pixel_grid, infos["dsm"], infos["dtm"], options.on_error)
        position = spec.bands.index(ELEVATION)
        products.append(
            Product(bands=slice(position, position + 1), layers=[layer], required=False)
        )
    return Opened(
        raster=Raster(
            height=pixel_grid.height,
            width=pixel_grid.width,
            count=len(spec.bands),
            products=products,
            fill=tuple(round(mean) for mean in spec.normalization.mean),
        ),
        pixel_grid=pixel_grid,
        delivered=tuple((info.name, span(info, pixel_grid)) for info in infos[leading]),
        files=tuple(sorted({f for group in infos.values() for i in group for f in i.files})),
        notices=notices,
    )


def _groups(
    spec: ModelSpec, inputs: Inputs, options: ReadOptions
) -> dict[str, tuple[int, ...] | None]:
    """Return the image products and 8-bit height given, and the band numbers read of each."""
    if inputs.images and (inputs.rvb or inputs.irc):
        raise SourceError("images given both by INPUT and by --rvb/--irc", "use one of the two")
    if not inputs.images and not inputs.rvb:
        raise SourceError("no image given", "name files as INPUT, or with --rvb and --irc")
    if bool(inputs.dsm) != bool(inputs.dtm):
        raise SourceError(
            "height needs both --dsm and --dtm, one was given", "give the other, in metres"
        )
    if inputs.ndsm and inputs.dsm:
        raise SourceError("height given both by --ndsm and by --dsm/--dtm", "use one of the two")
    if inputs.rvb and options.bands:
        raise SourceError(
            "--bands is for INPUT, RVB and IRC have theirs in known order", "leave it out"
        )
    given = [name for name in SUPPLIES if name in inputs.given]
    supplied = _supplied(inputs)
    if useless := [band for band in supplied if band not in spec.bands]:
        raise SourceError(
            f"{useless[0]} is given, but {spec.name} reads {', '.join(spec.bands)}", "leave it out"
        )
    groups: dict[str, tuple[int, ...] | None] = {}
    if inputs.images:
        own = _own_bands(spec, inputs)
        if options.bands and len(options.bands) != len(own):
            raise SourceError(
                f"{len(options.bands)} band numbers given, the model wants {len(own)} of the "
                f"images ({', '.join(own)})",
                "name one for each",
            )
        groups["images"] = options.bands
    elif missing := [band for band in spec.bands if band not in supplied]:
        option = {"nir": "--irc", ELEVATION: "--ndsm, or --dsm and --dtm"}.get(missing[0], "--rvb")
        raise SourceError(f"{spec.name} needs {missing[0]}, which is not given", f"add {option}")
    return groups | {name: tuple(range(1, len(SUPPLIES[name]) + 1)) for name in given}


def _heights(inputs: Inputs) -> tuple[str, ...]:
    return ("dsm", "dtm") if inputs.dsm else ()


def _own_bands(spec: ModelSpec, inputs: Inputs) -> list[str]:
    """Return the model's bands that images must hold: those no product supplies."""
    supplied = _supplied(inputs)
    return [band for band in spec.bands if band not in supplied]


def _supplied(inputs: Inputs) -> list[str]:
    """Return the bands that products other than images supply."""
    supplied = [band for name in SUPPLIES if name in inputs.given for band in SUPPLIES[name]]
    return [*supplied, ELEVATION] if inputs.dsm else supplied


def _check_bands(info: FileInfo, numbers: tuple[int, ...] | None, own: list[str]) -> None:
    if numbers is None and info.count != len(own):
        example = ",".join(str(n + 1) for n in range(len(own)))
        raise SourceError(
            f"{info.name}: has {info.count} band{'s'[: info.count != 1]}, the model wants "
            f"{len(own)} ({', '.join(own)})",
            f"choose them with --bands {example}, or give the "
            "products with --rvb, --irc, --dsm and --dtm",
        )
    chosen = numbers or tuple(range(1, info.count + 1))
    if bad := [kind for n in chosen for kind in info.dtypes[n - 1 : n] if kind != "uint8"]:
        raise SourceError(
            f"{info.name}: bands are {bad[0]}, the model wants uint8 (0..255 as delivered)",
            "convert with gdal_translate -ot Byte -scale",
        )


def _image_product(
    spec: ModelSpec,
    pixel_grid: PixelGrid,
    name: str,
    numbers: tuple[int, ...] | None,
    infos: Sequence[FileInfo],
    options: ReadOptions,
) -> Product:
    if name == "images":
        supplied = len(numbers) if numbers else infos[0].count
        bands = slice(0, supplied)
        validity_bands = sum(band != ELEVATION for band in spec.bands[:supplied])
    else:
        start = spec.bands.index(SUPPLIES[name][0])
        bands = slice(start, start + len(SUPPLIES[name]))
        validity_bands = None
    layers: list[Layer] = layers_on(
        pixel_grid,
        infos,
        numbers or tuple(range(1, infos[0].count + 1)),
        validity_bands=validity_bands,
        nodata=options.nodata,
        on_error=options.on_error,
    )
    return Product(bands=bands, layers=layers, required=name != "ndsm")


def _crs_notices(pixel_grid: PixelGrid, infos: dict[str, list[FileInfo]]) -> list[str]:
    nameless = [
        info.name
        for group in infos.values()
        for info in group
        if info.crs and info.crs.to_epsg() is None and pixel_grid.crs and pixel_grid.crs.to_epsg()
    ]
    if not nameless:
        return []
    others = f" and {len(nameless) - 1} more" if len(nameless) > 1 else ""
    return [
        f"{nameless[0]}{others}: CRS without a name, taken as {pixel_grid.crs} by its definition"
    ]


def _extent_notices(
    pixel_grid: PixelGrid, products: Sequence[Product], names: list[str]
) -> list[str]:
    whole = Window(top=0, left=0, height=pixel_grid.height, width=pixel_grid.width)

    def covered(product: Product) -> float:
        inside = (layer.window.intersection(whole).pixels for layer in product.layers)
        return sum(inside) / whole.pixels

    shares = [covered(product) for product in products]
    return [
        f"{name} covers {share:.1%} of the raster, {names[0]} {shares[0]:.1%}: what one of them "
        "lacks " + ("counts as height 0" if name == "ndsm" else "becomes nodata")
        for name, share in zip(names[1:], shares[1:], strict=True)
        if abs(share - shares[0]) > EXTENT_TOLERANCE
    ]
