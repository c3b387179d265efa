"""Rates and the closing line follow from the figures, the figures from the work."""

import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from doubles.reports import REPORT
from doubles.tiny_model import SPEC
from rasterio.crs import CRS

from flair_engine.agreement import LabelDifference
from flair_engine.grid import Cores, Grid
from flair_engine.options import Inputs, Job, Listener, RunOptions
from flair_engine.reading.pixel_grid import PixelGrid
from flair_engine.report import RECORD_SCHEMA, InputFile, Report, report_of
from flair_engine.tally import LandCover
from flair_engine.work import Meters, Panel, Work


def test_rates_follow_from_pixels_and_seconds():
    """Of what was read; the box around it may be mostly void."""
    assert replace(REPORT, height=90_000, width=80_000).mpx_per_s == pytest.approx(0.5)
    assert replace(REPORT, inferred_pixels=1_500_000).mpx_per_s == pytest.approx(0.125)
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
    of_the_file = {"schema", "version"}
    assert figures.keys() == {field.name for field in fields(Report)} | rates | of_the_file
    assert figures["schema"] == RECORD_SCHEMA
    assert figures["outputs"][0]["sha256"] == "f" * 64


def test_the_json_is_rounded_to_what_can_be_meant():
    """Hectares to less than a pixel of 0.2 m, so that classes sum up to the whole."""
    report = replace(
        REPORT, wall_s=12.3456789, hectares_by_class={"water": 20.1234567891, "snow": 4e-6},
        busy_s={"read": 0.123456},
    )  # fmt: skip
    figures = json.loads(report.to_json())
    assert figures["hectares_by_class"] == {"water": 20.12345679, "snow": 4e-6}
    assert (figures["wall_s"], figures["busy_s"]) == (12.346, {"read": 0.123})
    assert figures["mpx_per_s"] == 0.486
    assert replace(REPORT, wall_s=7.0).to_json().count('"mpx_per_s": 0.857143,') == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inferred_pixels": 1_500_000, "resumed_pixels": 4_000_000},
         "6.00 Mpx, 1.50 of them inferred, 4.00 resumed, in 12.0 s, 0.12 Mpx/s, 18.0 km²/h;"),
        ({"inferred_pixels": 1_500_000},
         "6.00 Mpx, 1.50 of them inferred, in 12.0 s, 0.12 Mpx/s, 18.0 km²/h;"),
    ],
)  # fmt: skip
def test_the_closing_line_counts_what_was_inferred(changes, said):
    assert said in replace(REPORT, **changes).closing_line


def sheet_at(crs=None):
    return SimpleNamespace(
        pixel_grid=PixelGrid(height=70, width=53, crs=crs, transform=Affine(2, 0, 100, 0, -2, 900))
    )


DIFFERENCE = LabelDifference(pixels=10, different=2, lower=1)


def panel(number, sheet, rows, cols, size=(70, 53)):
    grid = Grid(height=size[0], width=size[1], tile_px=32, margin_px=8)
    cores = Cores(grid=grid, rows=rows, cols=cols)
    return Panel(number=number, sheet=sheet, cores=cores, selected=None)


def work_of(*panels, sheets, heard=None, difference=DIFFERENCE):
    """A job that is done: of its opened inputs and engine only what a report tells."""
    meters = Meters()

    def notify(notice):
        meters.notices.append(notice)
        (heard if heard is not None else []).append(notice)

    def warn(warning):
        meters.warnings.append(warning)
        (heard if heard is not None else []).append(warning)

    return Work(
        job=Job(
            model=Path("model.onnx"),
            inputs=Inputs(images=("in.tif",)),
            output=Path("map.tif"),
            run=RunOptions(plan_cache=Path("plans")),
            command="flair-run in.tif map.tif",
        ),
        listener=Listener(notify=notify, warn=warn),
        spec=replace(SPEC, agreement_fp32=0.9),
        opened=SimpleNamespace(sheets=sheets, blocks=7, files=("https://a/b.tif",)),
        backend=SimpleNamespace(
            engine="ort",
            device="cpu",
            description="ONNX Runtime",
            precision="fp32",
            difference_fp32=difference,
            measured_fp32=None,
            batch=3,
            slots=[0, 0],
            busy_s={"infer": 5.0},
        ),
        panels=panels,
        targets=(),
        threads=2,
        memory_mib=512,
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
        work_of(*panels, **changes), found, started="now", skipped=(), start_up_s=1.5, wall_s=2.5,
    )  # fmt: skip


