"""Raster input and output alone, against GDAL doing the same work with the same threads.

Reading: the engine's strips against plain parallel reads of each block once. Writing: finished
strips through the journal to a published map, against GDAL writing the same blocks with the same
creation options. Memory: whole runs of a trivial model over a small file and in a huge one.
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import rasterio
from onnx import TensorProto, helper, numpy_helper
from rasterio.windows import Window as RasterioWindow

from flair_bench import processes
from flair_bench.data.rasters import SCENE_PX, draw_scene, write_raster, write_sparse_vrt
from flair_engine import Grid, Inputs, ModelSpec, ReadOptions
from flair_engine.grid import Window, blocks, reflected
from flair_engine.inference.base import available_cpus
from flair_engine.manifest import LandCoverClass, Normalization, attach_manifest
from flair_engine.mapping.assembly import assembled
from flair_engine.mapping.journal import Journal
from flair_engine.mapping.landcover import BLOCK_PX, MapStyle, write_maps
from flair_engine.overlap import alongside
from flair_engine.reading.inputs import open_inputs
from flair_engine.reading.schedule import ReadCounter, panels
from flair_engine.reading.strips import read_strips
from flair_export.cards import GSD_M, NOMENCLATURE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS: dict[str, tuple[int | None, dict[str, Any]]] = {
    "tiled deflate": (None, {}),
    "striped LZW": (None, {"tiled": False, "blockxsize": None, "blockysize": 1, "compress": "lzw"}),
    "tiled JPEG": (3, {"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 85}),
    "JPEG 2000": (3, {"driver": "JP2OpenJPEG", "blockxsize": 1024, "blockysize": 1024}),
}
"""Bands (None for all) and creation options of what aerial images are delivered in."""
TILE_PX, MARGIN_PX = 512, 128
HUGE_PX = 100_000
"""Edge of the sparse raster: 20 km at 0.2 m."""
SMALL_PX = 5_000
"""Edge of the file it is compared with; that many pixels of the huge one are mapped too."""


def measure(
    image_bhw: np.ndarray,
    size_px: int,
    repeats: int,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure reading, writing and memory with rasters mirrored from an image; return figures."""
    reading = {}
    for name, (bands, profile) in FORMATS.items():
        progress(f"reading {name}")
        reading[name] = _reading(image_bhw[:bands], size_px, profile, repeats, folder)
    progress("writing")
    writing = _writing(size_px, repeats, folder)
    return {
        "size_px": size_px,
        "threads": available_cpus(),
        "repeats": repeats,
        "reading": reading,
        "writing": writing,
        "memory": _memory(image_bhw, folder, progress),
    }


def trivial_spec(bands: int) -> ModelSpec:
    """Return the manifest of a model that says which band is brightest."""
    names = ("red", "green", "blue", "nir", "height")[:bands]
    return ModelSpec(
        schema=1,
        name="brightest band",
        architecture="argmax",
        bands=names,
        gsd_m=GSD_M,
        tile_px=TILE_PX,
        margin_px=MARGIN_PX,
        precision="fp32",
        agreement_fp32=None,
        classes=tuple(
            LandCoverClass(value=value, name=name, color=color, active=value <= bands)
            for value, (name, color) in enumerate(NOMENCLATURE, start=1)
        ),
        normalization=Normalization(mean=(0.0,) * bands, std=(1.0,) * bands),
        outputs=("labels",),
        weights_sha256="0" * 64,
        exporter="flair-bench",
    )


