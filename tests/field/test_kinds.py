"""Kinds of deliveries, not cases: what is the same on the ground gives the same map."""

import os
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import numpy as np
import pytest
from doubles.field import (
    Placed,
    away,
    box_labels,
    flat,
    ground_m2,
    mapped,
    noise,
    refused,
    write,
    write_shapes,
    write_vrt,
)
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
def folder():
    """Give each example a new folder."""

    class Fresh(TemporaryDirectory):
        def __enter__(self):
            return Path(super().__enter__())

    return Fresh


def cuts(length, at):
    """Return the (start, stop) of what a length falls into, cut where `at` says; 0 is no cut."""
    edges = sorted({0, at, length})
    return list(pairwise(edges))


HEIGHT, WIDTH = 44, 52
WAYS = ("nodata", "mask", "mask beside it", "alpha")
STORED = (
    {},
    {"compress": "deflate"},
    {"tiled": True, "blockxsize": 16, "blockysize": 16},
    {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "lzw"},
    {"interleave": "band"},
)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How one file is written."""

    way: str
    nodata: int
    stored: dict
    south_up: bool


TILES = st.builds(
    Tile,
    way=st.sampled_from(WAYS),
    nodata=st.sampled_from((0, 255)),
    stored=st.sampled_from(STORED),
    south_up=st.booleans(),
)


def scene(seed):
    """Return an image and where it is valid: not in a collar, nor in a square inside."""
    rng = np.random.default_rng(seed)
    valid = np.ones((HEIGHT, WIDTH), bool)
    top, left = rng.integers(0, 30, 2)
    valid[top : top + 9, left : left + 12] = False
    valid[:, WIDTH - rng.integers(0, 9) :] = False
    return noise(2, HEIGHT, WIDTH, seed), valid


def write_tile(path, image, valid, tile, row, col, *, south_up=False):
    """Write a part of the scene, whose invalid pixels are so in the tile's way."""
    place = {"row": row, "col": col, "south_up": south_up, "photometric": "minisblack"}
    if tile.way == "nodata":
        pixels = np.where(valid, image, tile.nodata).astype(np.uint8)
        return write(path, pixels, nodata=tile.nodata, **place, **tile.stored)
    pixels = np.where(valid, image, 77).astype(np.uint8)
    if tile.way == "alpha":
        pixels = np.concatenate([pixels, valid[None] * np.uint8(255)])
        kinds = ("gray", "undefined", "alpha")
        return write(path, pixels, kinds=kinds, **place, **tile.stored)
    beside = tile.way == "mask beside it"
    return write(path, pixels, mask_hw=valid, sidecar=beside, **place, **tile.stored)


def parts_of(cut_row, cut_col):
    """Return the slices of each tile."""
    return [
        np.s_[rows[0] : rows[1], cols[0] : cols[1]]
        for rows in cuts(HEIGHT, cut_row)
        for cols in cuts(WIDTH, cut_col)
    ]


def write_tiles(folder, image, valid, tiles, parts):
    """Write every part, each in its own way; return where they lie. The first is north-up."""
    placed = []
    for number, (tile, part) in enumerate(zip(tiles, parts, strict=False)):
        path = folder / f"{number}.tif"
        row, col = part[0].start, part[1].start
        south_up = tile.south_up and number > 0
        pixels = image[(slice(None), *part)]
        write_tile(path, pixels, valid[part], tile, row, col, south_up=south_up)
        placed.append(Placed(path, row, col, *valid[part].shape))
    return placed


def check_delivery(model, folder, image, valid, *names):
    """Check labels, nodata and hectares of a delivery against numpy."""
    options = [] if "--bands" in names else ["--bands", "1,2"]
    found = mapped(model, folder / "map.tif", *names, *options)
    expected = box_labels(*image, valid)
    assert (found.labels == expected).all()
    assert found.report["nodata_pixels"] == (~valid).sum()
    px_ha = ground_m2(folder / "map.tif") / 1e4 / valid.size
    for name, label in (("first", 1), ("third", 3)):
        right = px_ha * (expected == label).sum()
        assert found.report["hectares_by_class"].get(name, 0) == pytest.approx(right, rel=2e-4)


@pytest.fixture
def red_and_green(band_model):
    return band_model("red", "green")


CUT_ROWS, CUT_COLS = st.sampled_from((0, 9, 16, 23)), st.sampled_from((0, 11, 16, 37))


