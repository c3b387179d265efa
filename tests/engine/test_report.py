"""Rates and the closing line follow from the figures, the figures from the work."""

import json
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from doubles.tiny_model import SPEC

from flair_engine.agreement import LabelDifference
from flair_engine.grid import Cores, Grid
from flair_engine.options import Listener
from flair_engine.report import Report, report_of
from flair_engine.tally import LandCover
from flair_engine.work import Meters, Panel, Work

REPORT = Report(
    started="2026-07-08T09:10:11+00:00",
    output="map.tif",
    model="tiny",
    weights_sha256="0" * 64,
    engine="ort",
    device="cpu",
    description="ONNX Runtime 1 on 2 CPU threads",
    precision="fp32",
    agreement_fp32=None,
    lean_fp32=None,
    exported_agreement_fp32=None,
    batch=1,
    slots=2,
    tile_px=512,
    margin_px=128,
    gsd_m=0.2,
    height=2000,
    width=3000,
    pixels=6_000_000,
    tiles=96,
    start_up_s=1.0,
    wall_s=12.0,
    busy_s={"read": 3.0, "infer": 9.0, "write": 1.0},
    pixels_by_class={"water": 5_000_000},
    hectares_by_class={"water": 20.0},
    nodata_pixels=1_000_000,
    blocks_requested=24,
    blocks=24,
    skipped_blocks=0,
    missing_height_pixels=0,
    notices=(),
)


def test_rates_follow_from_pixels_and_seconds():
    """Of what was read; the box around it may be mostly void."""
    assert replace(REPORT, height=90_000, width=80_000).mpx_per_s == pytest.approx(0.5)
    assert REPORT.mpx_per_s == pytest.approx(0.5)
    assert REPORT.km2_per_h == pytest.approx(0.5 * 0.04 * 3600)
    assert REPORT.slowest_stage == "infer"


def test_the_closing_line():
    assert REPORT.closing_line == (
        "map.tif: 6.00 Mpx in 12.0 s, 0.50 Mpx/s, 72.0 km²/h; slowest stage: infer (busy 75%)"
    )


@pytest.mark.parametrize(
    ("first", "exported", "end"),
    [
        (0.997, None, "; 99.70% the labels of FP32 on the first tiles"),
        (None, 0.996, "; INT8 gave 99.60% the labels of FP32 at export"),
        (
            0.997,
            0.996,
            (
                "; INT8 gave 99.60% the labels of FP32 at export"
                "; 99.70% the labels of the same file in FP32 on the first tiles"
            ),
        ),
    ],
)
def test_the_closing_line_says_what_a_precision_costs(first, exported, end):
    report = replace(REPORT, agreement_fp32=first, exported_agreement_fp32=exported)
    assert report.closing_line.endswith(f"(busy 75%){end}")


def test_the_json_has_every_field_and_rate():
    figures = json.loads(REPORT.to_json())
    rates = {"mpx_per_s", "km2_per_h", "slowest_stage"}
    assert figures.keys() == {field.name for field in fields(Report)} | rates


DIFFERENCE = LabelDifference(pixels=10, different=2, lower=1)


def panel(number, sheet, rows, cols, size=(70, 53)):
    grid = Grid(height=size[0], width=size[1], tile_px=32, margin_px=8)
    cores = Cores(grid=grid, rows=rows, cols=cols)
    return Panel(number=number, sheet=sheet, cores=cores, selected=None)


def work_of(*panels, sheets, skipped=0, heard=None, difference=DIFFERENCE):
    """A job that is done: of its opened inputs and engine only what a report tells."""
    meters = Meters()

    def notify(notice):
        meters.notices.append(notice)
        (heard if heard is not None else []).append(notice)

    return Work(
        job=SimpleNamespace(output="map.tif"),
        listener=Listener(notify=notify),
        spec=replace(SPEC, agreement_fp32=0.9),
        opened=SimpleNamespace(sheets=sheets, skipped_blocks=skipped, blocks=7),
        backend=SimpleNamespace(
            engine="ort",
            device="cpu",
            description="ONNX Runtime",
            precision="fp32",
            difference_fp32=difference,
            batch=3,
            slots=[0, 0],
            busy_s={"infer": 5.0},
        ),
        panels=panels,
        targets=(),
        threads=2,
        meters=meters,
    )


def land_cover(**counts):
    """Pixels and hectares by label, `n1=5` for five pixels of label 1."""
    pixels = np.zeros(256, np.int64)
    for name, count in counts.items():
        pixels[int(name[1:])] = count
    return LandCover(pixels=pixels, hectares=pixels / 8)


