import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError

from flair_engine.errors import OutputError
from flair_engine.mapping import creation
from flair_engine.mapping.creation import COG, GTIFF, creation_options


def test_options_are_what_rasterio_takes():
    assert creation_options((), cog=False) == {}
    given = ("compress=zstd", " ZSTD_LEVEL = 9", "PREDICTOR=2", "BIGTIFF=YES")
    assert creation_options(given, cog=False) == {
        "compress": "ZSTD", "zstd_level": "9", "predictor": "2", "bigtiff": "YES",
    }  # fmt: skip
    assert creation_options(("LEVEL=9",), cog=True) == {"level": "9"}


REFUSED = {
    "no value": ("COMPRESS", "--co COMPRESS: is not NAME=VALUE: give e.g. COMPRESS=ZSTD"),
    "empty": ("COMPRESS=", "is not NAME=VALUE"),
    "fixed": ("BLOCKXSIZE=256", "BLOCKXSIZE is fixed, or means nothing to a map written as GTiff"),
    "unknown": ("COMPRES=LZW", "choose from COMPRESS, PREDICTOR"),
    "sparse": ("SPARSE_OK=TRUE", "SPARSE_OK is fixed"),
    "bits": ("NBITS=4", "NBITS is fixed"),
    "with a loss": ("COMPRESS=JPEG", "no map is written so: COMPRESS is one of NONE, DEFLATE"),
    "too small": ("BIGTIFF=NO", "BIGTIFF is one of YES, IF_SAFER"),
    "level": ("ZLEVEL=99", "ZLEVEL is a number from 1 to 9"),
    "of another": ("ZSTD_LEVEL=9", "is of COMPRESS=ZSTD, the map is written with DEFLATE"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_spoil_a_map_or_be_passed_over_is_refused(case):
    option, message = REFUSED[case]
    with pytest.raises(OutputError, match=message):
        creation_options((option,), cog=False)


def test_what_is_of_the_other_driver_is_refused():
    with pytest.raises(OutputError, match="ZLEVEL is fixed, or means nothing to a map .* COG"):
        creation_options(("ZLEVEL=6",), cog=True)
    with pytest.raises(OutputError, match="COMPRESS is given twice: give it once"):
        creation_options(("COMPRESS=LZW", "compress=ZSTD"), cog=False)


@pytest.mark.parametrize("fault", ["refused", "another", "other pixels"])
def test_what_this_gdal_does_not_write_is_refused(monkeypatch, fault):
    """GDAL is built with or without a codec, and writes another in silence."""

    class Dataset:
        def __enter__(self):
            return self

        def __exit__(self, *_error):
            return None

        def write(self, *_pixels):
            return None

        def tags(self, **_domain):
            return {"COMPRESSION": "DEFLATE" if fault == "another" else "LZMA"}

        def read(self, _band):
            return np.full((64, 64), 77, np.uint8)

    class Memory(Dataset):
        def open(self, **_options):
            if fault == "refused":
                raise RasterioIOError("no such codec")
            return Dataset()

    monkeypatch.setattr(creation, "MemoryFile", Memory)
    with pytest.raises(OutputError, match="does not write LZMA .*: choose another COMPRESS"):
        creation_options(("COMPRESS=LZMA",), cog=False)


@pytest.mark.parametrize(("cog", "allowed"), [(False, GTIFF), (True, COG)])
def test_every_value_that_is_offered_is_known_to_the_driver(cog, allowed, tmp_path):
    """Compressions that this GDAL lacks apart."""
    for name, values in allowed.items():
        if name in ("COMPRESS", "ZSTD_LEVEL", "LZMA_PRESET"):
            continue
        for value in values:
            assert creation_options((f"{name}={value}",), cog=cog)
    assert "COMPRESS" in allowed
    assert rasterio.__gdal_version__
