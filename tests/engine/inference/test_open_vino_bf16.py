"""OpenVINO's bf16: the head FP32 in what is executed, whatever was asked for, and the weights."""

import numpy as np
import pytest
from doubles.near_ties import expected, write_near_ties

from flair_engine.agreement import difference_of
from flair_engine.errors import EngineError
from flair_engine.inference.open_vino_bf16 import (
    CARRIED_WEIGHTS,
    check_head_fp32,
    keep_head_fp32,
    round_weights,
)
from flair_engine.inference.rounding import carried

openvino = pytest.importorskip("openvino", reason="openvino is not installed")

BF16 = {"INFERENCE_PRECISION_HINT": "bf16"}


def network_of(path):
    network = openvino.Core().read_model(str(path))
    network.reshape({"image": [2, 2, 32, 32]})
    return network


def executed(compiled, kind):
    """The executed nodes of a type: what they store, as the runtime says."""
    return [
        str(node.get_rt_info()["outputPrecisions"].astype(str))
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == kind
    ]


@pytest.fixture
def images():
    return np.random.default_rng(5).integers(0, 256, (2, 2, 32, 32), dtype=np.uint8)


def test_logits_in_bf16_tie_and_every_tie_goes_to_the_lower_label(tmp_path, images):
    compiled = openvino.Core().compile_model(
        network_of(write_near_ties(tmp_path / "m")), "CPU", BF16
    )
    assert executed(compiled, "Convolution")[-1] == "bf16"
    found = difference_of(expected(images), compiled({"image": images})["labels"])
    assert 0.4 < found.share < 0.6
    assert found.lean == 1
    with pytest.raises(EngineError, match=r"^OpenVINO 1.2 stores the logits .* in bf16.*2025.3"):
        check_head_fp32(compiled, "1.2")


def test_a_head_kept_in_fp32_gives_the_labels_of_numpy(tmp_path, images):
    network = network_of(write_near_ties(tmp_path / "m"))
    keep_head_fp32(network)
    compiled = openvino.Core().compile_model(network, "CPU", BF16)
    first, head = executed(compiled, "Convolution")
    assert (first, head) == ("bf16", "f32")  # one multiplies in bf16 still, the other stores FP32
    check_head_fp32(compiled, "1.2")
    assert (compiled({"image": images})["labels"] == expected(images)).all()


def test_a_head_kept_in_fp32_changes_no_label_of_fp32(tmp_path, images):
    network = network_of(write_near_ties(tmp_path / "m"))
    keep_head_fp32(network)
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert (compiled({"image": images})["labels"] == expected(images)).all()


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_a_resize_behind_the_head_is_fp32_or_refused(tmp_path, images, mode):
    path = write_near_ties(tmp_path / "m", resize=mode)
    exact = openvino.Core().compile_model(
        network_of(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    network = network_of(path)
    keep_head_fp32(network)
    compiled = openvino.Core().compile_model(network, "CPU", BF16)
    if mode == "cubic":
        with pytest.raises(EngineError, match="in bf16, in which classes tie"):
            check_head_fp32(compiled, "1.2")
        return
    check_head_fp32(compiled, "1.2")
    labels = [network({"image": images})["labels"] for network in (exact, compiled)]
    assert difference_of(*labels).share > 0.99  # what is left are sums in another order
    assert set(np.unique(labels[0])) == {1, 3}


def test_weights_of_small_convolutions_are_rounded_in_place(tmp_path):
    network = network_of(write_near_ties(tmp_path / "m", head_step=1 / 1023))
    before = weights_of(network)
    round_weights(network)
    after = weights_of(network)
    assert len(before) == 2
    for old, new in zip(before, after, strict=True):
        assert old.size < CARRIED_WEIGHTS
        assert np.array_equal(new, carried(old))
    assert not np.array_equal(before[1], after[1])


def weights_of(network):
    nodes = [n for n in network.get_ordered_ops() if n.get_type_name() == "Convolution"]
    return [node.input_value(1).get_node().data.copy() for node in nodes]
