"""Panels know which of their cores are wanted, work how many pixels it has."""

import numpy as np
import pytest

from flair_engine.core_mask import CoreMask
from flair_engine.grid import Cores, Grid
from flair_engine.options import Listener
from flair_engine.work import Meters, Panel, Work

GRID = Grid(height=70, width=53, tile_px=32, margin_px=8)


def panel(rows, cols, selected=None, number=0):
    cores = Cores(grid=GRID, rows=rows, cols=cols)
    mask = None if selected is None else CoreMask.of(selected)
    return Panel(number=number, sheet=None, cores=cores, selected=mask)


def test_without_a_selection_every_core_is_wanted():
    here = panel(range(1, 4), range(2, 4))
    assert all(here.is_wanted(i, j) for i in here.cores.rows for j in here.cores.cols)


@pytest.mark.parametrize("seed", range(3))
def test_a_core_is_wanted_by_its_place_in_the_grid(seed):
    whole = np.random.default_rng(seed).random((GRID.rows, GRID.cols)) < 0.5
    rows, cols = range(1, 5), range(2, 4)
    here = panel(rows, cols, whole[1:5, 2:4])
    assert all(here.is_wanted(i, j) is bool(whole[i, j]) for i in rows for j in cols)


@pytest.mark.parametrize("seed", range(3))
def test_wanted_pixels_are_those_of_the_cores_that_are_wanted(seed):
    whole = np.random.default_rng(seed).random((GRID.rows, GRID.cols)) < 0.5
    drawn = np.zeros((GRID.height, GRID.width), bool)
    for i in range(GRID.rows):
        for j in range(GRID.cols):
            drawn[GRID.core(i, j).slices] = whole[i, j]
    here = panel(range(GRID.rows), range(GRID.cols), whole)
    everything = panel(range(GRID.rows), range(GRID.cols))
    for i in range(GRID.rows):
        rows = slice(16 * i, 16 * i + 16)
        assert here.wanted_px(i) == drawn[rows].sum()
        assert everything.wanted_px(i) == drawn[rows].size


def test_pixels_are_those_of_all_panels():
    """Cut where the raster ends."""
    panels = [panel(range(2), range(1)), panel(range(3, 5), range(2, 4), number=1)]
    work = Work(
        job=None,
        listener=Listener(),
        spec=None,
        opened=None,
        backend=None,
        panels=panels,
        targets=(),
        threads=1,
        memory_mib=512,
        meters=Meters(),
    )
    assert work.pixels == 32 * 16 + (70 - 48) * (53 - 32)


def test_nothing_has_been_spent_before_a_run():
    one, other = Meters(), Meters()
    one.notices.append("told")
    assert other.notices == []
    assert (other.assembled_s, other.read.busy_s, other.write.busy_s) == (0, 0, 0)
    assert (other.reading.blocks, other.reading.missing) == (0, 0)
