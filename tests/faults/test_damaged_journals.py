"""Journals damaged anywhere: what is whole is kept, the map has the bytes it would have had."""

import shutil
from dataclasses import replace

import pytest
from doubles.damage import damaged
from doubles.disturbed import share_of
from doubles.faults import KILLED, Fault
from hypothesis import given, settings

JOURNALS = 200
KINDS = ("plain", "per-input", "probabilities")
ROWS = 160


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_journal_costs_strips_and_nothing_else(job_of, tmp_path, kind):
    job = job_of("damaged journal", kind, ROWS)
    killed = job.run(fault=Fault(str(job.place), job.calls * 2 // 3, KILLED))
    kept = tmp_path / "kept"
    shutil.copytree(job.place, kept)
    data = (job.work / "strips.bin").read_bytes()
    assert data.count(b'{"panel"') >= 3

    @settings(max_examples=share_of(JOURNALS // len(KINDS) + 1, least=2))
    @given(content=damaged(data))
    def check(content):
        shutil.rmtree(job.place)
        shutil.copytree(kept, job.place)
        (job.work / "strips.bin").write_bytes(content)
        said = f"{len(content):,} bytes of {len(data):,}, {common(content, data):,} of them equal"
        job.judge(said, replace(killed, said=""))
        assert not job.bad, "\n".join(job.bad)

    check()


def common(one, other):
    """Return how many bytes at the beginning are equal."""
    for n, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return n
    return min(len(one), len(other))
