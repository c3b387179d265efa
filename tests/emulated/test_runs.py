"""`flair-run --engine trt` as a whole, beside the real pycuda over emulated GPUs.

Order, lifetimes and calls are proven here, nothing about speed or numbers: ONNX Runtime computes.
"""

import json
import signal
import time
from itertools import pairwise

import numpy as np
import pytest
from doubles.field import read_map

HANGS = "import faulthandler; faulthandler.dump_traceback_later(60, exit=True)"
GATE = "the map depends on which of them computes what"


@pytest.mark.parametrize(
    ("slots", "gpus"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2), (1, 4), (2, 4)]
)
def test_the_map_is_that_of_onnx_runtime(job, whole, slots, gpus):
    name = f"{slots}-{gpus}.tif"
    ended = job.run(name, "--device", "cuda:all", "--slots", slots, gpus=gpus)
    assert (ended.code, ended.found) == (0, []), ended.said
    labels = read_map(job.folder / name)
    assert (labels == read_map(job.folder / "ort.tif")).all()
    assert len(np.unique(labels)) == 2
    assert (job.folder / name).read_bytes() == whole


def test_the_faster_of_two_gets_more_batches(job, whole):
    report = job.folder / "slow.json"
    options = ("--device", "cuda:0,cuda:1", "--report", report)
    late = {"gpu_compute_us": 4000, "gpu_slow": "1:2"}
    ended = job.run("slow.tif", *options, gpus=2, **late)
    assert (ended.code, ended.found) == (0, []), ended.said
    assert (job.folder / "slow.tif").read_bytes() == whole
    fast, slow = json.loads(report.read_text())["devices"]
    assert fast["batches"] + slow["batches"] == 73
    assert fast["batches"] > 1.4 * slow["batches"]
    assert fast["agreement_fp32"] == 1
    for use in (fast, slow):  # a stage follows the one before, batches compute one after another
        for batch in use["timeline"]:
            assert batch["copy_in"][1] <= batch["compute"][0]
            assert batch["compute"][1] <= batch["copy_out"][0]
        computed = [batch["compute"] for batch in use["timeline"]]
        assert all(one[1] <= other[0] for one, other in pairwise(computed))


def test_one_that_fails_in_mid_run_stops_it_by_name_and_the_work_is_kept(job, whole):
    options = ("--device", "cuda:0,cuda:1")
    failed = job.run("fails.tif", *options, gpus=2, gpu_fail="1:25", gpu_compute_us=2000)
    assert (failed.code, failed.found) == (1, []), failed.said
    (line,) = failed.lines
    assert "device cuda:1 (Emulated GPU) failed: " in line
    assert "an illegal memory access was encountered: if it happens again" in line
    resumed = job.run("fails.tif", "--device", "cuda:0", "--resume", gpus=2)
    assert (resumed.code, resumed.found) == (0, []), resumed.said
    assert " was labelled before, " in resumed.said
    assert (job.folder / "fails.tif").read_bytes() == whole


def test_ctrl_c_ends_it_in_order(job, whole):
    late = {"gpus": 2, "gpu_compute_us": 400_000}  # ten seconds and more, if nothing ended it
    process, log = job.start("stopped.tif", "--device", "cuda:all", before=HANGS, **late)
    until = time.monotonic() + 60
    while not (job.folder / ".stopped.tif.flair-run").exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(1)  # some batches of seventy
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    stopped = job.ended(process, log)
    # The interrupted call may hold a view of one batch's outputs.
    found = [line for line in stopped.found if " with 0 device buffers, " not in line]
    assert (stopped.code, found) == (130, []), stopped.said
    assert not (job.folder / "stopped.tif").exists()
    resumed = job.run("stopped.tif", "--resume")
    assert (resumed.code, resumed.found) == (0, []), resumed.said
    assert (job.folder / "stopped.tif").read_bytes() == whole


def test_cards_of_two_models_agree_and_it_is_told(job):
    report = job.folder / "cards.json"
    options = ("--device", "cuda:all", "--report", report)
    ended = job.run("cards.tif", *options, gpus=2, gpu_names="A,B")
    assert (ended.code, ended.found) == (0, []), ended.said
    assert f"cuda:1 gives 100.00% the labels of cuda:0 on 16 tiles: {GATE}" in ended.said
    devices = json.loads(report.read_text())["devices"]
    assert [(use["name"], use["agreement_first"]) for use in devices] == [("A", None), ("B", 1)]
    assert (read_map(job.folder / "cards.tif") == read_map(job.folder / "ort.tif")).all()


@pytest.mark.parametrize(
    ("changes", "device", "said"),
    [
        ({"gpus": 0}, "cuda:all", "no NVIDIA GPU can be used (cuInit failed: no CUDA-capable"),
        ({"gpus": 2}, "cuda:0,cuda:0", "device cuda:0,cuda:0 names cuda:0 twice: name each GPU"),
        ({"gpus": 2}, "cuda:0,cuda:5", "there is no cuda:5: this machine has 2 CUDA devices: use"),
        ({"gpu_memory": 10_000}, "cuda:0", "out of memory for 2 slots of 5 tiles: 0 MiB on cuda:0"),
        ({"gpu_pinned": 10_000}, "cuda:0", "5 tiles: 0 MiB of page-locked memory could not be had"),
        ({"gpus": 2, "gpu_memory": 40_000}, "cuda:all", "tiles: 0 MiB on cuda:1 (Emulated GPU, "),
        ({"gpus": 2, "gpu_fail": "1:1"}, "cuda:all", "device cuda:1 (Emulated GPU) failed: "),
    ],
)
def test_what_is_refused_before_the_first_pixel(job, changes, device, said):
    ended = job.run("refused.tif", "--device", device, **changes)
    (line,) = ended.lines
    assert said in line
    assert (ended.code, ended.found) == (2, [])
