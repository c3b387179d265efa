from itertools import pairwise

import numpy as np
import pytest
import rasterio
from affine import Affine
from doubles.field import LOCAL, X, Y, flat, noise, write
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import CRSError, WarpOperationError
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from flair_engine.errors import ReadError, SourceError
from flair_engine.grid import Window
from flair_engine.options import ReadOptions
from flair_engine.reading import warp
from flair_engine.reading.bands import Chosen, choose_bands
from flair_engine.reading.file_layer import FileLayer
from flair_engine.reading.files import describe
from flair_engine.reading.metres import to_metres
from flair_engine.reading.pixel_grid import PixelGrid, pixel_grid_of
from flair_engine.reading.warp import WarpedLayer, layers_on

LAMBERT_93 = CRS.from_epsg(2154)


def chosen(path, numbers=(1, 2), *, metres=False, **told):
    info = describe(str(path))
    choice = choose_bands(
        info, numbers, ReadOptions(**told), metres=to_metres(info) if metres else None
    )
    return Chosen(info, choice)


def resampled(*files):
    """Return the grid of 0.2 m over what files cover."""
    return pixel_grid_of([file.info for file in files], gsd_m=0.2, resample=True)


def grid_at(height, width, *, row=0.0, col=0.0, turn=0.0, size_m=0.2):
    place = Affine.translation(X + 0.2 * col, Y - 0.2 * row)
    place = place @ Affine.rotation(turn) @ Affine.scale(size_m, -size_m)
    return PixelGrid(height=height, width=width, crs=LAMBERT_93, transform=place)


def whole(layer):
    """Read all of a layer: image, and valid and lost pixels as arrays."""
    window = Window(top=0, left=0, height=layer.window.height, width=layer.window.width)
    image, valid, lost = layer.read(window)
    shape = image.shape[1:]
    return (
        image,
        np.ones(shape, bool) if valid is None else valid,
        np.zeros(shape, bool) if lost is None else lost,
    )


def oracle(path, grid, window):
    """Return what GDAL's own warped VRT shows of a window of a grid."""
    here = grid.of(window)
    with (
        rasterio.open(path) as dataset,
        WarpedVRT(
            dataset,
            crs=here.crs,
            transform=here.transform,
            height=here.height,
            width=here.width,
            resampling=Resampling.bilinear,
        ) as warped,
    ):
        return warped.read()


def test_files_on_the_grid_are_read_in_place_in_their_order(describe_at, make_raster):
    infos = [describe_at("a.tif", 3, 5), describe_at("b.tif", 0, 53)]
    grid = grid_at(90, 120)
    files = [Chosen(info, choose_bands(info, (1,), ReadOptions())) for info in infos]
    layers = layers_on(grid, files)
    assert all(isinstance(layer, FileLayer) for layer in layers)
    assert [(layer.window.top, layer.window.left) for layer in layers] == [(3, 5), (0, 53)]


def test_files_that_share_a_grid_are_one_layer_in_the_place_of_the_first(tmp_path):
    here = [write(tmp_path / f"{n}.tif", noise(1, 20, 20), col=20 * n) for n in range(2)]
    there = [write(tmp_path / f"c{n}.tif", noise(1, 20, 20), gsd_m=0.5, col=20 * n) for n in (0, 1)]
    other = write(tmp_path / "half.tif", noise(1, 20, 20), row=0.5)
    files = [chosen(path, (1,)) for path in (here[0], there[0], other, here[1], there[1])]
    layers = layers_on(grid_at(60, 120), files)
    names = [layer.name.rpartition("/")[2] for layer in layers]
    assert names == ["0.tif", "c0.tif", "half.tif", "1.tif"]
    kinds = [type(layer) for layer in layers]
    assert kinds == [FileLayer, WarpedLayer, WarpedLayer, FileLayer]
    assert layers[1].window == Window(top=0, left=0, height=50, width=100)


