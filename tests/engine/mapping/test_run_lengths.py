import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flair_engine.mapping.run_lengths import count_packed, pack, unpack


@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 99)),
              elements=st.integers(0, 3)))  # fmt: skip
def test_what_is_packed_is_unpacked(array):
    assert (unpack(pack(array), array.shape) == array).all()


def test_runs_are_short_and_noise_is_raw():
    assert len(pack(np.ones((1, 256, 5000), np.uint8))) == 8
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64), dtype=np.uint8)
    assert len(pack(noise)) == noise.size + 3


@given(arrays(np.uint8, st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 99)),
              elements=st.integers(0, 255)))  # fmt: skip
def test_values_are_counted_without_unpacking(array):
    expected = np.bincount(array.ravel(), minlength=256)
    assert (count_packed(pack(array)) == expected).all()
    flat = np.repeat(array.ravel()[:1], 500)
    assert count_packed(pack(flat))[flat[0]] == 500