def test_a_report_tells_of_the_job_the_model_and_the_engine():
    sheet = sheet_at()
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
    assert (report.command, report.labels) == ("flair-run in.tif map.tif", "flair")
    assert report.inputs == (InputFile(path="https://a/b.tif", size=None),)
    assert report.settings["inputs"] == {"model": "model.onnx", "images": ("in.tif",)}
    assert (report.settings["run"]["plan_cache"], report.crs, report.bbox) == ("plans", None, None)
    json.loads(report.to_json())


def test_the_box_is_told_in_its_crs():
    sheet = sheet_at(CRS.from_epsg(2154))
    report = report_for(panel(0, sheet, range(1, 3), range(2, 4)), sheets=[sheet])
    assert report.crs == "EPSG:2154"
    assert report.bbox == (100 + 2 * 32, 900 - 2 * 48, 100 + 2 * 53, 900 - 2 * 16)


def test_labels_that_lean_are_told():
    sheet, heard = sheet_at(), []
    report = report_for(
        panel(0, sheet, range(1), range(1)),
        sheets=[sheet],
        heard=heard,
        difference=LabelDifference(pixels=2**18, different=2000, lower=1900),
    )
    assert report.lean_fp32 == 0.95
    assert heard == [(
        "95% of the 2,000 labels that differ are the lower class, expected 40% to 60%: they lean "
        "beside FP32's where both were computed, and so may the map: --precision fp32 makes it "
        "exact"
    )]  # fmt: skip


def test_what_lies_between_areas_is_in_the_box_alone():
    sheet = sheet_at()
    report = report_for(
        panel(0, sheet, range(2), range(1)), panel(1, sheet, range(3, 5), range(2, 4)),
        sheets=[sheet],
    )  # fmt: skip
    assert (report.height, report.width) == (70, 53)
    assert report.pixels == 32 * 16 + (70 - 48) * (53 - 32)
    assert report.tiles == 2 + 4
    assert report.inferred_pixels == report.resumed_pixels == 0


def test_of_sheets_the_largest_box_is_told_and_all_pixels():
    first, second, untouched = sheet_at(), sheet_at(), sheet_at()
    report = report_for(
        panel(0, first, range(2), range(2)), panel(1, second, range(1), range(1)),
        panel(2, second, range(4), range(3, 4)), sheets=[untouched, first, second],
    )  # fmt: skip
    assert (report.height, report.width) == (64, 53)
    assert report.pixels == 32 * 32 + 16 * 16 + 64 * 5


def test_classes_that_occur_have_pixels_and_hectares():
    sheet = sheet_at()
    found = land_cover(n0=5, n1=16, n3=24)
    report = report_for(panel(0, sheet, range(1), range(1)), sheets=[sheet], found=found)
    assert report.pixels_by_class == {"first": 16, "third": 24}
    assert report.hectares_by_class == {"first": 2.0, "third": 3.0}
    assert report.nodata_pixels == 16 * 16 - 40, "of the core"
    assert all(type(count) is int for count in report.pixels_by_class.values())
    json.loads(report.to_json())


def test_what_is_missing_in_the_map_is_told():
    sheet, heard = sheet_at(), []
    work = work_of(panel(0, sheet, range(1), range(1)), sheets=[sheet], heard=heard)
    work.meters.reading.missing, work.meters.reading.blocks = 12_345, 9
    work.meters.notices.append("told before")
    report = report_of(
        work, land_cover(n1=1), started="now", skipped=range(3), start_up_s=1, wall_s=1
    )
    assert heard == [
        "height is missing on 12,345 px: counted as 0",
        "3 unreadable blocks skipped: nodata there",
    ]
    assert (report.notices, report.warnings) == (("told before",), tuple(heard))
    assert (report.missing_height_pixels, report.skipped_blocks) == (12_345, 3)
    assert report.blocks_requested == 9


def test_nothing_is_told_of_a_whole_map():
    sheet, heard = sheet_at(), []
    report_for(panel(0, sheet, range(1), range(1)), sheets=[sheet], heard=heard)
    assert heard == []
