"""Arrays come back from text as they were."""

import numpy as np

from flair_bench.figures import packed


def test_arrays_come_back_as_they_were():
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    assert (packed(array).unpacked() == array).all()
    assert (packed(array[:, ::2]).unpacked() == array[:, ::2]).all(), "also of a view"
