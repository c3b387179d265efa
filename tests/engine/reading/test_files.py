import errno
import os
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import rasterio
from doubles.field import Placed, flat, has_driver, noise, write, write_index, write_vrt
from rasterio.control import GroundControlPoint

from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.reading import files
from flair_engine.reading.files import describe, describe_all, expand, open_dataset, printable


def test_a_file_says_what_it_is(tmp_path):
    path = write(
        tmp_path / "in.tif", noise(4, 40, 50), photometric="minisblack", nodata=7,
        kinds=("red", "green", "undefined", "alpha"), names=("r", "g", "near infrared"),
        tiled=True, blockxsize=32, blockysize=16,
    )  # fmt: skip
    info = describe(str(path))
    assert (info.name, info.height, info.width, info.count) == (str(path), 40, 50, 4)
    assert info.crs.to_epsg() == 2154
    assert info.transform.a == 0.2
    assert info.block_px == (16, 32)
    assert [band.kind for band in info.bands] == ["red", "green", "undefined", "alpha"]
    assert [band.description for band in info.bands] == ["r", "g", "near infrared", ""]
    assert {band.dtype for band in info.bands} == {"uint8"}
    assert {band.nodata for band in info.bands} == {7}
    assert info.alpha == 4
    assert not info.masked
    assert info.placed
    assert not info.gcps
    assert info.files == (str(path),)
    assert info.pasted == ()
    assert info.interleaved
    assert not info.unwritten


def test_a_height_says_its_scale_and_unit(tmp_path):
    path = write(tmp_path / "in.tif", flat(1, 9, 9, "int16"), scale=0.01, offset=-5, unit="cm")
    (band,) = describe(str(path)).bands
    assert (band.dtype, band.scale, band.offset, band.unit) == ("int16", 0.01, -5, "cm")
    (band,) = describe(str(write(tmp_path / "plain.tif", flat(1, 9, 9)))).bands
    assert (band.scale, band.offset, band.unit, band.description) == (1, 0, "", "")


@pytest.mark.parametrize("sidecar", [False, True])
def test_a_mask_beside_the_bands_is_known(tmp_path, sidecar):
    path = write(tmp_path / "in.tif", noise(2, 9, 9), mask_hw=np.eye(9) > 0, sidecar=sidecar)
    info = describe(str(path))
    assert info.masked
    assert (f"{path}.msk" in info.files) == sidecar


@pytest.mark.parametrize("said", [{"nodata": 7}, {"kinds": ("gray", "alpha")}, {}])
def test_nodata_and_alpha_are_no_mask_beside_the_bands(tmp_path, said):
    assert not describe(str(write(tmp_path / "in.tif", noise(2, 9, 9), **said))).masked


def test_a_file_that_does_not_say_where_it_lies(tmp_path):
    info = describe(str(write(tmp_path / "in.tif", noise(1, 9, 9), crs=None, transform=None)))
    assert not info.placed
    assert not info.gcps
    points = [GroundControlPoint(row, col, 7e5 + col, 6e6 - row) for row, col in
              ((0, 0), (0, 9), (9, 0))]  # fmt: skip
    path = tmp_path / "gcps.tif"
    write(path, noise(1, 9, 9), gcps=points, crs="EPSG:2154", transform=None)
    info = describe(str(path))
    assert not info.placed
    assert info.gcps


def test_a_vrt_says_what_it_is_made_of(tmp_path):
    source = write(tmp_path / "a.tif", noise(1, 9, 9))
    path = write_vrt(tmp_path / "in.vrt", [Placed(source, 2, 3, 9, 9)], height=20, width=20)
    info = describe(str(path))
    assert info.files == (str(path), str(source))
    (band,) = info.pasted
    window = Window(top=2, left=3, height=9, width=9)
    assert [(pasted.file, pasted.window) for pasted in band] == [(str(source), window)]


def test_not_a_raster(tmp_path):
    path = tmp_path / "note.tif"
    path.write_text("not a raster")
    with pytest.raises(SourceError, match="note.tif: GDAL cannot open it .*: give a raster"):
        open_dataset(str(path))


def test_a_name_with_a_null_byte(tmp_path):
    with pytest.raises(SourceError, match="GDAL cannot open it"):
        open_dataset(f"{tmp_path}/a\0b.tif")


def test_a_name_that_is_not_utf_8(tmp_path):
    name = os.fsdecode(b"d\xe9partement.tif")
    assert printable(name) == "d\ufffdpartement.tif"
    assert printable("département.tif") == "département.tif"
    (write(tmp_path / "a.tif", noise(1, 9, 9))).rename(tmp_path / name)
    with pytest.raises(SourceError, match="d\ufffdpartement.tif: its name holds bytes that are"):
        describe_all([f"{tmp_path}/{name}"])


