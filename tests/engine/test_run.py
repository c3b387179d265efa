"""Whole runs over small rasters: what is labelled, what is kept, what is refused."""

import json

import numpy as np
import pytest
import rasterio
from doubles.field import box_labels, ground_m2, noise, write, write_shapes
from rasterio.transform import from_origin

from flair_engine import FlairError, Inputs, MapOptions, ReadOptions, RunOptions, run, segment
from flair_engine.errors import OutputError, WriteError
from flair_engine.mapping.targets import output_path

X, Y = 721104.4, 6248980.8
CPU = RunOptions(engine="ort", device="cpu", threads=2)
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
        assert dataset.shape == (90 - 50, 60 - 37)
        assert dataset.bounds == pytest.approx(box)
        assert (dataset.read(1) == expected_labels(image)[50:90, 37:60]).all()


def test_an_area_maps_the_cores_its_shapes_touch(make_raster, tiny_path, tmp_path, expected_labels):
    pytest.importorskip("pyogrio")
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
    write = MapOptions(aoi=str(area), whole_cores=True)
    report = segment(tiny_path, [path], tmp_path / "map.tif", CPU, write=write)
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

    def counting(strips, grid, slots, bands, is_wanted, **values):
        def count(strip):
            seen.extend(
                (strip.i, j) for j in strip.cores
                if strip.core_valid(j) is None or strip.core_valid(j).any()
            )  # fmt: skip
            return strip

        return original(map(count, strips), grid, slots, bands, is_wanted, **values)

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
    monkeypatch.setattr("flair_engine.run.pixel_memory_mib", lambda _: 0)
    report = segment(tiny_path, [path], tmp_path / "map.tif", CPU)
    assert (read_map(tmp_path / "map.tif") == expected_labels(image)).all()
    assert report.decode_factor == report.blocks_requested / report.blocks > 1


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


@pytest.mark.parametrize("boxed", [False, True])
def test_rates_count_what_goes_through_the_network(make_raster, tiny_path, tmp_path, boxed):
    """Cores of 16 px: not those without a valid pixel, not those that nobody asked for."""
    path, image = make_raster(height=70, width=53, nodata=0)
    image[:, 20:60, :] = 0
    with rasterio.open(path, "r+") as dataset:
        dataset.write(image)
    box = (X, Y - 70 * 0.2, X + 20 * 0.2, Y) if boxed else None
    seen = []
    report = segment(
        tiny_path, [path], tmp_path / "map.tif", CPU, write=MapOptions(bbox=box),
        progress=lambda *done: seen.append(done),
    )  # fmt: skip
    width = 32 if boxed else 53
    valid = image.any(0)
    cores = [(i, j) for i in range(0, 70, 16) for j in range(0, width, 16)]
    inferred = sum(
        valid[i : i + 16, j : j + 16].size for i, j in cores if valid[i : i + 16, j : j + 16].any()
    )
    assert 0 < inferred < report.pixels == 70 * width
    assert (report.inferred_pixels, report.resumed_pixels) == (inferred, 0)
    assert report.mpx_per_s == pytest.approx(inferred / 1e6 / report.wall_s)
    assert (seen[0], seen[-1]) == ((0, 70 * width), (inferred, inferred))


