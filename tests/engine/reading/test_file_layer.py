import errno
import os
import threading
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import rasterio
from doubles.field import Placed, damage_block, flat, noise, write, write_vrt
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.shutil import copy
from rasterio.vrt import WarpedVRT

from flair_engine.errors import ReadError, SourceError
from flair_engine.grid import Window
from flair_engine.options import ReadOptions
from flair_engine.reading import files
from flair_engine.reading.bands import choose_bands
from flair_engine.reading.file_layer import FileLayer, all_equal, quarters, uncovered, unwritten
from flair_engine.reading.files import describe
from flair_engine.reading.metres import to_metres

WHOLE = Window(top=0, left=0, height=70, width=53)


def layer_of(path, numbers=(1, 2), *, on_error="stop", judged=None, metres=None, **told):
    info = describe(str(path))
    choice = choose_bands(info, numbers, ReadOptions(**told), judged=judged, metres=metres)
    return FileLayer(info, choice, on_error=on_error)


def height_of(path, **options):
    info = describe(str(path))
    choice = choose_bands(info, (1,), ReadOptions(), metres=to_metres(info))
    return FileLayer(info, choice, **options)


def whole(layer):
    """Read all of a layer, through a window of its own pixels."""
    return layer.read(Window(top=0, left=0, height=layer.window.height, width=layer.window.width))


def test_a_window_of_a_file_is_that_of_its_pixels(make_raster):
    path, image = make_raster()
    with layer_of(path, (2, 1)) as layer:
        pixels, valid, lost = layer.read(Window(top=2, left=3, height=4, width=5))
        buffer = np.zeros((2, 6, 7), np.uint8)
        view = buffer[:, 1:5, 1:6]
        assert layer.read(Window(top=2, left=3, height=4, width=5), view).image_bhw is view
    assert (pixels == image[[1, 0], 2:6, 3:8]).all()
    assert (view == pixels).all()
    assert np.count_nonzero(buffer) == np.count_nonzero(pixels)
    assert valid is None is lost


def test_a_layer_lies_where_it_is_told(make_raster):
    info = describe(str(make_raster()[0]))
    layer = FileLayer(info, choose_bands(info, (1,), ReadOptions()), top=-3, left=9)
    assert layer.window == Window(top=-3, left=9, height=70, width=53)
    assert (layer.count, layer.dtype, layer.name) == (1, np.uint8, info.name)
    assert (layer.block_px, len(layer.skipped)) == (info.block_px, 0)


