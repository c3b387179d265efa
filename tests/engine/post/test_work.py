import csv
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pyogrio
import pytest
import rasterio
import shapely
from doubles.maps import CLASSES, LOCAL_PLANE, patchy, transform_of, write_map
from doubles.paths import listing
from doubles.rasters import ORIGIN_M
from doubles.zones import tiling, write_zones
from rasterio.features import sieve as gdals_sieve

from flair_engine.errors import FlairError, OutputError, SourceError
from flair_engine.post import work

X, Y = ORIGIN_M
HEIGHT, WIDTH = 300, 200


@pytest.fixture
def tiles(tmp_path, labels_hw):
    """The map cut into four."""
    folder = tmp_path / "tiles"
    for i in (0, 1):
        for j in (0, 1):
            part_hw = labels_hw[150 * i : 150 * i + 150, 100 * j : 100 * j + 100]
            place = transform_of(left=X + 20 * j, top=Y - 30 * i)
            write_map(folder / f"{i}{j}.tif", part_hw, transform=place, crs=LOCAL_PLANE)
    return folder


@pytest.fixture
def plain(tmp_path, labels_hw):
    """The map in plain metres."""
    return write_map(tmp_path / "plain.tif", labels_hw, crs=LOCAL_PLANE)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def polygons_of(path):
    meta, _, wkb, fields = pyogrio.raw.read(path, layer=path.stem)
    return shapely.from_wkb(wkb), dict(zip(meta["fields"], fields, strict=True))


@pytest.mark.usefixtures("small_strips")
def test_sieve_of_parts_is_that_of_the_whole(plain, tiles, tmp_path, labels_hw, listener):
    expected = gdals_sieve(labels_hw, 25, mask=labels_hw != 0, connectivity=4)
    for source in (plain, tiles):
        output = tmp_path / f"{source.stem}.sieved.tif"
        line = work.sieve(source, output, 1, overwrite=False, listener=listener)
        assert "regions were below 1 m²" in line
        found = read(output)
        assert (found[labels_hw != 0] == expected[labels_hw != 0]).all()
        assert (found[labels_hw == 0] == 0).all()
        assert {"plain.sieved.qml", "plain.sieved.tif.aux.xml"} <= set(listing(tmp_path))


@pytest.mark.usefixtures("small_strips")
def test_polygons_of_parts_are_those_of_the_whole(plain, tiles, tmp_path, listener):
    found = []
    for source in (plain, tiles):
        output = tmp_path / f"{source.stem}.gpkg"
        work.polygons(source, output, 0, 0, overwrite=False, listener=listener)
        shapes, fields = polygons_of(output)
        assert np.allclose(shapely.area(shapes), fields["area_m2"])
        bare = shapely.normalize(shapely.set_precision(shapes, 0.1))
        found.append(sorted(zip(fields["class"], (s.wkt for s in bare), strict=True)))
        assert output.with_suffix(".qml").is_file()
    assert found[0] == found[1]


def test_polygons_of_a_sieved_map(a_map, tmp_path, listener):
    for name in ("a.gpkg", "a.parquet"):
        line = work.polygons(a_map, tmp_path / name, 2, 0.4, overwrite=False, listener=listener)
        assert "polygons; " in line
    shapes, fields = polygons_of(tmp_path / "a.gpkg")
    assert shapely.coverage_is_valid(shapes)
    assert fields["area_m2"].min() >= 2 * (1 - 1e-9) or "small ones stay" in line
    large = fields["area_m2"] > 8
    assert ((fields["confidence"] > 0.3) & (fields["confidence"] < 0.7))[large].all()
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert len(table) == len(shapes)


