"""Arrays come back from text as they were."""

import zlib
from base64 import b64encode

import numpy as np
import pytest

from flair_bench.figures import PackedArray, packed


def test_arrays_come_back_as_they_were():
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    assert (packed(array).unpacked() == array).all()
    assert (packed(array[:, ::2]).unpacked() == array[:, ::2]).all(), "also of a view"


def text_of(content: bytes) -> str:
    return b64encode(zlib.compress(content, 9)).decode()


@pytest.mark.parametrize(
    ("shape", "content", "why"),
    [
        ((2, 3), text_of(bytes(7)), "an array of 7 bytes or more, not 6"),
        ((2, 3), text_of(bytes(5)), "an array of 5 bytes or more, not 6"),
        ((2, 3), text_of(bytes(1 << 28)), "an array of 7 bytes or more, not 6"),
        ((1 << 40,), text_of(b""), r"an array of shape \[1099511627776\]"),
        ((), text_of(b"1"), r"an array of shape \[\]"),
        ((0, 3), text_of(b""), r"an array of shape \[0, 3\]"),
        ((-2, -3), text_of(bytes(6)), r"an array of shape \[-2, -3\]"),
        ((2, 3), "AAAA", "an array that cannot be inflated"),
        ((2, 3), "<>", "base64|Incorrect padding"),
    ],
)
def test_a_text_that_is_no_such_array_is_refused_and_not_unpacked(shape, content, why):
    with pytest.raises(ValueError, match=why):
        PackedArray(shape=shape, content=content)
