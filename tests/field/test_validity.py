"""Validity of pixels: each file says it in its own way, and a pixel known once is known."""

import numpy as np
import pytest
import rasterio
from doubles.field import (
    Placed,
    box_labels,
    mapped,
    noise,
    refused,
    write,
    write_vrt,
)

BLACK = np.s_[40:46, 40:46]
"""True black inside the scene."""


@pytest.fixture
def red_and_green(band_model):
    return band_model("red", "green")


@pytest.fixture
def rgb(band_model):
    return band_model("red", "green", "blue")


@pytest.mark.parametrize("gsd_m", [0.2, 0.25])
def test_each_tile_has_its_own_collar(red_and_green, tmp_path, gsd_m):
    for tile, fill in enumerate((0, 255, 77)):
        image = noise(2, 40, 40, seed=tile)
        image[:, :, 15:25] = fill
        valid = np.ones((40, 40), bool)
        valid[:, 15:25] = False
        said = {"mask_hw": valid} if fill == 77 else {"nodata": fill}
        write(tmp_path / "in" / f"{tile}.tif", image, gsd_m=gsd_m, col=40 * tile, **said)
    labels = mapped(red_and_green, tmp_path / "map.tif", tmp_path / "in", "--resample").labels
    centre = (np.arange(labels.shape[1]) + 0.5) * 0.2 / gsd_m % 40
    assert (labels[:, abs(centre - 20) < 4] == 0).all()
    assert (labels[:, abs(centre - 20) > 6] != 0).all()


@pytest.mark.parametrize("gsd_m", [0.2, 0.25])
def test_what_is_known_in_one_of_two_tiles_is_known(red_and_green, tmp_path, gsd_m):
    whole = noise(2, 60, 88)
    left, right = whole[:, :, :60].copy(), whole[:, :, 30:].copy()
    left[:, :, 50:] = right[:, :, :20] = 0
    write(tmp_path / "in" / "a.tif", left, gsd_m=gsd_m, nodata=0)
    write(tmp_path / "in" / "b.tif", right, gsd_m=gsd_m, col=30, nodata=0)
    one = write(tmp_path / "one.tif", whole, gsd_m=gsd_m, nodata=0)
    labels = mapped(red_and_green, tmp_path / "map.tif", tmp_path / "in", "--resample").labels
    undivided = mapped(red_and_green, tmp_path / "undivided.tif", one, "--resample").labels
    assert (undivided != 0).all()
    assert (labels == undivided).all()


@pytest.mark.parametrize("gsd_m", [0.2, 0.25])
def test_the_earlier_given_wins_where_both_are_valid(red_and_green, tmp_path, gsd_m):
    first, second = noise(2, 40, 40), noise(2, 40, 40, seed=1)
    first[:, 10:20] = 0
    a = write(tmp_path / "2021.tif", first, gsd_m=gsd_m, nodata=0)
    b = write(tmp_path / "2024.tif", second, gsd_m=gsd_m)
    joined = np.where((first == 0).all(0), second, first)
    one = write(tmp_path / "one.tif", joined, gsd_m=gsd_m)
    labels = mapped(red_and_green, tmp_path / "ab.tif", a, b, "--resample").labels
    expected = mapped(red_and_green, tmp_path / "1.tif", one, "--resample").labels
    assert (labels == expected).all()
    labels = mapped(red_and_green, tmp_path / "ba.tif", b, a, "--resample").labels
    expected = mapped(red_and_green, tmp_path / "2.tif", b, "--resample").labels
    assert (labels == expected).all()


def scene():
    """Return an image with a collar and true black, uint8 [3, H, W], and where it is valid."""
    image, valid = noise(3, 80, 90), np.zeros((80, 90), bool)
    valid[10:70, 15:80] = True
    image[:, ~valid] = 0
    image[(slice(None), *BLACK)] = 0
    return image, valid


def with_alpha(image, valid, opaque=255):
    return np.concatenate([image, (valid * np.uint8(opaque))[None]])