def write_trivial_model(path: Path, bands: int) -> Path:
    """Write that model: it costs nothing, so a run with it is reading and writing."""
    spec = trivial_spec(bands)
    limits = {"start": [MARGIN_PX] * 2, "end": [TILE_PX - MARGIN_PX] * 2, "axes": [2, 3]}
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in limits.items()]
    constants.append(numpy_helper.from_array(np.array(1, np.int64), "one"))
    nodes = [
        helper.make_node("Slice", ["image", *limits], ["core"]),
        helper.make_node("Cast", ["core"], ["logits"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
        helper.make_node("Add", ["index", "one"], ["value"]),
        helper.make_node("Cast", ["value"], ["labels"], to=TensorProto.UINT8),
    ]
    image = helper.make_tensor_value_info(
        "image", TensorProto.UINT8, ("N", bands, TILE_PX, TILE_PX)
    )
    labels = helper.make_tensor_value_info(
        "labels", TensorProto.UINT8, ("N", spec.core_px, spec.core_px)
    )
    graph = helper.make_graph(nodes, "brightest", [image], [labels], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    attach_manifest(model, spec)
    onnx.save(model, path)
    return path


def _reading(
    image_bhw: np.ndarray, size_px: int, profile: dict[str, Any], repeats: int, folder: Path
) -> dict[str, Any]:
    path = write_raster(folder / "read.raster", image_bhw, size_px, **profile)
    spec = trivial_spec(len(image_bhw))
    ours, theirs = [], []
    for _ in range(1 + repeats):  # the first to warm up
        seconds, counter, stored = _strips(path, spec)
        ours.append(seconds)
        theirs.append(_plain_reads(path))
    mpx = size_px**2 / 1e6
    path.unlink()
    return {
        "mpx_per_s": mpx / statistics.median(ours[1:]),
        "gdal_mpx_per_s": mpx / statistics.median(theirs[1:]),
        "of_gdal": _ratio(theirs[1:], ours[1:]),
        "blocks_requested": counter,
        "blocks": stored,
    }


def _strips(path: Path, spec: ModelSpec) -> tuple[float, int, int]:
    """Read a raster as the engine does; return seconds, blocks requested and blocks stored."""
    start = time.perf_counter()
    counter = ReadCounter()
    with closing(open_inputs(spec, Inputs(images=(str(path),)), ReadOptions())) as opened:
        raster = opened.raster
        grid = Grid(height=raster.height, width=raster.width, tile_px=TILE_PX, margin_px=MARGIN_PX)
        for cores in panels(grid, raster, range(grid.cols)):
            for _ in read_strips(
                raster, grid, cores, range(grid.rows), threads=available_cpus(), counter=counter
            ):
                pass
        return time.perf_counter() - start, counter.blocks, raster.blocks


def _plain_reads(path: Path) -> float:
    """Return the seconds of reading each block once, in rows of blocks, a handle per thread."""
    start = time.perf_counter()
    with rasterio.open(path) as dataset:
        block_px = dataset.block_shapes[0]
        rows = max(block_px[0], 256)
        whole = [
            Window(top=top, left=0, height=min(rows, dataset.height - top), width=dataset.width)
            for top in range(0, dataset.height, rows)
        ]
    # One request per row of striped files, as a reader that knows them would ask; else per block.
    parts = [
        part
        for band in whole
        for part in ([band] if block_px[1] == band.width else blocks(band, block_px))
    ]
    threads = available_cpus()

    def read(mine: list[Window]) -> None:
        with rasterio.open(path, sharing=False) as dataset:
            for part in mine:
                dataset.read(window=RasterioWindow(part.left, part.top, part.width, part.height))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, [parts[n::threads] for n in range(threads)]))
    return time.perf_counter() - start


def _writing(size_px: int, repeats: int, folder: Path) -> dict[str, Any]:
    drawn_hw = draw_scene(SCENE_PX, 1)[1]
    mirror = reflected(0, size_px, SCENE_PX)
    labels_hw = drawn_hw[mirror[:, None], mirror]
    ours, theirs = [], []
    for _ in range(1 + repeats):
        ours.append(_published(labels_hw, folder / "ours.tif"))
        theirs.append(_plain_writes(labels_hw, folder / "theirs.tif"))
    with rasterio.open(folder / "ours.tif") as first, rasterio.open(folder / "theirs.tif") as other:
        assert (first.read() == other.read()).all(), "a fast wrong map is no map"
    mpx = size_px**2 / 1e6
    return {
        "mpx_per_s": mpx / statistics.median(ours[1:]),
        "gdal_mpx_per_s": mpx / statistics.median(theirs[1:]),
        "of_gdal": _ratio(theirs[1:], ours[1:]),
    }


def _published(labels_hw: np.ndarray, path: Path) -> float:
    """Return the seconds of storing strips in a journal and publishing the map from it."""
    start = time.perf_counter()
    height, width = labels_hw.shape
    grid = Grid(height=height, width=width, tile_px=TILE_PX, margin_px=MARGIN_PX)
    style = MapStyle(
        spec=trivial_spec(3),
        crs=None,
        transform=rasterio.Affine(GSD_M, 0, 0, 0, -GSD_M, 0),
        values="flair",
        tags={},
        cog=False,
    )
    journal = Journal(path.with_name(".run"), {}, started="", resume=False, restart=True)
    with journal:

        def read(name: str, window: Window) -> np.ndarray:
            cores = range(grid.cols)
            return assembled(journal.load, name, window, grid, range(grid.rows), [cores])

        def publish() -> None:
            whole = Window(top=0, left=0, height=height, width=width)
            write_maps(path, whole, style, read, journal.folder)

        with alongside(publish, cancel=journal.abandon):
            for i in range(grid.rows):
                rows, _ = grid.core(i, 0).slices
                journal.append(0, i, {"labels": labels_hw[None, rows]})
        journal.remove()
    return time.perf_counter() - start


def _plain_writes(labels_hw: np.ndarray, path: Path) -> float:
    """Return the seconds GDAL takes for the same blocks with the same creation options."""
    start = time.perf_counter()
    height, width = labels_hw.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=height, width=width, nodata=0,
        transform=rasterio.Affine(GSD_M, 0, 0, 0, -GSD_M, 0), tiled=True, blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX, interleave="band", compress="deflate", num_threads="all_cpus",
        bigtiff="if_safer",
    ) as dataset:  # fmt: skip
        for top in range(0, height, BLOCK_PX):
            rows = labels_hw[None, top : top + BLOCK_PX]
            dataset.write(rows, window=RasterioWindow(0, top, width, rows.shape[1]))
    return time.perf_counter() - start


