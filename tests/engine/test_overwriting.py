"""Files are told apart by what they are: every name of an input is refused as an output."""

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from doubles.rasters import write_tiff

from flair_engine.errors import OutputError
from flair_engine.overwriting import on_disk, refuse_inputs, same_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a file, links to it, an absent name and a link to that."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.tif").write_bytes(b"pixels")
    (tmp_path / "hard.tif").hardlink_to("a.tif")
    (tmp_path / "soft.tif").symlink_to("a.tif")
    (tmp_path / "softer.tif").symlink_to("soft.tif")
    (tmp_path / "other").symlink_to("sub")
    (tmp_path / "to-absent.tif").symlink_to("sub/absent.tif")
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    return tmp_path


SAME = [
    ("a.tif", "hard.tif"),
    ("a.tif", "soft.tif"),
    ("hard.tif", "softer.tif"),
    ("a.tif", "sub/../a.tif"),
    ("a.tif", ".//a.tif"),
    ("a.tif", "{here}//sub/./../a.tif"),
    ("sub/absent.tif", "to-absent.tif"),
    ("sub/absent.tif", "other/absent.tif"),
    ("{here}", "sub/.."),
    ("loop.tif", "./loop.tif"),
]
OTHER = [
    ("a.tif", "sub"),
    ("a.tif", "absent.tif"),
    ("absent.tif", "sub/absent.tif"),
    ("loop.tif", "a.tif"),
    ("a\0.tif", "a.tif"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_names_of_one_file(folder, one, two):
    one, two = (Path(name.format(here=folder)) for name in (one, two))
    assert same_file(one, two)
    assert same_file(two, one)
    with pytest.raises(OutputError, match="is the input .*: give the output another name"):
        refuse_inputs([one], [str(two)])
    with pytest.raises(OutputError, match="is (two outputs|the same file as .*): give one"):
        refuse_inputs([one, two], [])
    with pytest.raises(OutputError, match="is two outputs: give one of them another name"):
        refuse_inputs([one, one], [])


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_names_of_two_files(folder, one, two):
    one, two = (Path(name.format(here=folder)) for name in (one, two))
    assert not same_file(one, two)
    refuse_inputs([one], [str(two)])


@pytest.mark.usefixtures("folder")
def test_an_input_in_a_folder_that_will_be_deleted():
    refuse_inputs([Path("sub2"), Path("map.tif")], ["sub/a.tif"])
    for name in ("sub/a.tif", "other/a.tif", "sub/deep/er/a.tif", "to-absent.tif"):
        with pytest.raises(OutputError, match=f"^sub: holds the input {name}: move it, or"):
            refuse_inputs([Path("sub")], [name])
    Path("sub/link.tif").symlink_to("../a.tif")
    with pytest.raises(OutputError, match=r"^sub: holds the input sub/link\.tif"):
        refuse_inputs([Path("sub")], ["sub/link.tif"])


@pytest.fixture
def archive(folder):
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        file.write(folder / "a.tif", "in/b.tif")
    (folder / "co:lon.tif").write_bytes(b"pixels")
    return folder / "a.zip"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.tif", "a.tif"),
        ("absent.tif", "absent.tif"),
        ("co:lon.tif", "co:lon.tif"),
        ("file://{here}/a.tif", "a.tif"),
        ("file://a.tif", "a.tif"),
        ("vrt://{here}/a.tif?bands=1", "a.tif"),
        ("zip://{here}/a.zip!in/b.tif", "a.zip"),
        ("zip://a.zip!/in/b.tif", "a.zip"),
        ("zip+file://a.zip!/in/b.tif", "a.zip"),
        ("zip://{here}/a.zip/in/b.tif", "a.zip"),
        ("/vsizip/{here}/a.zip/in/b.tif", "a.zip"),
        ("/vsizip/a.zip/in/b.tif", "a.zip"),
        ("/vsizip/{{a.zip}}/in/b.tif", "a.zip"),
        ("/vsizip/{{a.zip", "a.zip"),
        ("/vsizip//vsizip/{here}/a.zip/in.zip/b.tif", "a.zip"),
        ("/vsitar/{{/vsizip/{{a.zip}}/in.tar}}/b.tif", "a.zip"),
        ("/vsitar/vsizip/a.zip/in.tar/b.tif", "a.zip"),
        ("/vsigzip/{here}/absent.gz", "absent.gz"),
        ("/vsisubfile/0_10,{here}/a.tif", "a.tif"),
        ("/vsisubfile/0_10,/vsizip/a.zip/in/b.tif", "a.zip"),
        ("/vsicrypt/key=AA,file=a.tif", "a.tif"),
        ("/vsicached?chunk_size=9&file=a.tif", "a.tif"),
        ("GTIFF_DIR:1:{here}/a.tif", "a.tif"),
        ("GTIFF_DIR:off:8:a.tif", "a.tif"),
        ("GTIFF_DIR:1:co:lon.tif", "co:lon.tif"),
        ("GTIFF_DIR:1:/vsizip/a.zip/in/b.tif", "a.zip"),
        ("GPKG:a.tif:table", "a.tif"),
        ('NETCDF:"a.tif":var', "a.tif"),
        ('NETCDF:"/vsizip/a.zip/in/b.nc":var', "a.zip"),
        ('HDF5:"a.tif"://group/var', "a.tif"),
    ],
)
@pytest.mark.usefixtures("archive")
def test_names_that_lead_to_the_disk(tmp_path, name, found):
    name = name.format(here=tmp_path)
    assert same_file(on_disk(name), tmp_path / found)
    if (tmp_path / found).exists():
        with pytest.raises(OutputError, match="is the input"):
            refuse_inputs([tmp_path / found], [name])