MASKED = {
    "internal mask": {},
    "mask beside it": {"sidecar": True},
    "internal mask, nodata 0": {"nodata": 0},
    "mask beside it, nodata 0": {"sidecar": True, "nodata": 0},
    "compressed": {"compress": "deflate", "tiled": True, "blockxsize": 32, "blockysize": 32},
}


@pytest.mark.parametrize("said", MASKED.values(), ids=MASKED)
def test_a_mask_alone_says_what_is_valid(rgb, tmp_path, said):
    image, valid = scene()
    path = write(tmp_path / "in.tif", image, mask_hw=valid, photometric="rgb", **said)
    labels = mapped(rgb, tmp_path / "map.tif", path).labels
    assert (labels == box_labels(image[0], image[2], valid)).all()


@pytest.mark.parametrize("opaque", [1, 255])
@pytest.mark.parametrize("said", [{}, {"nodata": 0}, {"interleave": "band"}], ids=str)
def test_an_alpha_band_alone_says_what_is_valid(rgb, tmp_path, said, opaque):
    image, valid = scene()
    path = write(
        tmp_path / "in.tif",
        with_alpha(image, valid, opaque),
        photometric="rgb",
        alpha="yes",
        **said,
    )
    labels = mapped(rgb, tmp_path / "map.tif", path, "--bands", "1,2,3").labels
    assert (labels == box_labels(image[0], image[2], valid)).all()


def test_nodata_says_it_where_nothing_else_does(rgb, tmp_path):
    image, _ = scene()
    path = write(tmp_path / "in.tif", image, nodata=0)
    valid = (image != 0).any(0)
    assert not valid[BLACK].any()
    labels = mapped(rgb, tmp_path / "map.tif", path).labels
    assert (labels == box_labels(image[0], image[2], valid)).all()
    labels = mapped(rgb, tmp_path / "none.tif", path, "--nodata", "none").labels
    assert (labels == box_labels(image[0], image[2])).all()


def test_a_value_that_is_named_counts_besides_the_mask(rgb, tmp_path):
    image, valid = scene()
    image[:, 50:55, 50:55] = 7
    path = write(tmp_path / "in.tif", image, mask_hw=valid, photometric="rgb")
    labels = mapped(rgb, tmp_path / "map.tif", path, "--nodata", "7").labels
    valid &= (image != 7).any(0)
    assert (labels == box_labels(image[0], image[2], valid)).all()


@pytest.fixture
def naip(tmp_path):
    """Red, green, blue and near infrared tagged alpha, which is 0 on water; (path, image)."""
    image = noise(4, 60, 70)
    image[3, 20:40, 20:50] = 0
    kinds = ("red", "green", "blue", "alpha")
    path = tmp_path / "naip.tif"
    return write(path, image, photometric="rgb", alpha="unspecified", kinds=kinds), image


def test_an_alpha_band_that_hides_pixels_is_told(rgb, naip, tmp_path):
    path, image = naip
    found = mapped(rgb, tmp_path / "map.tif", path, "--bands", "1,2,3")
    assert "band 4 is tagged alpha and taken for a mask" in found.notices
    assert "--mask none" in found.notices
    assert (found.labels == box_labels(image[0], image[2], image[3] > 0)).all()


def test_masks_are_ignored_on_request(rgb, naip, tmp_path):
    path, image = naip
    found = mapped(rgb, tmp_path / "map.tif", path, "--bands", "1,2,3", "--mask", "none")
    assert "taken for a mask" not in found.notices
    assert (found.labels == box_labels(image[0], image[2])).all()


def test_infrared_by_name_is_no_mask(rgb, tmp_path):
    image = noise(4, 60, 70)
    image[3, 20:40, 20:50] = 0
    path = write(
        tmp_path / "in.tif", image, photometric="rgb", alpha="yes",
        kinds=("red", "green", "blue", "alpha"), names=("Red", "Green", "Blue", "NIR"),
    )  # fmt: skip
    labels = mapped(rgb, tmp_path / "map.tif", path, "--bands", "1,2,3").labels
    assert (labels == box_labels(image[0], image[2])).all()