@given(
    seed=st.integers(0, 99), tiles=st.lists(TILES, min_size=4, max_size=4), row=CUT_ROWS,
    col=CUT_COLS, order=st.permutations(range(1, 4)), resample=st.booleans(), lost=st.booleans(),
)  # fmt: skip
@settings(max_examples=30)
def test_tiles_that_each_say_it_in_their_own_way(
    red_and_green, folder, seed, tiles, row, col, order, resample, lost
):
    image, valid = scene(seed)
    parts = parts_of(row, col)
    with folder() as here:
        placed = write_tiles(here, image, valid, tiles, parts)
        if lost and len(parts) == 4:  # the others keep the extent
            valid[parts[3]] = False
            placed[3].path.unlink()
            placed.pop()
        names = [placed[i].path for i in (0, *order) if i < len(placed)]
        check_delivery(red_and_green, here, image, valid, *names, *["--resample"] * resample)


@given(
    seed=st.integers(0, 99), tile=TILES, stored=st.permutations(STORED), row=CUT_ROWS,
    col=CUT_COLS, depth=st.integers(0, 2), lost=st.booleans(),
)  # fmt: skip
@settings(max_examples=30)
def test_virtual_rasters_of_tiles(red_and_green, folder, seed, tile, stored, row, col, depth, lost):
    image, valid = scene(seed)
    parts = parts_of(row, col)
    tiles = [Tile(way=tile.way, nodata=tile.nodata, stored=s, south_up=False) for s in stored]
    alpha = tile.way == "alpha"
    kind = {
        "bands": 3 if alpha else 2,
        "alpha": alpha,
        "nodata": tile.nodata if tile.way == "nodata" else None,
        "masked": tile.way.startswith("mask"),
    }
    with folder() as here:
        placed = write_tiles(here, image, valid, tiles, parts)
        if lost and len(parts) > 1:
            valid[parts[-1]] = False
            placed.pop()
        for level in range(depth):
            placed = [
                at._replace(path=write_vrt(
                    here / f"{level}_{number}.vrt", [at._replace(row=0, col=0)],
                    height=at.height, width=at.width, **kind,
                ))
                for number, at in enumerate(placed)
            ]  # fmt: skip
        path = write_vrt(here / "all.vrt", placed, height=HEIGHT, width=WIDTH, **kind)
        check_delivery(red_and_green, here, image, valid, path)


SPELLINGS = {
    "file://": "file://{0}/in.tif",
    "/vsizip/": "/vsizip/{0}/e.zip/in.tif",
    "/vsizip/{}": "/vsizip/{{{0}/e.zip}}/in.tif",
    "zip://": "zip://{0}/e.zip!in.tif",
    "dot": "{0}/./in.tif",
}


@given(seed=st.integers(0, 99), tile=TILES, spelling=st.sampled_from(sorted(SPELLINGS)))
@settings(max_examples=20)
def test_names_of_one_file(red_and_green, folder, seed, tile, spelling):
    image, valid = scene(seed)
    with folder() as here:
        path = write_tile(here / "in.tif", image, valid, tile, 0, 0)
        with ZipFile(here / "e.zip", "w") as archive:
            for file in (path, Path(f"{path}.msk")):
                if file.exists():
                    archive.write(file, file.name)
        check_delivery(red_and_green, here, image, valid, SPELLINGS[spelling].format(here))


RED = 60
SIZE = (40, 60)
UNITS_M = {"m": 1.0, "cm": 0.01, "ft": 0.3048, "US survey foot": 1200 / 3937}
GROUND_M, TALLEST_M = 100.0, 160.0
FARTHEST_M = 0.05
"""How far a stored height may be from the one meant: a quarter of a count, half the way to the
next."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How metres are written in a file."""

    dtype: str
    scale: float
    offset: float
    unit: str

    def stored(self, metres):
        """Return values of the type that stand for metres."""
        values = (metres / UNITS_M[self.unit] - self.offset) / self.scale
        return (values if self.floating else np.rint(values)).astype(self.dtype)

    @property
    def floating(self):
        return self.dtype.startswith("float")

    def fits(self, low_m, high_m):
        """Return whether the type holds such metres, exactly enough."""
        if self.floating:
            return True
        ends = [(m / UNITS_M[self.unit] - self.offset) / self.scale for m in (low_m, high_m)]
        kept = np.iinfo(self.dtype)
        fine = self.scale * UNITS_M[self.unit] <= FARTHEST_M
        # 65535, -32768 and -9999 are left for holes.
        return fine and min(ends) > max(kept.min, -9999) and max(ends) < kept.max

    def holes(self):
        """Return the nodata values a file of this type may have, None for a mask."""
        return {
            "int16": (None, -9999, -32768),
            "uint16": (None, 65535),
            "int32": (None, -9999, -32768),
            "float32": (None, -9999, -32768, np.nan, float(np.finfo(np.float32).min)),
            "float64": (None, -9999, -32768, np.nan, -3.4e38),
        }[self.dtype]

    def undeclared(self):
        """Return whether -9999 is lower than any place on Earth."""
        low_m = (-9999 * self.scale + self.offset) * UNITS_M[self.unit]
        return self.dtype != "uint16" and low_m < -500