def test_the_style_of_a_map_of_the_same_name_stays(a_map, tmp_path, listener, told):
    before = (tmp_path / "map.qml").read_text()
    work.polygons(a_map, tmp_path / "map.gpkg", 0, 0, overwrite=False, listener=listener)
    assert told == []
    work.polygons(a_map, tmp_path / "map.parquet", 0, 0, overwrite=False, listener=listener)
    assert "map.qml: is the style of a map, kept; map.parquet comes without one" in told[0]
    assert (tmp_path / "map.qml").read_text() == before
    (tmp_path / "map.qml").write_text("somebody's")
    work.polygons(a_map, tmp_path / "map.gpkg", 0, 0, overwrite=True, listener=listener)
    assert (tmp_path / "map.qml").read_text() == "somebody's"


def test_polygons_of_nodata_alone(tmp_path, listener, told):
    path = write_map(tmp_path / "map.tif", np.zeros((9, 9), np.uint8))
    line = work.polygons(path, tmp_path / "a.gpkg", 0, 1, overwrite=False, listener=listener)
    assert line.endswith("a.gpkg: 0 polygons")
    assert "there is no polygon" in told[0]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_hectares_of_zones_that_tile_the_map(a_map, tmp_path, labels_hw, listener, told, name):
    zones = write_zones(tmp_path / "z.gpkg", tiling(X, Y - 60, X + 40, Y))
    output = tmp_path / name
    work.hectares(a_map, zones, "insee", None, output, overwrite=False, listener=listener)
    if name.endswith(".csv"):
        rows = list(csv.DictReader(output.read_text(encoding="utf-8").splitlines()))
    else:
        rows = pyarrow.parquet.read_table(output).to_pylist()
    with rasterio.open(a_map) as dataset:
        from flair_engine.post.ground import Ground

        ground = Ground(dataset.crs, dataset.transform, HEIGHT, WIDTH)
    px_ha = np.stack([ground.row_m2(row) for row in range(HEIGHT)]) / 10_000
    columns = {"nodata_ha": 0, **{f"{c.name.replace(' ', '_')}_ha": c.value for c in CLASSES}}
    for column, value in columns.items():
        total = sum(float(row[column]) for row in rows)
        assert total == pytest.approx(px_ha[labels_hw == value].sum(), rel=1e-6)
    for row in rows:
        shares = [float(row[f"{c.name.replace(' ', '_')}_share"]) for c in CLASSES]
        assert sum(shares) == pytest.approx(1, abs=1e-6)
    assert told == []


def test_zones_that_reach_beyond_are_told(a_map, tmp_path, listener, told):
    shapes = [shapely.box(X + 30, Y - 10 - n, X + 50, Y - 5 - n) for n in range(4)]
    zones = write_zones(tmp_path / "z.gpkg", shapes)
    line = work.hectares(
        a_map, zones, "insee", None, tmp_path / "t.csv", overwrite=False, listener=listener
    )
    assert "4 zones, 0.0" in line
    assert told == ["4 zones reach beyond the map: z0, z1, z2 and 1 more"]


def test_change_writes_a_table_and_a_map(a_map, tmp_path, listener, told, labels_hw):
    new_hw = labels_hw.copy()
    new_hw[:50][new_hw[:50] == 1] = 2
    new = write_map(tmp_path / "new.tif", new_hw, cog=True)
    line = work.change(a_map, new, tmp_path / "t.csv", tmp_path / "c.tif", resample=False,
                       overwrite=False, listener=listener)  # fmt: skip
    assert "have changed: building -> water" in line
    assert (read(tmp_path / "c.tif") == np.where(
        (labels_hw == 0), 0, np.where(labels_hw == new_hw, 1, 2))).all()  # fmt: skip
    assert 'label="building -&gt; water"' in (tmp_path / "c.qml").read_text()
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    (row,) = [r for r in rows if (r["old_class"], r["new_class"]) == ("building", "water")]
    assert int(row["pixels"]) == np.count_nonzero(labels_hw != new_hw)
    # A map of changes is a map: it can be sieved.
    work.sieve(tmp_path / "c.tif", tmp_path / "cs.tif", 1, overwrite=False, listener=listener)
    assert told == []


