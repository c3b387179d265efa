"""Words say what a figure is, and never more than was measured."""

import pytest
from doubles.figures import RATIO, geometry_cost, whole_run

from flair_bench.figures import Spread
from flair_bench.show import wording


def test_shares_are_cut_not_rounded():
    assert wording.percent(0.99999999) == "99.9999"
    assert wording.percent(1.0) == "100.0000"
    assert wording.percent(None) == "-"


def test_ratios_come_with_their_spread():
    assert wording.ratio(RATIO) == "4.50 (4.00 to 5.00)"
    assert wording.ratio(None) == "-"
    assert wording.with_spread(94.45, Spread(93.3, 95.6), 1) == "94.5 (93.3 to 95.6)"


@pytest.mark.parametrize(
    ("name", "precision", "label", "words"),
    [
        ("ort", "fp32", "ort fp32 512-128", "ONNX Runtime FP32 at 512 / 128"),
        ("ort int8 512-128", "int8", "ort int8 512-128", "ONNX Runtime INT8 at 512 / 128"),
        (
            "openvino bf16 int8 512-128",
            "int8 bf16",
            "openvino bf16 int8 512-128",
            "OpenVINO INT8 and bf16 at 512 / 128",
        ),
        ("best", "bf16", "best bf16 512-128", "best bf16 at 512 / 128"),
    ],
)
def test_runs_are_named_without_a_word_said_twice(name, precision, label, words):
    run = whole_run(precision=precision)
    assert wording.run_label(name, run) == label
    assert wording.spoken(name, run) == words


def test_geometries_say_that_a_model_is_int8():
    assert wording.geometry_label(geometry_cost()) == "512 / 128"
    assert wording.geometry_label(geometry_cost(precision="int8")) == "512 / 128 int8"


def test_what_is_missing_is_told_with_its_reason():
    notes = wording.missing_notes({"trt": "there is no GPU"})
    assert notes == ("trt: not available here: there is no GPU",)