def storages(low_m, high_m):
    """Return every combination that holds such metres."""
    every = product(
        ("int16", "uint16", "int32", "float32", "float64"), (1, 0.01, 0.1), (0, 50, 300), UNITS_M
    )
    made = (Storage(dtype=d, scale=s, offset=o, unit=u) for d, s, o, u in every)
    return [storage for storage in made if storage.fits(low_m, high_m)]


ABSOLUTE, ABOVE_GROUND = storages(GROUND_M, TALLEST_M), storages(0, TALLEST_M - GROUND_M)


@st.composite
def files_of_height(draw, among):
    """Draw a storage and a hole for each of one to three files: its value, and if it is told."""
    files = []
    for _ in range(draw(st.integers(1, 3))):
        storage = draw(st.sampled_from(among))
        told = not (storage.undeclared() and draw(st.booleans()))
        value = draw(st.sampled_from(storage.holes())) if told else -9999
        files.append((storage, value, told))
    return files


def write_heights(folder, metres, files, hole_hw, gsd_m):
    """Write metres [H, W] as files side by side, whose holes are each file's own."""
    edges = np.linspace(0, metres.shape[1], len(files) + 1).astype(int)
    for number, (storage, value, told) in enumerate(files):
        cols = slice(edges[number], edges[number + 1])
        hole = hole_hw[:, cols]
        values = storage.stored(metres[:, cols])
        values[hole] = 0 if value is None else np.array(value, storage.dtype)
        said = {"mask_hw": ~hole} if value is None else {"nodata": value} if told else {}
        write(
            folder / f"{number}.tif", values[None], col=edges[number], gsd_m=gsd_m,
            scale=storage.scale, offset=storage.offset, unit=storage.unit, **said,
        )  # fmt: skip
    return folder


def holes_in(shape, seed):
    """Return bool [H, W] with two rectangles."""
    rng = np.random.default_rng(seed)
    hole = np.zeros(shape, bool)
    for _ in range(2):
        top, left = (rng.integers(0, length - 6) for length in shape)
        hole[top : top + 6, left : left + 5] = True
    return hole


def counts_of(metres):
    return np.clip(np.rint(5 * metres), 0, 255)


@pytest.fixture
def colour_and_height(band_model):
    return band_model("red", "elevation")


SEEDS = st.integers(0, 99)


@given(dsm=files_of_height(ABSOLUTE), dtm=files_of_height(ABSOLUTE), seed=SEEDS)
@settings(max_examples=40)
def test_surface_and_terrain_on_the_images_grid(colour_and_height, folder, dsm, dtm, seed):
    rng = np.random.default_rng(seed)
    ground = GROUND_M + rng.integers(0, 20, SIZE) * 0.2
    above = np.where(rng.random(SIZE) < 0.9, rng.integers(0, 120, SIZE) * 0.2, 52)
    surface = np.minimum(ground + above, TALLEST_M - 0.2)
    hole, other = holes_in(SIZE, seed), holes_in(SIZE, seed + 100)
    with folder() as here:
        red = write(here / "red.tif", flat(RED, *SIZE))
        given_dsm = write_heights(here / "dsm", surface, dsm, hole, 0.2)
        given_dtm = write_heights(here / "dtm", ground, dtm, other, 0.2)
        found = mapped(
            colour_and_height, here / "map.tif", red, "--dsm", given_dsm, "--dtm", given_dtm
        )
    counts = np.where(hole | other, 0, counts_of(surface - ground))
    assert (found.labels == box_labels(np.full(SIZE, RED), counts)).all()
    assert found.report["missing_height_pixels"] == (hole | other).sum()


@given(ndsm=files_of_height(ABOVE_GROUND), seed=SEEDS)
@settings(max_examples=30)
def test_height_above_ground_in_metres(colour_and_height, folder, ndsm, seed):
    above = np.random.default_rng(seed).integers(0, 150, SIZE) * 0.2
    hole = holes_in(SIZE, seed)
    with folder() as here:
        red = write(here / "red.tif", flat(RED, *SIZE))
        given_ndsm = write_heights(here / "ndsm", above, ndsm, hole, 0.2)
        found = mapped(colour_and_height, here / "map.tif", red, "--ndsm", given_ndsm)
    counts = np.where(hole, 0, counts_of(above))
    assert (found.labels == box_labels(np.full(SIZE, RED), counts)).all()
    assert found.report["missing_height_pixels"] == hole.sum()