def test_every_thread_has_its_own_handle_and_all_are_closed(make_raster):
    layer = layer_of(make_raster()[0])
    threads = [threading.Thread(target=layer.read, args=(WHOLE,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    layer.read(WHOLE)
    for thread in threads:
        thread.join()
    handles = list(layer._handles.values())
    assert len({id(handle) for handle in handles}) >= 2
    layer.close()
    layer.close()
    assert all(handle.closed for handle in handles)
    assert layer.read(WHOLE).valid_hw is None


def test_a_thread_closes_its_own_handle(make_raster):
    with layer_of(make_raster()[0]) as layer:
        layer.read(WHOLE)
        (handle,) = layer._handles.values()
        other = threading.Thread(target=layer.close_mine)
        other.start()
        other.join()
        assert not handle.closed
        layer.close_mine()
        layer.close_mine()
        assert handle.closed


def test_nodata_needs_every_judged_band(make_raster):
    path, image = make_raster(nodata=255)
    with rasterio.open(path, "r+") as dataset:
        image[:, :5] = 255
        image[0, 5:9] = 255
        image[1, 5:9] = 3
        dataset.write(image)
    with layer_of(path) as layer:
        valid = layer.read(WHOLE).valid_hw
    assert (valid == ~(image == 255).all(0)).all()
    assert not valid[:5].any()
    assert valid[5:9].all()


def test_nodata_can_be_overridden(make_raster):
    path, image = make_raster(nodata=255)
    with layer_of(path, nodata="none") as layer:
        assert layer.read(WHOLE).valid_hw is None
    with layer_of(path, (1,), nodata=7.0) as layer:
        assert (layer.read(WHOLE).valid_hw == (image[0] != 7)).all()


@pytest.mark.parametrize("value", [-9999.0, 256.0, 7.5, float("nan"), float("inf")])
def test_nodata_that_a_byte_cannot_hold_is_nowhere(make_raster, value):
    with layer_of(make_raster()[0], nodata=value) as layer:
        assert layer.read(WHOLE).valid_hw is None


def test_height_beside_the_image_bands_is_not_judged(make_raster):
    path, image = make_raster(nodata=0)
    with layer_of(path, judged=[0]) as layer:
        assert (layer.read(WHOLE).valid_hw == (image[0] != 0)).all()


ALPHA = ("gray", "alpha")


def holed():
    """Return an image whose second band is 0 in places, and the pixels of a mask."""
    image = noise(2, 70, 53)
    image[1, :, :20] = 0
    mask = np.ones((70, 53), bool)
    mask[30:, 10:] = False
    return image, mask


def test_an_alpha_band_that_is_not_chosen_is_a_mask(tmp_path):
    image, _ = holed()
    with layer_of(write(tmp_path / "in.tif", image, kinds=ALPHA), (1,)) as layer:
        assert (layer.read(WHOLE).valid_hw == (image[1] != 0)).all()


def test_an_alpha_band_that_is_chosen_is_a_band(tmp_path):
    image, _ = holed()
    with layer_of(write(tmp_path / "in.tif", image, kinds=ALPHA)) as layer:
        pixels = layer.read(WHOLE)
    assert pixels.valid_hw is None
    assert (pixels.image_bhw == image).all()


@pytest.mark.parametrize("sidecar", [False, True])
def test_a_mask_beside_the_bands_counts(tmp_path, sidecar):
    image, mask = holed()
    path = write(tmp_path / "in.tif", image, mask_hw=mask, sidecar=sidecar)
    with layer_of(path) as layer:
        assert (layer.read(WHOLE).valid_hw == mask).all()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"mask_hw": holed()[1], "kinds": ALPHA}, "mask"),
        ({"mask_hw": holed()[1]}, "mask"),
        ({"kinds": ALPHA}, "alpha"),
        ({}, "nodata"),
    ],
)
def test_a_nodata_value_speaks_where_no_mask_does(tmp_path, said, told):
    image, mask = holed()
    image[0, 60:, :] = 0
    path = write(tmp_path / "in.tif", image, nodata=0, **said)
    expected = {"mask": mask, "alpha": image[1] != 0, "nodata": image[0] != 0}[told]
    with layer_of(path, (1,)) as layer:
        assert (layer.read(WHOLE).valid_hw == expected).all()
    with layer_of(path, (1,), mask=2) as layer:
        assert (layer.read(WHOLE).valid_hw == (image[1] != 0)).all()
    with layer_of(path, (1,), mask="none") as layer:
        assert (layer.read(WHOLE).valid_hw == (image[0] != 0)).all()
    with layer_of(path, (1,), mask="none", nodata="none") as layer:
        assert layer.read(WHOLE).valid_hw is None


def test_a_value_that_is_told_counts_beside_a_mask(tmp_path):
    image, mask = holed()
    path = write(tmp_path / "in.tif", image, mask_hw=mask)
    with layer_of(path, (1,), nodata=9.0) as layer:
        assert (layer.read(WHOLE).valid_hw == (mask & (image[0] != 9))).all()