def test_the_report_is_json_with_rates(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    report = segment(tiny_path, [path], tmp_path / "map.tif", CPU)
    figures = json.loads(report.to_json())
    assert figures["pixels"] == 70 * 53
    assert figures["tiles"] == 5 * 4
    rounded = 5e-6  # of six digits, half of the last at most
    assert figures["mpx_per_s"] == pytest.approx(70 * 53 / 1e6 / report.wall_s, rel=rounded)
    km2_per_h = figures["mpx_per_s"] * 0.04 * 3600
    assert figures["km2_per_h"] == pytest.approx(km2_per_h, rel=2 * rounded)
    assert set(figures["busy_s"]) == {"read", "infer", "write", "assemble"}
    assert figures["slowest_stage"] in report.closing_line
    # On the ground: in Lambert-93, near Narbonne, 0.06 % more than what the CRS says.
    hectares = sum(figures["hectares_by_class"].values())
    assert hectares == pytest.approx(ground_m2(path) / 10_000, rel=1e-4)
    assert hectares == pytest.approx(70 * 53 * 0.04 / 10_000, rel=0.005)


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
    assert kept.read_bytes().count(b'{"panel"') >= 10
    with pytest.raises(OutputError, match="holds an unfinished run"):
        segment(tiny_path, [path], output, CPU)
    path.write_bytes(whole)  # fetched again
    told = []
    segment(tiny_path, [path], output, CPU, write=MapOptions(resume=True), notify=told.append)
    assert "in.tif: changed since the run began" in told[0]
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
    assert f"{report.skipped_blocks} unreadable blocks skipped" in report.warnings[0]


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
    assert "height is missing on 1,000 px: counted as 0" in report.warnings


def maps_of(folder):
    return {path.name: read_map(path) for path in folder.glob("*.tif")}


def test_files_far_apart_are_read_alone(band_model, tmp_path):
    """As one mosaic, what lies between is nodata, and no pixel of the report."""
    images = {(0, 0): noise(2, 40, 50), (700, 900): noise(2, 30, 60, seed=1)}
    for number, ((row, col), image) in enumerate(images.items()):
        write(tmp_path / "in" / f"{number}.tif", image, row=row, col=col)
    model = band_model("red", "green")
    seen = []
    report = segment(
        model, [tmp_path / "in"], tmp_path / "map.tif", CPU,
        progress=lambda *done: seen.append(done),
    )  # fmt: skip
    whole, valid = np.zeros((2, 730, 960), np.uint8), np.zeros((730, 960), bool)
    for (row, col), image in images.items():
        place = slice(row, row + image.shape[1]), slice(col, col + image.shape[2])
        whole[(slice(None), *place)], valid[place] = image, True
    expected = box_labels(*whole, valid)
    assert (read_map(tmp_path / "map.tif") == expected).all()
    assert (report.height, report.width) == expected.shape
    # Whole cores, cut where the raster ends: rows 688.., columns 896..
    assert report.pixels == 48 * 64 + (730 - 688) * (960 - 896)
    assert report.pixels == seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)
    assert sum(report.pixels_by_class.values()) == (expected > 0).sum()
    assert sum(report.pixels_by_class.values()) + report.nodata_pixels == report.pixels
    assert report.blocks_requested == report.blocks


def test_sheets_of_two_dates_are_counted_together(band_model, tmp_path):
    images = {name: noise(2, 64, 96, seed=n) for n, name in enumerate(("2019", "2023"))}
    for name, image in images.items():
        write(tmp_path / "in" / f"{name}.tif", image)
    (tmp_path / "out").mkdir()
    report = segment(
        band_model("red", "green"), [tmp_path / "in"], tmp_path / "out", CPU,
        write=MapOptions(per_input=True),
    )  # fmt: skip
    expected = {f"{name}.tif": box_labels(*image) for name, image in images.items()}
    found = maps_of(tmp_path / "out")
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in found)
    both = np.concatenate(list(expected.values()))
    assert report.pixels_by_class == {"first": (both == 1).sum(), "third": (both == 3).sum()}
    assert (report.height, report.width, report.pixels) == (64, 96, 2 * 64 * 96)
    area_ha = 2 * ground_m2(tmp_path / "in" / "2019.tif") / 10_000
    assert sum(report.hectares_by_class.values()) == pytest.approx(area_ha, rel=1e-4)


def test_what_heights_look_like_is_told_once(band_model, tmp_path):
    """However many areas they are read in."""
    for number in range(4):
        image = noise(2, 40, 40, seed=number)
        image[1] = 0
        write(tmp_path / "in" / f"{number}.tif", image, col=1000 * number)
    told = []
    segment(
        band_model("red", "elevation"), [tmp_path / "in"], tmp_path / "map.tif", CPU,
        notify=told.append,
    )  # fmt: skip
    assert len([line for line in told if "elevation band is 0 everywhere" in line]) == 1


