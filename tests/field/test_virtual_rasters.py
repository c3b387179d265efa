"""VRTs: the map of their tiles, or one line that says why not, or what is not known of them."""

import zipfile

import numpy as np
import pytest
import rasterio
from doubles.field import (
    Placed,
    box_labels,
    damage_block,
    flair_run,
    flat,
    has_driver,
    mapped,
    noise,
    read_map,
    refused,
    said,
    write,
    write_index,
    write_vrt,
)
from rasterio.shutil import copy
from rasterio.vrt import WarpedVRT

SIZE = {"height": 60, "width": 100}
BANDS = SIZE | {"bands": 2}
SKIP = ["--on-error", "skip"]
COLLAR = np.s_[:, 80:]
"""Pixels of the right tile that are not valid."""


@pytest.fixture
def red_and_green(band_model):
    return band_model("red", "green")


def image_and_valid(fill=255):
    image, valid = noise(2, 60, 100), np.ones((60, 100), bool)
    valid[COLLAR] = False
    image[:, ~valid] = fill
    return image, valid


def halves(folder, image, left=None, right=None):
    """Write the halves of an image; return where they lie."""
    parts = {"a": (np.s_[:, :, :50], 0, left or {}), "b": (np.s_[:, :, 50:], 50, right or {})}
    return [
        Placed(write(folder / f"{name}.tif", image[part], col=col, **how), 0, col, 60, 50)
        for name, (part, col, how) in parts.items()
    ]


def own_mask(valid):
    return {"mask_hw": valid[:, 50:]}


HIDDEN = {
    "nodata that it does not declare": ({"nodata": 255}, {}),
    "nodata that is left unpainted": ({"nodata": 255}, {"keyed": 255.0}),
    "nodata that is another there": ({"nodata": 255}, {"declared": 0.0}),
    "a mask": ("mask", {}),
    "a mask and nodata": ("mask", {"declared": 255.0}),
    "a mask that is left unpainted": ("mask", {"by_mask": True}),
}


@pytest.mark.parametrize(("right", "shown"), HIDDEN.values(), ids=HIDDEN)
def test_validity_that_is_not_handed_on_is_refused(red_and_green, tmp_path, right, shown):
    image, valid = image_and_valid()
    right = own_mask(valid) if right == "mask" else right
    placed = halves(tmp_path, image, right=right)
    path = write_vrt(tmp_path / "all.vrt", placed, **BANDS, **shown)
    line = refused(red_and_green, path, tmp_path / "map.tif")
    assert "all.vrt: does not hand on which pixels of" in line
    assert "b.tif" in line or "keyed" in shown
    tiles = [at.path for at in placed]
    found = mapped(red_and_green, tmp_path / "map.tif", *tiles)
    assert (found.labels == box_labels(*image, valid)).all()


HANDED_ON = {
    "nodata": ({"nodata": 255}, {"nodata": 255.0}),
    "nodata of both": ({"nodata": 255}, {"declared": 255.0}),
    "a mask": ("mask", {"masked": True}),
    "a mask as nodata": ("mask", {"by_mask": True, "declared": 0.0}),
}


@pytest.mark.parametrize(("right", "shown"), HANDED_ON.values(), ids=HANDED_ON)
def test_validity_that_is_handed_on_is_that_of_the_tiles(red_and_green, tmp_path, right, shown):
    image, valid = image_and_valid()
    right = own_mask(valid) if right == "mask" else right
    path = write_vrt(tmp_path / "all.vrt", halves(tmp_path, image, right=right), **BANDS, **shown)
    found = mapped(red_and_green, tmp_path / "map.tif", path)
    assert (found.labels == box_labels(*image, valid)).all()