@given(
    dsm=files_of_height(ABSOLUTE), dtm=files_of_height(ABSOLUTE), seed=SEEDS,
    tall=st.booleans(), coarse=st.sampled_from(("dsm", "dtm", "both")),
)  # fmt: skip
@settings(max_examples=30)
def test_surface_and_terrain_on_a_coarser_grid(
    colour_and_height, folder, dsm, dtm, seed, tall, coarse
):
    """Flat ground and one height, so that only holes and their edges depend on the warp."""
    height_m = 20 if tall else 4
    surface_gsd_m, ground_gsd_m = (0.5 if coarse in (n, "both") else 0.2 for n in ("dsm", "dtm"))
    sizes = [tuple(round(n * 0.2 / gsd_m) for n in SIZE) for gsd_m in (surface_gsd_m, ground_gsd_m)]
    hole, whole = holes_in(sizes[0], seed), np.zeros(sizes[1], bool)
    with folder() as here:
        red = write(here / "red.tif", flat(RED, *SIZE))
        surface = np.full(sizes[0], GROUND_M + height_m)
        given_dsm = write_heights(here / "dsm", surface, dsm, hole, surface_gsd_m)
        ground = np.full(sizes[1], GROUND_M)
        given_dtm = write_heights(here / "dtm", ground, dtm, whole, ground_gsd_m)
        found = mapped(
            colour_and_height, here / "map.tif", red, "--dsm", given_dsm, "--dtm", given_dtm
        )
    rows, cols = (((np.arange(n) + 0.5) * 0.2 / surface_gsd_m).astype(int) for n in SIZE)
    missing = hole[np.ix_(rows, cols)]
    expected = box_labels(np.full(SIZE, RED), np.where(missing, 0, 5 * height_m))
    edge_px = 0 if surface_gsd_m == 0.2 else 3
    clear = (away(missing, 2 + edge_px) | away(~missing, 2 + edge_px)) if edge_px else missing >= 0
    assert (found.labels == expected)[clear].all()
    known = np.count_nonzero(away(missing, edge_px))
    certain = np.count_nonzero(away(~missing, edge_px))
    assert certain <= found.report["missing_height_pixels"] <= missing.size - known


@given(
    seed=SEEDS, tiles=st.lists(TILES, min_size=4, max_size=4), row=CUT_ROWS, col=CUT_COLS,
    overlap=st.integers(0, 6), collar=st.booleans(), gsd_m=st.sampled_from((0.25, 0.15, 0.3)),
    order=st.permutations(range(1, 4)),
)  # fmt: skip
@settings(max_examples=30)
def test_tiles_warped_are_the_undivided_raster_warped(
    red_and_green, folder, seed, tiles, row, col, overlap, collar, gsd_m, order
):
    image, valid = scene(seed)
    resample = ["--resample", "--bands", "1,2"]
    with folder() as here:
        names = []
        for number, (tile, part) in enumerate(zip(tiles, parts_of(row, col), strict=False)):
            inner = [slice(max(s.start - overlap, 0), s.stop + overlap) for s in part]
            wide = tuple(inner)
            seen = valid[wide].copy()
            if collar:  # what the neighbour has is not known here
                own = np.zeros_like(valid)
                own[part] = True
                seen &= own[wide]
            names.append(write_tile_at(here / f"{number}.tif", image, seen, tile, wide, gsd_m))
        names = [names[i] for i in (0, *order) if i < len(names)]
        one = Tile(way="mask", nodata=0, stored={}, south_up=False)
        whole = write_tile_at(here / "whole.tif", image, valid, one, np.s_[:, :], gsd_m)
        expected = mapped(red_and_green, here / "one.tif", whole, *resample).labels
        found = mapped(red_and_green, here / "map.tif", *names, *resample).labels
    assert found.shape == expected.shape
    assert (found != expected).sum() == 0


def write_tile_at(path, image, valid, tile, part, gsd_m):
    """Write a part of the scene with pixels of `gsd_m`."""
    coarse = Tile(
        way=tile.way, nodata=tile.nodata, stored={**tile.stored, "gsd_m": gsd_m}, south_up=False
    )
    row, col = (s.start or 0 for s in part)
    return write_tile(path, image[(slice(None), *part)], valid, coarse, row, col)


