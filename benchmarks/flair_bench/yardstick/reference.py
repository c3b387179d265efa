"""Reference runners: two ways to run the same checkpoint with PyTorch, as whole processes.

`official` does what IGN's flair-detect is published to do, step for step, written afresh:
FP32 eager PyTorch, batches of four from DataLoader workers with boundless reads of one tile each,
normalisation in float64 on the CPU, softmax, 19 maps to the host, numpy's argmax patch by patch,
columns from the left and rows from the bottom, each core written at once in LZW. Kinder in two
points: every worker opens the raster itself (the original shares one handle), and inference_mode.

`best` is PyTorch at its best inside this project's own reading and writing: uint8 in,
channels_last, argmax in the network, autocast to FP16 or bf16 where a trial shows it faster.

Run as `python -m flair_bench.yardstick.reference official|best CHECKPOINT RASTER OUTPUT [OPTIONS]`:
prints the precision and the seconds it took as one JSON object.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch.utils.data import DataLoader, Dataset

from flair_bench.figures import BEST, OFFICIAL
from flair_bench.official import OFFICIAL_BATCH, OFFICIAL_WORKERS
from flair_engine import Inputs, ReadOptions
from flair_engine.command import SETTINGS, run_command
from flair_engine.grid import whole_area
from flair_engine.inference.labelling import label_strips
from flair_engine.manifest import label_values, output_bands, tile_grid
from flair_engine.mapping.landcover import BLOCK_PX
from flair_engine.overlap import prefetched
from flair_engine.reading.inputs import open_inputs
from flair_engine.reading.schedule import ReadCounter
from flair_engine.reading.strips import read_strips
from flair_export import ExportOptions
from flair_export.cards import OFFICIAL_MARGIN_PX, OFFICIAL_TILE_PX
from flair_export.network.checkpoint import choose_card, load_network, read_checkpoint
from flair_export.network.modules import LabelNetwork
from flair_export.publish import model_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from flair_engine.inference.base import Slot
    from flair_engine.manifest import ModelSpec

TRIALS = 2
"""Timed batches per precision, after one to warm up; the fastest counts."""


class OfficialTiles(Dataset[tuple[int, int, torch.Tensor]]):
    """Tiles of a raster, columns from the left and rows from the bottom; outside reads as 0."""

    def __init__(self, raster: Path, spec: ModelSpec) -> None:
        self._raster, self._spec = raster, spec
        self._dataset: Any = None
        with rasterio.open(raster) as dataset:
            height, width = dataset.shape
        core = spec.core_px
        rows = [max(0, bottom - core) for bottom in range(height, 0, -core)]
        cols = [min(left, max(0, width - core)) for left in range(0, width, core)]
        self._corners = [(row, col) for col in cols for row in rows]

    def __len__(self) -> int:
        return len(self._corners)

    def __getitem__(self, index: int) -> tuple[int, int, torch.Tensor]:
        """Return row and column of a core and its tile, normalised float32 [bands, T, T]."""
        if self._dataset is None:  # once in every worker
            self._dataset = rasterio.open(self._raster)
        row, col = self._corners[index]
        margin, tile = self._spec.margin_px, self._spec.tile_px
        window = Window(col - margin, row - margin, tile, tile)
        image = self._dataset.read(window=window, boundless=True, fill_value=0).astype(np.float64)
        statistics = self._spec.normalization
        for band, (mean, std) in enumerate(zip(statistics.mean, statistics.std, strict=True)):
            image[band] = (image[band] - mean) / std
        return row, col, torch.as_tensor(image, dtype=torch.float)


def run_official(net: nn.Module, spec: ModelSpec, raster: Path, output: Path) -> None:
    """Write the map of `raster` as flair-detect would: values 0..18, LZW."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.to(device)
    tiles = OfficialTiles(raster, spec)
    workers = min(OFFICIAL_WORKERS, os.cpu_count() or 1)
    batches = DataLoader(tiles, batch_size=OFFICIAL_BATCH, num_workers=workers)
    kept = slice(spec.margin_px, spec.margin_px + spec.core_px)
    with rasterio.open(raster) as source:
        profile = {
            "driver": "GTiff",
            "count": 1,
            "dtype": "uint8",
            "height": source.height,
            "width": source.width,
            "crs": source.crs,
            "transform": source.transform,
            "compress": "lzw",
            "tiled": True,
            "blockxsize": spec.tile_px,
            "blockysize": spec.tile_px,
            "bigtiff": "yes",
        }
    with rasterio.open(output, "w", **profile) as dataset, torch.inference_mode():
        for rows, cols, images in batches:
            shares = net(images.to(device)).softmax(dim=1)
            if device.type == "cuda":
                torch.cuda.synchronize()
            for row, col, patch in zip(
                rows.tolist(), cols.tolist(), shares.cpu().numpy(), strict=True
            ):
                labels = patch.argmax(axis=0)[kept, kept].astype(np.uint8)
                labels = labels[: dataset.height - row, : dataset.width - col]
                height, width = labels.shape
                dataset.write(labels, 1, window=Window(col, row, width, height))


