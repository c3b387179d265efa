"""Small figures of every measurement, and results that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from flair_bench.figures import (
    AccuracyFigures,
    AgreementMap,
    Averages,
    Bound,
    ClassParity,
    ClassScore,
    EngineParity,
    Environment,
    Flip,
    GdalRatio,
    GeometryCost,
    GeometryFigures,
    InstallFigures,
    IoSpeed,
    MachineLimits,
    ModelWork,
    NetworkSpeed,
    PackedArray,
    ParityFigures,
    Published,
    RasterIoFigures,
    ReadingSpeed,
    RunRatio,
    Spread,
    Stages,
    ThroughputFigures,
    WholeRun,
    WideRead,
    packed,
)
from flair_bench.machine import Machine
from flair_bench.results import Result, Sections, made_now, name_of

CPU = Machine(cpu="Some CPU", cores=2, ram_gib=24.0, gpu=None)
A100 = Machine(cpu="Some CPU", cores=8, ram_gib=64.0, gpu="NVIDIA A100, driver 1")
RATIO = RunRatio(wall=4.5, wall_spread=Spread(4.0, 5.0), cpu=4.4)
NAMES = frozenset(Sections.__annotations__)
STAGES = Stages(
    wall_s=9.0, start_up_s=0.5, busy_s={"read": 1.0, "infer": 8.5}, overlap=1.06, tiles=36
)


def result_of(machine: Machine, *measured) -> Result:
    """Return a result made now of some figures."""
    sections = {name_of(type(figures)): made_now(figures) for figures in measured}
    return Result(machine=machine, sections=sections)


def whole_run(**changes) -> WholeRun:
    """Return the figures of a reference runner; with `stages`, those of the engine."""
    return WholeRun(
        **{
            "precision": "fp32",
            "geometry": "512-128",
            "wall_s": 10.0,
            "wall_s_spread": Spread(9.0, 11.0),
            "start_up_s": 1.0,
            "cpu_s": 20.0,
            "peak_mib": 300.0,
            "ratios": {"official": RATIO, "best": RATIO},
            "agreement": 0.99999,
            "comparable": True,
            "stages": None,
            **changes,
        }
    )


def network_speed(**changes) -> NetworkSpeed:
    """Return the figures of an engine alone."""
    return NetworkSpeed(
        **{
            "label": "ort batch 1 slots 2",
            "engine": "ONNX Runtime",
            "precision": "fp32",
            "tile_px": 512,
            "margin_px": 128,
            "batch": 1,
            "slots": 2,
            "s_per_tile": 0.25,
            "s_per_tile_spread": Spread(0.2, 0.3),
            "new_mpx_per_s": 0.26,
            "gflops": 120.0,
            "agreement": 0.99999,
            "comparable": True,
            **changes,
        }
    )


def throughput(**changes) -> ThroughputFigures:
    """Return both reference runners and the engine on a CPU of 150 GFLOP/s."""
    bounds = ("V100 PCIe 16 GB", "A100 SXM 80 GB", "H100 SXM 80 GB")
    return ThroughputFigures(
        **{
            "size_px": 1536,
            "rounds": 3,
            "limits": MachineLimits(
                device="cpu",
                matmul_gflops={"fp32": 150.0},
                memory_copy_gb_s=20.0,
                decode_mpx_s=40.0,
                write_mpx_s=500.0,
                device_copy_gb_s=None,
                to_device_gb_s=None,
                from_device_gb_s=None,
            ),
            "models": (
                ModelWork(
                    geometry="512-128",
                    weights_sha256="0" * 64,
                    gflop_per_tile=47.2,
                    core_px=256,
                    bounds=tuple(
                        Bound(name=name, tiles_per_s=1234.0, new_mpx_per_s=77.0) for name in bounds
                    ),
                ),
            ),
            "network": (network_speed(),),
            "runs": {
                "official": whole_run(),
                "best": whole_run(),
                "ort": whole_run(stages=STAGES),
            },
            "missing": {"openvino bf16": "this CPU has none"},
            **changes,
        }
    )


def geometry_cost(**changes) -> GeometryCost:
    """Return the figures of an export at the official geometry, without masks."""
    return GeometryCost(
        **{
            "tile_px": 512,
            "margin_px": 128,
            "precision": "fp32",
            "equal_to_whole": 0.99386,
            "equal_to_first": 1.0,
            "seam_different": None,
            "elsewhere_different": 0.001,
            "oa": None,
            "overlap": 4.0,
            "gflop_per_tile": 47.2,
            "gflop_per_new_mpx": 720.0,
            "s_per_new_mpx": 2.0,
            "s_per_new_mpx_spread": Spread(1.0, 3.0),
            **changes,
        }
    )


def geometries(**changes) -> GeometryFigures:
    """Return an FP32 export and an INT8 one of the same geometry, twice as fast."""
    costs = (geometry_cost(), geometry_cost(precision="int8", s_per_new_mpx=1.0))
    return GeometryFigures(
        **{
            "engine": "ort",
            "height": 640,
            "width": 672,
            "seam_px": 8,
            "border_px": 128,
            "whole_oa": 74.2,
            "geometries": costs,
            **changes,
        }
    )


def raster_io() -> RasterIoFigures:
    """Return one format at half of GDAL's speed."""
    half = GdalRatio(median=0.5, spread=Spread(0.4, 0.6))
    speed = {"mpx_per_s": 50.0, "gdal_mpx_per_s": 100.0, "of_gdal": half}
    return RasterIoFigures(
        size_px=900,
        threads=2,
        repeats=3,
        reading={"tiled JPEG": ReadingSpeed(**speed, blocks_requested=4, blocks=4)},
        writing=IoSpeed(**speed),
        wide={"tiled 512, 2048/128": WideRead(decode_factor=1.02, blocks=500, peak_mib=1500.0)},
        memory={"5000 px file": 300.0},
    )


