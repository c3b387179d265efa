"""Verdicts on faithful and on spoilt exports."""

from __future__ import annotations

import onnx
import pytest
import torch
from doubles.networks import graph_of, shift_bias, small_spec

from flair_engine.manifest import OUTPUT_NAMES
from flair_export.errors import ExportError
from flair_export.graph.contract import with_logits
from flair_export.network.modules import LabelNetwork
from flair_export.network.trace import build_graph
from flair_export.proof.compare import EqualLabels
from flair_export.proof.verify import Verdict, verify


@pytest.fixture
def spec(rgb):
    return small_spec(rgb, OUTPUT_NAMES)


@pytest.fixture
def model(tiny, spec):
    return graph_of(tiny, spec)


def prove(net, model: onnx.ModelProto, folder, images=()) -> Verdict:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return verify(net, path, with_logits(model).SerializeToString(), images)


def test_faithful_export(tiny, model, tmp_path, make_raster):
    image, _ = make_raster(height=70, width=53, bands=3)
    verdict = prove(tiny, model, tmp_path, [image])
    assert verdict.faults == ()
    assert verdict.total.share == 1
    assert [source.name for source in verdict.sources] == ["noise", "synthetic scene", "images"]
    assert [source.pixels for source in verdict.sources] == [2 * 16 * 16, 32 * 32, 70 * 53]
    assert sum(entry.pixels for entry in verdict.classes) == verdict.total.pixels
    assert len(verdict.classes) == 15
    assert 0 < verdict.logit_difference < 1e-4
    assert verdict.count_differences.keys() == {"confidence", "probabilities"}


def test_broken_class_is_seen_everywhere(tiny, model, tmp_path):
    shift_bias(model, channel=4, amount=50.0)
    verdict = prove(tiny, model, tmp_path)
    assert any("of labels agree with PyTorch, at least 99.99% have to" in f for f in verdict.faults)
    assert any("confidence is up to" in fault for fault in verdict.faults)
    assert any("probabilities is up to" in fault for fault in verdict.faults)
    assert verdict.logit_difference == pytest.approx(50.0, abs=1e-3)
    by_name = {entry.name: entry for entry in verdict.classes}
    assert by_name["water"].different == 0
    others = [entry for entry in verdict.classes if entry.name != "water"]
    assert all(entry.different == entry.pixels for entry in others)


def test_wrong_label_values_are_seen_though_the_logits_are_right(tiny, spec, tmp_path):
    network = LabelNetwork(tiny, spec)
    network.values = list(range(2, 17))
    verdict = prove(tiny, build_graph(network, spec), tmp_path)
    assert verdict.total.share < 0.5
    assert verdict.logit_difference < 1e-4


@pytest.mark.parametrize(("different", "stands"), [(10, True), (11, False)])
def test_threshold(different, stands):
    verdict = Verdict(
        sources=(EqualLabels(name="x", pixels=100_000, different=different, lower=0),),
        classes=(),
        images=(),
        logit_difference=0.0,
        count_differences={"confidence": 1},
    )
    assert (verdict.faults == ()) == stands


def test_undefined_logits_are_no_agreement(tiny, model, tmp_path):
    with torch.no_grad():
        tiny.segmentation_head[0].bias[0] = float("inf")
    with pytest.raises(ExportError, match="infinite or undefined logits"):
        prove(tiny, model, tmp_path)
