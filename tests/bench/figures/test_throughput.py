"""Runs of flair-run are told from those of the references."""

from doubles.figures import STAGES, throughput, whole_run


def test_runs_with_stages_are_flair_runs_own():
    runs = {"official": whole_run(), "ort": whole_run(stages=STAGES)}
    assert list(throughput(runs=runs).own_runs) == ["ort"]