def test_alpha_that_says_only_where_tiles_lie_is_refused(red_and_green, tmp_path):
    """That is what gdalbuildvrt -addalpha makes of tiles with a mask or nodata."""
    image, valid = image_and_valid()
    for right in ({"nodata": 255}, own_mask(valid)):
        placed = halves(tmp_path, image, right=right)
        path = write_vrt(tmp_path / "all.vrt", placed, **SIZE, bands=3, alpha=True, by_mask=True)
        line = refused(red_and_green, path, "--bands", "1,2", tmp_path / "map.tif")
        assert "does not hand on which pixels of" in line


@pytest.mark.parametrize("product", ["dtm", "ndsm"])
def test_holes_of_heights_that_are_not_handed_on_are_refused(band_model, tmp_path, product):
    red = write(tmp_path / "red.tif", flat(60, 60, 100))
    metres = flat(100, 60, 100, "float32")
    metres[:, 10:30, 70:90] = -9999
    placed = halves(tmp_path, metres, right={"nodata": -9999})
    given = ["--ndsm"]
    if product == "dtm":
        given = ["--dsm", write(tmp_path / "dsm.tif", flat(120, 60, 100, "float32")), "--dtm"]
    model = band_model("red", "elevation")
    for keyed in (None, -9999.0):
        path = write_vrt(tmp_path / "all.vrt", placed, **SIZE, dtype="Float32", keyed=keyed)
        line = refused(model, red, *given, path, tmp_path / "map.tif")
        assert "all.vrt: does not hand on which pixels of" in line
    path = write_vrt(tmp_path / "all.vrt", placed, **SIZE, dtype="Float32", nodata=-9999.0)
    found = mapped(model, tmp_path / "map.tif", red, *given, path)
    assert found.report["missing_height_pixels"] == 400


def computed(path):
    """Make the bands of a VRT the sums of their sources."""
    text = path.read_text()
    for number in (1, 2):
        text = text.replace(
            f'band="{number}">',
            f'band="{number}" subClass="VRTDerivedRasterBand">'
            "<PixelFunctionType>sum</PixelFunctionType>",
        )
    path.write_text(text)
    return path


def warped(path, output, **said):
    with rasterio.open(path) as dataset, WarpedVRT(dataset, **said) as view:
        copy(view, output, driver="VRT")
    return output


UNKNOWN = "what its sources cover is not known, and without alpha or nodata every pixel counts"


def test_what_a_computed_vrt_inside_another_is_made_of_is_missed(red_and_green, tmp_path):
    """GDAL reads zeros for it."""
    image = noise(2, 60, 100)
    source = write(tmp_path / "a.tif", image)
    zero = write(tmp_path / "zero.tif", flat(0, 60, 100).repeat(2, 0))
    both = [Placed(file, 0, 0, 60, 100) for file in (source, zero)]
    inner = computed(write_vrt(tmp_path / "sum.vrt", both, **BANDS))
    size = {"height": 60, "width": 140, "bands": 2}
    path = write_vrt(tmp_path / "all.vrt", [Placed(inner, 0, 40, 60, 100)], **size)
    found = mapped(red_and_green, tmp_path / "whole.tif", path)
    inside = np.broadcast_to(np.arange(140) >= 40, (60, 140))
    wide = np.pad(image, ((0, 0), (0, 0), (40, 0)))
    assert (found.labels == box_labels(*wide, inside)).all()
    assert f"all.vrt: is computed or warped, or holds what is: {UNKNOWN}" in found.notices
    source.unlink()
    assert "a.tif" in said(flair_run("-m", red_and_green, path, tmp_path / "map.tif"), 1)
    found = mapped(red_and_green, tmp_path / "map.tif", path, *SKIP, "--overwrite", code=3)
    assert not found.labels.any()
    assert found.report["nodata_pixels"] == 60 * 140


def test_a_computed_vrt_beside_others_is_refused(red_and_green, tmp_path):
    """GDAL 3.10 writes it over them."""
    a, b = halves(tmp_path, noise(2, 60, 100))
    half = {"height": 60, "width": 50, "bands": 2}
    inner = computed(write_vrt(tmp_path / "sum.vrt", [b._replace(col=0)] * 2, **half))
    path = write_vrt(tmp_path / "all.vrt", [a, b._replace(path=inner)], **BANDS)
    line = refused(red_and_green, path, tmp_path / "map.tif")
    assert "sum.vrt is computed, which GDAL misreads beside others" in line


