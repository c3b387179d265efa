"""Files and engines tried on tiles: which speak for themselves, and which tiles judge them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flair_engine.agreement import LabelDifference
from flair_engine.manifest import read_model_spec
from flair_export import trial
from flair_export.trial import Trial, Way, fastest, parted, trial_tiles

pytestmark = [pytest.mark.usefixtures("one_thread")]


def trial_of(rate: float | None, fault: str = "", spec=None) -> Trial:
    way = Way(model=Path("m.onnx"), spec=spec, engine="ort", device="cpu")
    return Trial(way=way, new_mpx_per_s=rate, fault=fault)


def test_the_fastest_that_nothing_speaks_against_is_taken():
    slow, fast, wrong, absent = (
        trial_of(1.0), trial_of(2.0), trial_of(3.0, "it leans"), trial_of(None, "not here"),
    )  # fmt: skip
    assert fastest([slow, fast, wrong, absent]) is fast
    assert fastest([wrong, absent]) is None


@pytest.mark.parametrize(
    ("difference", "fault"),
    [
        (LabelDifference(pixels=100_000, different=900, lower=450), ""),
        (LabelDifference(pixels=100_000, different=1100, lower=550), "fewer than 99.00% of labels"),
        (LabelDifference(pixels=1_000_000, different=5000, lower=4500), "they lean"),
    ],
)
def test_what_speaks_against_labels(difference, fault):
    found = trial._fault(difference, 0.99)
    assert fault in found
    assert bool(fault) == bool(found)


def test_ground_each_hour():
    found = trial_of(2.5, spec=type("Spec", (), {"gsd_m": 0.2}))
    assert found.km2_per_h == pytest.approx(2.5e6 * 0.04 * 3600 / 1e6)
    assert trial_of(None).km2_per_h is None


def test_measured_and_judged_images_are_others():
    images = [Path(name) for name in "abcde"]
    measured, judged = parted(images)
    assert sorted([*measured, *judged]) == images
    assert parted(images[:1]) == ((images[0],), ())


def test_tiles_to_judge_by_are_at_most_so_many(exported, make_raster, monkeypatch):
    spec = read_model_spec(exported)
    images = [Path(make_raster(f"{n}.tif", bands=3, height=160, width=160)[0]) for n in "ab"]
    monkeypatch.setattr(trial, "TRIAL_PIXELS", 4 * 32**2)
    tiles = trial_tiles(spec, images)
    assert len(tiles) == 4
    assert {tile.path for tile in tiles} == {images[1]}
