"""The reference runners draw the engine's map, and the arithmetic around them is right."""

import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

from flair_bench import processes
from flair_bench.errors import RunnerError
from flair_bench.measure import network_speed, throughput
from flair_bench.measure.engines import TOLERANCE, Choice
from flair_bench.measure.throughput import Runner
from flair_bench.processes import Outcome
from flair_bench.show.tables import with_precision
from flair_bench.yardstick import limits
from flair_bench.yardstick.reference import run_best, run_official
from flair_engine import RunOptions, read_model_spec, segment
from flair_export.network.modules import LabelNetwork

CPU = RunOptions(engine="ort", device="cpu", threads=1)


@pytest.fixture
def maps(network, exported, image_file, tmp_path):
    """The maps of engine, best and official of one raster."""
    spec, raster = read_model_spec(exported(8)), image_file[0]
    segment(exported(8), [raster], tmp_path / "engine.tif", CPU)
    run_best(LabelNetwork(network, spec), spec, raster, tmp_path / "best.tif", 3, "fp32")
    run_official(network, spec, raster, tmp_path / "official.tif")
    read = {}
    for name in ("engine", "best", "official"):
        with rasterio.open(tmp_path / f"{name}.tif") as dataset:
            read[name] = dataset.read(1), dataset.compression, dataset.transform
    return read


def test_best_is_the_engines_map(maps):
    assert (maps["best"][0] == maps["engine"][0]).mean() > 0.9999
    assert maps["best"][2] == maps["engine"][2]


def test_official_differs_in_values_and_at_the_border_alone(maps):
    labels, compression, transform = maps["official"]
    assert compression.name == "lzw"
    assert transform == maps["engine"][2]
    inside = slice(1, -1), slice(1, -1)  # the network sees one pixel beyond
    assert (labels[inside] + 1 == maps["engine"][0][inside]).mean() > 0.9999
    assert throughput._agreement(labels + 1, maps["engine"][0], SimpleNamespace(core_px=16)) == 1
    assert throughput._agreement(labels, labels, SimpleNamespace(core_px=7)) is None


@pytest.mark.parametrize("shape", [(20, 41), (16, 16), (33, 16)])
def test_official_covers_rasters_of_any_size(network, exported, write_image, tmp_path, shape):
    image = np.random.default_rng(4).integers(0, 256, (3, *shape), dtype=np.uint8)
    raster = write_image(tmp_path / "odd.tif", image)
    run_official(network, read_model_spec(exported(8)), raster, tmp_path / "map.tif")
    segment(exported(8), [raster], tmp_path / "engine.tif", CPU)
    with rasterio.open(tmp_path / "map.tif") as first, rasterio.open(tmp_path / "engine.tif") as b:
        assert (first.read(1)[1:-1, 1:-1] + 1 == b.read(1)[1:-1, 1:-1]).mean() > 0.999


def test_slots_are_kept_busy_and_every_batch_counts():
    class Slot:
        def __init__(self):
            self.submitted = self.waited = 0

        def submit(self):
            assert self.submitted == self.waited
            self.submitted += 1

        def wait(self):
            time.sleep(0.001)
            self.waited += 1

    slots = [Slot(), Slot()]
    seconds = network_speed.seconds_per_tile(SimpleNamespace(slots=slots, batch=4), 7)
    assert [slot.submitted for slot in slots] == [slot.waited for slot in slots] == [4, 3]
    assert seconds >= 7 * 0.001 / 28


@pytest.mark.parametrize(
    ("choice", "precision", "computed", "name", "shown"),
    [
        (Choice("ort"), "fp32", "fp32", "ort 32-8", "ort 32-8 fp32"),
        (Choice("ort"), "fp16", "fp16", "ort 32-8", "ort 32-8 fp16"),
        (Choice("ort"), "int8", "int8", "ort int8 32-8", "ort int8 32-8"),
        (Choice("openvino", "bf16"), "fp32", "bf16", "openvino bf16 32-8", "openvino bf16 32-8"),
        (Choice("openvino", "fp32"), "int8", "int8", *2 * ["openvino fp32 int8 32-8"]),
        (Choice("openvino", "bf16"), "int8", "int8 bf16", *2 * ["openvino bf16 int8 32-8"]),
    ],
)
def test_a_run_is_named_by_what_tells_it_from_others(
    exported, choice, precision, computed, name, shown
):
    spec = replace(read_model_spec(exported(8)), precision=precision)
    assert choice.computes_in(spec) == computed
    assert computed in TOLERANCE
    assert network_speed.run_name(choice, spec, SimpleNamespace(models=[1, 2])) == name
    assert network_speed.run_name(choice, spec, SimpleNamespace(models=[1])) == choice.label
    assert with_precision(name, computed) == shown


def outcome(wall_s):
    return Outcome(wall_s=wall_s, cpu_s=2 * wall_s, peak_mib=10, printed="")


def test_ratios_are_taken_within_a_round():
    official = Runner("official", [], walls=[outcome(10), outcome(40), outcome(30)])
    ours = Runner("ort", [], walls=[outcome(5), outcome(8), outcome(10)])
    ratio = throughput._ratio(official, ours)
    assert ratio == {"wall": 3, "wall_spread": [2, 5], "cpu": 3}


def test_a_fast_wrong_answer_is_a_fault():
    run = {"comparable": True, "precision": "fp32", "agreement": 0.98}
    figures = {"runs": {"ort": run}, "network": [{**run, "label": "ort batch 1"}]}
    assert throughput.faults(figures)[0] == (
        "ort agrees on 98.0000% of labels, at least 99.99% have to"
    )
    assert len(throughput.faults(figures)) == 2
    figures["runs"]["ort"] = {**run, "comparable": False}
    figures["network"][0]["agreement"] = None
    assert throughput.faults(figures) == []


def test_processes_are_measured_from_outside():
    found = processes.run([sys.executable, "-c", "b = bytearray(9**8); print(len(b))"])
    assert found.printed.strip() == str(9**8)
    assert found.cpu_s > 0
    assert found.peak_mib > 9**8 / 2**20
    with pytest.raises(RunnerError, match=r"ended with 3: gone wrong\. Run it alone"):
        processes.run(
            [sys.executable, "-c", "import sys; print('gone wrong', file=sys.stderr); sys.exit(3)"]
        )


def test_limits_are_measured_and_the_higher_counts(image_file, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "EDGE", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr(limits, "COPY_BYTES", 2**16)
    found = limits.measure(image_file[0], tmp_path)
    rates = [*found["matmul_gflops"].values(), *(v for v in found.values() if isinstance(v, float))]
    assert min(rates) > 0
    assert limits.higher({"a": {"b": 1}, "c": 3}, {"a": {"b": 2}, "c": 0}) == {
        "a": {"b": 2},
        "c": 3,
    }
