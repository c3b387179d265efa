from dataclasses import replace

import numpy as np
import pytest
from doubles.maps import CLASSES, LOCAL_PLANE, transform_of, write_map
from doubles.rasters import ORIGIN_M

from flair_engine.errors import SourceError
from flair_engine.options import silent
from flair_engine.post import change as changes
from flair_engine.post.map_file import open_map

LEFT, TOP = ORIGIN_M


@pytest.fixture
def both(tmp_path):
    """Write an old and a new map; yield them open."""
    opened = []

    def write(old_hw, new_hw, old=None, new=None):
        for name, array, given in (("old", old_hw, old), ("new", new_hw, new)):
            path = tmp_path / f"{name}.tif"
            write_map(path, array, **{"crs": LOCAL_PLANE, **(given or {})})
            context = open_map(path)
            opened.append(context)
            yield context.__enter__()

    yield write
    for context in opened:
        context.__exit__(None, None, None)


def compare(old_map, new_map, resample=False):
    with changes.on_grid_of(new_map, old_map, resample=resample) as old:
        found = changes.compared(old, old_map, new_map, new_map.ground(), silent)
        strips = changes.change_strips(old, old_map, new_map, found)
        return found, np.concatenate([strip_hw for _, strip_hw in strips])


def random(seed, shape=(70, 40)):
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)


@pytest.mark.usefixtures("small_strips")
def test_the_table_is_a_cross_table(both):
    old_hw, new_hw = random(0), random(1)
    found, _ = compare(*both(old_hw, new_hw))
    assert found.names == ["no data", *(c.name for c in CLASSES), "not in the legend"]
    for o in range(5):
        for n in range(5):
            count = np.count_nonzero((old_hw == o) & (new_hw == n))
            assert found.pixels[o, n] == count
            assert found.hectares[o, n] == pytest.approx(count * 0.04 / 10_000)
    table = changes.table_of(found)
    assert sum(table["pixels"]) == old_hw.size
    assert set(zip(table["old_class"], table["new_class"], strict=True)) >= {("no data", "water")}


def test_the_map_shows_what_has_changed_in_the_new_colour(both):
    old_hw, new_hw = random(0), random(1)
    old_map, new_map = both(old_hw, new_hw)
    found, shown_hw = compare(old_map, new_map)
    classes = changes.change_classes(found, new_map)
    assert (shown_hw[(old_hw == 0) | (new_hw == 0)] == 0).all()
    assert (shown_hw[(old_hw == new_hw) & (old_hw > 0)] == changes.UNCHANGED).all()
    names = {entry.value: entry.name for entry in CLASSES}
    for o, n in ((1, 2), (4, 3)):
        (value,) = np.unique(shown_hw[(old_hw == o) & (new_hw == n)])
        assert classes[value].name == f"{names[o]} -> {names[n]}"
        assert classes[value].color == CLASSES[n - 1].color
    sizes = [np.count_nonzero(shown_hw == value) for value in classes if value > 1]
    assert sizes == sorted(sizes, reverse=True)
    assert classes[changes.UNCHANGED].alpha == 0


def test_more_kinds_than_values(both, monkeypatch):
    monkeypatch.setattr(changes, "MOST_PAIRS", 2)
    old_map, new_map = both(random(0), random(1))
    found, shown_hw = compare(old_map, new_map)
    assert len(found.pairs) == 12
    assert set(np.unique(shown_hw)) == {0, 1, 2, 3}
    assert len(changes.change_classes(found, new_map)) == 3


def test_classes_are_matched_by_name(both):
    fewer = (CLASSES[0], replace(CLASSES[3], value=2), replace(CLASSES[2], value=3))
    old_hw = np.array([[1, 2, 3]], np.uint8)  # building, deciduous, bare soil
    new_hw = np.array([[1, 4, 2]], np.uint8)  # building, deciduous, water
    old_map, new_map = both(old_hw, new_hw, {"classes": fewer}, {"values": "zero-based"})
    assert new_map.dataset.read(1).tolist() == [[0, 3, 1]]
    found, shown_hw = compare(old_map, new_map)
    assert shown_hw[0, 0] == shown_hw[0, 1] == changes.UNCHANGED
    assert [(found.names[o], found.names[n]) for o, n in found.pairs] == [("bare soil", "water")]
    told = changes.only_in_one(found, old_map, new_map)
    assert len(told) == 1
    assert "old.tif has no class water: what" in told[0]


def test_other_grids_are_refused_unless_resampled(both, tmp_path):
    new_hw = random(2)
    old_hw = np.kron(new_hw[::2, ::2], np.ones((1, 1), np.uint8))
    old_map, new_map = both(old_hw, new_hw, {"transform": transform_of(0.4)})
    with pytest.raises(SourceError, match="not on one pixel grid .*use --resample nearest"):
        compare(old_map, new_map)
    found, _ = compare(old_map, new_map, resample=True)
    expected = np.kron(old_hw, np.ones((2, 2), np.uint8))
    for o in range(5):
        for n in range(5):
            assert found.pixels[o, n] == np.count_nonzero((expected == o) & (new_hw == n))


def test_what_only_one_shows_is_no_data_in_the_other(both):
    old_map, new_map = both(
        np.ones((10, 10), np.uint8),
        np.ones((10, 10), np.uint8),
        {"transform": transform_of(left=LEFT + 1)},
    )
    found, _ = compare(old_map, new_map, resample=True)
    assert found.pixels[0, 1] == 50
    assert found.pixels[1, 1] == 50


@pytest.mark.parametrize("far", [False, True])
def test_maps_of_two_places_are_refused(both, far):
    half = np.ones((10, 10), np.uint8)
    half[:, 5:] = 0
    given = {"transform": transform_of(left=LEFT + 1e5)} if far else None
    old_map, new_map = both(half, half if far else 1 - half, given)
    with pytest.raises(SourceError, match="are nowhere both mapped: give two maps of one place"):
        compare(old_map, new_map, resample=far)


def test_another_crs_without_a_way(both):
    one = np.ones((10, 10), np.uint8)
    old_map, new_map = both(one, one, {"crs": "EPSG:2154"})
    with pytest.raises(SourceError, match="cannot be put on the pixels of|nowhere both mapped"):
        compare(old_map, new_map, resample=True)


def test_values_without_a_name(both):
    old_map, new_map = both(np.ones((3, 3), np.uint8), np.full((3, 3), 4, np.uint8),
                            new={"classes": CLASSES[:3]})  # fmt: skip
    found, _ = compare(old_map, new_map)
    assert [(found.names[o], found.names[n]) for o, n in found.pairs] == [
        ("building", "not in the legend")
    ]


def test_maps_without_names_cannot_be_matched(both, tmp_path):
    old_map, new_map = both(random(0), random(1))
    (tmp_path / "old.tif.aux.xml").unlink()
    with (
        open_map(old_map.path) as nameless,
        pytest.raises(
            SourceError,
            match=r"old.tif: no names of classes lie beside it, by which .*put old.tif.aux",
        ),
    ):
        compare(nameless, new_map)