@pytest.mark.parametrize(
    "name",
    [
        "https://there/a.tif",
        "zip+https://there/a.zip!a.tif",
        "s3://there/a.tif",
        " <VRTDataset/>",
        "/vsicurl/https://there/a.tif",
        "/vsizip//vsicurl/https://there/a.zip/a.tif",
        "/vsizip/vsicurl/https://there/a.zip/a.tif",
        "/vsimem/a.tif",
        "/vsistdin/",
        "PG:dbname=there",
        "GPKG:absent.gpkg:table",
        "WMS:https://there",
    ],
)
@pytest.mark.usefixtures("archive")
def test_names_that_lead_elsewhere(name):
    assert on_disk(name) is None
    refuse_inputs([Path("a.tif")], [name])


@pytest.mark.parametrize("name", ["a\0.tif", "a" * 5000, "zip://" + "a" * 5000, "/vsizip/a\0"])
def test_names_of_nothing_raise_nothing(name):
    assert on_disk(name) is not None
    refuse_inputs([Path("a.tif")], [name])


def test_what_rasterio_opens_is_found(folder):
    """The reference is GDAL: each of these names opens and shows the file's pixels."""
    write_tiff(folder / "real.tif", np.ones((1, 4, 4), np.uint8))
    with zipfile.ZipFile(folder / "real.zip", "w") as file:
        file.write(folder / "real.tif", "in/b.tif")
    for name, found in (
        (f"zip://{folder}/real.zip!in/b.tif", "real.zip"),
        ("/vsizip/real.zip/in/b.tif", "real.zip"),
        ("/vsizip/{real.zip}/in/b.tif", "real.zip"),
        ("GTIFF_DIR:1:real.tif", "real.tif"),
        ("file://real.tif", "real.tif"),
        (f"vrt://{folder}/real.tif?bands=1", "real.tif"),
        (f"/vsisubfile/0_{Path('real.tif').stat().st_size},real.tif", "real.tif"),
    ):
        with rasterio.open(name) as dataset:
            assert dataset.read().min() == 1, name
        assert same_file(on_disk(name), folder / found), name


def test_thousands_of_names_take_seconds(tmp_path):
    outputs = [tmp_path / f"maps/{number}.tif" for number in range(10_000)]
    inputs = [str(tmp_path / f"in/{number}.tif") for number in range(30_000)]
    began = time.perf_counter()
    refuse_inputs(outputs, inputs)
    assert time.perf_counter() - began < 10
    with pytest.raises(OutputError, match="9999"):
        refuse_inputs(outputs, [*inputs, str(outputs[-1])])
