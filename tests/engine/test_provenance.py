"""The identity of a run changes with whatever can change a byte of its map."""

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from doubles.field import write_shapes
from doubles.tiny_model import SPEC

from flair_engine import Inputs, MapOptions, ReadOptions, RunOptions, provenance, run
from flair_engine.core_mask import CoreMask
from flair_engine.grid import Cores, Grid
from flair_engine.mapping.standing import MAP_TAG, RUN_TAG
from flair_engine.options import Job, Listener
from flair_engine.version import __version__

READ, WRITE = ReadOptions(), MapOptions()


@pytest.fixture
def identity(make_raster, tiny_path, tmp_path, monkeypatch):
    """Return the identity of a run over one raster with changes to its job."""
    make_raster("in.tif")
    make_raster("other.tif")
    make_raster("larger.tif", height=90)
    seen = []
    known = provenance.identity

    def noting(work):
        seen.append(known(work))
        return seen[-1]

    monkeypatch.setattr(provenance, "identity", noting)

    def of(name="in.tif", *, read=READ, write=WRITE, **options):
        job = Job(
            model=tiny_path,
            inputs=Inputs(images=(str(tmp_path / name),)),
            output=tmp_path / "map.tif",
            run=RunOptions(**{"device": "cpu", "threads": 2, "memory_mib": 64, **options}),
            read=read,
            write=write,
        )
        (tmp_path / "map.tif").unlink(missing_ok=True)
        run.run(job, Listener())
        return seen[-1]

    return of


CHANGES = {
    "source": {"name": "other.tif"},
    "inputs": {"name": "larger.tif"},
    "batch": {"batch": 3},
    "memory": {"memory_mib": 65},
    "engine": {"threads": 1},
    "reading": {"read": ReadOptions(bands=(2, 1))},
    "reading ": {"read": ReadOptions(mask=2)},
    "writing": {"write": MapOptions(labels="zero-based")},
    "writing ": {"write": MapOptions(co=("ZLEVEL=9",))},
    "area": {"write": MapOptions(bbox=(721104.4, 6248978, 721106, 6248980.8))},
}


@pytest.mark.parametrize("field", CHANGES)
def test_what_changes_a_map_is_seen_by_its_name(identity, field):
    before, after = identity(), identity(**CHANGES[field])
    field = field.strip()
    different = {name for name in before if before[name] != after[name]}
    assert field in different
    beside = {
        "reading": {"inputs"},
        "area": {"writing", "panels"},
        "inputs": {"area", "geometry", "source", "panels"},
    }
    assert different <= {field} | beside.get(field, set())
    assert before["version"] == __version__


def test_what_changes_no_map_is_not_seen(identity, tmp_path):
    plain = identity()
    assert identity(slots=3) == plain
    assert identity(write=MapOptions(overwrite=True)) == plain
    assert identity(write=MapOptions(resume=True)) == plain
    assert identity(write=MapOptions(report=tmp_path / "run.json")) == plain
    assert identity(write=MapOptions(preview=True)) == plain


def test_an_identity_is_json(identity, tmp_path):
    found = identity(write=MapOptions(report=tmp_path / "run.json"))
    assert json.loads(json.dumps(found)).keys() == found.keys()


def test_shapes_that_changed_are_another_area(identity, tmp_path):
    """The file has the same name: what counts are the pixels that it covers."""
    pytest.importorskip("pyogrio")
    aoi, name = tmp_path / "aoi.geojson", str(tmp_path / "aoi.geojson")

    def area_of(*boxes, **write):
        write_shapes(aoi, *boxes)
        return identity(write=MapOptions(aoi=name, **write))["area"]

    plain = area_of((2, 2, 40, 40))
    assert area_of((2, 2, 40, 40)) == area_of((2, 2, 40, 40), aoi_layer="aoi") == plain
    assert area_of((3, 3, 41, 41)) != plain, "the same cores"
    assert area_of((2, 2, 14, 14), (34, 34, 40, 40)) != plain, "the same rectangle of pixels"
    cores = area_of((2, 2, 40, 40), whole_cores=True)
    assert area_of((3, 3, 41, 41), whole_cores=True) == cores != plain, "the same cores"
    assert area_of((2, 2, 40, 50), whole_cores=True) != cores


def panel(rows, cols, selected=None, clip=None):
    grid = Grid(height=90, width=90, tile_px=32, margin_px=8)
    cores = Cores(grid=grid, rows=rows, cols=cols)
    mask = None if selected is None else CoreMask.of(selected)
    return SimpleNamespace(cores=cores, selected=mask, clip=clip)


def work_of(*panels, sizes=((90, 90),)):
    rasters = [SimpleNamespace(height=height, width=width) for height, width in sizes]
    return SimpleNamespace(
        job=Job(model=Path(__file__), inputs=Inputs(images=("a.tif",)), output=Path("map.tif")),
        spec=SPEC,
        backend=SimpleNamespace(identity="ONNX Runtime", precision="fp32", batch=3),
        opened=SimpleNamespace(
            sheets=[SimpleNamespace(raster=r) for r in rasters], files=(), described="same"
        ),
        panels=panels,
        memory_mib=512,
        excerpt=None,
    )