class TorchSlot:
    """One batch of PyTorch: a GPU works while the host prepares the next, a CPU in `submit`."""

    def __init__(self, network: nn.Module, batch: int, spec: ModelSpec, kind: str) -> None:
        self.device = "cuda:0" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(self.device)
        shape = (batch, len(spec.bands), spec.tile_px, spec.tile_px)
        pinned = self._device.type == "cuda"
        self._host = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned)
        self.images_nchw: np.ndarray = self._host.numpy()
        self._network = network.to(self._device).to(memory_format=torch.channels_last)
        self._kind = kind
        self._labels: torch.Tensor | None = None

    def is_ready(self) -> bool:
        """Return that `wait` has to be called: it computes."""
        return True

    def submit(self) -> None:
        """Copy the batch in and start the network."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self._kind)
        images = self._host.to(self._device, non_blocking=True)
        images = images.contiguous(memory_format=torch.channels_last)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None),
        ):
            (self._labels,) = self._network(images)

    def wait(self) -> Mapping[str, np.ndarray]:
        """Return the labels uint8 [N, C, C]."""
        assert self._labels is not None
        return {"labels": self._labels.cpu().numpy()}


def fastest_kind(network: nn.Module, batch: int, spec: ModelSpec) -> str:
    """Return fp32, bf16 or fp16, whichever runs a batch in the least time here."""
    kinds = ["fp32", "bf16", "fp16"] if torch.cuda.is_available() else ["fp32", "bf16"]
    seconds = {}
    for kind in kinds:
        slot = TorchSlot(network, batch, spec, kind)
        times = []
        for _ in range(1 + TRIALS):
            start = time.perf_counter()
            slot.submit()
            slot.wait()
            times.append(time.perf_counter() - start)
        seconds[kind] = min(times[1:])
    return min(seconds, key=lambda kind: seconds[kind])


def run_best(
    network: LabelNetwork, spec: ModelSpec, raster: Path, output: Path, batch: int, kind: str
) -> None:
    """Write the map of `raster`, values 1..19, with reading one strip ahead."""
    slots = cast("Sequence[Slot]", [TorchSlot(network, batch, spec, kind) for _ in range(2)])
    opened = open_inputs(spec, Inputs(images=(str(raster),)), ReadOptions())
    (sheet,) = opened.sheets
    grid = tile_grid(spec, sheet.raster)
    whole = whole_area(grid)
    strips = read_strips(
        sheet.raster, whole, whole.rows, threads=os.cpu_count() or 1, counter=ReadCounter()
    )
    profile: dict[str, Any] = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX}
    with rasterio.open(
        output, "w", driver="GTiff", count=1, dtype="uint8", height=grid.height, width=grid.width,
        crs=sheet.pixel_grid.crs, transform=sheet.pixel_grid.transform, compress="deflate",
        num_threads="all_cpus", **profile,
    ) as dataset:  # fmt: skip
        bands, values = output_bands(spec), label_values(spec)
        for strip in label_strips(prefetched(strips), grid, slots, bands, values=values):
            place = strip.window
            where = Window(place.left, place.top, place.width, place.height)
            dataset.write(strip.outputs["labels"], window=where)
    opened.close()


@click.command(context_settings=SETTINGS)
@click.argument("runner", type=click.Choice([OFFICIAL, BEST]))
@click.argument("checkpoint")
@click.argument("raster", type=Path)
@click.argument("output", type=Path)
@click.option("--tile", "tile_px", default=OFFICIAL_TILE_PX, show_default=True)
@click.option("--margin", "margin_px", default=OFFICIAL_MARGIN_PX, show_default=True)
@click.option("--batch", default=OFFICIAL_BATCH, show_default=True, help="Of `best`.")
@click.option("--kind", help="Precision of `best`; default: the fastest.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(
    runner: str,
    checkpoint: str,
    raster: Path,
    output: Path,
    batch: int,
    kind: str | None,
    debug: bool,  # noqa: ARG001  run_command reads it
    **geometry: Any,
) -> None:
    """Run one of the two and print what it took as JSON."""
    began = time.perf_counter()
    read = read_checkpoint(checkpoint)
    card = choose_card(read, None)
    net = load_network(read, card)
    spec = model_spec(card, card.name, read.sha256, ExportOptions(**geometry))
    if runner == OFFICIAL:
        kind = "fp32"
        run_official(net, spec, raster, output)
    else:
        network = LabelNetwork(net, spec)
        kind = kind or fastest_kind(network, batch, spec)
        run_best(network, spec, raster, output, batch, kind)
    click.echo(json.dumps({"kind": kind, "wall_s": time.perf_counter() - began}))


def main() -> None:
    """Entry point of `python -m flair_bench.yardstick.reference`."""
    run_command(command, "flair_bench.yardstick.reference")


if __name__ == "__main__":
    main()
