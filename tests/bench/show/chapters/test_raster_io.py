"""The chapter on input and output: beside GDAL, and memory."""

from doubles.figures import raster_io

from flair_bench.show.chapters.raster_io import raster_io_chapter


def test_reading_and_writing_stand_beside_gdal():
    speeds, wide, memory = raster_io_chapter(raster_io()).tables
    beside = ("50.0", "100.0", "0.50", "0.40 to 0.60")
    assert speeds.rows == (
        ("read tiled JPEG", *beside, "4 / 4"), ("write labels", *beside, "-"),
    )  # fmt: skip
    assert wide.rows == (("tiled 512, 2048/128", "1.020", "500", "1500"),)
    assert memory.rows == (("5000 px file", "300"),)