def test_resampling_by_two_weighs_the_four_nearest_pixels_on_each_side(make_raster):
    """GDAL's bilinear kernel is a triangle as wide as two pixels of the map."""
    path, image = make_raster(height=40, width=40, gsd_m=0.1)
    file = chosen(path)
    grid = resampled(file)
    (layer,) = layers_on(grid, [file])
    assert layer.window == Window(top=0, left=0, height=20, width=20)
    pixels, valid, _ = whole(layer)
    assert valid.all()
    triangle = np.array([0.25, 0.75, 0.75, 0.25])
    padded = np.pad(image.astype(float), ((0, 0), (1, 1), (1, 1)))
    inside = np.pad(np.ones((40, 40)), 1)
    for row in range(20):
        for col in range(20):
            rows, cols = (slice(2 * n, 2 * n + 4) for n in (row, col))
            weights = np.outer(triangle, triangle) * inside[rows, cols]
            mean = (padded[:, rows, cols] * weights).sum((1, 2)) / weights.sum()
            assert np.abs(pixels[:, row, col] - mean).max() <= 0.5 + 1e-6


def test_a_plane_stays_a_plane(tmp_path):
    """Bilinear interpolation of a linear function is the function itself."""
    rows, cols = np.mgrid[:60, :80]
    plane = (100 + 0.25 * rows + 0.5 * cols).astype(np.float32)
    path = write(tmp_path / "dsm.tif", plane[None], gsd_m=0.5)
    grid = grid_at(140, 190, row=3, col=2, turn=7)
    (layer,) = layers_on(grid, [chosen(path, (1,), metres=True)])
    image, valid, _ = whole(layer)
    rows, cols = np.mgrid[: layer.window.height, : layer.window.width] + 0.5
    xs, ys = grid.transform @ (cols + layer.window.left, rows + layer.window.top)
    at_col, at_row = (xs - X) / 0.5 - 0.5, (Y - ys) / 0.5 - 0.5
    inner = (at_col >= 0) & (at_col <= 79) & (at_row >= 0) & (at_row <= 59)
    assert valid[inner].all()
    assert np.abs(image[0] - (100 + 0.25 * at_row + 0.5 * at_col))[inner].max() < 0.02
    outer = (at_col < -1) | (at_col > 80) | (at_row < -1) | (at_row > 60)
    assert not valid[outer].any()


def test_another_crs_is_warped_as_gdal_does(tmp_path):
    edges = transform_bounds("EPSG:2154", "EPSG:32631", X, Y - 40, X + 40, Y)
    place = from_origin(edges[0], edges[3], 0.2, 0.2)
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 256, (2, 26, 26), np.uint8), 8, 1), 8, 2)
    path = write(tmp_path / "in.tif", smooth, crs="EPSG:32631", transform=place)
    grid = grid_at(200, 200)
    (layer,) = layers_on(grid, [chosen(path)])
    image, valid, _ = whole(layer)
    expected = oracle(path, grid, layer.window).astype(int)
    differs = np.abs(image.astype(int) - expected).max(0)[valid]
    assert valid.mean() > 0.9
    assert (differs <= 2).mean() > 0.999


@st.composite
def grids(draw):
    """Draw a grid about as large as the file that is cut up, turned or in another CRS."""
    row, col = draw(st.floats(-50, 50)), draw(st.floats(-50, 50))
    size_m = draw(st.sampled_from([0.2, 0.11, 0.6]))
    if draw(st.booleans()):
        turn = draw(st.sampled_from([0.0, 3.0, -40.0]))
        return grid_at(300, 600, row=row, col=col, turn=turn, size_m=size_m)
    left, _, _, top = transform_bounds("EPSG:2154", "EPSG:32631", X, Y - 60, X + 105, Y)
    place = from_origin(left + 0.2 * col, top - 0.2 * row, size_m, size_m)
    return PixelGrid(height=300, width=600, crs=CRS.from_epsg(32631), transform=place)


