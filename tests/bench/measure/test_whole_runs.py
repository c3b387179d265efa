"""Whole runs are compared within a round, and their maps where grids coincide."""

import json

import numpy as np
import pytest
import rasterio

from flair_bench.figures import Spread
from flair_bench.measure import whole_runs
from flair_bench.measure.candidates import list_candidates
from flair_bench.measure.engines import Choice
from flair_bench.measure.network_speed import Batching
from flair_bench.measure.whole_runs import Rasters, Runner, agreement, run_ratio
from flair_bench.processes import Outcome
from flair_engine import read_model_spec


def outcome(wall_s):
    return Outcome(wall_s=wall_s, cpu_s=2 * wall_s, peak_mib=10 * wall_s, printed="")


def runner(label, *walls, geometry="32-8"):
    return Runner(
        label=label,
        command=(),
        geometry=geometry,
        precision="fp32",
        walls=list(map(outcome, walls)),
        starts=[outcome(1)],
    )


@pytest.fixture
def rasters(tmp_path):
    return Rasters(small=tmp_path / "small.tif", large=tmp_path / "large.tif", folder=tmp_path)


def test_ratios_are_taken_within_a_round():
    ratio = run_ratio(runner("official", 10, 40, 30), runner("ort", 5, 8, 10))
    assert (ratio.wall, ratio.wall_spread, ratio.cpu) == (3, Spread(2, 5), 3)


def test_maps_are_compared_inside_and_where_grids_coincide():
    labels = np.random.default_rng(1).integers(1, 20, (96, 80), dtype=np.uint8)
    other = labels.copy()
    other[:16] = 0  # the outermost cores do not count
    other[40, 40] += 1
    assert agreement(labels, other, core_px=16) == 1 - 1 / (64 * 48)
    assert agreement(labels, labels, core_px=7) is None
    assert agreement(labels, labels, core_px=48) is None


def test_a_run_is_its_medians_its_map_and_its_own_report(rasters, exported, write_image):
    spec = read_model_spec(exported(8))
    labels = np.full((1, 48, 48), 5, np.uint8)
    official, ours = runner("official", 30, 40, 20), runner("ort", 10, 20, 10)
    write_image(rasters.map_of(official), labels - 1)
    write_image(rasters.map_of(ours), labels)
    report = {"wall_s": 9.0, "start_up_s": 0.5, "busy_s": {"read": 1.0, "infer": 6.0}, "tiles": 9,
              "precision": "bf16"}  # fmt: skip
    rasters.report_of("ort").write_text(json.dumps(report))
    found = whole_runs.whole_run(ours, [official, ours], rasters, spec)
    assert (found.wall_s, found.start_up_s, found.cpu_s, found.peak_mib) == (10, 1, 20, 200)
    assert found.wall_s_spread == (10, 20)
    assert list(found.ratios) == ["official"]
    assert found.agreement == 1, "official's values begin at 0"
    assert found.comparable
    assert found.precision == "bf16", "as the run says, whatever was expected"
    assert (found.stages.overlap, found.stages.tiles) == (1.5, 9)
    assert whole_runs.whole_run(official, [official, ours], rasters, spec).stages is None


def test_the_engine_runs_as_a_process(rasters, exported, image_file, write_image):
    write_image(rasters.small, image_file[1][:, :16, :16])
    write_image(rasters.large, image_file[1])
    (candidate,) = list_candidates([Choice("ort")], [exported(8)])
    ours = whole_runs.engine_runner(candidate, Batching(batch=2, slots=1), rasters)
    said = []
    whole_runs.run_in_turn([ours], rasters, 1, said.append)
    assert said == ["ort, round 1 of 1"]
    assert len(ours.walls) == len(ours.starts) == 1
    with rasterio.open(rasters.map_of(ours)) as dataset:
        assert dataset.shape == (96, 80)
    assert json.loads(rasters.report_of("ort").read_text())["tiles"] == 30


def test_a_trial_chooses_the_precision_of_best(rasters, exported, monkeypatch):
    trials = []

    def trial(command):
        trials.append(command)
        return Outcome(wall_s=1, cpu_s=1, peak_mib=1, printed='{"kind": "bf16", "wall_s": 3.0}')

    monkeypatch.setattr(whole_runs, "run_measured", trial)
    spec = read_model_spec(exported(8))
    official, best = whole_runs.reference_runners("weights.pth", spec, 4, rasters)
    assert (official.precision, best.precision) == ("fp32", "bf16")
    assert official.geometry == best.geometry == "32-8"
    assert official.tail == ("--tile", "32", "--margin", "8")
    assert best.tail == (*official.tail, "--batch", "4", "--kind", "bf16")
    assert len(trials) == 1