def test_a_patch_of_flat_ground_is_no_reason_to_doubt_heights(band_model, tmp_path):
    """Heights are judged by all that is read, not area by area."""
    for number in range(4):
        image = noise(2, 40, 40, seed=number)
        image[1, :20] = 0
        image[1] *= number != 2
        write(tmp_path / "in" / f"{number}.tif", image, col=1000 * number)
    told = []
    segment(
        band_model("red", "elevation"), [tmp_path / "in"], tmp_path / "map.tif", CPU,
        notify=told.append,
    )  # fmt: skip
    assert told == []


def test_what_is_found_in_pixels_is_told_and_reported(band_model, tmp_path):
    image = write(tmp_path / "in.tif", noise(1, 60, 50))
    heights = np.full((1, 60, 50), 100, np.float32)
    dtm = write(tmp_path / "dtm.tif", heights - 3)
    heights[0, 50:, 40:] = -99_999  # in the last rows
    dsm = write(tmp_path / "dsm.tif", heights)
    told = []
    report = segment(
        band_model("red", "elevation"),
        Inputs(images=(str(image),), dsm=(str(dsm),), dtm=(str(dtm),)),
        tmp_path / "map.tif", CPU, notify=told.append,
    )  # fmt: skip
    assert any("dsm.tif" in line and "-99999" in line.replace(",", "") for line in told)
    assert report.warnings == tuple(told)
    assert report.missing_height_pixels == 100


def test_a_plan_is_judged_on_tiles_of_what_is_mapped(band_model, tmp_path, monkeypatch):
    """Files far apart have little but void between them."""
    for number in range(3):
        image = noise(2, 64, 64, seed=number)
        write(tmp_path / "in" / f"{number}.tif", image, row=1500 * number, col=900 * number)
    taken = []
    known = run.load

    def load(*arguments, samples, **options):
        taken.extend(samples(16))
        return known(*arguments, samples=samples, **options)

    monkeypatch.setattr(run, "load", load)
    segment(band_model("red", "green"), [tmp_path / "in"], tmp_path / "map.tif", CPU)
    assert len(taken) > 1
    drawn = [tile for tile in taken if np.ptp(tile) > 0]
    assert len(drawn) == len(taken), f"{len(taken) - len(drawn)} of {len(taken)} show nothing"


