import numpy as np
import pytest
import rasterio
from doubles.field import write
from doubles.layers import BlockLayer
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.errors import ReadError
from flair_engine.grid import Grid, Window, whole_area
from flair_engine.options import ReadOptions
from flair_engine.reading import height
from flair_engine.reading.bands import Chosen, choose_bands
from flair_engine.reading.files import describe
from flair_engine.reading.height import HeightCheck, HeightLayer, check_heights, encode_height
from flair_engine.reading.metres import to_metres
from flair_engine.reading.mosaic import Mosaic
from flair_engine.reading.pixel_grid import pixel_grid_of
from flair_engine.reading.strips import Strip
from flair_engine.reading.warp import layers_on


@pytest.mark.parametrize(
    ("metres", "counts"),
    [(-3, 0), (0, 0), (0.09, 0), (0.11, 1), (0.2, 1), (3.34, 17), (51, 255), (80, 255)],
)
def test_height_counts(metres, counts):
    dsm, dtm = np.array([[100 + metres]], np.float32), np.array([[100]], np.float32)
    assert encode_height(dsm, dtm).tolist() == [[counts]]


def test_metres_above_ground_alone_are_counts():
    assert encode_height(np.array([3.34], np.float32), np.zeros((), np.float32)).tolist() == [17]


@pytest.fixture
def grid(make_raster):
    return pixel_grid_of([describe(str(make_raster(height=60, width=50)[0]))], gsd_m=0.2)


def model(grid, *paths, **options):
    """Return files of metres as one mosaic on a grid."""
    files = []
    for path in paths:
        info = describe(str(path))
        choice = choose_bands(info, (1,), ReadOptions(), metres=to_metres(info))
        files.append(Chosen(info, choice))
    return Mosaic(layers_on(grid, files, **options))


def elevation(tmp_path, name, metres, **said):
    return write(tmp_path / name, np.asarray(metres, np.float32)[None], **said)


def whole(layer):
    window = Window(top=0, left=0, height=layer.window.height, width=layer.window.width)
    return layer.read(window)


def test_models_on_the_grid_are_subtracted_pixel_by_pixel(tmp_path, grid):
    rng = np.random.default_rng(0)
    dsm, dtm = rng.uniform(100, 130, (60, 50)), rng.uniform(90, 110, (60, 50))
    dsm[3, 4], dtm[7:9, 8] = -9999, np.nan
    layer = HeightLayer(
        model(grid, elevation(tmp_path, "dsm.tif", dsm, nodata=-9999)),
        model(grid, elevation(tmp_path, "dtm.tif", dtm)),
    )
    counts, known, lost = whole(layer)
    expected = encode_height(dsm.astype(np.float32), np.nan_to_num(dtm).astype(np.float32))
    assert (counts[0][known] == expected[known]).all()
    assert sorted(zip(*np.nonzero(~known), strict=True)) == [(3, 4), (7, 8), (8, 8)]
    assert lost is None
    assert layer.name.startswith("height (")
    assert layer.name.endswith("dtm.tif)")
    assert layer.count == 1
    layer.close()


def test_heights_above_ground_need_no_terrain(tmp_path, grid):
    metres = np.random.default_rng(0).uniform(0, 20, (60, 50))
    layer = HeightLayer(model(grid, elevation(tmp_path, "ndsm.tif", metres)))
    counts, known, _ = whole(layer)
    assert known is None
    assert (counts[0] == np.rint(5 * metres.astype(np.float32))).all()


def test_height_is_known_where_both_models_are(tmp_path, grid):
    layer = HeightLayer(
        model(grid, elevation(tmp_path, "dsm.tif", np.full((40, 50), 120), row=10, col=-5)),
        model(grid, elevation(tmp_path, "dtm.tif", np.full((40, 30), 100), row=20, col=10)),
    )
    assert layer.window == Window(top=20, left=10, height=30, width=30)
    counts, known, _ = whole(layer)
    assert known is None
    assert (counts == 100).all()
    buffer = np.empty((1, 4, 5), np.uint8)
    pixels = layer.read(Window(top=2, left=3, height=4, width=5), buffer)
    assert pixels.image_bhw is buffer
    assert (buffer == 100).all()


