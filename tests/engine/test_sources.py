import threading

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy as rasterio_copy
from rasterio.transform import Affine

from flair_engine.errors import ReadError, SourceError
from flair_engine.grid import Grid, Window, cut
from flair_engine.manifest import read_model_spec
from flair_engine.sources import RasterSource, open_source, pixel_size_m
from flair_engine.strips import read_strips


@pytest.fixture
def spec(tiny_path):
    return read_model_spec(tiny_path)


LAYOUTS = {
    "tiled": {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"},
    "striped": {"blockysize": 3, "compress": "lzw"},
    "one strip": {"blockysize": 333},
    "planar": {"tiled": True, "blockxsize": 16, "blockysize": 32, "interleave": "band"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strips_of_a_file_are_windows_of_it(make_raster, layout):
    path, image = make_raster(height=333, width=217, **LAYOUTS[layout])
    grid = Grid(height=333, width=217, tile_px=64, margin_px=20)
    with RasterSource(path) as source:
        for strip in read_strips(source, grid, 2):
            for j in range(grid.cols):
                assert (strip.tile(j) == cut(image, grid.tile(strip.i, j))).all()


def test_bands_come_in_the_order_asked_for(make_raster, spec):
    path, image = make_raster(bands=4)
    with open_source(path, spec, band_numbers=(4, 1)) as source:
        window = Window(top=2, left=3, height=4, width=5)
        assert (source.read(window) == image[[3, 0], 2:6, 3:8]).all()


def test_every_thread_has_its_own_handle_and_all_are_closed(make_raster):
    path, _ = make_raster()
    source = RasterSource(path)
    window = Window(top=0, left=0, height=1, width=1)
    threads = [threading.Thread(target=source.read, args=(window,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handles = list(source._handles)
    assert len(handles) == 4
    source.close()
    source.close()
    assert all(handle.closed for handle in handles)


def test_a_vrt_is_read_like_a_file(make_raster, tmp_path, spec):
    path, image = make_raster()
    vrt = tmp_path / "in.vrt"
    with rasterio.open(path) as dataset:
        rasterio_copy(dataset, vrt, driver="VRT")
    with open_source(vrt, spec) as source:
        assert (source.read(Window(top=0, left=0, height=70, width=53)) == image).all()


REFUSED = [
    ({"bands": 3}, {}, "has 3 bands, the model wants 2 .one, two.: choose them with --bands 1,2"),
    ({"bands": 1}, {}, "has 1 band, the model wants 2"),
    ({"dtype": "uint16"}, {}, "bands are uint16, the model wants uint8"),
    ({}, {"band_numbers": (1, 2, 1)}, "3 band numbers given, the model wants 2"),
    ({}, {"band_numbers": (1, 7)}, "band 7 was asked for but the file has 2"),
    ({"crs": None}, {}, "has no georeference, .* say so with --gsd 0.2"),
    ({"transform": Affine.identity()}, {}, "has no georeference"),
    ({"crs": "EPSG:4326"}, {}, "its CRS is in degrees"),
    ({"gsd_m": 0.15}, {}, "ground sampling is 0.15 x 0.15 m, the model was trained at 0.2 m"),
    ({"crs": "EPSG:2225"}, {}, "ground sampling is 0.06096 x 0.06096 m"),
    ({}, {"gsd_m": 0.5}, "ground sampling is 0.5 x 0.5 m"),
]


@pytest.mark.parametrize(("profile", "options", "message"), REFUSED)
def test_rasters_that_are_refused(make_raster, spec, profile, options, message):
    path, _ = make_raster(**profile)
    with pytest.raises(SourceError, match=message):
        open_source(path, spec, **options)


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ({"gsd_m": 0.200000000000001}, {}),
        ({"crs": None}, {"gsd_m": 0.2}),
        ({"crs": "EPSG:4326"}, {"gsd_m": 0.2}),
        ({"transform": Affine(0.1, 0.173205, 7e5, 0.173205, -0.1, 6e6)}, {}),
    ],
)
def test_rasters_that_are_accepted(make_raster, spec, profile, options):
    path, _ = make_raster(**profile)
    open_source(path, spec, **options).close()


def test_a_local_crs_without_a_known_unit_is_taken_as_metres(make_raster):
    local = 'LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1],AXIS["Easting",EAST]]'
    path, _ = make_raster(crs=local)
    with RasterSource(path) as source:
        assert pixel_size_m(source) == pytest.approx((0.2, 0.2))


def test_no_such_file(spec, tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        open_source(tmp_path / "absent.tif", spec)


def test_not_a_raster(spec, tmp_path):
    path = tmp_path / "note.tif"
    path.write_text("not a raster")
    with pytest.raises(SourceError, match="GDAL cannot open it"):
        open_source(path, spec)


def test_an_unreadable_block_is_named(make_raster, spec):
    path, _ = make_raster(height=256, width=256, tiled=True, blockxsize=64, blockysize=64,
                          compress="deflate")  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with (
        open_source(path, spec) as source,
        pytest.raises(
            ReadError, match=r"rows 192 to 255, columns 192 to 255 cannot .* block row 3"
        ),
    ):
        source.read(Window(top=192, left=192, height=64, width=64))


def test_real_patches_are_accepted(shared_data):
    path = shared_data / "flair1" / "Z4_block" / "img" / "IMG_025466.tif"
    with RasterSource(path) as source:
        assert (source.count, source.height, source.width) == (5, 512, 512)
        assert pixel_size_m(source) == pytest.approx((0.2, 0.2))
        assert source.read(Window(top=0, left=0, height=1, width=1)).dtype == np.uint8
