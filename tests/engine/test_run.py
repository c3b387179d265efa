"""Whole runs over small rasters: what is labelled, what is kept, what is refused."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from flair_engine import FlairError, Inputs, MapOptions, ReadOptions, RunOptions, run, segment
from flair_engine.errors import OutputError
from flair_engine.mapping.targets import output_path

X, Y = 721104.4, 6248980.8
CPU = RunOptions(device="cpu", threads=2)
SIZES = [(1, 1), (1, 40), (7, 5), (16, 16), (17, 31), (33, 48), (65, 129), (100, 1)]


def read_map(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def at(make_raster, name, row=0, col=0, **options):
    transform = from_origin(X + col * 0.2, Y - row * 0.2, 0.2, 0.2)
    return make_raster(name, transform=transform, **options)


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_map_equals_the_whole_array_computation(
    make_raster, tiny_path, tmp_path, expected_labels, height, width, slots
):
    path, image = make_raster(height=height, width=width)
    output = tmp_path / "map.tif"
    report = segment(tiny_path, [path], output, RunOptions(slots=slots, batch=3, device="cpu"))
    with rasterio.open(path) as source, rasterio.open(output) as dataset:
        assert (dataset.read(1) == expected_labels(image)).all()
        assert (dataset.crs, dataset.transform) == (source.crs, source.transform)
    assert (report.height, report.width, report.slots, report.batch) == (height, width, slots, 3)
    assert sum(report.pixels_by_class.values()) == report.pixels == height * width
    assert report.blocks_requested == report.blocks
    assert not list(tmp_path.glob(".*"))


@pytest.fixture
def quarters(make_raster, tmp_path):
    """A raster delivered as four files of different sizes; returns (folder, image)."""
    path, image = make_raster("whole.tif", height=150, width=130)
    folder = tmp_path / "tiles"
    folder.mkdir()
    for name, rows, cols in (
        ("nw", slice(0, 61), slice(0, 70)),
        ("ne", slice(0, 61), slice(70, 130)),
        ("sw", slice(61, 150), slice(0, 70)),
        ("se", slice(61, 150), slice(70, 130)),
    ):
        part = image[:, rows, cols]
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", count=2, dtype="uint8",
            height=part.shape[1], width=part.shape[2], crs="EPSG:2154",
            transform=from_origin(X + cols.start * 0.2, Y - rows.start * 0.2, 0.2, 0.2),
        ) as dataset:  # fmt: skip
            dataset.write(part)
    path.unlink()
    return folder, image


def test_files_cut_from_one_raster_give_its_labels(quarters, tiny_path, tmp_path, expected_labels):
    folder, image = quarters
    report = segment(tiny_path, [str(folder)], tmp_path / "map.tif", CPU)
    assert (read_map(tmp_path / "map.tif") == expected_labels(image)).all()
    assert report.blocks_requested == report.blocks


@pytest.mark.parametrize("cog", [False, True])
def test_one_map_per_file_with_its_neighbours_context(
    quarters, tiny_path, tmp_path, expected_labels, cog
):
    folder, image = quarters
    maps = tmp_path / "maps"
    maps.mkdir()
    segment(tiny_path, [f"{folder}/*.tif"], maps, CPU, write=MapOptions(per_input=True, cog=cog))
    expected = expected_labels(image)
    assert (read_map(maps / "ne.tif") == expected[:61, 70:]).all()
    assert (read_map(maps / "sw.tif") == expected[61:, :70]).all()
    for name in ("nw", "ne", "sw", "se"):
        with (
            rasterio.open(folder / f"{name}.tif") as tile,
            rasterio.open(maps / f"{name}.tif") as m,
        ):
            assert m.bounds == pytest.approx(tile.bounds)
    assert {p.suffix for p in maps.iterdir()} == {".tif", ".xml", ".qml"}


def test_per_input_refuses_what_would_be_lost(quarters, make_raster, tiny_path, tmp_path):
    folder, _ = quarters
    per_input = MapOptions(per_input=True, overwrite=True)
    with pytest.raises(OutputError, match="is the input itself"):
        segment(tiny_path, [str(folder)], folder, CPU, write=per_input)
    other = tmp_path / "other"
    other.mkdir()
    twin = make_raster("nw.tif")[0].rename(other / "nw.tif")
    with pytest.raises(OutputError, match="two inputs have this name"):
        segment(tiny_path, [str(folder), twin], tmp_path, CPU, write=per_input)
    with pytest.raises(OutputError, match="is a file, --per-input writes a folder"):
        segment(tiny_path, [str(folder)], twin, CPU, write=per_input)
    with pytest.raises(OutputError, match="does not exist: create it first"):
        segment(tiny_path, [str(folder)], tmp_path / "no", CPU, write=per_input)


def test_a_box_does_not_change_labels(make_raster, tiny_path, tmp_path, expected_labels):
    path, image = at(make_raster, "in.tif", height=150, width=130)
    box = (X + 37 * 0.2, Y - 90 * 0.2, X + 60 * 0.2, Y - 50 * 0.2)
    segment(tiny_path, [path], tmp_path / "map.tif", CPU, write=MapOptions(bbox=box))
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.shape == (96 - 48, 64 - 32)
        assert dataset.bounds == pytest.approx(
            (X + 32 * 0.2, Y - 96 * 0.2, X + 64 * 0.2, Y - 48 * 0.2)
        )
        assert (dataset.read(1) == expected_labels(image)[48:96, 32:64]).all()


def test_an_area_maps_the_cores_its_shapes_touch(make_raster, tiny_path, tmp_path, expected_labels):
    pytest.importorskip("fiona")
    path, image = at(make_raster, "in.tif", height=100, width=100)
    corners = [(2, 2), (94, 2), (2, 94), (2, 2)]
    ring = [[X + col * 0.2, Y - row * 0.2] for col, row in corners]
    shape = {"type": "Polygon", "coordinates": [ring]}
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2154"}},
        "features": [{"type": "Feature", "properties": {}, "geometry": shape}],
    }))  # fmt: skip
    report = segment(tiny_path, [path], tmp_path / "map.tif", CPU, write=MapOptions(aoi=str(area)))
    labels, expected = read_map(tmp_path / "map.tif"), expected_labels(image)[:96, :96]
    inside = labels != 0
    assert (labels[inside] == expected[inside]).all()
    assert inside[:90, 0].all()
    assert inside[0, :90].all()
    assert not inside[80:, 80:].any()
    assert report.nodata_pixels == (~inside).sum()


def test_invalid_pixels_become_nodata_and_do_not_speak(make_raster, band_model, tmp_path):
    path, image = make_raster(height=90, width=100, nodata=255)
    image[:, 30:70, 20:80] = 255
    with rasterio.open(path, "r+") as dataset:
        dataset.write(image)
    model = band_model("one", "two", mean=[60.0, 90.0])
    segment(model, [path], tmp_path / "map.tif", CPU)
    filled = image.astype(int)
    invalid = (image == 255).all(0)
    filled[0][invalid], filled[1][invalid] = 60, 90
    padded = np.pad(filled, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    sums = sum(padded[:, i : i + 90, j : j + 100] for i in range(5) for j in range(5))
    expected = np.where(invalid, 0, np.where(sums[0] >= sums[1], 1, 3))
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.read(1) == expected).all()
        assert dataset.nodata == 0


def test_what_has_no_valid_pixel_is_never_inferred(make_raster, tiny_path, tmp_path, monkeypatch):
    path, image = make_raster(height=160, width=160, nodata=0)
    image[:] = 0
    image[:, 70:75, 70:75] = 9
    with rasterio.open(path, "r+") as dataset:
        dataset.write(image)
    seen = []
    original = run.label_strips

    def counting(strips, grid, slots, bands, selected):
        def count(strip):
            seen.extend(
                (strip.i, j) for j in strip.cores
                if strip.core_valid(j) is None or strip.core_valid(j).any()
            )  # fmt: skip
            return strip

        return original(map(count, strips), grid, slots, bands, selected)

    monkeypatch.setattr(run, "label_strips", counting)
    report = segment(tiny_path, [path], tmp_path / "map.tif", CPU)
    assert seen == [(4, 4)]
    assert report.nodata_pixels == 160 * 160 - 25
    labels = read_map(tmp_path / "map.tif")
    assert (labels[70:75, 70:75] == 1).all()
    assert labels.sum() == 25


def test_panels_do_not_change_labels(
    make_raster, tiny_path, tmp_path, expected_labels, monkeypatch
):
    path, image = make_raster(height=90, width=900, tiled=True, blockxsize=64, blockysize=64)
    monkeypatch.setattr("flair_engine.reading.schedule.CANVAS_BYTES", 500_000)
    report = segment(tiny_path, [path], tmp_path / "map.tif", CPU)
    assert (read_map(tmp_path / "map.tif") == expected_labels(image)).all()
    assert 1 < report.blocks_requested / report.blocks < 2


def test_every_output_becomes_a_raster_without_what_is_invalid(make_raster, band_model, tmp_path):
    model = band_model("one", "two", outputs=("labels", "probabilities"))
    path, image = make_raster(height=50, width=70, nodata=0)
    image[:, 10:40, 20:60] = 0
    with rasterio.open(path, "r+") as dataset:
        dataset.write(image)
    segment(model, [path], tmp_path / "map.tif", CPU)
    filled = np.where((image == 0).all(0), 100, image).astype(int)
    padded = np.pad(filled, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    means = sum(padded[:, i : i + 50, j : j + 70] for i in range(5) for j in range(5)) // 25
    with rasterio.open(output_path(tmp_path / "map.tif", "probabilities")) as dataset:
        assert (dataset.read((1, 3)) == np.where((image == 0).all(0), 0, means)).all()
        assert not dataset.read(2).any()


def test_progress_reaches_every_pixel(make_raster, tiny_path, tmp_path):
    path, _ = make_raster(height=40, width=20)
    seen = []
    segment(tiny_path, [path], tmp_path / "map.tif", progress=lambda *done: seen.append(done))
    assert seen == [(0, 800), (320, 800), (640, 800), (800, 800)]


def test_the_report_is_json_with_rates(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    report = segment(tiny_path, [path], tmp_path / "map.tif", CPU)
    figures = json.loads(report.to_json())
    assert figures["pixels"] == 70 * 53
    assert figures["tiles"] == 5 * 4
    assert figures["mpx_per_s"] == pytest.approx(70 * 53 / 1e6 / report.wall_s)
    assert figures["km2_per_h"] == pytest.approx(figures["mpx_per_s"] * 0.04 * 3600)
    assert set(figures["busy_s"]) == {"read", "infer", "write", "assemble"}
    assert figures["slowest_stage"] in report.closing_line
    assert sum(figures["hectares_by_class"].values()) == pytest.approx(70 * 53 * 0.04 / 10_000)


def test_bands_that_are_named(make_raster, tiny_path, tmp_path, expected_labels):
    path, image = make_raster(bands=5)
    segment(tiny_path, [path], tmp_path / "map.tif", read=ReadOptions(bands=(3, 1)))
    assert (read_map(tmp_path / "map.tif") == expected_labels(image[[2, 0]])).all()


@pytest.fixture
def damaged(make_raster):
    path, image = make_raster(height=600, width=64, tiled=True, blockxsize=64, blockysize=64,
                              compress="deflate")  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    return path, image, whole


def test_an_unreadable_block_stops_with_the_work_kept(
    damaged, tiny_path, tmp_path, expected_labels
):
    path, image, whole = damaged
    output = tmp_path / "map.tif"
    with pytest.raises(FlairError, match=r"block \(\d, 0\), rows \d+ to \d+, .* cannot") as caught:
        segment(tiny_path, [path], output, CPU)
    assert caught.value.exit_code == 1
    assert not output.exists()
    kept = tmp_path / ".map.tif.flair-run" / "strips.bin"
    assert kept.read_bytes().count(b'{"left"') >= 10
    with pytest.raises(OutputError, match="holds an unfinished run"):
        segment(tiny_path, [path], output, CPU)
    path.write_bytes(whole)  # fetched again: another file by its date and size
    with pytest.raises(OutputError, match="the unfinished run differs in source"):
        segment(tiny_path, [path], output, CPU, write=MapOptions(resume=True))
    segment(tiny_path, [path], output, CPU, write=MapOptions(overwrite=True))
    assert (read_map(output) == expected_labels(image)).all()
    assert not kept.exists()


def test_unreadable_blocks_are_skipped_on_request(damaged, tiny_path, tmp_path):
    path, _, _ = damaged
    report = segment(
        tiny_path, [path], tmp_path / "map.tif", CPU, read=ReadOptions(on_error="skip")
    )
    labels = read_map(tmp_path / "map.tif")
    assert report.nodata_pixels == (labels == 0).sum()
    assert 1 <= report.skipped_blocks <= 5
    assert (labels[:320] != 0).all()
    assert (labels[576:] == 0).all()
    assert f"{report.skipped_blocks} unreadable blocks skipped" in report.notices[0]


def test_a_complete_map_is_not_resumed(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    segment(tiny_path, [path], tmp_path / "map.tif", CPU)
    with pytest.raises(OutputError, match="is complete, nothing is left to resume"):
        segment(tiny_path, [path], tmp_path / "map.tif", CPU, write=MapOptions(resume=True))


def test_zero_based_labels(make_raster, tiny_path, tmp_path, expected_labels):
    path, image = make_raster()
    segment(tiny_path, [path], tmp_path / "map.tif", CPU, write=MapOptions(labels="zero-based"))
    assert (read_map(tmp_path / "map.tif") == expected_labels(image) - 1).all()


@pytest.mark.slow
def test_real_blocks_split_and_joined_give_the_same_labels(shared_data, band_model, tmp_path):
    """Nine real files as one mosaic against their pixels in one array."""
    files = sorted((shared_data / "flair1" / "Z6_block" / "img").glob("*.tif"))
    model = band_model("red", "green", "blue", "nir", "elevation")
    report = segment(model, files, tmp_path / "map.tif", CPU)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        labels, bounds = dataset.read(1), dataset.bounds
    assert labels.shape == (1536, 1536)
    whole = np.zeros((5, 1536, 1536), np.uint8)
    for name in files:
        with rasterio.open(name) as dataset:
            row = round((bounds.top - dataset.bounds.top) / 0.2)
            col = round((dataset.bounds.left - bounds.left) / 0.2)
            whole[:, row : row + 512, col : col + 512] = dataset.read()
    joined = tmp_path / "joined.tif"
    with rasterio.open(
        joined, "w", driver="GTiff", count=5, dtype="uint8", height=1536, width=1536,
        crs="EPSG:2154", transform=from_origin(bounds.left, bounds.top, 0.2, 0.2),
    ) as dataset:  # fmt: skip
        dataset.write(whole)
    segment(model, [joined], tmp_path / "one.tif", CPU)
    assert (labels == read_map(tmp_path / "one.tif")).all()
    assert report.blocks_requested == report.blocks


def test_height_that_is_missing_is_counted(make_raster, band_model, tmp_path):
    model = band_model("red", "green", "blue", "nir", "elevation")
    image, _ = at(make_raster, "in.tif", bands=4, height=60, width=50)
    height, _ = at(make_raster, "ndsm.tif", bands=1, height=40, width=50)
    inputs = Inputs(images=(str(image),), ndsm=(str(height),))
    report = segment(model, inputs, tmp_path / "map.tif", CPU)
    assert report.missing_height_pixels == 20 * 50
    assert "height is missing on 1,000 px: counted as 0" in report.notices
