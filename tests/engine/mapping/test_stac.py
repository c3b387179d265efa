"""Items of maps: against the schemas of STAC and its extensions, none of them fetched."""

import datetime as dt
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from doubles.field import LOCAL
from doubles.paths import SHARED
from doubles.tiny_model import SPEC
from rasterio.crs import CRS
from rasterio.warp import transform

from flair_engine.errors import OutputError
from flair_engine.manifest import LandCoverClass
from flair_engine.mapping.published import OutputFile
from flair_engine.mapping.stac import (
    EXTENSIONS,
    MapFacts,
    acquired_span,
    item_json,
)
from flair_engine.mapping.standing import is_item
from flair_engine.reading.pixel_grid import PixelGrid

SCHEMAS = SHARED.parent / "stac-schemas"
UTC = dt.timezone.utc
LAMBERT = CRS.from_epsg(2154)
PLACE = Affine(0.2, 0, 721104.4, 0, -0.2, 6248980.8)


def facts(tmp_path=Path("/maps"), outputs=("labels",), preview=True, **changes):
    files = [
        OutputFile(path=str(tmp_path / f"a b.{name}.tif"), kind=name, size=77, sha256="ab" * 32)
        for name in outputs
    ]
    if preview:
        png = str(tmp_path / "a b.preview.png")
        files.append(OutputFile(path=png, kind="preview", size=9, sha256="cd" * 32))
    given = {
        "path": tmp_path / "a b.tif",
        "spec": SPEC,
        "values": "flair",
        "cog": False,
        "grid": PixelGrid(height=600, width=1000, crs=LAMBERT, transform=PLACE),
        "files": files,
        "sources": [
            "/models/m.onnx", str(tmp_path / "in" / "é#1.tif"), "https://a.b/c d.tif?x=1",
        ],
        "software": {"ort": "ONNX Runtime 1"},
        "lineage": "Labelled by tiny",
        "run": "0123456789abcdef",
        "acquired": acquired_span("2023-06/2023-08"),
        "created": dt.datetime(2026, 7, 8, 9, 10, 11, tzinfo=UTC),
        **changes,
    }  # fmt: skip
    return MapFacts(**given)


def made(**changes):
    pytest.importorskip("pystac", reason="needs pystac")
    return json.loads(item_json(facts(**changes)))


def check_valid(item):
    """Check an Item against the schemas of the core, which pystac has, and of its extensions."""
    pytest.importorskip("jsonschema", reason="needs jsonschema")
    from pystac.validation import validate_dict

    bare = item | {"stac_extensions": []}
    assert validate_dict(bare)[0].endswith("/item.json")
    if not SCHEMAS.is_dir():
        pytest.skip(f"schemas of extensions not at {SCHEMAS}")
    with extensions_from_disk():
        assert set(EXTENSIONS) < set(validate_dict(item))


@contextmanager
def extensions_from_disk():
    """Give pystac the schemas of extensions that lie here; whatever else it fetches is a fault."""
    import pystac

    class FromDisk(pystac.StacIO):
        def read_text(self, source, *_args, **_kwargs):
            assert source in EXTENSIONS, source
            schema = json.loads((SCHEMAS / f"schema_{source.split('/')[3]}.json").read_text())
            assert schema["$id"].removesuffix("#") == source
            return json.dumps(schema)

        def write_text(self, *_args, **_kwargs):
            raise AssertionError

    before = pystac.StacIO.default
    pystac.StacIO.set_default(FromDisk)
    pystac.validation.RegisteredValidator.set_validator(
        pystac.validation.stac_validator.JsonSchemaSTACValidator()
    )
    try:
        yield
    finally:
        pystac.StacIO.set_default(before)


ITEMS = {
    "labels": {},
    "every output": {"outputs": ("labels", "confidence", "probabilities"), "cog": True},
    "zero-based": {"values": "zero-based", "preview": False},
    "no crs": {"grid": PixelGrid(height=6, width=9, crs=None, transform=Affine.identity())},
    "a crs without a code": {
        "grid": PixelGrid(
            height=6, width=9, transform=PLACE,
            crs=CRS.from_proj4("+proj=laea +lat_0=46 +lon_0=3 +x_0=700000 +y_0=6600000"),
        )
    },
    "no date": {"acquired": (dt.datetime(2026, 7, 8, 9, tzinfo=UTC),) * 2},
}  # fmt: skip


@pytest.mark.parametrize("case", ITEMS)
def test_an_item_is_valid(case):
    check_valid(made(**ITEMS[case]))


def test_a_schema_would_find_a_fault():
    item = made()
    item["assets"]["labels"]["classification:classes"][0]["name"] = "two words"
    with pytest.raises(Exception, match="two words"):
        check_valid(item)


