"""The machine that figures are measured on."""

from __future__ import annotations

from dataclasses import dataclass

from flair_bench.processes import said
from flair_engine import system


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where figures were measured; they compare only with others of the same place."""

    cpu: str
    cores: int
    """CPUs this process may use."""
    ram_gib: float
    gpu: str | None
    """Name of the first NVIDIA GPU and its driver."""

    @property
    def title(self) -> str:
        """One line for people."""
        gpu = f", {self.gpu}" if self.gpu else ", no GPU"
        return f"{self.cpu}, {self.cores} cores, {self.ram_gib:.0f} GiB{gpu}"

    @property
    def short(self) -> str:
        """What figures depend on most: the GPU, or the CPU and its cores."""
        return self.gpu or f"{self.cpu}, {self.cores} cores"


def this_machine() -> Machine:
    """Describe the machine this process runs on."""
    return Machine(
        cpu=system.cpu_name(),
        cores=system.available_cpus(),
        ram_gib=round(system.memory_bytes() / 2**30, 1),
        gpu=_gpu_name(),
    )


def _gpu_name() -> str | None:
    listed = said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return listed.splitlines()[0].replace(", ", ", driver ") if listed else None
