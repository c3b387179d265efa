import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from flair_engine.errors import ReadError, SourceError
from flair_engine.grid import Grid, area_of
from flair_engine.reading.files import describe
from flair_engine.reading.height import HeightCheck, HeightLayer, encode_height
from flair_engine.reading.pixel_grid import pixel_grid_of
from flair_engine.reading.strips import Strip

X, Y = 721104.4, 6248980.8


@pytest.mark.parametrize(
    ("metres", "counts"),
    [(-3, 0), (0, 0), (0.09, 0), (0.11, 1), (0.2, 1), (3.34, 17), (51, 255), (80, 255)],
)
def test_height_counts(metres, counts):
    dsm, dtm = np.array([[100 + metres]], np.float32), np.array([[100]], np.float32)
    assert encode_height(dsm, dtm).tolist() == [[counts]]


def elevation(tmp_path, name, metres, gsd_m=0.2, **profile):
    path = tmp_path / name
    height, width = metres.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=1, height=height, width=width,
        crs="EPSG:2154", transform=from_origin(X, Y, gsd_m, gsd_m), **profile,
    ) as dataset:  # fmt: skip
        dataset.write(metres.astype(np.float32), 1)
    return describe(str(path))


@pytest.fixture
def grid(make_raster):
    transform = from_origin(X, Y, 0.2, 0.2)
    info = describe(str(make_raster(height=60, width=50, transform=transform)[0]))
    return pixel_grid_of([info], gsd_m=0.2)


def test_models_on_the_grid_are_subtracted_pixel_by_pixel(tmp_path, grid):
    rng = np.random.default_rng(0)
    dsm, dtm = rng.uniform(100, 130, (60, 50)), rng.uniform(90, 110, (60, 50))
    dsm[3, 4], dtm[7:9, 8] = -9999, np.nan
    layer = HeightLayer(
        grid,
        [elevation(tmp_path, "dsm.tif", dsm, nodata=-9999)],
        [elevation(tmp_path, "dtm.tif", dtm)],
    )
    counts, known = layer.read(layer.window)
    expected = encode_height(dsm.astype(np.float32), np.nan_to_num(dtm).astype(np.float32))
    assert (counts[0][known] == expected[known]).all()
    assert sorted(zip(*np.nonzero(~known), strict=True)) == [(3, 4), (7, 8), (8, 8)]
    layer.close()


def test_coarser_models_are_warped_and_unknown_outside(tmp_path, grid):
    slope = np.arange(20)[None, :] * np.ones((30, 1)) + 100
    layer = HeightLayer(
        grid,
        [elevation(tmp_path, "dsm.tif", slope[:12], gsd_m=0.5)],
        [elevation(tmp_path, "dtm.tif", np.full((30, 20), 100.0), gsd_m=0.5)],
    )
    counts, known = layer.read(layer.window)
    assert known[:30].all()
    assert not known[30:].any()
    # Pixel centres lie at 0.1 + 0.2 x metres, those of the model at 0.25 + 0.5 n.
    metres = np.clip(((np.arange(50) * 0.2 + 0.1) - 0.25) / 0.5, 0, 19)
    assert np.abs(counts[0, 5].astype(float) - np.clip(5 * metres, 0, 255)).max() <= 1
    layer.close()


def test_elevation_files_of_different_grids(tmp_path, grid):
    files = [
        elevation(tmp_path, "a.tif", np.ones((9, 9))),
        elevation(tmp_path, "b.tif", np.ones((9, 9)), gsd_m=0.5),
    ]
    with pytest.raises(SourceError, match="is on another grid than 1 files given with it"):
        HeightLayer(grid, files, files[:1])


def test_unreadable_elevation(tmp_path, grid):
    info = elevation(tmp_path, "dsm.tif", np.random.default_rng(0).normal(size=(60, 50)))
    layer = HeightLayer(grid, [info], [info])
    (tmp_path / "dsm.tif").write_bytes((tmp_path / "dsm.tif").read_bytes()[:3000])
    with pytest.raises(ReadError, match="elevation of image rows 0 to 59, columns 0 to 49 cannot"):
        layer.read(layer.window)
    layer.close()


def verdict(values, valid=None):
    grid = Grid(height=2048, width=2048, tile_px=2048, margin_px=0)
    image = np.zeros((2, 2048, 2048), np.uint8)
    image[1] = values
    strip = Strip(i=0, panel=area_of(grid, None), image_bhw=image, valid_hw=valid)
    check = HeightCheck(1)
    first = check.observe(strip)
    assert check.warning() is None
    return first


def test_an_elevation_band_that_cannot_be_height_is_told():
    rng = np.random.default_rng(0)
    town = np.where(rng.random((2048, 2048)) < 0.3, rng.integers(15, 90, (2048, 2048)), 0)
    assert verdict(town) is None
    assert "is 0 everywhere" in verdict(0)
    assert "nowhere below 40" in verdict(town // 9 + 40)
    assert "hardly exceeds 17" in verdict(town // 5)


def test_few_pixels_are_judged_at_the_end():
    grid = Grid(height=64, width=64, tile_px=64, margin_px=0)
    strip = Strip(
        i=0, panel=area_of(grid, None), image_bhw=np.zeros((1, 64, 64), np.uint8), valid_hw=None
    )
    check = HeightCheck(0)
    assert check.warning() is None
    assert check.observe(strip) is None
    assert "is 0 everywhere" in check.warning()
    assert check.observe(strip) is None


def test_real_elevation_is_accepted(shared_data):
    for name in ("025466", "025470", "025484"):
        path = shared_data / "flair1" / "Z4_block" / "img" / f"IMG_{name}.tif"
        with rasterio.open(path) as dataset:
            image = dataset.read()
        grid = Grid(height=512, width=512, tile_px=512, margin_px=0)
        check = HeightCheck(4)
        check.observe(Strip(i=0, panel=area_of(grid, None), image_bhw=image, valid_hw=None))
        assert check.warning() is None