def test_a_container_without_bands(tmp_path, monkeypatch):
    class Empty:
        count = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(files, "open_dataset", lambda _name: Empty())
    with pytest.raises(SourceError, match="in.nc: holds no raster band: give one of its sub"):
        describe("in.nc")


def test_folders_patterns_and_names_stand_for_files(tmp_path):
    for name in ("b.tif", "a.tif", "c.TIF", "note.txt", "d.asc", "a.tif.aux.xml"):
        (tmp_path / name).touch()
    names = [str(tmp_path / name) for name in ("a.tif", "b.tif", "c.TIF", "d.asc")]
    assert expand([str(tmp_path)]) == names
    assert expand([str(tmp_path / "*.tif")]) == names[:2]
    assert expand([names[1], str(tmp_path)]) == [names[1], names[0], *names[2:]]
    assert expand([str(tmp_path / "absent.tif")]) == [str(tmp_path / "absent.tif")]


@pytest.mark.parametrize("folder", ["a[1]", "a*", "a?b"])
def test_signs_of_patterns_may_be_part_of_names(tmp_path, folder):
    names = [str(tmp_path / folder / name) for name in ("1.tif", "[2].tif")]
    (tmp_path / folder).mkdir()
    (tmp_path / "a1").mkdir()
    for name in names:
        write(tmp_path / name, noise(1, 9, 9))
    write(tmp_path / "a1" / "3.tif", noise(1, 9, 9))
    assert expand([str(tmp_path / folder)]) == names
    assert expand([names[1]]) == names[1:]
    assert expand([f"{tmp_path}/{folder}/*.tif"]) == names
    assert [info.name for info in describe_all([str(tmp_path / folder)])] == names


def test_patterns_may_stand_for_folders(tmp_path):
    names = [str(tmp_path / folder / "a.tif") for folder in ("x", "x/y")]
    for name in names:
        write(tmp_path / name, noise(1, 9, 9))
    assert expand([f"{tmp_path}/**/*.tif"]) == names
    assert expand([f"{tmp_path}/?/a.tif"]) == names[:1]


@pytest.mark.parametrize(
    ("name", "message"), [("", "a folder without rasters"), ("*.jp2", "a pattern that matches no")]
)
def test_names_that_stand_for_nothing(tmp_path, name, message):
    with pytest.raises(SourceError, match=f"{message}.*: check the path"):
        expand([f"{tmp_path}/{name}"])


def test_no_such_file(tmp_path):
    with pytest.raises(SourceError, match="absent.tif: no such file: check the path"):
        describe_all([str(tmp_path / "absent.tif")])


@pytest.mark.parametrize("spelling", ["/vsizip/{0}/e.zip/a.tif", "zip://{0}/e.zip!a.tif",
                                      "GTIFF_DIR:1:{0}/a.tif"])  # fmt: skip
def test_names_that_gdal_alone_understands(tmp_path, spelling):
    write(tmp_path / "a.tif", noise(1, 9, 9))
    with ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.write(tmp_path / "a.tif", "a.tif")
    (info,) = describe_all([spelling.format(tmp_path)])
    assert (info.height, info.width) == (9, 9)
    assert info.files


def test_threads_do_not_share_a_handle(tmp_path):
    path = str(write(tmp_path / "a.tif", noise(1, 9, 9)))
    with open_dataset(path) as one, open_dataset(path) as other:
        assert one is not other
        one.close()
        assert other.read(1).shape == (9, 9)


def test_a_missing_georeference_is_not_warned_of(tmp_path, recwarn):
    path = write(tmp_path / "a.tif", noise(1, 9, 9), crs=None, transform=None)
    recwarn.clear()
    describe(str(path))
    assert not [w for w in recwarn if w.category is rasterio.errors.NotGeoreferencedWarning]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(SourceError, match="pipe.tif: is a pipe, no file: give a raster"):
        describe_all([str(tmp_path / "pipe.tif")])
    with pytest.raises(SourceError, match="/dev/null: is a device or socket, no file"):
        describe_all(["/dev/null"])


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "a.tif: may not be read by you: ask for permission to read it"),
        (errno.EMFILE, "a.tif: cannot be opened, too many files are open already: raise ulimit -n"),
        (None, r"a.tif: GDAL cannot open it \(.*\): give a raster"),
    ],
)
def test_a_file_that_cannot_be_opened_is_told_with_the_reason(
    tmp_path, monkeypatch, number, message
):
    path = tmp_path / "a.tif"
    path.write_text("text")
    monkeypatch.setattr(files, "_system_error", lambda name: number if name == str(path) else None)
    with pytest.raises(SourceError, match=message):
        open_dataset(str(path))


