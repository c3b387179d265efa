"""Disks of many sizes: a run that does not fit ends in one line, and continues on a larger one."""

import os
import subprocess
import sys

import pytest
from doubles.disturbed import SHARE, share_of

DISKS = 100
KINDS = ("plain", "COG", "per-input", "probabilities")
ROWS, COLUMNS = 800, 512
PAGE = 4096

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux"
)


@pytest.fixture
def disk():
    """Mount a tmpfs of a size at a folder, or change the size of the one there."""
    mounted = []

    def mount(folder, size, *more):
        options = ",".join([*more, f"size={size}"])
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode:
            pytest.skip("tmpfs cannot be mounted here")
        if not more:
            mounted.append(folder)

    def unmount():
        subprocess.run(["umount", mounted.pop()], check=True)

    mount.off = unmount
    yield mount
    while mounted:
        unmount()


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_one_line_and_the_run_continues(job_of, disk, kind):
    job = job_of("full disk", kind, ROWS, COLUMNS)
    count = share_of(DISKS // len(KINDS), least=2)
    # The journal's bytes of each pixel, maps and what a COG is made of: to more than enough.
    pixels = ROWS * COLUMNS * {"per-input": 3, "probabilities": 5}.get(kind, 1)
    most = 1.2 * pixels + 3 * sum(map(len, job.undisturbed.values()))
    codes = []
    for number in range(count):
        size = PAGE * (2 + round(most * (number + 0.5) / count / PAGE))
        disk(job.place, size)
        ended = job.run()
        codes.append(ended.code)
        disk(job.place, 2**27, "remount")
        job.judge(f"a disk of {size:,} bytes", ended)
        disk.off()
    assert not job.bad, "\n".join(job.bad)
    assert codes[0] == 1
    assert SHARE < 1 or codes[-1] == 0