@pytest.fixture
def delivery(tmp_path, band_model):
    """Everything a run may be told, with a nested VRT and an archive; the options by name."""
    model = tmp_path / "box.onnx"
    model.write_bytes(band_model("red", "elevation").read_bytes())
    size = {"height": 40, "width": 50}
    red = write(tmp_path / "in" / "red.tif", flat(60, 40, 50))
    inner = write_vrt(tmp_path / "in" / "inner.vrt", [Placed(red, 0, 0, 40, 50)], **size)
    write_vrt(tmp_path / "in" / "outer.vrt", [Placed(inner, 0, 0, 40, 50)], **size)
    for name, height_m in (("dsm", 120), ("dtm", 100)):
        write(tmp_path / name / "red.tif", flat(height_m, 40, 50, "float32"))
    write_shapes(tmp_path / "area.geojson", (0, 0, 40, 50))
    with ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.write(red, "red.tif")
    return tmp_path


IMAGES = {
    "file": "in/red.tif",
    "vrt": "in/inner.vrt",
    "nested vrt": "in/outer.vrt",
    "/vsizip/": "/vsizip/{0}/e.zip/red.tif",
    "zip://": "zip://{0}/e.zip!red.tif",
    "file://": "file://{0}/in/red.tif",
}
REACHES = {
    "file": ["in/red.tif"],
    "vrt": ["in/red.tif", "in/inner.vrt"],
    "nested vrt": ["in/red.tif", "in/inner.vrt", "in/outer.vrt"],
    "/vsizip/": ["e.zip"],
    "zip://": ["e.zip"],
    "file://": ["in/red.tif"],
}
"""Files whose loss an image would not survive."""
OTHERS = ["box.onnx", "area.geojson", "dsm/red.tif", "dtm/red.tif"]
LINKS = ("same", "dot", "up", "hard link", "symbolic link", "link of a folder")
VICTIMS = [(image, victim) for image, reached in REACHES.items() for victim in reached] + [
    ("file", victim) for victim in OTHERS
]


def spelt(folder, victim, link, suffix):
    """Return another name of a file, with a suffix where it is a link."""
    path = folder / victim
    if link == "same":
        return str(path)
    if link == "dot":
        return f"{folder}/./{victim}"
    if link == "up":
        return f"{folder}/in/../{victim}"
    if link == "link of a folder":
        (folder / "there").symlink_to(path.parent)
        return str(folder / "there" / path.name)
    other = folder / f"other{suffix}"
    if link == "hard link":
        os.link(path, other)
    else:
        other.symlink_to(path)
    return str(other)


def run_is_refused(folder, image, *output):
    """Check that a run is refused and nothing touched, whatever --overwrite says."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    line = refused(
        folder / "box.onnx", image, "--dsm", folder / "dsm", "--dtm", folder / "dtm",
        "--aoi", folder / "area.geojson", *output, "--overwrite",
    )  # fmt: skip
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before == after
    assert "use --overwrite" not in line


def image_of(folder, kind):
    name = IMAGES[kind].format(folder)
    return name if ":" in name or name.startswith("/vsi") else folder / name


@pytest.mark.parametrize(
    ("image", "victim", "link"),
    [
        (image, victim, link)
        for (image, victim), link in product(VICTIMS, LINKS)
        if victim.endswith(".tif") or link in ("hard link", "symbolic link")  # a map's suffix
    ],
)
def test_a_map_that_is_an_input(delivery, image, victim, link):
    output = spelt(delivery, victim, link, ".tif")
    run_is_refused(delivery, image_of(delivery, image), output)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(("image", "victim"), VICTIMS)
def test_a_report_that_is_an_input(delivery, image, victim, link):
    report = spelt(delivery, victim, link, ".json")
    output = delivery / "map.tif"
    run_is_refused(delivery, image_of(delivery, image), output, "--report", report)


@pytest.mark.parametrize("link", ["same", "dot", "up", "symbolic link", "hard link"])
@pytest.mark.parametrize("product", ["in", "dsm", "dtm"])
def test_a_folder_of_maps_that_holds_an_input(delivery, product, link):
    if link == "hard link":
        (delivery / "other").mkdir()
        os.link(delivery / product / "red.tif", delivery / "other" / "red.tif")
        folder = str(delivery / "other")
    else:
        folder = spelt(delivery, product, link, "")
    run_is_refused(delivery, delivery / "in" / "red.tif", folder, "--per-input")


@pytest.mark.parametrize("sidecar", ["map.tif.aux.xml", "map.tif.ovr", "map.tif.msk"])
def test_a_sidecar_that_is_an_input(delivery, sidecar):
    os.link(delivery / "dsm" / "red.tif", delivery / sidecar)
    run_is_refused(delivery, delivery / "in" / "red.tif", delivery / "map.tif")