@pytest.mark.parametrize("nodata", [None, -9999.0, np.nan, float(np.finfo(np.float32).min)])
def test_heights_are_metres_where_they_can_be(tmp_path, nodata):
    metres = np.linspace(0, 300, 600, dtype=np.float32).reshape(1, 20, 30)
    void = np.zeros((20, 30), bool)
    void[5:9, 3:7] = nodata is not None
    metres[0, 15, :3] = np.nan, np.inf, -np.inf
    metres[0, void] = 0 if nodata is None else nodata
    void[15, :3] = True
    said = []
    with height_of(write(tmp_path / "in.tif", metres, nodata=nodata), tell=said.append) as layer:
        image, valid, lost = whole(layer)
    assert image.dtype == np.float32
    assert (valid == ~void).all()
    assert (image[0] == np.where(void, 0, metres[0])).all()
    assert lost is None
    assert said == []


@pytest.mark.parametrize("value", [-9999.0, 32767.0])
def test_heights_that_cannot_be_are_missing_and_told(tmp_path, value):
    metres = flat(100, 20, 30, "float32")
    metres[:, 3, 4] = value
    said = []
    with height_of(write(tmp_path / "in.tif", metres), tell=said.append) as layer:
        valid = whole(layer).valid_hw
    assert (valid == (metres[0] == 100)).all()
    (notice,) = said
    assert f"in.tif: holds {value:g} m, which no place on Earth has" in notice


def test_scaled_heights_are_judged_in_metres(tmp_path):
    stored = flat(20_000, 20, 30, "int16")
    stored[:, 0] = -32768
    path = write(tmp_path / "in.tif", stored, scale=0.01, unit="m", nodata=-32768)
    with height_of(path) as layer:
        image, valid, _ = whole(layer)
    assert (image[0, 1:] == 200).all()
    assert (valid == (stored[0] == 20_000)).all()


def test_a_nodata_value_is_compared_as_its_type_holds_it(tmp_path):
    metres = flat(100, 20, 30, "float32")
    metres[:, 0] = 0.1
    with height_of(write(tmp_path / "in.tif", metres, nodata=0.1)) as layer:
        assert (whole(layer).valid_hw == (metres[0] == 100)).all()


@pytest.fixture
def damaged(make_raster):
    """A tiled file whose second half is zeros."""
    path, image = make_raster(height=256, width=256, tiled=True, blockxsize=64, blockysize=64,
                              compress="deflate")  # fmt: skip
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    return path, image


def test_an_unreadable_block_is_named(damaged):
    path, image = damaged
    with layer_of(path) as layer:
        assert (layer.read(Window(top=0, left=0, height=64, width=256))[0] == image[:, :64]).all()
        message = (
            r"in.tif: block \(3, 0\), rows 192 to 255, columns 0 to 63, cannot be decoded .*: "
            "fetch the file again, or use --on-error skip"
        )
        with pytest.raises(ReadError, match=message):
            layer.read(Window(top=192, left=0, height=64, width=256))


def test_unreadable_blocks_can_be_skipped(damaged):
    path, image = damaged
    with layer_of(path, on_error="skip") as layer:
        pixels, valid, lost = layer.read(Window(top=0, left=0, height=256, width=256))
    assert 0 < len(layer.skipped) < 16
    assert valid.sum() == (16 - len(layer.skipped)) * 64 * 64
    assert (lost == ~valid).all()
    assert (pixels[:, valid] == image[:, valid]).all()
    assert (pixels[:, lost] == 0).all()


def test_void_pixels_of_a_damaged_file_are_not_lost(damaged):
    path, image = damaged
    value = float(image[0, 0, 0])
    with layer_of(path, (1,), on_error="skip", nodata=value) as layer:
        _, valid, lost = layer.read(Window(top=0, left=0, height=256, width=256))
    assert (~valid & ~lost).sum() == (image[0][~lost] == value).sum() > 0


