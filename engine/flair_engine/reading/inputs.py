"""Names that a user gives, put together to rasters: products, bands, pixel grids."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import rasterio

from flair_engine.crs import same_crs
from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.manifest import ELEVATION
from flair_engine.reading.bands import Chosen
from flair_engine.reading.frame import Frame
from flair_engine.reading.height import HeightLayer
from flair_engine.reading.layers import Product, Raster
from flair_engine.reading.mosaic import Mosaic
from flair_engine.reading.pixel_grid import (
    PixelGrid,
    differs,
    pixel_grid_of,
    sampling_m,
    span,
    wrong_sampling,
)
from flair_engine.reading.products import IMAGES, Given, given_products, place_of
from flair_engine.reading.sheets import (
    apart_from_one_another,
    check_box,
    check_no_rivals,
    check_placed,
)
from flair_engine.reading.told import (
    band_notices,
    crs_notices,
    extent_notices,
    overlap_notices,
    place_notices,
    warp_notices,
)
from flair_engine.reading.warp import layers_on, own_grids_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Inputs, ReadOptions
    from flair_engine.reading.file_info import FileInfo
    from flair_engine.reading.frame import Excerpt, OwnGrid
    from flair_engine.reading.layers import GridSource, Layer, SkippedBlock


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedFile:
    """A file that was given, and where it lies."""

    name: str
    files: tuple[str, ...]
    """What it is made of, files inside VRTs too."""
    window: Window
    """Pixels of the raster that it covers; it may reach outside."""
    warped_px: int | None
    """Pixels of the raster across one of its own, where it is warped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A raster, and the delivered files whose pixels it shows."""

    raster: Raster
    pixel_grid: PixelGrid
    delivered: tuple[tuple[str, Window], ...]
    """The leading product's files and the pixels each covers."""
    frame: Frame
    """What an excerpt of it has to be read on."""
    products: Mapping[str, tuple[PlacedFile, ...]]
    """Its files by product, the leading one first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """Inputs ready to be read."""

    sheets: tuple[Sheet, ...]
    """One mosaic; or several, of files that cover one another."""
    files: tuple[str, ...]
    """Every file, those inside VRTs too."""
    places: Mapping[str, Sequence[tuple[int, Window]]]
    """By file, the numbers of the sheets and the pixels of them that it may show."""
    described: str
    """SHA-256 of what all files say of themselves, but for their names."""
    notices: list[str]
    found: deque[str] = field(default_factory=deque)
    """What is to be told of pixels read so far; many threads append."""

    @property
    def skipped(self) -> Set[SkippedBlock]:
        """Blocks that could not be decoded and were left out."""
        return set().union(*(layer.skipped for layer in self._layers))

    @property
    def blocks(self) -> int:
        """Blocks that the sources are stored in."""
        return sum(sheet.raster.blocks for sheet in self.sheets)

    @property
    def largest_block_bytes(self) -> int:
        """Bytes of the largest block, all bands that are read of it."""
        return max(math.prod(layer.block_px) * layer.count for layer in self._layers)

    @property
    def _layers(self) -> list[Layer]:
        products = [product for sheet in self.sheets for product in sheet.raster.products]
        return [layer for product in products for layer in product.layers]

    def close(self) -> None:
        """Close every file."""
        for layer in self._layers:
            layer.close()


def open_inputs(
    spec: ModelSpec, inputs: Inputs, options: ReadOptions, *, apart: bool = False
) -> Opened:
    """Describe every file, put all on one grid and check that the model can be run on it.

    With `apart` leading files that cover one another by more than a seam come to sheets of their
    own. Raises SourceError with the one thing to mend first.
    """
    products = given_products(spec, inputs, options)
    leading = products[0]
    check_placed(leading.infos, apart=apart)
    _check_sampling(products, spec.gsd_m, options)
    pixel_grid = _grid_of(leading, products, spec, options)
    products, notices = _with_crs(products, pixel_grid)
    everything = [info for product in products for info in product.infos]
    for product in products[1:]:
        _check_on_map(product, pixel_grid)
    notices = [
        *band_notices(products, options),
        *place_notices(leading.infos, options),
        *crs_notices(pixel_grid, everything),
        *notices,
    ]
    windows = [span(info, pixel_grid, info.name) for info in leading.infos]
    found: deque[str] = deque()
    frame = Frame(pixel_grid=pixel_grid, own_grids={}, counts=_are_counts(products))
    if apart:
        sheets = _sheets(spec, products, windows, frame, options, found)
    else:
        check_box(leading.infos, windows)
        sheets = [_sheet(spec, products, frame, options, found)]
    if leading.infos[0].placed:
        notices += overlap_notices(leading.infos, windows, apart=apart)
    if not options.resample:
        notices += warp_notices(pixel_grid, products)
    if len(sheets) == 1:
        notices += extent_notices(sheets[0].raster, _product_names(products))
    return _opened(products, sheets, notices, found)


def open_excerpt(spec: ModelSpec, inputs: Inputs, options: ReadOptions, excerpt: Excerpt) -> Opened:
    """Open some of the files of a raster, on the frame that all of them have settled.

    Nothing is told: that was done, as everything was checked, when all were opened. Raises
    SourceError for what has changed since then.
    """
    frame = excerpt.frame
    products = given_products(spec, inputs, options, counts=frame.counts)
    products, _ = _with_crs(products, frame.pixel_grid)
    found: deque[str] = deque()
    sheet = _sheet(spec, products, frame, options, found, excerpt.numbers)
    return _opened(products, [sheet], [], found)


def _opened(
    products: Sequence[Given],
    sheets: Sequence[Sheet],
    notices: Sequence[str],
    found: deque[str],
) -> Opened:
    everything = [info for product in products for info in product.infos]
    return Opened(
        sheets=tuple(sheets),
        files=tuple(sorted({file for info in everything for file in info.files})),
        places=_places(products, sheets),
        described=_described(products),
        notices=list(dict.fromkeys(notices)),
        found=found,
    )


def _are_counts(products: Sequence[Given]) -> bool:
    """Return whether the nDSM, if there is one, is read as counts."""
    return all(p.files[0].choice.metres is None for p in products if p.name == "ndsm")


def _places(
    products: Sequence[Given], sheets: Sequence[Sheet]
) -> dict[str, list[tuple[int, Window]]]:
    found: defaultdict[str, list[tuple[int, Window]]] = defaultdict(list)
    for number, sheet in enumerate(sheets):
        shown = {name for name, _ in sheet.delivered}
        for product in products:
            for info in product.infos:
                if product is products[0] and info.name not in shown:
                    continue
                window = span(info, sheet.pixel_grid, info.name)
                for file in info.files:
                    found[file].append((number, window))
    return dict(found)


def _described(products: Sequence[Given]) -> str:
    """Return what changes with anything that files say of themselves, their order included."""
    found = hashlib.sha256()
    for product in products:
        for file in product.files:
            nameless = replace(file.info, name="", files=(), pasted=())
            found.update(repr((product.name, nameless, file.choice)).encode())
    return found.hexdigest()


def _check_sampling(products: Sequence[Given], gsd_m: float, options: ReadOptions) -> None:
    """Raise SourceError for the first image that is sampled otherwise than the model was trained.

    Heights may be: they are smooth, and coarser everywhere.
    """
    if options.resample:
        return
    if options.gsd_m:
        _check_alike(products, options.gsd_m)
        return
    images = [info for p in products if p.name in IMAGES for info in p.infos]
    with rasterio.Env.from_defaults():  # once, not for each file
        for info in images:
            # Without a CRS it cannot be told, nor be put beside the others: refused there.
            if info.crs or info is products[0].infos[0]:
                size_m = sampling_m(info, gsd_m=gsd_m)
                if differs(size_m, gsd_m):
                    raise wrong_sampling(info, size_m, gsd_m)


def _check_alike(products: Sequence[Given], gsd_m: float) -> None:
    """Raise SourceError where images differ in sampling that are all told to have one."""
    first = products[0].infos[0]
    for product in products:
        for info in product.infos if product.name in IMAGES else ():
            if info.placed and first.placed and same_crs(info.crs, first.crs):
                size, wanted = (
                    math.sqrt(abs(place.transform.determinant)) for place in (info, first)
                )
                if differs((size / wanted * gsd_m,) * 2, gsd_m):
                    raise wrong_sampling(info, (size / wanted * gsd_m,) * 2, gsd_m)


def _grid_of(
    leading: Given, products: Sequence[Given], spec: ModelSpec, options: ReadOptions
) -> PixelGrid:
    return pixel_grid_of(
        leading.infos,
        [info for product in products for info in product.infos],
        gsd_m=spec.gsd_m,
        assumed_gsd_m=options.gsd_m,
        resample=options.resample,
    )


def _with_crs(products: Sequence[Given], pixel_grid: PixelGrid) -> tuple[list[Given], list[str]]:
    """Lend the map's CRS to heights without one whose coordinates fall on it, and tell of it.

    Elevation models are delivered as text (.asc), which cannot hold a CRS.
    """
    notices = []
    lent = []
    for product in products:
        files = [
            Chosen(_lent(file.info, pixel_grid), file.choice)
            if product.name not in IMAGES
            else file
            for file in product.files
        ]
        named = [
            file.info.name
            for file, before in zip(files, product.files, strict=True)
            if file.info is not before.info
        ]
        if named:
            others = f" (and {len(named) - 1} files more)" if len(named) > 1 else ""
            notices.append(f"{named[0]}: has no CRS, taken as {pixel_grid.crs}{others}")
        lent.append(replace(product, files=files))
    return lent, notices


def _check_on_map(product: Given, pixel_grid: PixelGrid) -> None:
    """Raise SourceError where no file of a product lies on the map."""
    whole = Window(top=0, left=0, height=pixel_grid.height, width=pixel_grid.width)
    windows = [span(info, pixel_grid, info.name) for info in product.infos]
    if not any(window.intersection(whole).pixels for window in windows):
        raise SourceError(
            f"{product.infos[0].name}: lies beside the images, as all of {product.name} does",
            "check its CRS and georeference",
        )


def _lent(info: FileInfo, pixel_grid: PixelGrid) -> FileInfo:
    """Return a file with the map's CRS where it has none and lies on the map with it."""
    if info.crs or not pixel_grid.crs or not info.placed:
        return info
    with_crs = replace(info, crs=pixel_grid.crs)
    whole = Window(top=0, left=0, height=pixel_grid.height, width=pixel_grid.width)
    on_map = span(with_crs, pixel_grid, info.name).intersection(whole).pixels > 0
    return with_crs if on_map else info


