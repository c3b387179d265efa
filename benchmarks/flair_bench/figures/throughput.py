"""Throughput: the network alone and whole runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from flair_bench.figures.rounds import Spread

OFFICIAL, BEST = "official", "best"
"""Names of the PyTorch runners that whole runs are compared with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineLimits:
    """What the machine can do at most, measured in the same run."""

    device: str
    """`cpu` or `cuda`."""
    matmul_gflops: Mapping[str, float]
    """10^9 operations per second of large matrix products, by precision."""
    memory_copy_gb_s: float
    """10^9 bytes per second, like the copies below."""
    decode_mpx_s: float
    """Mpx of all bands decoded by GDAL on every core, per second."""
    write_mpx_s: float
    """Mpx of labels written by GDAL, per second."""
    device_copy_gb_s: float | None
    """Within the GPU; None without one, like those below."""
    to_device_gb_s: float | None
    from_device_gb_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What FP16 on a published peak could do with a graph: computed, not measured."""

    name: str
    """Of the processor."""
    tiles_per_s: float
    new_mpx_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelWork:
    """The work of one exported model."""

    geometry: str
    """`tile-margin`, px."""
    weights_sha256: str
    gflop_per_tile: float
    core_px: int
    bounds: tuple[Bound, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSpeed:
    """Inference without reading and writing."""

    label: str
    engine: str
    """As the engine describes itself."""
    precision: str
    tile_px: int
    margin_px: int
    batch: int
    """Tiles per inference."""
    slots: int
    """Batches in flight."""
    s_per_tile: float
    s_per_tile_spread: Spread
    new_mpx_per_s: float
    gflops: float
    """10^9 operations per second."""
    agreement: float | None
    """Share of one batch's labels equal to PyTorch FP32; None without a checkpoint."""
    comparable: bool
    """Whether the agreement has to keep the tolerance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRatio:
    """How many times as long a reference runner takes, round by round."""

    wall: float
    wall_spread: Spread
    cpu: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """What the run's own report says of its last round."""

    wall_s: float
    start_up_s: float
    busy_s: Mapping[str, float]
    """By stage; stages overlap."""
    overlap: float
    """Wall clock over the busiest stage: 1 where everything else hides behind it."""
    tiles: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeRun:
    """One way to make the map, as whole processes from start to end."""

    precision: str
    geometry: str
    """`tile-margin`, px."""
    wall_s: float
    wall_s_spread: Spread
    start_up_s: float
    """A run over one core."""
    cpu_s: float
    peak_mib: float
    """Largest resident set of any round, MiB."""
    ratios: Mapping[str, RunRatio]
    """By reference runner: OFFICIAL and BEST, or none."""
    agreement: float | None
    """Share of labels equal to the first runner's; None where their grids do not coincide."""
    comparable: bool
    """Whether it has the geometry of the first, so that the agreement has to keep the tolerance."""
    stages: Stages | None
    """None for the reference runners."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThroughputFigures:
    """The network alone and whole runs, beside the limits of the machine and PyTorch."""

    size_px: int
    """Edge of the square raster that is mapped."""
    rounds: int
    limits: MachineLimits
    models: tuple[ModelWork, ...]
    network: tuple[NetworkSpeed, ...]
    runs: Mapping[str, WholeRun]
    """By name, in the order they were measured."""
    missing: Mapping[str, str]
    """Why an engine cannot run here, by label."""

    @property
    def own_runs(self) -> dict[str, WholeRun]:
        """Those of flair-run: without the reference runners."""
        return {name: run for name, run in self.runs.items() if run.stages is not None}
