"""One command per machine, and what is known of machines nobody measured: nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_bench.results import Result

SUITE = "flair-bench suite --checkpoint IGNF/FLAIR-INC_rgbie_15cl_resnet34-unet --data FLAIR"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a kind of machine is measured."""

    machine: str
    marks: tuple[str, ...]
    """What the GPU's name contains; nothing for a machine without a GPU."""
    peaks: tuple[str, ...]
    """Names in roofline.PEAKS that bound it."""
    install: str
    command: str

    def measured_by(self, results: Sequence[Result]) -> Result | None:
        """Return the result of such a machine, if there is one."""
        for result in results:
            gpu = result.machine.gpu
            if any(mark in gpu for mark in self.marks) if gpu else not self.marks:
                return result
        return None


RECIPES = (
    Recipe(
        "V100",
        ("V100",),
        ("V100 PCIe 16 GB",),
        "pip install 'flair-engine[trt,export,bench]' 'tensorrt==8.6.*'",
        f"{SUITE} --size 20480 -o v100.json",
    ),
    Recipe(
        "A100",
        ("A100",),
        ("A100 PCIe 40 GB", "A100 SXM 80 GB"),
        "pip install 'flair-engine[trt,export,bench]'",
        f"{SUITE} --size 20480 -o a100.json",
    ),
    Recipe(
        "H100 or H200",
        ("H100", "H200"),
        ("H100 SXM 80 GB", "H200 SXM 141 GB"),
        "pip install 'flair-engine[trt,export,bench]'",
        f"{SUITE} --size 20480 -o h100.json",
    ),
    Recipe(
        "laptop or server without a GPU",
        (),
        (),
        "pip install 'flair-engine[cpu,export,bench]'",
        f"{SUITE} -o cpu.json",
    ),
)
"""`--data` is a folder of FLAIR patches; without it the suite draws a scene."""