def parity() -> ParityFigures:
    """Return one engine of which one pixel of water in a hundred is labelled building."""
    labels = np.full((2, 2), 5, np.uint8)
    found = labels.copy()
    found[0, 0] = 1
    engine = EngineParity(
        precision="fp32",
        tolerance=0.9999,
        agreement=0.995,
        different=1,
        lower=1,
        largest_lead_lost=0.02,
        flipped_by_lead=(0, 1, 0),
        classes={
            "building": ClassParity(pixels=0, different=0),
            "water": ClassParity(pixels=100, different=1),
        },
        flips=(Flip("water", "building", 1),),
    )
    return ParityFigures(
        model="standin",
        weights_sha256="0" * 64,
        tile_px=32,
        margin_px=8,
        tiles="1 of 1 tiles of 1 image",
        pixels=100,
        lead_edges=(0.01, 0.1),
        leads=(0, 40, 60),
        logit_largest=0.03,
        logit_p999=0.01,
        engines={"ort": engine},
        missing={"trt": "there is no GPU"},
        map=AgreementMap(
            image=packed(np.zeros((3, 2, 2), np.uint8)),
            reference=packed(labels),
            engine=packed(found),
            label="ort",
            colors={"1": "#db0e9a", "5": "#1553ae"},
        ),
    )


def accuracy() -> AccuracyFigures:
    """Return the scores of one class that the card names and of one it does not."""
    means = {"iou": 40.0, "f": 50.0, "precision": 60.0, "recall": 70.0}
    scores = {"pixels": 1000, **means}
    return AccuracyFigures(
        model=None,
        weights_sha256=None,
        pixels=2000,
        oa=55.5,
        official=Averages(classes=15, **means),
        without_snow=Averages(classes=12, **means),
        predicted_inactive=0.5,
        masked_inactive=0.25,
        published=Published(oa=76.3711, miou=54.7168),
        classes=(
            ClassScore(value=1, name="building", published_iou=82.6313, **scores),
            ClassScore(value=14, name="snow", published_iou=None, **scores),
        ),
        confusion=((1, 0), (0, 1)),
    )


def install(**changes):
    """Return what three environments and the demo took."""
    sizes = {"cpu": 300.0, "cpu,export": 6000.0, "cpu,export,dev": 6300.0}
    environments = {
        extras: Environment(mib=mib, cuda_mib=mib - 300, install_s=mib / 100)
        for extras, mib in sizes.items()
    }
    return replace(InstallFigures(environments=environments, demo_s=60.0), **changes)


def with_mark(value: Any, mark: str) -> Any:
    """Return figures, or a result, with `mark` at the end of every text, names in maps included.

    Pixels, their colours and the names of references, which others look up, stay.
    """
    if isinstance(value, str):
        return value + mark
    if isinstance(value, PackedArray):
        return value
    if is_dataclass(value):
        entries = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        kept = {"colors", "ratios"} & entries.keys()
        changed = {
            name: with_mark(entry, mark) for name, entry in entries.items() if name not in kept
        }
        return replace(value, **changed)
    if isinstance(value, Mapping):
        sections = value.keys() & NAMES  # of a result
        return {k if k in sections else k + mark: with_mark(v, mark) for k, v in value.items()}
    if isinstance(value, tuple):
        inner = [with_mark(entry, mark) for entry in value]
        return type(value)(*inner) if hasattr(value, "_fields") else tuple(inner)
    return value


EVERY_KIND = (throughput, parity, accuracy, geometries, raster_io, install)
"""A function for each kind of figures."""
