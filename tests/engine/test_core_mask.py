"""Bits of cores against the plain mask, a byte each."""

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flair_engine import core_mask
from flair_engine.core_mask import CoreMask

SIDE = st.integers(1, 40)
PLAIN = hnp.arrays(bool, st.tuples(SIDE, SIDE))


def plain(mask):
    return mask.rows(0, len(mask.packed))


@given(PLAIN, st.integers(0, 30), st.sampled_from([1, 7, 2048]), st.data())
def test_bits_say_what_the_plain_mask_says(wanted, first, at_once, data):
    rows, cols = wanted.shape
    with mock.patch.object(core_mask, "ROWS_AT_ONCE", at_once):
        asked = []
        mask = CoreMask.in_blocks(
            range(first, first + rows),
            cols,
            lambda r: asked.append(r) or wanted[r.start - first : r.stop - first],
        )
        assert all(r.start % at_once == 0 for r in asked[1:]), "the same blocks of the grid"
        edges = [
            sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in (rows, cols)
        ]
        here = tuple(slice(*edge) for edge in edges)
        assert (plain(mask.cut(*here)) == wanted[here]).all()
        assert mask.cut(*here).any() == wanted[here].any()
    assert (plain(mask) == wanted).all()
    assert (plain(CoreMask.of(wanted)) == wanted).all()
    assert mask.any() == wanted.any()
    assert (mask.by_row() == wanted.any(1)).all()
    assert (mask.by_col() == wanted.any(0)).all()
    i, j = data.draw(st.tuples(st.integers(0, rows - 1), st.integers(0, cols - 1)))
    assert mask[i, j] is bool(wanted[i, j])
    assert mask.column(j).tobytes() == wanted[:, j].tobytes()
    in_rows, in_cols = (data.draw(hnp.arrays(bool, n)) for n in (rows, cols))
    kept = mask.within(in_rows, in_cols)
    assert (plain(kept) == wanted & np.outer(in_rows, in_cols)).all()
    assert (plain(mask) == wanted).all(), "left as it was"


@given(PLAIN, st.integers(0, 20), st.integers(0, 20), st.integers(1, 15))
def test_squares_are_those_in_which_a_core_is_wanted(wanted, top, left, size):
    i, j = np.nonzero(wanted)
    expected = sorted(
        set(zip(((i + top) // size).tolist(), ((j + left) // size).tolist(), strict=True))
    )
    assert list(CoreMask.of(wanted).tiles((top, left), size)) == expected