def test_the_report_is_written(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    where = tmp_path / "run.json"
    report = segment(tiny_path, [path], tmp_path / "map.tif", CPU, write=MapOptions(report=where))
    assert where.read_text() == report.to_json() + "\n"
    again = MapOptions(report=where, overwrite=True)
    segment(tiny_path, [path], tmp_path / "map.tif", CPU, write=again)
    assert json.loads(where.read_text())["wall_s"] != report.wall_s


def test_a_report_that_cannot_be_written_is_said_before_the_first_pixel(
    make_raster, tiny_path, tmp_path
):
    path, _ = make_raster()
    started = []
    cases = {
        tmp_path: "is a folder",
        tmp_path / "no" / "run.json": "its folder does not exist",
        path: "exists already and is no report",
        tmp_path / "map.tif": "is two outputs",
    }
    for where, message in cases.items():
        with pytest.raises(OutputError, match=message):
            segment(
                tiny_path, [path], tmp_path / "map.tif", CPU,
                write=MapOptions(report=where), progress=lambda *done: started.append(done),
            )  # fmt: skip
    assert started == []
    assert not (tmp_path / "map.tif").exists()


def test_a_report_that_fails_leaves_the_map(make_raster, tiny_path, tmp_path, expected_labels):
    path, image = make_raster()
    where = tmp_path / "run.json"
    message = r"run\.json: the map is complete, its report cannot be written \(Is a directory\)"
    with pytest.raises(WriteError, match=message):
        segment(
            tiny_path, [path], tmp_path / "map.tif", CPU, write=MapOptions(report=where),
            progress=lambda *_done: where.mkdir(exist_ok=True),
        )  # fmt: skip
    assert (read_map(tmp_path / "map.tif") == expected_labels(image)).all()
    assert not list(tmp_path.glob(".*"))


def test_what_is_read_is_never_written_over(make_raster, tiny_path, tmp_path):
    """Whatever --overwrite says; links are the file that they lead to."""
    path, _ = make_raster("old.tif")
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(FLAIR_MODEL="tiny")  # as if a map of ours
    before = path.read_bytes()
    (tmp_path / "soft.tif").symlink_to("old.tif")
    (tmp_path / "hard.tif").hardlink_to(tmp_path / "old.tif")
    overwrite = MapOptions(overwrite=True)
    for source, output in (("old", "old"), ("old", "soft"), ("soft", "old"), ("hard", "old")):
        with pytest.raises(OutputError, match="is the input .*: give the output another name"):
            segment(
                tiny_path, [tmp_path / f"{source}.tif"], tmp_path / f"{output}.tif", CPU,
                write=overwrite,
            )  # fmt: skip
    assert path.read_bytes() == before


def test_a_model_or_area_in_the_place_of_an_output_is_refused(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    model = tmp_path / "map.tif.aux.xml"
    model.write_bytes(tiny_path.read_bytes())
    with pytest.raises(OutputError, match=r"aux\.xml: exists already, would be taken for a part"):
        segment(model, [path], tmp_path / "map.tif", CPU)
    folder = tmp_path / ".map.tif.flair-run"
    folder.mkdir()
    model = model.rename(folder / "model.onnx")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is the input .*model.onnx"):
            segment(model, [path], tmp_path / "map.tif", CPU, write=MapOptions(overwrite=overwrite))
    assert model.exists()


def test_an_area_is_not_written_over(make_raster, tiny_path, tmp_path):
    pytest.importorskip("pyogrio")
    path, _ = make_raster()
    aoi = write_shapes(tmp_path / "run.json", (2, 2, 20, 20))
    like_a_report = {"wall_s": 1, "weights_sha256": ""}
    aoi.write_text(json.dumps({**json.loads(aoi.read_text()), **like_a_report}))
    with pytest.raises(OutputError, match=r"run\.json: is the input"):
        segment(
            tiny_path, [path], tmp_path / "map.tif", CPU,
            write=MapOptions(aoi=str(aoi), report=aoi),
        )  # fmt: skip


def test_only_a_map_of_ours_is_replaced(make_raster, tiny_path, tmp_path, expected_labels):
    path, image = make_raster()
    output, overwrite = tmp_path / "map.tif", MapOptions(overwrite=True)
    write(output, noise(1, 9, 9))
    before = output.read_bytes()
    message = r"map\.tif: exists already and is no map of flair-engine: (?!.*--overwrite)"
    for options in (MapOptions(), overwrite):
        with pytest.raises(OutputError, match=message):
            segment(tiny_path, [path], output, CPU, write=options)
    assert output.read_bytes() == before
    output.unlink()
    segment(tiny_path, [path], output, CPU, write=MapOptions(labels="zero-based"))
    with pytest.raises(OutputError, match=r"map\.tif: exists already: use --overwrite"):
        segment(tiny_path, [path], output, CPU)
    segment(tiny_path, [path], output, CPU, write=overwrite)
    assert (read_map(output) == expected_labels(image)).all()


def test_a_style_of_somebody_else_is_kept(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    style = tmp_path / "map.qml"
    style.write_text("a style of somebody else")
    told = []
    report = segment(tiny_path, [path], tmp_path / "map.tif", CPU, notify=told.append)
    assert style.read_text() == "a style of somebody else"
    assert told == list(report.notices)
    assert "map.qml: no style of flair-engine, kept" in told[0]