@pytest.fixture(scope="module")
def cut_up(tmp_path_factory):
    """A file at 0.15 m with holes, and its pixels again in tiles of unequal sizes."""
    folder = tmp_path_factory.mktemp("cut")
    image = noise(2, 400, 700)
    hole = noise(1, 400, 700, seed=5)[0] < 3
    hole[100:150, 300:420] = True
    image[:, hole] = 0
    path = write(folder / "whole.tif", image, gsd_m=0.15, nodata=0)
    tiles, rows, cols = [], (0, 130, 270, 400), (0, 333, 340, 700)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            tile = folder / f"{top}-{left}.tif"
            cut = image[:, top:bottom, left:right]
            if (top, left) == (130, 340):  # the same, said by a mask
                said = {"mask_hw": (cut != 0).any(0)}
                cut = np.where(said["mask_hw"], cut, 77)
            else:
                said = {"nodata": 0}
            tiles.append(write(tile, cut, gsd_m=0.15, row=top, col=left, **said))
    return chosen(path), [chosen(tile) for tile in tiles]


@settings(max_examples=12)
@given(grid=grids(), data=st.data())
def test_tiles_are_warped_like_the_undivided_raster(cut_up, grid, data):
    undivided, tiles = cut_up
    tiles = data.draw(st.permutations(tiles))
    (one,), (joined,) = layers_on(grid, [undivided]), layers_on(grid, tiles)
    assert one.window == joined.window
    expected, found = whole(one), whole(joined)
    assert (expected[1] == found[1]).all()
    assert expected[1].any()
    assert (expected[0][:, expected[1]] == found[0][:, expected[1]]).all()
    assert not found[2].any()
    joined.close()
    one.close()


@settings(max_examples=12)
@given(grid=grids(), data=st.data())
def test_any_window_is_a_cut_of_the_whole(cut_up, grid, data):
    (layer,) = layers_on(grid, cut_up[1])
    image, valid, _ = whole(layer)
    height, width = layer.window.height, layer.window.width
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    part = Window(
        top=top,
        left=left,
        height=data.draw(st.integers(1, height - top)),
        width=data.draw(st.integers(1, width - left)),
    )
    rows, cols = part.slices
    buffer = np.empty((2, part.height, part.width), np.uint8)
    pixels = layer.read(part, data.draw(st.sampled_from([None, buffer])))
    assert (pixels.image_bhw == image[:, rows, cols]).all()
    known = valid[rows, cols]
    assert known.all() if pixels.valid_hw is None else (pixels.valid_hw == known).all()
    layer.close()


def test_void_pixels_do_not_bleed_into_valid_ones(tmp_path):
    image = flat(200, 40, 40)
    image[:, :, :20] = 0
    path = write(tmp_path / "in.tif", image, gsd_m=0.1, nodata=0)
    file = chosen(path, (1,))
    (layer,) = layers_on(resampled(file), [file])
    pixels, valid, _ = whole(layer)
    assert not valid[:, :9].any()
    assert valid[:, 11:].all()
    assert (pixels[0][valid] == 200).all()
    (layer,) = layers_on(resampled(file), [chosen(path, (1,), nodata="none")])
    assert layer.read(layer.window).valid_hw is None


def test_a_window_that_sees_nothing_valid_is_void(tmp_path):
    path = write(tmp_path / "in.tif", flat(0, 700, 40), gsd_m=0.4, nodata=0)
    (layer,) = layers_on(grid_at(1400, 80), [chosen(path, (1,))])
    _, valid, lost = whole(layer)
    assert not valid.any()
    assert not lost.any()


def test_what_a_thread_has_opened_of_a_mosaic_is_closed(tmp_path):
    files = [chosen(write(tmp_path / f"{n}.tif", noise(1, 40, 40), gsd_m=0.4, col=40 * n), (1,))
             for n in range(2)]  # fmt: skip
    (layer,) = layers_on(grid_at(80, 160), files)
    first = whole(layer)[0]
    handles = [handle for file in layer.mosaic.sources for handle in file._handles.values()]
    assert len(handles) == 2
    layer.close_mine()
    assert all(handle.closed for handle in handles)
    assert (whole(layer)[0] == first).all()
    layer.close()


