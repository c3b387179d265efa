"""Checks that only a real GPU can make; each test skips by naming what is missing.

FLAIR_GPU_MODEL is an FP16 ONNX file of flair-export, FLAIR_GPU_RASTER an image it can be run on:
FLAIR_GPU_MODEL=model.fp16.onnx FLAIR_GPU_RASTER=ortho.tif pytest -m gpu -s tests/engine/inference
"""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from flair_engine import RunOptions, segment
from flair_engine.errors import EngineError
from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.inference.gpu.cuda import Device
from flair_engine.inference.gpu.library import installed_libraries
from flair_engine.manifest import read_model_spec

pytestmark = pytest.mark.gpu
BATCHES = 200


@pytest.fixture(scope="module")
def gpu():
    try:
        installed_libraries()
        device = Device()
    except EngineError as error:
        pytest.skip(str(error))
    name = device.name
    device.close()
    return name


def given(variable):
    path = Path(os.environ.get(variable, ""))
    if not path.is_file():
        pytest.skip(f"{variable} names no file")
    return path


@pytest.fixture(scope="module")
def request_trt(gpu, tmp_path_factory):
    model = given("FLAIR_GPU_MODEL")
    return Request(
        model=model,
        spec=read_model_spec(model),
        device="cuda:0",
        plan_cache=tmp_path_factory.mktemp("plans"),
        tactic_sources=os.environ.get("FLAIR_GPU_TACTIC_SOURCES"),
        notify=print,
    )


def show(**figures):
    print(json.dumps(figures))


def test_a_plan_is_built_agrees_and_is_found_again(gpu, request_trt):
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        backend = open_backend(request_trt, "trt")
        seconds.append(round(time.perf_counter() - start, 2))
        backend.close()
    (sidecar,) = request_trt.plan_cache.glob("*.json")
    show(
        gpu=gpu, first_open_s=seconds[0], next_open_s=seconds[1], **json.loads(sidecar.read_text())
    )
    assert seconds[1] < seconds[0]


def test_maps_agree_with_fp32_and_among_slots(gpu, request_trt, tmp_path):
    """The gate compares with FP32 on tiles of the raster; slots = 1 is the reference."""
    raster = given("FLAIR_GPU_RASTER")
    options = RunOptions(
        engine="trt",
        plan_cache=request_trt.plan_cache,
        tactic_sources=request_trt.tactic_sources,
    )
    maps = []
    for slots in (1, 2, 3):
        path = tmp_path / f"{slots}.tif"
        run = replace(options, slots=slots)
        report = segment(request_trt.model, [raster], path, run, notify=print)
        busiest = max(report.busy_s.values())
        show(gpu=gpu, slots=slots, wall_over_busiest=report.wall_s / busiest,
             **json.loads(report.to_json()))  # fmt: skip
        with rasterio.open(path) as dataset:
            maps.append(dataset.read(1))
    assert (maps[1] == maps[0]).all()
    assert (maps[2] == maps[0]).all()


@pytest.mark.parametrize("engine", ["trt", "ort"])
def test_tiles_per_second(gpu, request_trt, engine):
    try:
        backend = open_backend(request_trt, engine)
    except EngineError as error:
        if engine == "trt":
            raise
        pytest.skip(str(error))
    noise = np.random.default_rng(0).integers(0, 256, backend.slots[0].images_nchw.shape, np.uint8)
    for slot in backend.slots:
        slot.images_nchw[...] = noise
    start = time.perf_counter()
    for number in range(BATCHES):
        slot = backend.slots[number % len(backend.slots)]
        if number >= len(backend.slots):
            slot.wait()
        slot.submit()
    for number in range(BATCHES, BATCHES + len(backend.slots)):
        backend.slots[number % len(backend.slots)].wait()
    wall_s = time.perf_counter() - start
    tiles = BATCHES * backend.batch
    show(
        gpu=gpu,
        engine=backend.description,
        batch=backend.batch,
        tiles_per_s=tiles / wall_s,
        network_alone_tiles_per_s=tiles / backend.busy_s["compute"],
        busy_share={stage: busy / wall_s for stage, busy in backend.busy_s.items()},
    )
    backend.close()