def test_what_a_warped_vrt_inside_another_is_made_of_is_missed(red_and_green, tmp_path):
    image = noise(2, 60, 100)
    a, b = halves(tmp_path, image)
    half = {"height": 60, "width": 50, "bands": 2}
    inner = write_vrt(tmp_path / "inner.vrt", [b._replace(col=0)], **half)
    inner = warped(inner, tmp_path / "warped.vrt")
    path = write_vrt(tmp_path / "all.vrt", [a, b._replace(path=inner)], **BANDS)
    found = mapped(red_and_green, tmp_path / "whole.tif", path)
    assert (found.labels == box_labels(*image)).all()
    assert f"all.vrt: is computed or warped, or holds what is: {UNKNOWN}" in found.notices
    b.path.unlink()
    assert "b.tif" in said(flair_run("-m", red_and_green, path, tmp_path / "map.tif"), 1)
    found = mapped(red_and_green, tmp_path / "map.tif", path, *SKIP, "--overwrite", code=3)
    assert ((found.labels == 0) == (np.arange(100) >= 50)).all()


@pytest.mark.skipif(not has_driver("GTI"), reason="needs GDAL 3.9")
@pytest.mark.parametrize("nested", [False, True])
def test_an_index_of_tiles_is_refused(red_and_green, tmp_path, nested):
    path = write_index(tmp_path / "index.gti", halves(tmp_path, noise(2, 60, 100)))
    if nested:
        path = write_vrt(tmp_path / "all.vrt", [Placed(path, 0, 0, 60, 100)], **BANDS)
    line = refused(red_and_green, path, tmp_path / "map.tif")
    assert "index.gti: is an index of tiles (GTI)" in line


def nested_in_xml(tmp_path, placed):
    inner = write_vrt(tmp_path / "inner.vrt", placed, **BANDS).rename(tmp_path / "inner.xml")
    return write_vrt(tmp_path / "all.vrt", [Placed(inner, 0, 0, 60, 100)], **BANDS)


def in_another_file(tmp_path, placed):
    """A warped VRT names its source as SourceDataset."""
    inner = write_vrt(tmp_path / "inner.vrt", placed, **BANDS)
    middle = warped(inner, tmp_path / "warped.vrt")
    return write_vrt(tmp_path / "all.vrt", [Placed(middle, 0, 0, 60, 100)], **BANDS)


def by_a_link(tmp_path, placed):
    path = write_vrt(tmp_path / "inner.vrt", placed, **BANDS)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "all.vrt"
    link.symlink_to(f"../{path.name}")
    return link


DEEP = [nested_in_xml, in_another_file, by_a_link]


@pytest.mark.parametrize("made", DEEP, ids=lambda made: made.__name__)
def test_a_tile_deep_inside_is_not_replaced_by_the_map(red_and_green, tmp_path, made):
    placed = halves(tmp_path, noise(2, 60, 100))
    path = made(tmp_path, placed)
    tile = placed[1].path
    with rasterio.open(tile, "r+") as dataset:
        dataset.update_tags(FLAIR_MODEL="as if it were a map")
    before = tile.read_bytes()
    line = said(flair_run("-m", red_and_green, path, tile, "--overwrite"), 2)
    assert "b.tif: is the input" in line
    assert tile.read_bytes() == before