def _sheets(
    spec: ModelSpec,
    products: Sequence[Given],
    windows: Sequence[Window],
    frame: Frame,
    options: ReadOptions,
    found: deque[str],
) -> list[Sheet]:
    """Return a sheet for each set of leading files that do not cover one another."""
    leading, *others = products
    sets = apart_from_one_another(leading.infos, windows)
    if len(sets) == 1:
        return [_sheet(spec, products, frame, options, found)]
    for product in others:
        spans = [span(info, frame.pixel_grid, info.name) for info in product.infos]
        check_no_rivals(product.name, product.infos, spans)
    file_of = {id(file.info): file for file in leading.files}
    sheets = []
    for infos in sets:
        own = replace(leading, files=[file_of[id(info)] for info in infos])
        own_frame = replace(frame, pixel_grid=_grid_of(own, products, spec, options))
        sheets.append(_sheet(spec, [own, *others], own_frame, options, found))
    return sheets


def _sheet(
    spec: ModelSpec,
    products: Sequence[Given],
    frame: Frame,
    options: ReadOptions,
    found: deque[str],
    numbers: Mapping[str, Sequence[int]] | None = None,
) -> Sheet:
    """Return products on a frame; of an excerpt `numbers` are those of its files among all."""
    pixel_grid = frame.pixel_grid
    own_grids: dict[str, tuple[OwnGrid, ...]] = {}

    def layers(product: Given) -> list[GridSource]:
        found_layers = layers_on(
            pixel_grid,
            product.files,
            own_grids=frame.own_grids.get(product.name, ()),
            numbers=numbers[product.name] if numbers else None,
            on_error=options.on_error,
            tell=_first_of(found),
        )
        own_grids[product.name] = own_grids_of(found_layers, product.files)
        return found_layers

    made = [*_image_products(spec, products, layers), *_heights(spec, products, layers, found)]
    raster = Raster(
        height=pixel_grid.height,
        width=pixel_grid.width,
        count=len(spec.bands),
        products=made,
        fill=tuple(round(mean) for mean in spec.normalization.mean),
    )
    placed = {p.name: tuple(_placed(i, pixel_grid) for i in p.infos) for p in products}
    return Sheet(
        raster=raster,
        pixel_grid=pixel_grid,
        delivered=tuple((file.name, file.window) for file in placed[products[0].name]),
        frame=frame if numbers else replace(frame, own_grids=own_grids),
        products=placed,
    )