@pytest.mark.parametrize(("odd_m", "told"), [(-101, True), (-99, False), (349, False),
                                              (351, True), (0, False)])  # fmt: skip
@pytest.mark.parametrize("models", [1, 2])
def test_heights_that_nothing_has_are_told(tmp_path, grid, odd_m, told, models):
    metres = np.full((60, 50), 20.0)
    metres[3, 4] = odd_m
    notices = []
    if models == 1:
        given = [model(grid, elevation(tmp_path, "ndsm.tif", metres))]
    else:
        given = [model(grid, elevation(tmp_path, "dsm.tif", metres + 400)),
                 model(grid, elevation(tmp_path, "dtm.tif", np.full((60, 50), 400)))]  # fmt: skip
    layer = HeightLayer(*given, tell=notices.append)
    whole(layer)
    notice = f"{layer.name}: {odd_m} m above ground, which nothing is: are there holes of 0 m, or"
    assert notices == told * [f"{notice} models of different heights?"]


def test_a_hole_that_is_declared_is_not_told_of(tmp_path, grid):
    ground, notices = np.full((60, 50), 400.0), []
    ground[5:9] = 0
    dsm = model(grid, elevation(tmp_path, "dsm.tif", np.full((60, 50), 420)))
    dtm = model(grid, elevation(tmp_path, "dtm.tif", ground, nodata=0))
    whole(HeightLayer(dsm, dtm, tell=notices.append))
    assert notices == []
    layer = HeightLayer(dsm, model(grid, elevation(tmp_path, "x.tif", ground)), tell=notices.append)
    whole(layer)
    assert notices[0].startswith(f"{layer.name}: 420 m above ground")


def test_models_that_lie_apart_give_no_height(tmp_path, grid):
    layer = HeightLayer(
        model(grid, elevation(tmp_path, "dsm.tif", np.ones((9, 9)))),
        model(grid, elevation(tmp_path, "dtm.tif", np.ones((9, 9)), col=20)),
    )
    assert layer.window.pixels == 0


def test_coarser_models_are_warped_and_unknown_outside(tmp_path, grid):
    slope = np.arange(20)[None, :] * np.ones((30, 1)) + 100
    layer = HeightLayer(
        model(grid, elevation(tmp_path, "dsm.tif", slope[:12], gsd_m=0.5)),
        model(grid, elevation(tmp_path, "dtm.tif", np.full((30, 20), 100.0), gsd_m=0.5)),
    )
    assert layer.window == Window(top=0, left=0, height=30, width=50)
    counts, known, _ = whole(layer)
    assert known is None
    # Pixel centres lie at 0.1 + 0.2 x metres, those of the model at 0.25 + 0.5 n.
    metres = np.clip(((np.arange(50) * 0.2 + 0.1) - 0.25) / 0.5, 0, 19)
    assert np.abs(counts[0, 5].astype(float) - np.clip(5 * metres, 0, 255)).max() <= 1
    layer.close()


def test_elevation_files_may_be_of_different_grids(tmp_path, grid):
    dsm = [
        elevation(tmp_path, "a.tif", np.full((60, 20), 110)),
        elevation(tmp_path, "b.tif", np.full((24, 12), 120), gsd_m=0.5, col=8),
    ]
    dtm = elevation(tmp_path, "dtm.tif", np.full((6, 5), 100), gsd_m=2)
    counts, known, _ = whole(HeightLayer(model(grid, *dsm), model(grid, dtm)))
    assert known.all()
    assert (counts[0] == np.where(np.arange(50) < 20, 50, 100)).all()


