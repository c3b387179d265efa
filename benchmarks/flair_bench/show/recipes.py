"""Recipes: one command per kind of machine; of machines nobody measured nothing else is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flair_bench.machine import Machine

SUITE = "flair-bench suite --checkpoint IGNF/FLAIR-INC_rgbie_15cl_resnet34-unet --data FLAIR"
"""`--data` is a folder of FLAIR patches; without it the suite draws a scene."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a kind of machine is measured, from a clone of the repository."""

    machine: str
    marks: tuple[str, ...]
    """What the GPU's name contains; nothing for a machine without a GPU."""
    peaks: tuple[str, ...]
    """Names in roofline.PEAKS that bound it."""
    install: str
    measure: str

    def fits(self, machine: Machine) -> bool:
        """Return whether a machine is of this kind."""
        if machine.gpu is None:
            return not self.marks
        return any(mark in machine.gpu for mark in self.marks)

    def fits_any(self, machines: Iterable[Machine]) -> bool:
        """Return whether one of the machines is of this kind."""
        return any(map(self.fits, machines))

    @property
    def command(self) -> str:
        """The whole of it, for a shell."""
        return f"{self.install} && {self.measure}"


def _on_gpu(constraints: str) -> str:
    """Return what installs TensorRT, ONNX Runtime and the exporter with a generation's versions."""
    return (
        "pip install --extra-index-url https://pypi.nvidia.com "
        f"--constraint engine/docker/{constraints} '.[trt,cuda,export,bench]'"
    )


RECIPES = (
    Recipe(
        machine="V100",
        marks=("V100",),
        peaks=("V100 PCIe 16 GB",),
        install=_on_gpu("v100.txt"),
        measure=f"{SUITE} --size 20480 -o v100.json",
    ),
    Recipe(
        machine="A100",
        marks=("A100",),
        peaks=("A100 PCIe 40 GB", "A100 SXM 80 GB"),
        install=_on_gpu("current.txt"),
        measure=f"{SUITE} --size 20480 -o a100.json",
    ),
    Recipe(
        machine="H100 or H200",
        marks=("H100", "H200"),
        peaks=("H100 SXM 80 GB", "H200 SXM 141 GB"),
        install=_on_gpu("current.txt"),
        measure=f"{SUITE} --size 20480 -o h100.json",
    ),
    Recipe(
        machine="laptop or server without a GPU",
        marks=(),
        peaks=(),
        install="pip install '.[cpu,export,bench]'",
        measure=f"{SUITE} -o cpu.json",
    ),
)
