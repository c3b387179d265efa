"""Every call of the writer fails in turn, or is the last: one line, and a run that continues."""

import errno
import random
from itertools import product

import pytest
from doubles.disturbed import KINDS, SHARE, share_of
from doubles.faults import KILLED, Fault

ERRORS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES]
FAULTS = [(KILLED, False), *product(ERRORS, (False, True))]
ROWS = 70


def name_of(fault):
    error, lasting = fault
    return "killed" if error == KILLED else errno.errorcode[error] + " lasting" * lasting


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_a_call_that_fails_is_one_line_and_the_run_continues(job_of, kind, fault):
    error, lasting = fault
    job = job_of("killed at a call" if error == KILLED else "call fails", kind, ROWS)
    # Each in turn in the long form, some in the short one.
    rng = random.Random(f"{kind} {fault}")
    for number in rng.sample(range(1, job.calls + 1), share_of(job.calls)):
        job.clean()
        ended = job.run(fault=Fault(str(job.place), number, error, lasting))
        job.judge(f"{name_of(fault)} at call {number} of {job.calls}", ended)
    assert not job.bad, "\n".join(job.bad)
    assert SHARE < 1 or job.counts["disturbed"] > job.calls / 2