def test_other_cores_are_another_area_however_they_are_cut():
    one, other = panel(range(2), range(3)), panel(range(2), range(3, 6))
    whole, some = panel(range(2), range(6)), np.eye(2, 3, dtype=bool)
    areas = [
        provenance.identity(work_of(*panels))["area"]
        for panels in (
            (one, other),
            (other, one),
            (one,),
            (one, panel(range(2), range(3, 6), np.ones((2, 3), bool))),
            (one, panel(range(2), range(3, 6), some)),
            (one, panel(range(2), range(3, 6), clip=SimpleNamespace(digest="some pixels"))),
            (one, panel(range(2), range(3, 6), clip=SimpleNamespace(digest="others"))),
        )
    ]
    assert len(set(areas)) == len(areas)
    assert provenance.identity(work_of(whole))["area"] == areas[0]
    cut = [panel(range(2), range(3), some), panel(range(2), range(3, 6), ~some)]
    uncut = panel(range(2), range(6), np.concatenate([some, ~some], axis=1))
    assert provenance.identity(work_of(*cut))["area"] == provenance.identity(work_of(uncut))["area"]


def test_panels_cut_otherwise_are_another_run_of_the_same_map():
    """The journal names strips by the numbers of their panels."""
    cut = work_of(panel(range(2), range(3)), panel(range(2), range(3, 6)))
    whole = work_of(panel(range(2), range(6)))
    one, other = provenance.identity(cut), provenance.identity(whole)
    assert {name for name in one if one[name] != other[name]} == {"panels"}
    assert provenance.run_id(cut) == provenance.run_id(whole)


def test_the_geometry_has_the_size_of_every_sheet():
    one = provenance.identity(work_of(panel(range(2), range(3))))
    assert one["geometry"] == [32, 8, [[90, 90]]]
    two = provenance.identity(work_of(panel(range(2), range(3)), sizes=((90, 90), (40, 50))))
    assert two["geometry"] == [32, 8, [[90, 90], [40, 50]]]


@pytest.fixture
def signed(monkeypatch):
    """Return the tags of a run at a time that its user gives."""

    def signed(epoch="", **changes):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        work = work_of(panel(range(2), range(3)))
        for name, value in changes.items():
            setattr(work, name, value)
        return provenance.tags(work)

    return signed


def test_maps_are_signed(signed):
    tags = signed()
    assert tags[MAP_TAG] == "tiny"
    assert tags["FLAIR_ENGINE"] == "ONNX Runtime, batch 3"
    assert tags["FLAIR_GEOMETRY"] == "tile 32 px, margin 8 px"
    assert tags["TIFFTAG_SOFTWARE"] == f"flair-engine {__version__}"
    assert tags[RUN_TAG] == provenance.run_id(work_of(panel(range(2), range(3))))
    assert len(tags[RUN_TAG]) == 16


def test_maps_say_no_time_unless_that_is_asked_for(signed):
    assert "TIFFTAG_DATETIME" not in signed()
    assert "TIFFTAG_DATETIME" not in signed("yesterday")
    tags = signed("1783501811")
    assert tags["TIFFTAG_DATETIME"] == "2026:07:08 09:10:11", "as TIFF 6.0 spells it"
    assert tags == {**signed(), "TIFFTAG_DATETIME": tags["TIFFTAG_DATETIME"]}


def test_runs_are_equal_whatever_their_files_are_called(signed, tmp_path):
    opened = work_of(panel(range(2), range(3))).opened
    moved = SimpleNamespace(**{**vars(opened), "files": (str(tmp_path / "moved.tif"),)})
    assert signed(opened=moved) == signed()
    others = SimpleNamespace(**{**vars(opened), "described": "other"})
    assert signed(opened=others)[RUN_TAG] != signed()[RUN_TAG]


def test_what_is_put_beside_a_file_to_show_it_is_no_source(make_raster):
    path, _ = make_raster("in.tif")
    beside = [f"{path}{end}" for end in (".aux.xml", ".ovr", ".qml")]
    for name in beside:
        Path(name).touch()
    found = provenance.sources([str(path), *beside, "/vsicurl/https://there/in.tif"])
    _, *facts = provenance.fingerprint(str(path))
    assert found == {str(path.resolve()): facts, "/vsicurl/https://there/in.tif": []}
    assert provenance.sources([f"{path.parent}/../{path.parent.name}/{path.name}"]).keys() == {
        str(path.resolve())
    }


def test_a_file_that_changed_is_another(make_raster, tmp_path):
    path, _ = make_raster("in.tif")
    before = provenance.fingerprint(str(path))
    assert before == provenance.fingerprint(str(path))
    assert before[:2] == [str(path.resolve()), path.stat().st_size]
    with Path(path).open("ab") as file:
        file.write(b"x")
    assert provenance.fingerprint(str(path)) != before
    assert provenance.fingerprint("/vsicurl/https://there/in.tif") == [
        "/vsicurl/https://there/in.tif"
    ]


@pytest.mark.parametrize("name", ["<VRTDataset>" + "x" * 5000, "a\0.tif", "/vsimem/a.tif"])
def test_a_name_that_is_no_file_s_is_its_own_fingerprint(name):
    assert provenance.fingerprint(name) == [name]


@pytest.mark.parametrize("name", ["/vsizip/{0}/in.tif", "zip://{0}!in.tif"])
def test_a_file_in_an_archive_changes_with_the_archive(make_raster, tmp_path, name):
    path, _ = make_raster("in.tif")
    archive = tmp_path / "a.zip"
    name, found = name.format(archive), []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(archive, "w", compression) as file:
            file.write(path, "in.tif")
        found.append(provenance.fingerprint(name))
    assert found[0] != found[1]