@pytest.mark.parametrize("made", DEEP, ids=lambda made: made.__name__)
def test_a_run_is_not_resumed_with_another_tile_deep_inside(red_and_green, tmp_path, made):
    old, new = noise(2, 60, 100), noise(2, 60, 100, seed=1)
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    placed = halves(tmp_path, old, left=tiles, right=tiles)
    path = made(tmp_path, placed)
    damage_block(placed[1].path, 3, 2)
    said(flair_run("-m", red_and_green, path, tmp_path / "map.tif"), 1)
    halves(tmp_path, new, left=tiles, right=tiles)
    outcome = flair_run("-m", red_and_green, path, tmp_path / "map.tif", "--resume")
    if outcome.code:
        assert "differs in inputs" in said(outcome, 2)
    else:
        assert (read_map(tmp_path / "map.tif") == box_labels(*new)).all()


def test_a_vrt_of_another_name_keeps_its_gaps(red_and_green, tmp_path):
    image = noise(2, 60, 100)
    a, b = halves(tmp_path, image)
    inner = write_vrt(tmp_path / "inner.vrt", [a, b._replace(col=70)], height=60, width=120,
                      bands=2)  # fmt: skip
    inner = inner.rename(tmp_path / "inner.xml")
    whole = [Placed(inner, 0, 0, 60, 120)]
    path = write_vrt(tmp_path / "all.vrt", whole, height=60, width=120, bands=2)
    gap = (np.arange(120) >= 50) & (np.arange(120) < 70)
    for number, given in enumerate((inner, path)):
        found = mapped(red_and_green, tmp_path / f"map{number}.tif", given)
        assert ((found.labels == 0) == gap).all()


@pytest.mark.parametrize("gone", [False, True])
def test_bands_of_several_files_are_valid_where_all_are(red_and_green, tmp_path, gone):
    image = noise(2, 60, 100)
    red = write(tmp_path / "red.tif", image[:1])
    green = write(tmp_path / "green.tif", image[1:, :, :70])
    sources = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"><SimpleSource><SourceFilename '
        f'relativeToVRT="1">{file.name}</SourceFilename><SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="60"/>'
        f'<DstRect xOff="0" yOff="0" xSize="{width}" ySize="60"/></SimpleSource></VRTRasterBand>'
        for number, file, width in ((1, red, 100), (2, green, 70))
    )
    path = write_vrt(tmp_path / "all.vrt", [], **SIZE, bands=0)
    path.write_text(path.read_text().replace("</VRTDataset>", f"{sources}</VRTDataset>"))
    valid = np.ones((60, 100), bool)
    valid[:, 70:] = False
    if not gone:
        found = mapped(red_and_green, tmp_path / "map.tif", path)
        assert (found.labels == box_labels(*np.where(valid, image, 0), valid)).all()
        return
    green.unlink()
    assert "green.tif" in said(flair_run("-m", red_and_green, path, tmp_path / "map.tif"), 1)
    found = mapped(red_and_green, tmp_path / "map.tif", path, *SKIP, "--overwrite", code=3)
    assert not found.labels.any()


def test_blocks_that_were_never_written_are_refused_in_a_vrt(red_and_green, tmp_path):
    image = noise(2, 64, 64)
    source = tmp_path / "a.tif"
    write(source, image)
    with rasterio.open(source) as dataset:
        profile = dataset.profile | {"tiled": True, "blockxsize": 16, "blockysize": 16}
    with rasterio.open(source, "w", **profile, SPARSE_OK=True) as dataset:
        dataset.write(image[:, :48], window=((0, 48), (0, 64)))
    path = write_vrt(tmp_path / "all.vrt", [Placed(source, 0, 0, 64, 64)], height=64, width=64,
                     bands=2)  # fmt: skip
    for given in (path, f"vrt://{source}?bands=1,2"):
        line = refused(red_and_green, given, tmp_path / "map.tif")
        assert "a.tif holds blocks that were never written: fetch it again" in line
    valid = np.ones((64, 64), bool)
    valid[48:] = False
    found = mapped(red_and_green, tmp_path / "map.tif", source)
    assert (found.labels == box_labels(*image, valid)).all()


