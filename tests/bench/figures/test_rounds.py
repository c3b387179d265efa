"""Rounds leave the least and the most."""

from flair_bench.figures import Spread


def test_a_spread_is_least_and_most():
    assert Spread.of(iter([2.0, 1.0, 3.0])) == (1.0, 3.0)