def _memory(
    image_bhw: np.ndarray, folder: Path, progress: Callable[[str], None]
) -> dict[str, float]:
    """Return the peak memory, MiB, of whole runs with the trivial model."""
    model = write_trivial_model(folder / "trivial.onnx", len(image_bhw))
    small = write_raster(folder / "small.tif", image_bhw, SMALL_PX)
    huge = write_sparse_vrt(folder / "huge.vrt", small, HUGE_PX)
    with rasterio.open(small) as dataset:
        left, bottom, right, top = dataset.bounds
    with rasterio.open(huge) as dataset:
        wide = (dataset.bounds.left, top - 1024 * GSD_M, dataset.bounds.right, top - GSD_M)
    boxes = {
        f"{SMALL_PX} px file": (small, None),
        f"{SMALL_PX} px box of {HUGE_PX} px": (huge, (left, bottom, right, top)),
        f"{HUGE_PX} px wide box of {HUGE_PX} px": (huge, wide),
    }
    peaks = {}
    for name, (raster, box) in boxes.items():
        progress(f"memory of {name}")
        command = [sys.executable, "-m", "flair_engine.cli", "-m", str(model), "--quiet"]
        command += ["--overwrite", "--nodata", "none", "--device", "cpu"]
        command += ["--bbox", ",".join(f"{edge:.3f}" for edge in box)] if box else []
        outcome = processes.run([*command, str(raster), str(folder / "memory.tif")])
        peaks[name] = outcome.peak_mib
    return peaks


def _ratio(theirs: list[float], ours: list[float]) -> dict[str, Any]:
    """Return how fast we are as a share of GDAL's speed, round by round."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {"median": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}