DELIVERED_ANEW = {
    "smaller": (lambda image: image[:, :40], {}, "50 x 60 px, it has 50 x 40"),
    "finer": (lambda image: image.repeat(2, 1).repeat(2, 2), {"gsd_m": 0.1},
              "50 x 60 px, it has 100 x 120"),
    "16 bits": (lambda image: image.astype("uint16") * 200, {}, "is uint8"),
    "a palette": (lambda image: image[:1], {"photometric": "palette"}, "without its colour table"),
}  # fmt: skip


@pytest.mark.parametrize(("now", "how", "line"), DELIVERED_ANEW.values(), ids=DELIVERED_ANEW)
def test_a_tile_that_was_delivered_anew_is_refused(band_model, tmp_path, now, how, line):
    image = noise(1, 60, 100)
    placed = halves(tmp_path, image)
    path = write_vrt(tmp_path / "all.vrt", placed, **SIZE, stated=(50, 60))
    mapped(band_model("red"), tmp_path / "map.tif", path)
    write(placed[1].path, now(image[:, :, 50:]), col=50, **how)
    assert line in refused(band_model("red"), path, tmp_path / "map2.tif")


def test_a_unit_that_is_not_handed_on_is_refused(band_model, tmp_path):
    red = write(tmp_path / "red.tif", noise(1, 60, 100))
    feet = (np.random.default_rng(0).uniform(0, 100, (1, 60, 100))).astype(np.float32)
    unit = {"unit": "ft"}
    placed = halves(tmp_path, feet, left=unit, right=unit)
    path = write_vrt(tmp_path / "all.vrt", placed, **SIZE, dtype="Float32")
    model = band_model("red", "elevation")
    line = refused(model, red, "--ndsm", path, tmp_path / "map.tif")
    assert "all.vrt: does not hand on the unit, scale and offset of" in line
    tag = "<UnitType>ft</UnitType>"
    path.write_text(path.read_text().replace('band="1">', f'band="1">{tag}'))
    found = mapped(model, tmp_path / "map.tif", red, "--ndsm", path)
    tiles = [x for at in placed for x in ("--ndsm", at.path)]
    expected = mapped(model, tmp_path / "tiles.tif", red, *tiles)
    assert (found.labels == expected.labels).all()


def test_a_warped_vrt_is_told_unless_it_says_what_is_valid(red_and_green, tmp_path):
    source = write(tmp_path / "a.tif", noise(2, 60, 100))
    for number, (how, told) in enumerate((({}, True), ({"nodata": 0}, False))):
        path = warped(source, tmp_path / f"{number}.vrt", **how)
        found = mapped(red_and_green, tmp_path / f"map{number}.tif", path)
        assert (UNKNOWN in found.notices) == told
        assert (found.labels == box_labels(*noise(2, 60, 100))).all()