def test_an_alpha_band_that_is_not_read_is_a_mask(tmp_path):
    image = noise(2, 40, 40)
    image[1] = 255
    image[1, :, :20] = 0
    path = write(tmp_path / "in.tif", image, gsd_m=0.1, kinds=("gray", "alpha"))
    file = chosen(path, (1,))
    (layer,) = layers_on(resampled(file), [file])
    _, valid, _ = whole(layer)
    assert not valid[:, :9].any()
    assert valid[:, 11:].all()


def test_tiles_keep_types_scales_and_nodata_of_their_own(tmp_path):
    tiles = [
        write(tmp_path / "a.tif", flat(10_000, 30, 30, "int16"), gsd_m=0.5, scale=0.01),
        write(tmp_path / "b.tif", flat(100, 30, 30, "float64"), gsd_m=0.5, col=30, nodata=-9999),
        write(tmp_path / "c.tif", flat(-1, 30, 30, "float32"), gsd_m=0.5, col=60, nodata=-1),
    ]
    (layer,) = layers_on(grid_at(75, 225), [chosen(tile, (1,), metres=True) for tile in tiles])
    image, valid, _ = whole(layer)
    assert layer.dtype == np.float32
    assert valid[:, :149].all()
    assert not valid[:, 152:].any()
    assert (image[0][valid] == 100).all()