def sparse(path, count=2, **stored):
    """Write 100 x 90 of which some tiles were never written; return the image and which were."""
    image = noise(count, 100, 90)
    image[:, 2:5, 2:5] = 0  # the first pixels of a block are looked at, and no others
    size = {"count": count, "height": 100, "width": 90, "dtype": "uint8"}
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32, "SPARSE_OK": "YES"}
    with rasterio.open(path, "w", driver="GTiff", **size, **tiles, **stored) as dataset:
        dataset.write(image[:, :64, :32], window=((0, 64), (0, 32)))
        dataset.write(image[:, 96:, 64:], window=((96, 100), (64, 90)))
    written = np.zeros((100, 90), bool)
    written[:64, :32] = written[96:, 64:] = True
    return image, written


def never_written(path, number=1, fill=None):
    """Return bool [h, w], True where blocks of a band of 32 px squares were never written."""
    with rasterio.open(path) as dataset:
        void = np.zeros(dataset.shape, bool)
        everything = Window(top=0, left=0, height=dataset.height, width=dataset.width)
        band = dataset.read(number)
        for window in unwritten(dataset, number, band, fill, everything, (32, 32)):
            assert not void[window.slices].any()
            void[window.slices] = True
    return void


@pytest.mark.parametrize(
    "stored", [{"interleave": "pixel"}, {"interleave": "band"}, {"compress": "deflate"}]
)
def test_blocks_that_were_never_written_are_void(tmp_path, stored):
    path = tmp_path / "in.tif"
    image, expected = sparse(path, **stored)
    assert (never_written(path) == ~expected).all()
    assert (never_written(path, 2) == ~expected).all()
    with layer_of(path) as layer:
        pixels, valid, lost = whole(layer)
        assert (valid == expected).all()
        assert (pixels[:, valid] == image[:, valid]).all()
        assert lost is None
        part = Window(top=60, left=20, height=39, width=60)
        assert (layer.read(part).valid_hw == expected[part.slices]).all()


@pytest.mark.parametrize("told", [{"nodata": "none"}, {"mask": "none"}, {}])
def test_blocks_that_were_never_written_are_void_whatever_fills_them(tmp_path, told):
    """GDAL reads nodata there, and a mask may say that it is valid."""
    path = tmp_path / "in.tif"
    _, expected = sparse(path, nodata=255)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.full((100, 90), 255, np.uint8))
    assert (never_written(path, fill=255) == ~expected).all()
    with layer_of(path, **told) as layer:
        assert (whole(layer).valid_hw == expected).all()


def test_a_band_that_was_cut_off_is_void(tmp_path):
    """A file is written band by band, and writing ended in the second."""
    path = tmp_path / "in.tif"
    image, expected = sparse(path, interleave="band")
    with rasterio.open(path, "r+") as dataset:
        dataset.write(image[:1], [1])
    assert not never_written(path, 1).any()
    assert (never_written(path, 2) == ~expected).all()
    with layer_of(path) as layer:
        assert (whole(layer).valid_hw == expected).all()
    with layer_of(path, (1,)) as layer:
        assert whole(layer).valid_hw is None
    with layer_of(path, judged=[0]) as layer:
        assert whole(layer).valid_hw is None


def test_zeros_that_were_written_are_valid(tmp_path):
    path = write(tmp_path / "in.tif", flat(0, 100, 90), tiled=True, blockxsize=32, blockysize=32)
    assert not never_written(path).any()
    with layer_of(path, (1,)) as layer:
        assert whole(layer).valid_hw is None


@pytest.fixture
def half_gone(tmp_path):
    """A VRT of two files of which one is gone, and its valid pixels."""
    left = write(tmp_path / "a.tif", noise(1, 40, 30))
    right = write(tmp_path / "b.tif", noise(1, 40, 25))
    placed = [Placed(left, 0, 0, 40, 30), Placed(right, 10, 35, 40, 25)]
    path = write_vrt(tmp_path / "in.vrt", placed, height=60, width=60)
    right.unlink()
    valid, lost = np.zeros((2, 60, 60), bool)
    valid[:40, :30] = lost[10:50, 35:] = True
    return path, valid, lost