@pytest.mark.parametrize("name", ["/vsizip/{}/{}", "zip://{}!{}"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_vrt_in_an_archive(red_and_green, tmp_path, name, depth):
    image = noise(2, 60, 100)
    a, b = halves(tmp_path, image)
    inner = write_vrt(tmp_path / "0.vrt", [a, b._replace(col=70)], height=60, width=120, bands=2)
    whole = [Placed(inner, 0, 0, 60, 120)]
    write_vrt(tmp_path / "1.vrt", whole, height=60, width=120, bands=2)
    packed = tmp_path / "in.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (a.path, b.path, inner, tmp_path / "1.vrt"):
            archive.write(file, file.name)
    for file in (a.path, b.path):
        file.unlink()
    found = mapped(red_and_green, tmp_path / "map.tif", name.format(packed, f"{depth}.vrt"))
    valid = np.ones((60, 120), bool)
    valid[:, 50:70] = False
    spread = np.zeros((2, 60, 120), np.uint8)
    spread[:, :, :50], spread[:, :, 70:] = image[:, :, :50], image[:, :, 50:]
    assert (found.labels == box_labels(*spread, valid)).all()


def test_a_linked_vrt(red_and_green, tmp_path):
    image = noise(2, 60, 100)
    link = by_a_link(tmp_path, halves(tmp_path, image))
    found = mapped(red_and_green, tmp_path / "map.tif", link)
    assert (found.labels == box_labels(*image)).all()
    size = Placed(link, 0, 0, 60, 100)
    outer = write_vrt(tmp_path / "outer.vrt", [size], **BANDS)
    found = mapped(red_and_green, tmp_path / "outer.tif", outer)
    assert (found.labels == box_labels(*image)).all()


def test_one_damaged_block_of_a_vrt_is_lost_and_no_more(red_and_green, tmp_path):
    image = noise(2, 60, 100)
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    a, b = halves(tmp_path, image, left=tiles, right=tiles)
    path = write_vrt(tmp_path / "all.vrt", [a, b], **BANDS)
    damage_block(b.path, 1, 2)
    said(flair_run("-m", red_and_green, path, tmp_path / "map.tif"), 1)
    found = mapped(red_and_green, tmp_path / "map.tif", path, *SKIP, "--overwrite", code=3)
    lost = np.zeros((60, 100), bool)
    lost[16:32, 50 + 32 : 50 + 48] = True
    assert ((found.labels == 0) == lost).all()
    assert found.report["skipped_blocks"] == 1


def test_bands_chosen_by_gdal(red_and_green, tmp_path):
    image = noise(3, 60, 100)
    source = write(tmp_path / "a.tif", image)
    found = mapped(red_and_green, tmp_path / "map.tif", f"vrt://{source}?bands=3,1")
    assert (found.labels == box_labels(image[2], image[0])).all()


def test_a_vrt_in_latin_1_is_refused(red_and_green, tmp_path):
    placed = halves(tmp_path, noise(2, 60, 100))
    path = write_vrt(tmp_path / "all.vrt", placed, **BANDS)
    head = b'<?xml version="1.0" encoding="ISO-8859-1"?>\n'
    path.write_bytes(head + path.read_bytes().replace(b"a.tif", b"\xe9.tif"))
    line = refused(red_and_green, path, tmp_path / "map.tif")
    assert "all.vrt: is not written in UTF-8: save it so" in line


NONSENSE = [
    ('rasterXSize="100"', 'rasterXSize="100.0"'),
    ('<SrcRect xOff="0"', '<SrcRect xOff="abc"'),
    ('ySize="60" />', 'ySize="60,0" />'),
    ("<VRTDataset", "<!-- a note --><VRTDataset"),
    (">a.tif<", "> a.tif\n<"),
]


@pytest.mark.parametrize(("good", "bad"), NONSENSE)
@pytest.mark.parametrize("nested", [False, True])
def test_numbers_that_are_none_end_in_a_line_or_the_right_map(
    red_and_green, tmp_path, good, bad, nested
):
    image = noise(2, 60, 100)
    inner = write_vrt(tmp_path / "inner.vrt", halves(tmp_path, image), **BANDS)
    path = write_vrt(tmp_path / "all.vrt", [Placed(inner, 0, 0, 60, 100)], **BANDS)
    assert good in inner.read_text()
    inner.write_text(inner.read_text().replace(good, bad))
    given = path if nested else inner
    outcome = flair_run("-m", red_and_green, given, tmp_path / "map.tif")
    if outcome.code:
        said(outcome, outcome.code)
    else:
        assert (read_map(tmp_path / "map.tif") == box_labels(*image)).all()


def test_a_mosaic_of_mosaics_is_the_map_of_its_tiles(red_and_green, tmp_path):
    image = noise(2, 60, 100)
    a, b = halves(tmp_path, image)
    size = {"height": 60, "width": 50, "bands": 2}
    inner = [
        at._replace(path=write_vrt(at.path.with_suffix(".vrt"), [at._replace(col=0)], **size))
        for at in (a, b)
    ]
    path = write_vrt(tmp_path / "all.vrt", inner, **BANDS)
    found = mapped(red_and_green, tmp_path / "map.tif", path)
    assert (found.labels == box_labels(*image)).all()
    assert found.notices == ""