def report_for(*panels, found=None, **changes):
    found = found or land_cover(n1=1)
    return report_of(
        work_of(*panels, **changes), found, started="now", skipped_before=0, start_up_s=1.5,
        wall_s=2.5,
    )  # fmt: skip


def test_a_report_tells_of_the_job_the_model_and_the_engine():
    sheet = object()
    report = report_for(panel(0, sheet, range(5), range(4)), sheets=[sheet])
    assert (report.output, report.model, report.tile_px, report.margin_px) == (
        "map.tif", "tiny", 32, 8,
    )  # fmt: skip
    assert (report.engine, report.device, report.description) == ("ort", "cpu", "ONNX Runtime")
    assert (report.precision, report.batch, report.slots) == ("fp32", 3, 2)
    assert (report.agreement_fp32, report.exported_agreement_fp32) == (0.8, 0.9)
    assert report.lean_fp32 == 0.5
    assert (report.started, report.start_up_s, report.wall_s) == ("now", 1.5, 2.5)
    assert report.blocks == 7
    assert (report.height, report.width, report.pixels, report.tiles) == (70, 53, 70 * 53, 20)
    assert list(report.busy_s) == ["read", "infer", "write", "assemble"]


def test_labels_that_lean_are_told():
    sheet, heard = object(), []
    report = report_for(
        panel(0, sheet, range(1), range(1)),
        sheets=[sheet],
        heard=heard,
        difference=LabelDifference(pixels=2**18, different=2000, lower=1900),
    )
    assert report.lean_fp32 == 0.95
    assert heard == [(
        "95% of the 2,000 labels that differ are the lower class, expected 40% to 60%: they lean "
        "beside FP32's on the first tiles, and so may the map: --precision fp32 makes it exact"
    )]  # fmt: skip


def test_what_lies_between_areas_is_in_the_box_alone():
    sheet = object()
    report = report_for(
        panel(0, sheet, range(2), range(1)), panel(1, sheet, range(3, 5), range(2, 4)),
        sheets=[sheet],
    )  # fmt: skip
    assert (report.height, report.width) == (70, 53)
    assert report.pixels == 32 * 16 + (70 - 48) * (53 - 32)
    assert report.tiles == 2 + 4
    assert report.mpx_per_s == pytest.approx(report.pixels / 1e6 / 2.5)


def test_of_sheets_the_largest_box_is_told_and_all_pixels():
    first, second, untouched = object(), object(), object()
    report = report_for(
        panel(0, first, range(2), range(2)), panel(1, second, range(1), range(1)),
        panel(2, second, range(4), range(3, 4)), sheets=[untouched, first, second],
    )  # fmt: skip
    assert (report.height, report.width) == (64, 53)
    assert report.pixels == 32 * 32 + 16 * 16 + 64 * 5


def test_classes_that_occur_have_pixels_and_hectares():
    sheet = object()
    found = land_cover(n0=5, n1=16, n3=24)
    report = report_for(panel(0, sheet, range(1), range(1)), sheets=[sheet], found=found)
    assert report.pixels_by_class == {"first": 16, "third": 24}
    assert report.hectares_by_class == {"first": 2.0, "third": 3.0}
    assert report.nodata_pixels == 5
    assert all(type(count) is int for count in report.pixels_by_class.values())
    json.loads(report.to_json())


def test_what_is_missing_in_the_map_is_told():
    sheet, heard = object(), []
    work = work_of(panel(0, sheet, range(1), range(1)), sheets=[sheet], skipped=3, heard=heard)
    work.meters.reading.missing, work.meters.reading.blocks = 12_345, 9
    work.meters.notices.append("told before")
    report = report_of(
        work, land_cover(n1=1), started="now", skipped_before=0, start_up_s=1, wall_s=1
    )
    assert heard == [
        "height is missing on 12,345 px: counted as 0",
        "3 unreadable blocks skipped: nodata there",
    ]
    assert report.notices == ("told before", *heard)
    assert (report.missing_height_pixels, report.skipped_blocks) == (12_345, 3)
    assert report.blocks_requested == 9


def test_nothing_is_told_of_a_whole_map():
    sheet, heard = object(), []
    report_for(panel(0, sheet, range(1), range(1)), sheets=[sheet], heard=heard)
    assert heard == []


def test_what_was_skipped_before_the_run_was_resumed_is_told_too():
    sheet, heard = object(), []
    work = work_of(panel(0, sheet, range(1), range(1)), sheets=[sheet], skipped=3, heard=heard)
    report = report_of(
        work, land_cover(n1=1), started="now", skipped_before=2, start_up_s=1, wall_s=1
    )
    assert report.skipped_blocks == 5
    assert heard == ["5 unreadable blocks skipped: nodata there"]