def _placed(info: FileInfo, pixel_grid: PixelGrid) -> PlacedFile:
    window = span(info, pixel_grid, info.name)
    warped = pixel_grid.place(info) is None
    across = max(window.width / info.width, window.height / info.height)
    return PlacedFile(
        name=info.name,
        files=info.files,
        window=window,
        warped_px=math.ceil(across) if warped else None,
    )


def _image_products(
    spec: ModelSpec, products: Sequence[Given], layers: Callable[[Given], list[GridSource]]
) -> list[Product]:
    return [
        Product(bands=place_of(spec, product.bands), layers=layers(product))
        for product in products
        if product.name in IMAGES
    ]


def _heights(
    spec: ModelSpec,
    products: Sequence[Given],
    layers: Callable[[Given], list[GridSource]],
    found: deque[str],
) -> list[Product]:
    """Return the product that supplies height: counts as they are, or made of metres."""
    heights = {product.name: product for product in products if product.name not in IMAGES}
    if not heights:
        return []
    made: Sequence[Layer]
    models = [heights[name] for name in ("ndsm", "dsm", "dtm") if name in heights]
    if models[0].files[0].choice.metres is None:
        made = layers(models[0])
    else:
        made = [HeightLayer(*(Mosaic(layers(model)) for model in models), tell=_first_of(found))]
    return [Product(bands=place_of(spec, (ELEVATION,)), layers=made, required=False)]


def _product_names(products: Sequence[Given]) -> list[str]:
    """Return what the products of a sheet's raster are called."""
    images = [product.name for product in products if product.name in IMAGES]
    heights = [product.name for product in products if product.name not in IMAGES]
    return [*images, " - ".join(heights)] if heights else images


def _first_of(found: deque[str]) -> Callable[[str], None]:
    """Return what keeps the first thing that is told of a product's values: files are many."""
    told: list[str] = []

    def tell(notice: str) -> None:
        if not told:
            told.append(notice)
            found.append(notice)

    return tell