@pytest.mark.parametrize("name", ["a" * 300 + ".tif", "b/" * 3000 + "a.tif"])
def test_names_that_no_file_has(tmp_path, name):
    with pytest.raises(SourceError, match=r"^.{4,40}\.\.\.: its name is too long: check the path$"):
        describe_all([f"{tmp_path}/{name}"])
    with pytest.raises(SourceError, match="too long|no such file"):
        describe_all([name])


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(
        SourceError, match=r"cannot be listed \(Permission denied\): check its perm"
    ):
        expand([str(tmp_path)])


@pytest.mark.parametrize("numbers", ["nan,.2,0,0,0,-.2", "0,.2,0,0,0,0", "0,.2,.2,0,.2,.2",
                                     "inf,.2,0,0,0,-.2", "0,1e-200,0,0,0,1e-200"])  # fmt: skip
def test_a_geotransform_that_puts_no_pixel_anywhere_is_refused(tmp_path, numbers):
    path = tmp_path / "a.vrt"
    path.write_text(
        f"<VRTDataset rasterXSize='9' rasterYSize='9'><GeoTransform>{numbers}</GeoTransform>"
        "<VRTRasterBand dataType='Byte' band='1'/></VRTDataset>"
    )
    with pytest.raises(
        SourceError, match=r"a.vrt: its geotransform \(.*\) puts no pixel anywhere: "
    ):
        describe(str(path))


def test_an_empty_name_is_refused():
    with pytest.raises(SourceError, match="an empty name stands for no file: name one, or leave"):
        describe_all([""])


@pytest.mark.skipif(not has_driver("GTI"), reason="needs GDAL 3.9")
def test_an_index_of_tiles_is_refused(tmp_path):
    tiles = [
        Placed(write(tmp_path / f"{col}.tif", noise(1, 20, 30), col=col), 0, col, 20, 30)
        for col in (0, 50)
    ]
    path = write_index(tmp_path / "index.gti", tiles)
    message = r"is an index of tiles \(GTI\), where those that are missing read as zeros: give the"
    for name in (str(path), f"GTI:{path.with_suffix('.geojson')}"):
        with pytest.raises(SourceError, match=message):
            describe(name)
    placed = [Placed(path, 0, 0, 20, 80)]
    vrt = write_vrt(tmp_path / "in.vrt", placed, height=20, width=80)
    with pytest.raises(SourceError, match=f"^{path}: {message}"):
        describe(str(vrt))


def test_a_file_that_is_shorter_than_its_header_says_is_refused(tmp_path):
    path = write(tmp_path / "a.img", noise(3, 20, 30).astype("uint16"), driver="ENVI")
    assert describe(str(path)).count == 3
    os.truncate(path, 3599)
    with pytest.raises(
        SourceError, match="a.img: has 3,599 bytes, its header says 3,600: fetch it again"
    ):
        describe(str(path))


def test_a_mask_that_cannot_be_read_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", noise(1, 9, 9))
    (tmp_path / "a.tif.msk").write_bytes(b"II*\0junk")
    with pytest.raises(
        SourceError,
        match="a.tif.msk: cannot be read as the mask of .*a.tif: fetch it again, or delete it",
    ):
        describe(str(path))


def test_a_vrt_that_is_not_in_utf_8_is_refused(tmp_path):
    source = write(tmp_path / "a.tif", noise(1, 9, 9))
    path = write_vrt(tmp_path / "in.vrt", [Placed(source, 0, 0, 9, 9)], height=9, width=9)
    head = b'<?xml version="1.0" encoding="ISO-8859-1"?>'
    path.write_bytes(head + path.read_bytes().replace(b"a.tif", b"\xe9.tif"))
    outer = write_vrt(tmp_path / "out.vrt", [Placed(path, 0, 0, 9, 9)], height=9, width=9)
    for vrt in (path, outer):
        with pytest.raises(SourceError, match=f"{vrt.name}: is not written in UTF-8: save it so"):
            describe(str(vrt))


def test_hidden_files_of_a_folder_are_left_out(tmp_path):
    for name in ("a.tif", "._a.tif", ".b.tif"):
        (tmp_path / name).touch()
    assert expand([str(tmp_path)]) == [f"{tmp_path}/a.tif"]
    assert expand([f"{tmp_path}/.b.tif"]) == [f"{tmp_path}/.b.tif"]