def test_of_a_vrt_the_pixels_of_a_missing_source_are_lost_and_no_others(half_gone):
    path, valid, lost = half_gone
    with layer_of(path, (1,), on_error="skip") as layer:
        found = whole(layer)
        assert len(layer.skipped) > 0
    assert (found.valid_hw == valid).all()
    assert (found.lost_hw == lost).all()


def test_a_missing_source_of_a_vrt_is_named(half_gone):
    path, _, _ = half_gone
    with layer_of(path, (1,)) as layer:
        assert layer.read(Window(top=0, left=0, height=40, width=30)).valid_hw is None
        with pytest.raises(
            ReadError, match=r"in.vrt: .*b.tif: no such file: mend that and continue with --resume"
        ):
            whole(layer)
        # Asked again, it does not read as void.
        with pytest.raises(ReadError, match=r"b\.tif"):
            layer.read(Window(top=20, left=40, height=5, width=5))


def test_a_missing_source_of_a_later_band_is_named(tmp_path):
    image = noise(2, 40, 30)
    names = [write(tmp_path / f"{n}.tif", image[n : n + 1]) for n in range(2)]
    path = tmp_path / "in.vrt"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource><SourceFilename>{name}'
        "</SourceFilename><SourceBand>1</SourceBand>"
        '<SrcRect xOff="0" yOff="0" xSize="30" ySize="40"/>'
        '<DstRect xOff="0" yOff="0" xSize="30" ySize="40"/></SimpleSource></VRTRasterBand>'
        for n, name in enumerate(names, 1)
    )
    path.write_text(f'<VRTDataset rasterXSize="30" rasterYSize="40">{bands}</VRTDataset>')
    with layer_of(path) as layer:
        assert (whole(layer).image_bhw == image).all()
        names[1].unlink()
    with layer_of(path) as layer, pytest.raises(ReadError, match=r"1\.tif"):
        whole(layer)


def test_what_no_source_of_a_vrt_covers_is_invalid(tmp_path):
    image = noise(1, 20, 30)
    source = write(tmp_path / "a.tif", image)
    inner, outer = tmp_path / "inner.vrt", tmp_path / "outer.vrt"
    write_vrt(inner, [Placed(source, 5, 7, 20, 30)], height=40, width=50)
    write_vrt(outer, [Placed(inner, 10, 0, 40, 50)], height=60, width=60)
    for path, top in ((inner, 5), (outer, 15)):
        with layer_of(path, (1,)) as layer:
            pixels, valid, lost = whole(layer)
        expected = np.zeros(valid.shape, bool)
        expected[top : top + 20, 7:37] = True
        assert (valid == expected).all()
        assert (pixels[:, top : top + 20, 7:37] == image).all()
        assert lost is None


@settings(max_examples=60)
@given(st.lists(st.tuples(*[st.integers(-9, 9)] * 2, *[st.integers(1, 9)] * 2), max_size=5))
def test_what_windows_do_not_cover(edges):
    windows = [Window(top=t, left=c, height=h, width=w) for t, c, h, w in edges]
    part = Window(top=-3, left=2, height=7, width=8)
    pixels = np.ones((40, 40), bool)
    for w in windows:
        pixels[w.top + 20 : w.bottom + 20, w.left + 20 : w.right + 20] = False
    expected = pixels[17:24, 22:30]
    found = uncovered(windows, part)
    assert (found is None and not expected.any()) or (found == expected).all()


