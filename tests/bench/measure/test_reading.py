"""Reading is measured on the same pixels, each block once."""

import numpy as np
import pytest

from flair_bench.measure.reading import FORMATS, measure_reading


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_block_by_block_once(tmp_path, name):
    bands, profile = FORMATS[name]
    image = np.random.default_rng(8).integers(0, 256, (5, 90, 70), dtype=np.uint8)
    found = measure_reading(image[:bands], 1200, profile, 1, tmp_path)
    assert found.blocks_requested == found.blocks > 1
    assert found.of_gdal.median > 0