def test_classes_have_values_colours_and_descriptions():
    (first, third, nodata) = made()["assets"]["labels"]["classification:classes"]
    assert first == {
        "value": 1, "name": "first", "title": "first", "description": "first",
        "color_hint": "db0e9a",
    }  # fmt: skip
    assert third["value"] == 3
    assert (nodata["value"], nodata["nodata"]) == (0, True)
    shifted = made(values="zero-based")["assets"]["labels"]
    assert [c["value"] for c in shifted["classification:classes"]] == [0, 2, 255]
    assert shifted["nodata"] == 255


def test_names_in_any_letters_stay_apart():
    """The extension allows ASCII letters alone; the title keeps the name."""
    classes = tuple(
        LandCoverClass(value=n, name=name, color="#000000", active=True)
        for n, name in enumerate(("sol nu", "<b>eau</b>", "水", "森"), 1)
    )
    found = made(spec=replace(SPEC, classes=classes))["assets"]["labels"]["classification:classes"]
    assert [c["name"] for c in found] == ["sol_nu", "b_eau_b", "class_3", "class_4", "no_data"]
    assert [c["title"] for c in found][:4] == ["sol nu", "<b>eau</b>", "水", "森"]


def test_a_footprint_is_where_the_map_is():
    """Corners by rasterio, counterclockwise as RFC 7946 has it, the box around them."""
    item = made()
    ring = item["geometry"]["coordinates"][0]
    xs, ys = zip(*[PLACE @ p for p in ((0, 600), (1000, 600), (1000, 0), (0, 0))], strict=True)
    lons, lats = transform(LAMBERT, "EPSG:4326", xs, ys)
    assert ring[0] == ring[-1]
    assert np.allclose(ring[:-1][::8], np.column_stack([lons, lats]), atol=1e-7)
    assert item["bbox"] == [min(p[0] for p in ring), min(p[1] for p in ring),
                            max(p[0] for p in ring), max(p[1] for p in ring)]  # fmt: skip
    assert item["properties"]["proj:bbox"] == pytest.approx(
        [721104.4, 6248980.8 - 120, 721304.4, 6248980.8]
    )
    assert item["properties"]["proj:code"] == "EPSG:2154"
    assert item["properties"]["proj:shape"] == [600, 1000]
    flipped = PixelGrid(
        height=600, width=1000, crs=LAMBERT, transform=Affine(0.2, 0, 7e5, 0, 0.2, 6.3e6)
    )
    ring = np.array(made(grid=flipped)["geometry"]["coordinates"][0])
    assert (ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1]).sum() > 0


def test_a_place_that_is_nowhere_has_no_outline():
    """Of a CRS that says what it measures in, but not where."""
    nowhere = PixelGrid(height=6, width=9, crs=CRS.from_wkt(LOCAL), transform=PLACE)
    item = made(grid=nowhere)
    assert item["geometry"] is None
    assert "bbox" not in item or item["bbox"] is None


def test_references_are_relative_and_spelt_out():
    item = made()
    assert item["assets"]["labels"]["href"] == "./a%20b.labels.tif"
    assert item["assets"]["labels"]["file:checksum"] == "1220" + "ab" * 32
    assert [(link["rel"], link["href"]) for link in item["links"]] == [
        ("derived_from", "../models/m.onnx"),
        ("derived_from", "./in/%C3%A9%231.tif"),
        ("derived_from", "https://a.b/c%20d.tif?x=1"),
    ]


def test_equal_facts_make_equal_items():
    pytest.importorskip("pystac", reason="needs pystac")
    assert item_json(facts()) == item_json(facts())


def test_an_item_is_known_for_ours(tmp_path):
    pytest.importorskip("pystac", reason="needs pystac")
    (tmp_path / "map.json").write_text(item_json(facts()))
    assert is_item(tmp_path / "map.json")
    for other in ("[]", "{}", '{"properties": 3}', "no json", '{"properties": {}}'):
        (tmp_path / "other.json").write_text(other)
        assert not is_item(tmp_path / "other.json")
    assert not is_item(tmp_path)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2023", "2023-01-01T00:00:00", "2023-12-31T23:59:59"),
        ("2024-02", "2024-02-01T00:00:00", "2024-02-29T23:59:59"),
        ("2023-07-14", "2023-07-14T00:00:00", "2023-07-14T23:59:59"),
        ("2022-06/2023", "2022-06-01T00:00:00", "2023-12-31T23:59:59"),
    ],
)
def test_a_date_is_the_time_from_its_first_to_its_last_second(text, first, last):
    found = acquired_span(text)
    assert [moment.isoformat() for moment in found] == [f"{first}+00:00", f"{last}+00:00"]


@pytest.mark.parametrize(
    "text", ["", "soon", "2023-13", "2023-02-30", "23", "2023/2022", "2022/2023/2024", "2023-7-1"]
)
def test_what_is_no_date_is_refused(text):
    with pytest.raises(OutputError, match="is no day, month, year or START/END"):
        acquired_span(text)
