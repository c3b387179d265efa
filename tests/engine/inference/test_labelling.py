"""Strips taken apart and put together again, with slots that answer the mean of a tile."""

import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from doubles.fake_slot import FakeSlot

from flair_engine.errors import InferenceError
from flair_engine.grid import Grid, Window
from flair_engine.inference.labelling import label_strips

TILE_PX = 32
ANY = range(256)


class CoreSlot(FakeSlot):
    """Answers each tile's number, which all its pixels have, as labels of the core."""

    def __init__(self, log, core_px, batch=3):
        super().__init__(log, batch)
        self.images_nchw = np.zeros((batch, 1, TILE_PX, TILE_PX), np.uint8)
        self.core_px = core_px

    def wait(self):
        means = super().wait()["labels"]
        size = (len(means), self.core_px, self.core_px)
        return {"labels": np.broadcast_to(means[:, None, None], size)}


@dataclass(frozen=True, eq=False)
class Strip:
    """Cores of one row; `valid_hw` is of the whole raster."""

    i: int
    cores: range
    grid: Grid
    valid_hw: np.ndarray | None = None

    @property
    def window(self):
        first, last = self.grid.core(self.i, self.cores[0]), self.grid.core(self.i, self.cores[-1])
        return Window(
            top=first.top, left=first.left, height=first.height, width=last.right - first.left
        )

    def tile(self, j):
        return np.full((1, TILE_PX, TILE_PX), number(self.grid, self.i, j), np.uint8)

    def core_valid(self, j):
        if self.valid_hw is None:
            return None
        return self.valid_hw[self.grid.core(self.i, j).slices]


def number(grid, i, j):
    return 1 + i * grid.cols + j


@pytest.fixture
def grid():
    return Grid(height=70, width=53, tile_px=TILE_PX, margin_px=8)


def strips_of(grid, valid_hw=None, cores=None):
    return (Strip(i, cores or range(grid.cols), grid, valid_hw) for i in range(grid.rows))


def expected(grid, valid_hw=None, selected=None):
    labels = np.zeros((grid.height, grid.width), np.uint8)
    for i in range(grid.rows):
        for j in range(grid.cols):
            if selected is None or selected[i, j]:
                labels[grid.core(i, j).slices] = number(grid, i, j)
    return labels if valid_hw is None else labels * valid_hw