@given(st.data())
def test_what_is_lost_of_either_model_is_lost(data):
    states = [np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, (5, 6))
              for _ in range(2)]  # fmt: skip
    some = [data.draw(st.booleans()) for _ in range(2)]
    layers = [
        BlockLayer(
            np.full((1, 5, 6), metres, np.float32),
            valid_hw=state == 0 if said else None,
            lost_hw=state == 1 if said else None,
        )
        for metres, state, said in zip((110, 100), states, some, strict=True)
    ]
    counts, known, lost = whole(HeightLayer(*(Mosaic([layer]) for layer in layers)))
    invalid = np.any([(state > 0) & said for state, said in zip(states, some, strict=True)], axis=0)
    gone = np.any([(state == 1) & said for state, said in zip(states, some, strict=True)], axis=0)
    assert not invalid.any() if known is None else (known == ~invalid).all()
    assert not gone.any() if lost is None else (lost == gone).all()
    assert (counts[0][~invalid] == 50).all()


def test_unreadable_elevation(tmp_path, grid):
    metres = np.random.default_rng(0).normal(size=(60, 50))
    paths = [elevation(tmp_path, f"{name}.tif", metres, blockysize=5) for name in ("dsm", "dtm")]
    models = [model(grid, path) for path in paths]
    skipping = [model(grid, path, on_error="skip") for path in paths]
    paths[0].write_bytes(paths[0].read_bytes()[:3000])
    layer = HeightLayer(*models)
    with pytest.raises(ReadError, match=r"dsm.tif: block \(\d+, 0\), rows .* cannot be decoded"):
        whole(layer)
    layer.close()
    layer = HeightLayer(*skipping)
    _, known, lost = whole(layer)
    assert len(layer.skipped) > 0
    assert (lost == ~known).all()
    assert 0 < lost.mean() < 1
    layer.close()


def verdict(values, valid=None):
    grid = Grid(height=2048, width=2048, tile_px=2048, margin_px=0)
    image = np.zeros((2, 2048, 2048), np.uint8)
    image[1] = values
    strip = Strip(i=0, panel=whole_area(grid), image_bhw=image, valid_hw=valid)
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


def strip_of(values, valid=None):
    grid = Grid(height=64, width=64, tile_px=64, margin_px=0)
    image = np.full((1, 64, 64), values, np.uint8)
    return Strip(i=0, panel=whole_area(grid), image_bhw=image, valid_hw=valid)


def test_few_pixels_are_judged_at_the_end():
    check = HeightCheck(0)
    assert check.warning() is None
    assert check.observe(strip_of(0)) is None
    assert "is 0 everywhere" in check.warning()
    assert check.observe(strip_of(0)) is None


def test_strips_are_passed_on_and_judged_once(monkeypatch):
    monkeypatch.setattr(height, "ENOUGH_PIXELS", 3 * 64 * 64)
    strips, said, check = [strip_of(0) for _ in range(8)], [], HeightCheck(0)
    seen = check_heights(strips, check, said.append)
    assert [next(seen), next(seen)] == strips[:2]
    assert said == []
    assert list(seen) == strips[2:]
    assert len(said) == 1
    assert list(check_heights(strips, check, said.append)) == strips
    assert len(said) == 1
    assert check.warning() is None


def test_strips_of_several_panels_are_judged_together():
    check, said = HeightCheck(0), []
    for values in (0, 60):
        list(check_heights([strip_of(values)], check, said.append))
    assert said == []
    assert check.warning() is None


def test_invalid_pixels_are_not_judged():
    valid = np.zeros((64, 64), bool)
    valid[0] = True
    image = np.zeros((64, 64), np.uint8)
    image[0] = np.arange(64) * 3
    for values, known in ((image, valid), (0, np.zeros((64, 64), bool))):
        check = HeightCheck(0)
        assert check.observe(strip_of(values, known)) is None
        assert check.warning() is None


def test_real_elevation_is_accepted(shared_data):
    for name in ("025466", "025470", "025484"):
        path = shared_data / "flair1" / "Z4_block" / "img" / f"IMG_{name}.tif"
        with rasterio.open(path) as dataset:
            image = dataset.read()
        grid = Grid(height=512, width=512, tile_px=512, margin_px=0)
        check = HeightCheck(4)
        check.observe(Strip(i=0, panel=whole_area(grid), image_bhw=image, valid_hw=None))
        assert check.warning() is None