def test_bands_are_all_equal_to_their_values():
    bands = np.array([[[1, 2, np.nan]], [[5, 5, 5]]])
    assert all_equal(bands, [1, 5]).tolist() == [[True, False, False]]
    assert all_equal(bands, [np.nan, 5]).tolist() == [[False, False, True]]
    assert all_equal(bands, [3, 5]).tolist() == [[False] * 3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nodata", [-99.99, 0.1, -3.4028234663852886e38, -9999, 1e-30, 0])
def test_values_are_nodata_where_gdal_takes_them_for_it(tmp_path, dtype, nodata):
    metres = np.full((1, 40, 50), nodata, dtype)
    with np.errstate(over="ignore"):
        metres[0, 1] = np.float32(nodata)
        metres[0, 2] = metres[0, 2] * (1 + 1e-7)
        metres[0, 3] = metres[0, 3] * (1 + 1e-5) + 1e-29
        metres[0, 4] = 12
    path = write(tmp_path / "in.tif", metres, nodata=nodata)
    with rasterio.open(path) as dataset:
        told = dataset.read_masks(1) > 0
        equal = all_equal(dataset.read(), [nodata])
    assert (equal == ~told).all()
    with height_of(path) as layer:
        valid = whole(layer).valid_hw
    assert not valid[0].any()
    assert valid[4].all()


def test_bands_of_a_vrt_are_void_where_any_of_them_is_not_covered(tmp_path):
    red = write(tmp_path / "r.tif", noise(1, 40, 30))
    green = write(tmp_path / "g.tif", noise(1, 40, 20, seed=1))
    path = write_vrt(tmp_path / "in.vrt", [Placed(red, 0, 0, 40, 30)], height=40, width=30)
    other = write_vrt(tmp_path / "x.vrt", [Placed(green, 0, 0, 40, 20)], height=40, width=30)
    (band,) = ET.parse(other).getroot().findall("VRTRasterBand")
    band.set("band", "2")
    root = ET.parse(path).getroot()
    root.append(band)
    ET.ElementTree(root).write(path)
    with layer_of(path) as layer:
        valid = whole(layer).valid_hw
    assert valid[:, :20].all()
    assert not valid[:, 20:].any()
    with layer_of(path, (1,)) as layer:
        assert whole(layer).valid_hw is None


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("corner", [(0, 0), (3, 50), (131, 77)])
def test_of_a_vrt_the_pixels_of_a_damaged_block_are_lost_and_no_others(tmp_path, depth, corner):
    top, left = corner if depth else (0, 0)
    height, width = 300 + top, 270 + left
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    path = write(tmp_path / "0.tif", noise(1, 300, 270), **tiles)
    damage_block(path, 10, 7)
    for number in range(depth):
        placed = [Placed(path, top, left, 300, 270)]
        if number:
            placed = [Placed(path, 0, 0, height, width)]
        path = write_vrt(tmp_path / f"{number}.vrt", placed, height=height, width=width)
    with layer_of(path, (1,), on_error="skip") as layer:
        lost = whole(layer).lost_hw
    expected = np.zeros((height, width), bool)
    expected[top + 160 : top + 176, left + 112 : left + 128] = True
    assert (lost == expected).all()
    assert len(layer.skipped) == 1
    with layer_of(path, (1,)) as layer, pytest.raises(ReadError, match="cannot be decoded"):
        whole(layer)


EDGE = st.integers(0, 50)
LENGTH = st.integers(1, 90)


@given(top=EDGE, left=EDGE, height=LENGTH, width=LENGTH, above=EDGE, beside=EDGE)
def test_quarters_of_a_window_are_the_window(top, left, height, width, above, beside):
    """In the end they are the blocks of 16 px that a source is cut into."""
    window = Window(top=top, left=left, height=height, width=width)
    anchor = Window(top=above, left=beside, height=9, width=9)
    pieces, count = [window], np.zeros((150, 150), int)
    while pieces:
        piece = pieces.pop()
        smaller = list(quarters(piece, anchor))
        assert all(quarter.pixels < piece.pixels for quarter in smaller)
        pieces += smaller
        if not smaller:
            count[piece.slices] += 1
            for start, stop, edge in ((piece.top, piece.bottom, above),
                                      (piece.left, piece.right, beside)):  # fmt: skip
                assert (start - edge) // 16 == (stop - 1 - edge) // 16
    assert (count[window.slices] == 1).all()
    assert count.sum() == window.pixels


@pytest.mark.parametrize("gone", ["inner.vrt", "a.tif"])
@pytest.mark.parametrize("kind", ["VRTDerivedRasterBand", "VRTWarpedRasterBand"])
def test_what_a_computed_vrt_inside_another_is_made_of_is_missed(tmp_path, gone, kind):
    """GDAL reads zeros for it."""
    source = write(tmp_path / "a.tif", noise(1, 40, 30))
    inner = tmp_path / "inner.vrt"
    if kind == "VRTDerivedRasterBand":
        write_vrt(inner, [Placed(source, 0, 0, 40, 30)], height=40, width=30)
        text = inner.read_text().replace('band="1"', f'band="1" subClass="{kind}"')
        function = "<PixelFunctionType>max</PixelFunctionType><Simple"
        inner.write_text(text.replace("<Simple", function))
    else:
        with rasterio.open(source) as dataset, WarpedVRT(dataset) as warped:
            copy(warped, inner, driver="VRT")
    placed = [Placed(inner, 5, 10, 40, 30)]
    path = write_vrt(tmp_path / "in.vrt", placed, height=60, width=60)
    with layer_of(path, (1,)) as layer:
        assert whole(layer).valid_hw.sum() == 40 * 30
    (tmp_path / gone).unlink()
    with layer_of(path, (1,)) as layer, pytest.raises(ReadError, match=r"in.vrt: .*(a.tif|inner)"):
        whole(layer)
    with layer_of(path, (1,), on_error="skip") as layer:
        _, valid, lost = whole(layer)
    assert lost.sum() == 40 * 30
    assert lost[5:45, 10:40].all()
    assert not valid.any()


def test_a_file_that_is_gone_ends_the_run(make_raster):
    path, _ = make_raster()
    layer = layer_of(path)
    path.unlink()
    with pytest.raises(ReadError, match="^.*in.tif: no such file: mend that and continue with --r"):
        layer.read(WHOLE)
    with pytest.raises(SourceError, match="in.tif: no such file: check the path"):
        describe(str(path))


@pytest.fixture
def no_more_files():
    """Leave the process no descriptor once it is called."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []

    def exhaust():
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[0]), before[1]))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))

    yield exhaust
    for descriptor in held:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("kind", ["file", "vrt", "height"])
def test_too_many_open_files_are_no_fault_of_the_file(
    make_raster, half_gone, no_more_files, on_error, kind
):
    """Nothing is skipped for it, and the exit code is that of a failure on the way."""
    path, _ = make_raster()
    if kind == "vrt":
        path = half_gone[0]
    layer = (
        height_of(path, on_error=on_error)
        if kind == "height"
        else layer_of(path, (1,), on_error=on_error)
    )
    no_more_files()
    with pytest.raises(
        ReadError,
        match="cannot be opened, too many files are open already: raise ulimit -n, or use fewer",
    ) as error:
        layer.read(Window(top=0, left=0, height=9, width=9))
    assert error.value.exit_code == 1
    assert len(layer.skipped) == 0


def test_permission_lost_is_named(make_raster, monkeypatch):
    path, _ = make_raster()
    layer = layer_of(path)
    path.unlink()
    monkeypatch.setattr(files, "_system_error", lambda name: errno.EACCES * (name == str(path)))
    with pytest.raises(ReadError, match="in.tif: may not be read by you: mend that and continue"):
        layer.read(WHOLE)


def test_memory_that_runs_out_is_no_fault_of_the_file(make_raster, monkeypatch):
    layer = layer_of(make_raster()[0])

    def no_memory(*_):
        raise MemoryError("7 GiB")

    monkeypatch.setattr(layer, "_read", no_memory)
    with pytest.raises(
        ReadError, match=r"memory ran out as it was read \(7 GiB\): use fewer --thr"
    ):
        layer.read(WHOLE)