def test_what_a_map_of_changes_cannot_show_is_told(a_map, tmp_path, listener, told, monkeypatch):
    new = write_map(tmp_path / "new.tif", patchy(HEIGHT, WIDTH, seed=9))
    monkeypatch.setattr("flair_engine.post.change.MOST_PAIRS", 3)
    work.change(a_map, new, tmp_path / "t.parquet", tmp_path / "c.tif", resample=False,
                overwrite=False, listener=listener)  # fmt: skip
    assert "shows the 3 largest of 12 kinds of change, the others as no data" in told[0]


def test_a_vrt_of_a_folder(tiles, tmp_path, labels_hw, listener):
    line = work.vrt(tiles, tmp_path / "all.vrt", overwrite=False, listener=listener)
    assert line.endswith("all.vrt: 4 maps")
    assert (read(tmp_path / "all.vrt") == labels_hw).all()
    assert 'label="building"' in (tmp_path / "all.qml").read_text()
    with pytest.raises(OutputError, match=r"all.vrt: exists already: use --overwrite"):
        work.vrt(tiles, tmp_path / "all.vrt", overwrite=False, listener=listener)
    work.vrt(tiles, tmp_path / "all.vrt", overwrite=True, listener=listener)
    work.sieve(tmp_path / "all.vrt", tmp_path / "s.tif", 1, overwrite=False, listener=listener)


def test_a_vrt_over_nothing(a_map, tmp_path, listener):
    with pytest.raises(SourceError, match="map.tif: is no folder: name the folder of flair-run"):
        work.vrt(a_map, tmp_path / "all.vrt", overwrite=False, listener=listener)


def test_a_vrt_beside_something_of_others(tmp_path, labels_hw, listener):
    write_map(tmp_path / "tiles" / "a.tif", labels_hw, confidence_hw=labels_hw)
    (tmp_path / "all.confidence.vrt").write_text("somebody's")
    (tmp_path / "all.qml").write_text("somebody's")
    with pytest.raises(OutputError, match="all.confidence.vrt: exists already and is not of fl"):
        work.vrt(tmp_path / "tiles", tmp_path / "all.vrt", overwrite=True, listener=listener)
    (tmp_path / "all.confidence.vrt").unlink()
    work.vrt(tmp_path / "tiles", tmp_path / "all.vrt", overwrite=True, listener=listener)
    assert (tmp_path / "all.qml").read_text() == "somebody's"


def run(name, *given, **named):
    return getattr(work, name)(*given, overwrite=True, **named)


@pytest.mark.parametrize("name", ["map.tif", "map.confidence.tif"])
def test_an_output_never_replaces_an_input(a_map, tmp_path, listener, name):
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match="is the input"):
        run("sieve", a_map, tmp_path / name, 1, listener=listener)
    with pytest.raises(OutputError, match="is the input"):
        run("change", a_map, a_map, tmp_path / "t.csv", tmp_path / name, resample=False,
            listener=listener)  # fmt: skip
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nor_what_a_vrt_or_a_folder_holds(tiles, tmp_path, listener):
    run("vrt", tiles, tmp_path / "all.vrt", listener=listener)
    for source in (tiles, tmp_path / "all.vrt"):
        with pytest.raises(OutputError, match=r"00.tif: is the input"):
            run("sieve", source, tiles / "00.tif", 1, listener=listener)


def test_nor_zones(a_map, tmp_path, listener):
    zones = write_zones(tmp_path / "z.gpkg", [shapely.box(X, Y - 9, X + 9, Y)])
    zones.with_suffix(".csv").write_text("zone_ha,mapped_ha,nodata_ha\n")
    with pytest.raises(OutputError, match=r"z.csv: is the input"):
        run("hectares", a_map, tmp_path / "z.csv", "insee", None, tmp_path / "z.csv",
            listener=listener)  # fmt: skip
    with pytest.raises(SourceError, match="none.gpkg: does not exist: name the file of zones"):
        run("hectares", a_map, tmp_path / "none.gpkg", "insee", None, tmp_path / "t.csv",
            listener=listener)  # fmt: skip


