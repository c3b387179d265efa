"""The contract of an exported graph: each way to break it is named."""

from __future__ import annotations

import onnx
import pytest
from doubles.networks import graph_of, noise, small_spec
from doubles.small_graphs import answers_of, labels_of
from onnx import helper

from flair_engine.manifest import OUTPUT_NAMES
from flair_export.errors import ExportError
from flair_export.graph.contract import check_graph, logits_before_argmax, with_logits
from flair_export.network.modules import LabelNetwork


@pytest.fixture
def spec(rgb):
    return small_spec(rgb, OUTPUT_NAMES)


@pytest.fixture
def model(tiny, spec):
    return graph_of(tiny, spec)


def test_labels_are_made_of_the_logits(model):
    assert logits_before_argmax(model.graph) == "logits"


def test_twin_adds_the_logits_and_changes_nothing_else(tiny, spec, model):
    image = noise(3)
    before = model.SerializeToString()
    found = answers_of(with_logits(model), image.numpy())
    assert model.SerializeToString() == before
    assert list(found) == [*OUTPUT_NAMES, "logits"]
    logits = LabelNetwork(tiny, spec).logits(image).detach().numpy()
    assert abs(found["logits"] - logits).max() < 1e-5
    assert (found["labels"] == labels_of(model, image.numpy())).all()


def spoil_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def spoil_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 10


def spoil_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def spoil_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["", "true"], ["again"]))


def spoil_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["nowhere"], ["somewhere"]))


def spoil_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4


def spoil_manifest(model: onnx.ModelProto) -> None:
    entry = model.metadata_props[0]
    entry.value = entry.value.replace('"gsd_m": 0.2', '"gsd_m": 0.5')


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_opset, "operator sets are {'': 18}"),
        (spoil_ir, "IR version is 10"),
        (spoil_weights, "weights lie in another file"),
        (spoil_operator, r"operators that no model of flair-export has \(Loop\)"),
        (spoil_node, "not valid ONNX"),
        (spoil_input, "not what the engine reads"),
        (spoil_manifest, "reads back differently"),
    ],
)
def test_check_graph_names_each_fault(model, spec, spoil, said):
    check_graph(model, spec)
    spoil(model)
    with pytest.raises(ExportError, match=said):
        check_graph(model, spec)


def test_a_fault_of_the_manifest_comes_without_its_remedy(model, spec):
    del model.metadata_props[:]
    with pytest.raises(ExportError, match="has no 'flair' manifest") as caught:
        check_graph(model, spec)
    assert caught.value.what.endswith("so its bands, classes and geometry are unknown")


def test_all_faults_in_one_message(model, spec):
    spoil_opset(model)
    spoil_ir(model)
    with pytest.raises(ExportError, match=r"operator sets.*IR version"):
        check_graph(model, spec)
