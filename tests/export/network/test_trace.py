from __future__ import annotations

import onnx
import pytest
import torch
from doubles.networks import noise, small_spec, uniform_head
from onnx import helper
from torch import nn

from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import OUTPUT_NAMES
from flair_export.errors import ExportError
from flair_export.network.modules import LabelNetwork
from flair_export.network.trace import build_graph, check_graph, with_logits


@pytest.fixture
def spec(rgb):
    return small_spec(rgb, OUTPUT_NAMES)


@pytest.fixture
def model(tiny, spec):
    return build_graph(LabelNetwork(tiny, spec), spec)


def run(model: onnx.ModelProto, image: torch.Tensor) -> dict:
    session = open_session(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image.numpy()}), strict=True))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_graph_gives_what_the_module_gives_for_any_batch(tiny, spec, model, count):
    image = noise(count)
    found = run(model, image)
    for name, tensor in zip(spec.outputs, LabelNetwork(tiny, spec)(image), strict=True):
        assert found[name].shape == tuple(tensor.shape)
        difference = abs(found[name].astype(int) - tensor.numpy())
        assert difference.max() <= (0 if name == "labels" else 1)


def test_softmax_only_where_it_is_asked_for(tiny, rgb):
    spec = small_spec(rgb)
    operators = [node.op_type for node in build_graph(LabelNetwork(tiny, spec), spec).graph.node]
    assert "Softmax" not in operators
    assert operators.count("Cast") == 3
    assert operators[-1] == "Cast"


def test_tie_and_inactive_classes_in_the_file(tiny, rgb):
    uniform_head(tiny, dict.fromkeys(rgb.active, -9.0), others=50.0)
    spec = small_spec(rgb, OUTPUT_NAMES)
    found = run(build_graph(LabelNetwork(tiny, spec), spec), noise())
    assert (found["labels"] == 1).all()
    assert (found["confidence"] == 17).all()
    assert not found["probabilities"][:, [14, 15, 16, 18]].any()


def test_twin_adds_the_logits_and_changes_nothing_else(tiny, spec, model):
    image = noise(3)
    before = model.SerializeToString()
    found = run(with_logits(model), image)
    assert model.SerializeToString() == before
    assert list(found) == [*OUTPUT_NAMES, "logits"]
    logits = LabelNetwork(tiny, spec).logits(image).detach().numpy()
    assert abs(found["logits"] - logits).max() < 1e-5
    assert (found["labels"] == run(model, image)["labels"]).all()


def spoil_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def spoil_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 10


def spoil_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


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
        (spoil_weights, "weights lie outside"),
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


def test_all_faults_in_one_message(model, spec):
    spoil_opset(model)
    spoil_ir(model)
    with pytest.raises(ExportError, match=r"operator sets.*IR version"):
        check_graph(model, spec)


def test_network_that_mixes_the_batch_is_refused(tiny, spec):
    class Mixing(nn.Module):
        def forward(self, image):
            return image.reshape(-1, 32).reshape(image.shape)

    tiny.decoder = Mixing()
    with pytest.raises(ExportError, match="mixes the batch axis"):
        build_graph(LabelNetwork(tiny, spec), spec)


def test_exporter_warnings_stay_silent(tiny, spec, recwarn):
    build_graph(LabelNetwork(tiny, spec), spec)
    assert not recwarn.list
