"""Writing is measured on maps that are the same, whoever writes them."""

from flair_bench.measure.writing import measure_writing


def test_both_writers_write_the_same_map(tmp_path):
    found = measure_writing(700, 1, tmp_path)
    assert found.mpx_per_s > 0
    assert found.of_gdal.median > 0