def test_what_is_not_ours_stays(a_map, tmp_path, listener):
    for name in ("a.gpkg", "a.csv", "a.tif"):
        (tmp_path / name).write_text("somebody's")
    with pytest.raises(OutputError, match="exists already and is not of flair-engine"):
        run("polygons", a_map, tmp_path / "a.gpkg", 0, 0, listener=listener)
    with pytest.raises(OutputError, match="exists already and is not of flair-engine"):
        run("change", a_map, a_map, tmp_path / "a.csv", None, resample=False, listener=listener)
    with pytest.raises(OutputError, match="exists already and is no map of flair-engine"):
        run("sieve", a_map, tmp_path / "a.tif", 1, listener=listener)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_sizes_that_are_none(a_map, tmp_path, listener, value):
    with pytest.raises(OutputError, match="--min-m2 is .*, expected 0 or more"):
        run("sieve", a_map, tmp_path / "a.tif", value, listener=listener)
    with pytest.raises(OutputError, match="--simplify is .*, expected 0 or more"):
        run("polygons", a_map, tmp_path / "a.gpkg", 0, value, listener=listener)


def test_confidence_of_another_map(a_map, tmp_path, listener):
    other = write_map(tmp_path / "o" / "o.tif", np.ones((9, 9), np.uint8),
                      confidence_hw=np.ones((9, 9), np.uint8))  # fmt: skip
    other.with_name("o.confidence.tif").replace(tmp_path / "map.confidence.tif")
    with pytest.raises(SourceError, match="has 9 x 9 px, its map 200 x 300"):
        run("polygons", a_map, tmp_path / "a.gpkg", 0, 0, listener=listener)


def command(*words):
    return [sys.executable, "-m", "flair_engine.post", *map(str, words)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
@pytest.mark.parametrize("name", ["out.tif", "out.gpkg"])
def test_what_is_ended_leaves_nothing_half_written(tmp_path, name, number, code):
    path = write_map(tmp_path / "map.tif", np.tile(patchy(600, 600), (3, 3)))
    place = tmp_path / "place"
    place.mkdir()
    words = ["sieve", path, place / name] if name == "out.tif" else ["polygons", path, place / name]
    process = subprocess.Popen(command(*words, "--min-m2", "1"), stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    while not listing(place) and time.monotonic() - began < 30:
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(number)
    assert process.wait(timeout=30) == code
    left = [".out.tif.flair-post"] if name == "out.tif" else [".out.gpkg.flair-post"]
    assert listing(place) == ([] if number == signal.SIGINT else left)
    if number == signal.SIGINT:
        assert process.stderr.read() == "flair-post: interrupted: nothing was written\n"
    else:
        write_map(tmp_path / "small.tif", patchy(60, 60))
        words[1] = tmp_path / "small.tif"
        subprocess.run(command(*words, "--min-m2", "1"), check=True, capture_output=True)
        assert left[0] not in listing(place)
        assert name in listing(place)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("name", ["out.tif", "out.gpkg", "out.parquet"])
def test_a_disk_that_is_full(tmp_path, name):
    noise = np.random.default_rng(0).integers(1, 5, (700, 700)).astype(np.uint8)
    path = write_map(tmp_path / "map.tif", noise)
    place = tmp_path / "place"
    place.mkdir()
    words = ["sieve", path, place / name, "--min-m2", "0"]
    if name != "out.tif":
        words = ["polygons", path, place / name]

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        command(*words), preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr
    assert listing(place) == []


def test_errors_of_the_command_are_one_line(tmp_path):
    done = subprocess.run(
        command("sieve", "no.tif", tmp_path / "a.tif", "--min-m2", "5"),
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == FlairError.exit_code == 2
    assert done.stderr == "flair-post: no.tif: does not exist: name a map that flair-run has made\n"
    assert list(Path(tmp_path).iterdir()) == []
