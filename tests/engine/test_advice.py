"""The sentence that says which stage is the wall."""

import pytest

from flair_engine.advice import STAGES_SAID, WALL, advice_of

GPU = {"read": 3.0, "copy-in": 1.0, "compute": 3.0, "copy-out": 1.0, "write": 1.0, "assemble": 1.0}


def advice(**busy_s):
    return advice_of(10.0, {**GPU, **busy_s}, batch=16, slots=2, threads=8)


SAID = {
    "read": "Reading is the wall, busy 95% of the run (The GPU 30%): use more --threads where CPUs",
    "compute": "The GPU is the wall, busy 95% of the run (Reading 30%): try --batch 32, or more",
    "copy-in": "Copying to the GPU is the wall, busy 95% of the run (Reading 30%, The GPU 30%)",
    "copy-out": "Copying from the GPU is the wall, busy 95% of the run (Reading 30%, The GPU 30%)",
    "write": "Storing strips is the wall, busy 95% of the run (Reading 30%, The GPU 30%): use a",
    "assemble": "Writing maps is the wall, busy 95% of the run (Reading 30%, The GPU 30%): use a",
}


@pytest.mark.parametrize("stage", SAID)
def test_the_stage_that_is_busy_all_the_time_is_the_wall(stage):
    assert advice(**{stage: 9.5}).startswith(SAID[stage])
    assert advice(**{stage: 10 * WALL - 0.1}).startswith(f"No stage is the wall: {stage} was busy")


def test_where_none_is_busy_all_the_time_they_wait_for_one_another():
    assert advice(read=8.4).startswith(
        "No stage is the wall: read was busy longest, 84% of the run, and they waited for one "
        "another: try --slots 3, a larger --memory"
    )


def test_a_cpu_is_told_what_would_be_faster():
    busy_s = {"read": 1.0, "infer": 9.9, "compare": 0.1}
    found = advice_of(10.0, busy_s, batch=1, slots=2, threads=None)
    assert found.startswith("Inference on the CPU is the wall, busy 99% of the run (Reading 10%): ")
    compared = advice_of(10.0, {"infer": 5, "compare": 9}, batch=1, slots=2, threads=None)
    assert "(Inference on the CPU 50%): the comparison with FP32 is kept for the next" in compared
    assert set(busy_s) | set(GPU) == set(STAGES_SAID)
