"""Rates and the closing line follow from the figures."""

import json
from dataclasses import fields, replace

import pytest

from flair_engine.report import Report

REPORT = Report(
    output="map.tif",
    model="tiny",
    weights_sha256="0" * 64,
    engine="ort",
    device="cpu",
    description="ONNX Runtime 1 on 2 CPU threads",
    precision="fp32",
    agreement_fp32=None,
    exported_agreement_fp32=None,
    batch=1,
    slots=2,
    tile_px=512,
    margin_px=128,
    gsd_m=0.2,
    height=2000,
    width=3000,
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
    assert REPORT.pixels == 6_000_000
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
    rates = {"pixels", "mpx_per_s", "km2_per_h", "slowest_stage"}
    assert figures.keys() == {field.name for field in fields(Report)} | rates
