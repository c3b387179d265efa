"""Limits of this machine, measured in the run that is compared with them.

Matrix products by PyTorch, copies in memory and to the device, decoding and writing by GDAL. Files
come from the page cache: the disk's own speed is not in these figures.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window

from flair_bench.figures import MachineLimits
from flair_engine.mapping.landcover import BLOCK_PX
from flair_engine.reading.schedule import MIN_ROWS
from flair_engine.system import available_cpus
from flair_export.cards import GSD_M

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REPEATS = 5
EDGE = {"cpu": 3072, "cuda": 8192}
"""Of the square matrices; large enough for the peak, small enough for a second."""
COPY_BYTES = 512 * 2**20


def measure_limits(raster: Path, folder: Path) -> MachineLimits:
    """Return every limit; writes a scratch file into `folder`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    kinds |= {"fp16": torch.float16} if device == "cuda" else {}
    return MachineLimits(
        device=device,
        matmul_gflops={name: matmul_gflops(device, kind) for name, kind in kinds.items()},
        memory_copy_gb_s=copy_rate("cpu", "cpu"),
        decode_mpx_s=decode_rate(raster),
        write_mpx_s=write_rate(folder / "limit.tif"),
        device_copy_gb_s=copy_rate("cuda", "cuda") if device == "cuda" else None,
        to_device_gb_s=copy_rate("cpu", "cuda") if device == "cuda" else None,
        from_device_gb_s=copy_rate("cuda", "cpu") if device == "cuda" else None,
    )


def higher(first: MachineLimits, second: MachineLimits) -> MachineLimits:
    """Return the higher of each limit: what slowed a machine down for a while is none."""
    others = asdict(second)
    return MachineLimits(**{name: _higher(v, others[name]) for name, v in asdict(first).items()})


def _higher(first: Any, second: Any) -> Any:
    if isinstance(first, dict):
        return {name: max(rate, second[name]) for name, rate in first.items()}
    return None if first is None else max(first, second)


def matmul_gflops(device: str, kind: torch.dtype) -> float:
    """Return the rate of a large square matrix product, 10^9 operations per second."""
    edge = EDGE[device]
    left, right = (torch.ones(edge, edge, dtype=kind, device=device) for _ in range(2))
    return float(2 * edge**3 / 1e9 / _seconds(lambda: torch.mm(left, right)))


def copy_rate(source: str, target: str) -> float:
    """Return 10^9 bytes copied per second; read and written count once, host memory is pinned."""
    pinned = "cuda" in (source, target)
    first = torch.ones(COPY_BYTES, dtype=torch.uint8, pin_memory=pinned and source == "cpu")
    second = torch.ones(COPY_BYTES, dtype=torch.uint8, pin_memory=pinned and target == "cpu")
    first, second = first.to(source), second.to(target)
    return COPY_BYTES / 1e9 / _seconds(lambda: second.copy_(first))


def decode_rate(raster: Path) -> float:
    """Return megapixels (all bands) decoded per second: each block once, a handle per thread."""
    with rasterio.open(raster) as dataset:
        height, width, pixels = dataset.height, dataset.width, dataset.height * dataset.width
        rows = max(dataset.block_shapes[0][0], MIN_ROWS)

    def decode(tops: list[int]) -> None:
        with rasterio.open(raster, sharing=False) as dataset:
            for top in tops:
                dataset.read(window=Window(0, top, width, min(rows, height - top)))

    threads = available_cpus()
    tops = list(range(0, height, rows))
    with ThreadPoolExecutor(threads) as pool:
        parts = [tops[n::threads] for n in range(threads)]
        seconds = _seconds(lambda: list(pool.map(decode, parts)))
    return float(pixels / 1e6 / seconds)


def write_rate(path: Path) -> float:
    """Return megapixels of labels written per second, with the options maps are written with."""
    edge = 4096
    labels = np.kron(
        np.random.default_rng(0).integers(1, 19, (edge // 16, edge // 16), dtype=np.uint8),
        np.ones((16, 16), np.uint8),
    )

    def write() -> None:
        with rasterio.open(
            path, "w", driver="GTiff", dtype="uint8", count=1, height=edge, width=edge,
            tiled=True, blockxsize=BLOCK_PX, blockysize=BLOCK_PX, compress="deflate",
            num_threads="all_cpus", transform=Affine.scale(GSD_M, -GSD_M),
        ) as dataset:  # fmt: skip
            dataset.write(labels, 1)

    seconds = _seconds(write)
    path.unlink()
    return edge * edge / 1e6 / seconds


def _seconds(work: Callable[[], Any]) -> float:
    """Return the least of some runs after one to warm up, the device waited for: a limit."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])