def test_an_alpha_band_that_is_read_is_no_mask(band_model, naip, tmp_path):
    path, image = naip
    model = band_model("red", "green", "blue", "nir")
    labels = mapped(model, tmp_path / "map.tif", path).labels
    assert (labels == box_labels(image[0], image[3])).all()


def test_a_mask_of_rvb_is_ignored_on_request(band_model, naip, tmp_path):
    path, image = naip
    model = band_model("red", "green", "blue", "nir")
    irc = write(tmp_path / "irc.tif", noise(1, 60, 70, seed=3))
    found = mapped(model, tmp_path / "map.tif", "--rvb", path, "--irc", irc, "--mask", "none")
    assert (found.labels == box_labels(image[0], noise(1, 60, 70, seed=3)[0])).all()


def test_one_of_the_ways_is_chosen(rgb, tmp_path):
    image, valid = scene()
    other = np.zeros_like(valid)
    other[30:60, 30:60] = True
    bands = np.concatenate([with_alpha(image, valid), other[None] * np.uint8(9)])
    path = write(
        tmp_path / "in.tif", bands, photometric="rgb", nodata=0,
        kinds=("red", "green", "blue", "alpha", "undefined"),
    )  # fmt: skip
    by = {"alpha": valid, "none": (image != 0).any(0), "5": other}
    for mask, expected in by.items():
        output = tmp_path / f"{mask}.tif"
        labels = mapped(rgb, output, path, "--bands", "1,2,3", "--mask", mask).labels
        assert (labels == box_labels(image[0], image[2], expected)).all(), mask


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("gsd", [[], ["--resample"]])
def test_what_no_source_of_a_vrt_covers_is_invalid(red_and_green, tmp_path, nested, gsd):
    a, b = noise(2, 30, 40), noise(2, 20, 50, seed=1)
    placed = [
        Placed(write(tmp_path / "a.tif", a), 0, 0, 30, 40),
        Placed(write(tmp_path / "b.tif", b), 50, 45, 20, 50),
    ]
    path = write_vrt(tmp_path / "in.vrt", placed, height=80, width=100, bands=2)
    if nested:
        inner = [Placed(path, 0, 0, 80, 100)]
        path = write_vrt(tmp_path / "outer.vrt", inner, height=80, width=100, bands=2)
    image, valid = np.zeros((2, 80, 100), np.uint8), np.zeros((80, 100), bool)
    for at, pixels in zip(placed, (a, b), strict=True):
        window = np.s_[at.row : at.row + at.height, at.col : at.col + at.width]
        image[(slice(None), *window)], valid[window] = pixels, True
    labels = mapped(red_and_green, tmp_path / "map.tif", path, *gsd).labels
    assert (labels == box_labels(image[0], image[1], valid)).all()


def test_a_vrt_of_heights_is_missing_where_no_source_is(band_model, tmp_path):
    red = write(tmp_path / "red.tif", np.full((1, 50, 60), 60, np.uint8))
    part = write(tmp_path / "part.tif", np.full((1, 50, 25), 120, np.float32))
    size = {"height": 50, "width": 60, "dtype": "Float32"}
    dsm = write_vrt(tmp_path / "dsm.vrt", [Placed(part, 0, 0, 50, 25)], **size)
    dtm = write(tmp_path / "dtm.tif", np.full((1, 50, 60), 100, np.float32))
    model = band_model("red", "elevation")
    found = mapped(model, tmp_path / "map.tif", red, "--dsm", dsm, "--dtm", dtm)
    counts = np.zeros((50, 60))
    counts[:, :25] = 100
    assert (found.labels == box_labels(np.full((50, 60), 60), counts)).all()
    assert found.report["missing_height_pixels"] == 50 * 35