def damaged(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    return path


@pytest.fixture
def half_damaged(tmp_path):
    path = write(tmp_path / "in.tif", noise(2, 256, 256), gsd_m=0.4, tiled=True, blockxsize=64,
                 blockysize=64, compress="deflate")  # fmt: skip
    return chosen(damaged(path))


def test_what_cannot_be_decoded_is_lost_and_nothing_else(half_damaged):
    grid = grid_at(512, 512)
    with FileLayer(half_damaged.info, half_damaged.choice, on_error="skip") as file:
        _, valid, lost = whole(file)
    (layer,) = layers_on(grid, [half_damaged], on_error="skip")
    _, warped_valid, warped_lost = whole(layer)
    assert len(layer.skipped) > 0
    assert not (warped_valid & warped_lost).any()
    doubled = np.repeat(np.repeat(lost, 2, 0), 2, 1)
    assert (warped_lost <= doubled).all()
    # But for a pixel at the edge, which is interpolated from the valid ones beside it.
    inner = ~np.repeat(np.repeat(edge(lost), 2, 0), 2, 1)
    assert (warped_lost == doubled)[inner].all()
    assert warped_valid[np.repeat(np.repeat(valid, 2, 0), 2, 1)].all()


def edge(found_hw):
    """Return bool [h, w], True on pixels with a neighbour of the other kind."""
    padded = np.pad(found_hw, 1, mode="edge")
    moved = [padded[i : i + found_hw.shape[0], j : j + found_hw.shape[1]] for i in (0, 1, 2)
             for j in (0, 1, 2)]  # fmt: skip
    return np.any(moved, axis=0) != np.all(moved, axis=0)


def test_what_cannot_be_decoded_ends_the_run(half_damaged):
    (layer,) = layers_on(grid_at(512, 512), [half_damaged])
    with pytest.raises(ReadError, match=r"in.tif: block \(\d, \d\), rows .* cannot be decoded"):
        whole(layer)


def test_nothing_is_read_of_what_a_window_does_not_see(tmp_path):
    files = [
        chosen(write(tmp_path / f"{n}.tif", noise(1, 64, 4096), gsd_m=0.4, row=64 * n), (1,))
        for n in range(12)
    ]
    (layer,) = layers_on(grid_at(12 * 128, 8192), files)
    for n in (0, 1, 9, 10, 11):
        (tmp_path / f"{n}.tif").unlink()
    assert layer.read(Window(top=600, left=1500, height=100, width=100)).valid_hw is None
    with pytest.raises(ReadError, match=r"9.tif: no such file: mend that"):
        layer.read(Window(top=1200, left=1500, height=100, width=100))


def test_a_crs_of_no_place_is_warped_to_itself(tmp_path):
    path = write(tmp_path / "in.tif", noise(1, 40, 40), gsd_m=0.1, crs=LOCAL)
    nameless = chosen(path, (1,))
    (same,) = layers_on(resampled(nameless), [nameless])
    (named,) = layers_on(grid_at(20, 20), [nameless])
    assert (whole(same)[0] == whole(named)[0]).all()
    assert whole(same)[1].all()


def test_a_file_without_crs_cannot_be_warped(describe_at):
    info = describe_at("b.tif", 0.5, 53, crs=None)
    file = Chosen(info, choose_bands(info, (1,), ReadOptions()))
    message = "b.tif: is on another grid and cannot be warped, because it or the image has no CRS"
    with pytest.raises(SourceError, match=message):
        layers_on(grid_at(60, 60), [file])


@pytest.fixture
def in_utm(tmp_path):
    (left, _, _, top) = transform_bounds("EPSG:2154", "EPSG:32631", X, Y - 40, X + 40, Y)
    path = write(
        tmp_path / "in.tif", noise(1, 60, 60), crs="EPSG:32631",
        transform=from_origin(left, top, 0.2, 0.2),
    )  # fmt: skip
    return chosen(path, (1,))


def test_crs_between_which_there_is_no_way(in_utm, monkeypatch):
    def fail(*_):
        raise CRSError("no operation")

    monkeypatch.setattr(warp, "transform", fail)
    message = r"in.tif: cannot be warped from EPSG:32631 to EPSG:2154 \(no operation\): assign its"
    with pytest.raises(SourceError, match=message):
        layers_on(grid_at(60, 60), [in_utm])


def test_a_file_that_lies_outside_the_crs_of_the_map(in_utm, monkeypatch):
    monkeypatch.setattr(warp, "transform", lambda *given: ([np.inf] * 4, [np.inf] * 4))
    with pytest.raises(SourceError, match="in.tif: lies outside EPSG:2154: assign its CRS with"):
        layers_on(grid_at(60, 60), [in_utm])


def test_warping_that_fails_ends_the_run(in_utm, monkeypatch):
    def fail(*_, **__):
        raise WarpOperationError("out of everything")

    (layer,) = layers_on(grid_at(60, 60), [in_utm])
    monkeypatch.setattr(warp, "reproject", fail)
    message = r"in.tif: cannot be warped to EPSG:2154 \(out of everything\): warp it with gdalwarp"
    with pytest.raises(ReadError, match=message):
        whole(layer)


def test_places_that_the_other_crs_does_not_know_are_void(in_utm, monkeypatch):
    (layer,) = layers_on(grid_at(60, 60), [in_utm])
    unknown = lambda _crs, _to, xs, _ys: ([np.nan] * len(xs),) * 2  # noqa: E731
    monkeypatch.setattr(warp, "transform", unknown)
    _, valid, lost = whole(layer)
    assert not valid.any()
    assert not lost.any()


def test_a_way_between_crss_that_is_lost_on_the_way_ends_the_run(tmp_path, monkeypatch):
    """With exit code 1: PROJ opens files of its own as it is asked."""
    file = chosen(write(tmp_path / "a.tif", noise(2, 32, 32), gsd_m=0.4))
    (layer,) = layers_on(grid_at(64, 64), [file])

    def lost(*_):
        raise SourceError("a.tif: cannot be warped", "assign its CRS")

    monkeypatch.setattr(layer, "_to_source", lost)
    with pytest.raises(ReadError, match="a.tif: cannot be warped: assign its CRS") as error:
        whole(layer)
    assert error.value.exit_code == 1
    monkeypatch.setattr(warp, "no_file_left", lambda _: True)
    with pytest.raises(ReadError, match="a.tif: cannot be opened, too many files are open already"):
        whole(layer)
