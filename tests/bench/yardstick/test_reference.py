"""The reference runners draw the engine's map."""

import json

import numpy as np
import pytest
import rasterio
import torch
from doubles.networks import state_dict

from flair_bench.measure.whole_runs import agreement
from flair_bench.yardstick import reference
from flair_bench.yardstick.reference import fastest_kind, run_best, run_official
from flair_engine import RunOptions, read_model_spec, segment
from flair_export.cards import find_card
from flair_export.network.modules import LabelNetwork

CPU = RunOptions(engine="ort", device="cpu", threads=1)


@pytest.fixture
def maps(network, exported, image_file, tmp_path):
    """The maps of engine, best and official of one raster: labels, compression, transform."""
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
    assert agreement(labels + 1, maps["engine"][0], core_px=16) == 1


@pytest.mark.parametrize("shape", [(20, 41), (16, 16), (33, 16)])
def test_official_covers_rasters_of_any_size(network, exported, write_image, tmp_path, shape):
    image = np.random.default_rng(4).integers(0, 256, (3, *shape), dtype=np.uint8)
    raster = write_image(tmp_path / "odd.tif", image)
    run_official(network, read_model_spec(exported(8)), raster, tmp_path / "map.tif")
    segment(exported(8), [raster], tmp_path / "engine.tif", CPU)
    with rasterio.open(tmp_path / "map.tif") as first, rasterio.open(tmp_path / "engine.tif") as b:
        assert (first.read(1)[1:-1, 1:-1] + 1 == b.read(1)[1:-1, 1:-1]).mean() > 0.999


def test_the_fastest_precision_is_one_that_runs_here(network, exported):
    spec = read_model_spec(exported(8))
    assert fastest_kind(LabelNetwork(network, spec), 1, spec) in ("fp32", "bf16", "fp16")


@pytest.mark.parametrize("runner", ["official", "best"])
def test_a_process_says_what_it_took(process, network, image_file, tmp_path, monkeypatch, runner):
    checkpoint = tmp_path / "rgb_15cl_resnet34-unet_weights.pth"
    torch.save(state_dict(find_card("rgb_15cl_resnet34-unet")), checkpoint)
    monkeypatch.setattr(reference, "load_network", lambda *_: network)
    files = (checkpoint, image_file[0], tmp_path / "map.tif")
    geometry = ("--tile", 32, "--margin", 8)
    code, printed, _ = process(reference.main, runner, *files, *geometry, "--kind", "fp32")
    assert code == 0
    assert json.loads(printed)["kind"] == "fp32"
    assert (tmp_path / "map.tif").exists()


def test_a_process_that_cannot_start_says_so_in_one_line(process, image_file, tmp_path):
    code, _, said = process(
        reference.main, "best", tmp_path / "absent.pth", image_file[0], tmp_path / "map.tif"
    )
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("flair_bench.yardstick.reference: ")