def labelled(grid, strips, slots=2, batch=3, selected=None):
    log = []
    buffers = [CoreSlot(log, grid.core_px, batch) for _ in range(slots)]
    wanted = None if selected is None else lambda i, j: selected[i, j]
    found = list(label_strips(strips, grid, buffers, {"labels": 1}, wanted, values=ANY))
    assert [strip.i for strip in found] == list(range(grid.rows))
    for strip in found:
        labels_hw = strip.outputs["labels"][0]
        assert labels_hw.shape == (strip.window.height, strip.window.width)
        # Each core has a number of its own, and is inferred where one of its pixels has it.
        numbers = [int(n) for n in np.unique(labels_hw) if n]
        cores = [grid.core(strip.i, (n - 1) % grid.cols) for n in numbers]
        assert strip.inferred_px == sum(core.pixels for core in cores)
    return np.concatenate([strip.outputs["labels"][0] for strip in found]), log.count("submit")


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3, 7, 50])
def test_every_pixel_is_labelled_once_in_full_batches(grid, slots, batch):
    labels, batches = labelled(grid, strips_of(grid), slots, batch)
    assert (labels == expected(grid)).all()
    assert batches == -(-grid.rows * grid.cols // batch)


@pytest.mark.parametrize("kept", ["none", "first", "last", "middle", "every second"])
def test_cores_that_are_not_wanted_cost_nothing(grid, kept):
    selected = np.zeros((grid.rows, grid.cols), bool)
    rows = {"none": [], "first": [0], "last": [-1], "middle": [2], "every second": slice(0, 5, 2)}
    selected[rows[kept], 1:3] = True
    labels, batches = labelled(grid, strips_of(grid), selected=selected)
    assert (labels == expected(grid, selected=selected)).all()
    assert batches == -(-selected.sum() // 3)


def test_pixels_that_are_not_valid_are_0_and_cores_without_any_are_not_inferred(grid):
    valid_hw = np.random.default_rng(1).random((grid.height, grid.width)) < 0.5
    valid_hw[16:48] = False  # two rows of cores
    labels, batches = labelled(grid, strips_of(grid, valid_hw))
    assert (labels == expected(grid, valid_hw)).all()
    assert batches == -(-(grid.rows - 2) * grid.cols // 3)


def test_a_panel_starts_at_its_own_column(grid):
    labels, _ = labelled(grid, strips_of(grid, cores=range(1, 3)))
    assert (labels == expected(grid)[:, 16:48]).all()


def test_cores_are_asked_for_by_their_place_in_the_grid(grid):
    """Of a panel that starts at the second column, in the order in which they are labelled."""
    asked = []

    def is_wanted(i, j):
        asked.append((i, j))
        return j == 2

    strips = strips_of(grid, cores=range(1, 3))
    found = label_strips(
        strips, grid, [CoreSlot([], grid.core_px)], {"labels": 1}, is_wanted, values=ANY
    )
    labels = np.concatenate([strip.outputs["labels"][0] for strip in found])
    assert asked == [(i, j) for i in range(grid.rows) for j in (1, 2)]
    assert not labels[:, :16].any()
    assert (labels[:, 16:] == expected(grid)[:, 32:48]).all()


def test_outputs_of_several_bands_are_put_together_too(grid):
    class Two(CoreSlot):
        def wait(self):
            labels = super().wait()["labels"]
            return {"labels": labels, "probabilities": np.stack([labels, labels + 1], axis=1)}

    bands = {"labels": 1, "probabilities": 2}
    found = label_strips(strips_of(grid), grid, [Two([], grid.core_px)], bands, values=ANY)
    whole = np.concatenate([strip.outputs["probabilities"] for strip in found], axis=1)
    assert (whole == [expected(grid), expected(grid) + 1]).all()


def test_a_strip_is_done_with_its_last_tile_and_none_is_read_further_ahead(grid):
    """Four tiles a strip, batches of four, two slots: the third strip is read, then one comes."""
    read = []

    def strips():
        for strip in strips_of(grid):
            read.append(strip.i)
            yield strip

    slots = [CoreSlot([], grid.core_px, batch=grid.cols) for _ in range(2)]
    found = label_strips(strips(), grid, slots, {"labels": 1}, values=ANY)
    assert read == []
    for ahead in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]):
        next(found)
        assert read == ahead


def test_pixels_are_let_go_once_their_batch_is_under_way(grid):
    alive = weakref.WeakSet()

    def strips():
        for strip in strips_of(grid):
            alive.add(strip)
            yield strip
            del strip

    slots = [CoreSlot([], grid.core_px, batch=grid.cols) for _ in range(2)]
    for _ in label_strips(strips(), grid, slots, {"labels": 1}, values=ANY):
        gc.collect()
        assert len(alive) <= 1


@pytest.mark.parametrize(
    ("values", "stranger"),
    [([*range(1, 20)], 20), ([*range(2, 30)], 1), ([1, 2, 3, 5, *range(7, 256)], 4)],
)
def test_a_label_that_the_manifest_does_not_have_ends_the_run(grid, values, stranger):
    """Labels are 1, 2, 3 and so on: above all values, below them, between them."""
    slots = [CoreSlot([], grid.core_px)]
    found = label_strips(strips_of(grid), grid, slots, {"labels": 1}, values=values)
    with pytest.raises(InferenceError, match=f"the model answers label {stranger}, which its"):
        list(found)


def test_labels_of_the_manifest_pass_beside_its_gaps(grid):
    last = number(grid, grid.rows - 1, grid.cols - 1)
    strips = (strip for strip in strips_of(grid) if strip.i >= 3)
    first = number(grid, 3, 0)
    values = {1, 7, *range(first, last + 1), 200}
    found = label_strips(strips, grid, [CoreSlot([], grid.core_px)], {"labels": 1}, values=values)
    labels = np.concatenate([strip.outputs["labels"][0] for strip in found])
    assert set(np.unique(labels)) == set(range(first, last + 1))
