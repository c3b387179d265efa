"""Runs killed at random moments: the same bytes after one --resume, and nothing left."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest
from doubles.disturbed import KINDS, share_of

KILLS = 1000
PARTS = share_of(4)
ROWS, COLUMNS = 640, 192


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_any_moment_continues(job_of, kind, part):
    job = job_of("killed at a moment", kind, ROWS, COLUMNS)
    rng = random.Random(part)
    begin = time.monotonic()
    job.run()
    whole_s = time.monotonic() - begin
    for _ in range(share_of(KILLS // len(KINDS) // PARTS)):
        job.clean()
        pid = job.zygote.start(job.arguments())
        moment_s = rng.uniform(0, 1.1 * whole_s)
        time.sleep(moment_s)
        with suppress(ProcessLookupError):  # done by then
            os.kill(pid, signal.SIGKILL)
        job.judge(f"killed after {moment_s:.3f} of {whole_s:.3f} s", job.zygote.wait())
    assert not job.bad, "\n".join(job.bad)