@pytest.mark.parametrize("name", ["https://x.org/a.tif?key=[1]*", "/vsicurl/https://x.org/a?b=c",
                                  "vrt://a.tif?bands=1,2", "<VRTDataset a='?'>"])  # fmt: skip
def test_signs_in_what_is_no_path_are_no_pattern(name):
    assert expand([name]) == [name]


def test_a_png_that_is_cut_short_is_not_read_in_silence(tmp_path):
    path = write(tmp_path / "a.png", noise(3, 200, 90), driver="PNG")
    os.truncate(path, path.stat().st_size // 2)
    with open_dataset(str(path)) as dataset, pytest.raises(rasterio.errors.RasterioIOError):
        dataset.read()


def test_unwritten_blocks_are_looked_for_in_sources_alone(tmp_path):
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 40, "width": 50, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, SPARSE_OK=True, blockysize=8) as dataset:
        dataset.write(noise(1, 8, 50), window=((32, 40), (0, 50)))
    assert not describe(str(path)).unwritten
    assert files._source(str(path)).unwritten
    assert not files._source(str(write(path, noise(1, 40, 50)))).unwritten
    path.unlink()
    assert files._source(str(path)) is None


def test_many_files_are_described_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MANY_FILES", 4)
    for number in range(12):
        write(tmp_path / f"{number:02}.tif", noise(1, 3 + number, 5))
    infos = files.describe_all([str(tmp_path)])
    assert [(info.height, Path(info.name).name) for info in infos] == [
        (3 + number, f"{number:02}.tif") for number in range(12)
    ]
    (tmp_path / "07.tif").write_bytes(b"none")
    (tmp_path / "11.tif").write_bytes(b"none")
    with pytest.raises(SourceError, match=r"07.tif: GDAL cannot open it"):
        files.describe_all([str(tmp_path)])


AUX = """<PAMDataset><SRS>EPSG:2154</SRS>
<PAMRasterBand band="1"><NoDataValue>7</NoDataValue><Description>rouge</Description></PAMRasterBand>
</PAMDataset>"""


@pytest.mark.parametrize("configured", [None, "NO"])
def test_no_sidecar_is_lost_where_folders_are_not_listed(tmp_path, monkeypatch, configured):
    """GDAL finds masks, nodata, CRS, world files and overviews by name, in whatever case."""
    plain = {"driver": "GTiff", "count": 1, "height": 9, "width": 9, "dtype": "uint8"}
    for name in ("aux", "world", "upper", "mask", "overview", "none"):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **plain) as dataset:
            dataset.write(noise(1, 9, 9))
    (tmp_path / "aux.tif.aux.xml").write_text(AUX)
    world = "0.2\n0\n0\n-0.2\n700000\n6600000\n"
    (tmp_path / "world.tfw").write_text(world)
    (tmp_path / "upper.TFW").write_text(world)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(tmp_path / "mask.tif", "r+") as dataset,
    ):
        dataset.write_mask(np.eye(9) > 0)
    with (
        rasterio.Env(TIFF_USE_OVR=True),
        rasterio.open(tmp_path / "overview.tif", "r+") as dataset,
    ):
        dataset.build_overviews([2])
    one_by_one = [describe(name) for name in expand([str(tmp_path)])]
    monkeypatch.setattr(files, "MANY_FILES", 4)
    monkeypatch.setattr(files, "LISTED_FILES", 4)
    if configured:
        monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", configured)
    listed = []
    setting = rasterio.Env.from_defaults
    monkeypatch.setattr(rasterio.Env, "from_defaults", lambda **o: listed.append(o) or setting(**o))
    found = {Path(info.name).stem: info for info in describe_all([str(tmp_path)])}
    if configured:
        assert {} in listed
        return
    assert {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"} in listed
    assert list(found.values()) == one_by_one
    assert (found["aux"].bands[0].nodata, found["aux"].bands[0].description) == (7, "rouge")
    assert found["aux"].crs.to_epsg() == 2154
    assert found["world"].transform == found["upper"].transform != found["none"].transform
    assert found["mask"].masked
    assert len(found["overview"].files) == 2


def test_files_in_one_crs_share_it(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MANY_FILES", 2)
    for number in range(40):
        write(tmp_path / f"{number}.tif", noise(1, 3, 5))
    infos = describe_all([str(tmp_path)])
    assert {id(info.crs) for info in infos} == {id(infos[0].crs)}