def test_jpeg_colours_keep_their_mask(rgb, tmp_path):
    image, valid = scene()
    path = write(
        tmp_path / "in.tif", image, mask_hw=valid, compress="jpeg", photometric="ycbcr",
        tiled=True, blockxsize=64, blockysize=64,
    )  # fmt: skip
    labels = mapped(rgb, tmp_path / "map.tif", path).labels
    assert ((labels != 0) == valid).all()


def cut_off(path, image, rows, **said):
    """Write tiles of the first rows alone, as when writing ends early."""
    write(path, image, **said)
    with rasterio.open(path) as dataset:
        profile = dataset.profile | {"tiled": True, "blockxsize": 16, "blockysize": 16} | said
    with rasterio.open(path, "w", **profile, SPARSE_OK=True) as dataset:
        if said.get("interleave") == "band":
            dataset.write(image[:1], [1])
            dataset.write(image[1:, :rows], [2], window=((0, rows), (0, image.shape[2])))
        else:
            dataset.write(image[:, :rows], window=((0, rows), (0, image.shape[2])))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_a_file_whose_writing_was_cut_off(red_and_green, tmp_path, interleave):
    image, valid = noise(2, 64, 80), np.ones((64, 80), bool)
    valid[48:] = False
    cut_off(tmp_path / "in.tif", image, 48, interleave=interleave)
    found = mapped(red_and_green, tmp_path / "map.tif", tmp_path / "in.tif")
    assert (found.labels == box_labels(*image, valid)).all()


@pytest.mark.parametrize("told", [[], ["--nodata", "none"], ["--mask", "none", "--nodata", "none"]])
def test_what_fills_blocks_that_were_never_written_is_not_valid(red_and_green, tmp_path, told):
    """GDAL fills them with nodata, and a mask may call them valid."""
    image, valid = noise(2, 64, 80), np.ones((64, 80), bool)
    valid[48:] = False
    path = tmp_path / "in.tif"
    cut_off(path, image, 48, nodata=255)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.full((64, 80), 255, np.uint8))
    found = mapped(red_and_green, tmp_path / "map.tif", path, *told)
    assert (found.labels == box_labels(*image, valid)).all()


@pytest.mark.parametrize("values", ["7 7", "7 9"])
def test_nodata_of_all_bands_together(red_and_green, tmp_path, values):
    """That is what gdal_translate makes of a PNG with a transparent colour."""
    image, colour = noise(2, 60, 80), np.array(values.split(), np.uint8)
    image[:, 10:30, 10:30] = colour[:, None, None]
    image[0, 40:45] = colour[0]
    valid = (image != colour[:, None, None]).any(0)
    path = write(tmp_path / "in.tif", image)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(NODATA_VALUES=values)
    found = mapped(red_and_green, tmp_path / "map.tif", path)
    assert (found.labels == box_labels(*image, valid)).all()


def test_a_mask_that_cannot_be_read_is_refused(red_and_green, tmp_path):
    path = write(tmp_path / "in.tif", noise(2, 60, 80))
    (tmp_path / "in.tif.msk").write_bytes(b"II*\0junk")
    line = refused(red_and_green, path, tmp_path / "map.tif")
    assert "in.tif.msk: cannot be read as the mask of" in line


@pytest.mark.parametrize("value", ["300", "-1", "0.5", "nan", "inf"])
def test_a_value_that_eight_bits_cannot_hold_is_refused(red_and_green, tmp_path, value):
    path = write(tmp_path / "in.tif", noise(2, 60, 80))
    line = refused(red_and_green, path, f"--nodata={value}", tmp_path / "map.tif")
    assert "nodata" in line


def test_a_map_of_nothing_is_told(red_and_green, tmp_path):
    path = write(tmp_path / "in.tif", noise(2, 60, 80), mask_hw=np.zeros((60, 80), bool))
    found = mapped(red_and_green, tmp_path / "map.tif", path)
    assert not found.labels.any()
    assert "no pixel of the images is valid: the map holds nodata alone" in found.notices
