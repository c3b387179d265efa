"""Runs on two emulated GPUs killed at random moments: the same bytes after one --resume."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest
from doubles.disturbed import GPUS, GPUS_Z4, disturbed, prepared, share_of
from doubles.emulated_gpu import environment, skip_unless_built
from doubles.tiny_model import write_cross_model
from doubles.zygote import Zygote

KILLS = 50
ROWS, COLUMNS = 640, 192
BANDS = ("red", "green", "blue", "nir", "elevation")


@pytest.fixture(scope="module")
def gpus(tmp_path_factory):
    """A process that forks for each run on two GPUs, one twice as slow; what the driver finds."""
    skip_unless_built()
    folder = tmp_path_factory.mktemp("gpus")
    engine = ["--engine", "trt", "--device", "cuda:all", "--threads", "2"]
    engine += ["--plan-cache", str(folder / "plans")]
    log = folder / "found.txt"
    found = Zygote(folder, engine, environment(log, gpus=2, gpu_slow="1:2"))
    yield found, log
    found.close()


def test_a_run_on_gpus_killed_at_any_moment_continues(gpus, tmp_path, record_property):
    zygote, log = gpus
    job = disturbed(zygote, GPUS, tmp_path, ROWS, COLUMNS)
    killed(job, share_of(KILLS, least=3), record_property)
    assert not log.exists() or log.read_text() == ""


@pytest.mark.slow
def test_so_does_one_over_real_patches(gpus, shared_data, tmp_path, record_property):
    zygote, log = gpus
    if not (kills := share_of(KILLS, least=0)):
        pytest.skip("a part of make soak")
    (tmp_path / "in").mkdir()
    for patch in sorted((shared_data / "flair1" / "Z4_block" / "img").glob("*.tif")):
        (tmp_path / "in" / patch.name).symlink_to(patch)
    write_cross_model(tmp_path, *BANDS).rename(tmp_path / "box2.onnx")
    killed(prepared(zygote, GPUS_Z4, tmp_path), kills, record_property)
    assert not log.exists() or log.read_text() == ""


def killed(job, kills, record_property):
    """Kill runs of a job at random moments, and continue each."""
    rng = random.Random(0)
    job.clean()
    begin = time.monotonic()
    job.run()
    whole_s = time.monotonic() - begin
    for _ in range(kills):
        job.clean()
        pid = job.zygote.start(job.arguments())
        moment_s = rng.uniform(0, 1.1 * whole_s)
        time.sleep(moment_s)
        with suppress(ProcessLookupError):  # done by then
            os.kill(pid, signal.SIGKILL)
        job.judge(f"killed after {moment_s:.3f} of {whole_s:.3f} s", job.zygote.wait())
    record_property("disturbed", (f"killed at a moment, {job.kind}", dict(job.counts)))
    assert not job.bad, "\n".join(job.bad)
