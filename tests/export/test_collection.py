"""Every published model: random weights in its file's layout, exported, proven and run."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from doubles.networks import state_dict

from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import OUTPUT_NAMES, read_model_spec
from flair_export.cards import CARDS
from flair_export.publish import ExportOptions, export

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.short_name)
def test_model_from_checkpoint_to_labels(card, tmp_path):
    weights, path = tmp_path / "weights.pth", tmp_path / "model.onnx"
    torch.save(state_dict(card), weights)
    options = ExportOptions(outputs=OUTPUT_NAMES, tile_px=64, margin_px=16)
    verdict = export(weights, path, options)
    assert verdict.faults == ()
    spec = read_model_spec(path)
    assert (spec.name, spec.bands, spec.outputs) == ("weights", card.bands, OUTPUT_NAMES)
    assert spec.architecture == card.network
    assert tuple(entry.value for entry in spec.active_classes) == card.active
    check_contract(onnx.load(path, load_external_data=False), transformer=card.encoder == "mit_b5")
    check_answers(path, card)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.onnx", "weights.pth"]


def check_contract(model: onnx.ModelProto, *, transformer: bool) -> None:
    nodes = model.graph.node
    operators = Counter(node.op_type for node in nodes)
    assert model.ir_version in (8, 9)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert [tensor.name for tensor in model.graph.input] == ["image"]
    assert [tensor.name for tensor in model.graph.output] == list(OUTPUT_NAMES)
    for tensor in (*model.graph.input, *model.graph.output):
        assert tensor.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "N"
        assert all(dim.dim_value > 0 for dim in tensor.type.tensor_type.shape.dim[1:])
    assert operators["Cast"] == 2 + len(OUTPUT_NAMES), "image, index, and one for each output"
    assert {node.op_type for node in nodes if set(node.output) & set(OUTPUT_NAMES)} == {"Cast"}
    assert nodes[-1].op_type == "Cast"
    assert [node.input[0] for node in nodes if node.op_type == "ArgMax"] == ["logits"]
    assert not {"Shape", "Where", "Identity", "If", "Loop"} & operators.keys()
    if not transformer:
        assert not {"Gather", "LayerNormalization"} & operators.keys()
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def check_answers(path, card) -> None:
    session = open_session(path)
    image = np.random.default_rng(3).integers(0, 256, (3, card.band_count, 64, 64), dtype=np.uint8)
    labels, confidence, probabilities = session.run(None, {"image": image})
    one_by_one = [session.run(["labels"], {"image": image[n : n + 1]})[0] for n in range(3)]
    assert labels.shape == (3, 32, 32)
    assert (labels == np.concatenate(one_by_one)).mean() > 0.999
    assert set(np.unique(labels)) <= set(card.active)
    assert not probabilities[:, [v - 1 for v in range(1, 20) if v not in card.active]].any()
    assert (confidence == probabilities.max(axis=1)).all()
    chosen = np.take_along_axis(probabilities, labels[:, None].astype(int) - 1, axis=1)[:, 0]
    assert (chosen == confidence).all()
