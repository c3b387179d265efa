"""Changes to a network before OpenVINO computes it in bf16, so that its labels do not lean.

Told to compute in bf16, OpenVINO stores what a convolution makes in bf16: 8 bits of mantissa, in
which the logits of many pixels are equal, and ArgMax takes the first of equals. Labels then move
to the lower class. What follows the last convolution is left in FP32, and an operation that is
fused with the convolution decides what it stores. A Clamp wide enough to change nothing is fused:
the products are of bf16 still, the sums reach the ArgMax in FP32, and nothing takes longer.

Resizing reads bf16 wherever it stands, so where a network ends in it, it is spelled out.

Weights are rounded here, where the error of each can be carried on (`rounding.py`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.errors import EngineError
from flair_engine.inference.rounding import carried

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1e30
"""Of the Clamp: no logit comes near it, and FP32 holds it."""
ARGMAX = "TopK"
"""What OpenVINO makes of an ArgMax."""
RESIZE = "Interpolate"
CARRIED_WEIGHTS = 300_000
"""Weights of the largest convolution whose errors are carried on. Larger ones add up hundreds of
channels, hold nine weights in ten and took no part in what was measured (benchmarks/LOG.md)."""
MOVING = frozenset({"Gather", "Reshape", "Slice", "Squeeze", "StridedSlice", "Transpose"})
"""Operations that move numbers and round none: the Clamp goes before them, beside the sums."""
SUMMING = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
"""Executed layers whose sums the logits are."""


def keep_head_fp32(network: Any) -> None:
    """Make OpenVINO store the logits of `network`, an `openvino.Model`, in FP32."""
    (argmax,) = (node for node in network.get_ordered_ops() if node.get_type_name() == ARGMAX)
    logits = argmax.input_value(0)
    while (kind := logits.get_node().get_type_name()) in MOVING or kind == RESIZE:
        if kind == RESIZE:
            _replace(logits, _resized(logits.get_node()))
        logits = logits.get_node().input_value(0)
    readers = logits.get_target_inputs()
    clamped = _operations().clamp(logits, -LIMIT, LIMIT)
    for reader in readers:
        reader.replace_source_output(clamped.output(0))


def round_weights(network: Any) -> None:
    """Round the weights of convolutions to bf16 so that the sum of each kernel stays."""
    operations = _operations()
    for node in network.get_ordered_ops():
        weights = node.input_value(1).get_node() if node.get_type_name() == "Convolution" else None
        if weights is None or weights.get_type_name() != "Constant":
            continue  # what is INT8 comes through a Multiply
        values = weights.data
        if values.dtype == np.float32 and values.size < CARRIED_WEIGHTS:
            rounded = operations.constant(carried(values), np.float32)
            node.input(1).replace_source_output(rounded.output(0))


def check_head_fp32(compiled: Any, version: str) -> None:
    """Raise EngineError unless the logits are FP32 in what a compiled model executes."""
    executed = compiled.get_runtime_model().get_ordered_ops()
    (argmax,) = (node for node in executed if _fact(node, "layerType") == ARGMAX)
    if any("bf16" in _fact(node, "outputPrecisions") for node in _up_to_sums(argmax)):
        raise EngineError(
            f"OpenVINO {version} stores the logits of this network in bf16, in which classes tie, "
            "and every tie goes to the lower one",
            "install openvino 2025.3 or newer, or use --precision fp32",
        )


def _resized(resize: Any) -> Any:
    """Return what a linear Resize with aligned corners gives, of Gather, Multiply and Add.

    Another Resize is returned as it is; `check_head_fp32` tells where that rounds.
    """
    attributes = resize.get_attributes()
    if attributes["coordinate_transformation_mode"] != "align_corners" or not attributes[
        "mode"
    ].startswith("linear"):
        return resize.output(0)
    operations, value = _operations(), resize.input_value(0)
    sizes = zip(resize.get_input_shape(0), resize.get_output_shape(0), strict=True)
    for axis, (size, wanted) in enumerate(sizes):
        if size == wanted:
            continue
        places = np.arange(wanted) * ((size - 1) / max(wanted - 1, 1))
        first = np.floor(places).astype(np.int64)
        share = (places - first).astype(np.float32)
        share = share.reshape(-1, *[1] * (len(resize.get_output_shape(0)) - axis - 1))
        below = operations.gather(value, first, axis)
        above = operations.gather(value, np.minimum(first + 1, size - 1), axis)
        parts = operations.multiply(below, 1 - share), operations.multiply(above, share)
        value = operations.add(*parts).output(0)
    return value


def _replace(old: Any, new: Any) -> None:
    """Give those that read the output `old` the output `new`."""
    if old != new:
        for reader in old.get_target_inputs():
            reader.replace_source_output(new)


def _operations() -> Any:
    return import_module("openvino.opset13")


def _up_to_sums(argmax: Any) -> Iterator[Any]:
    """Yield the executed nodes from the ArgMax back to those that make the logits' sums."""
    left = [argmax.input_value(0).get_node()]
    while left:
        node = left.pop()
        kind = _fact(node, "layerType")
        if kind in ("Const", "Input"):
            continue
        yield node
        if kind not in SUMMING:
            left += [value.get_node() for value in node.input_values()]


def _fact(node: Any, name: str) -> str:
    """Return what the runtime says of an executed node, as text."""
    facts = node.get_rt_info()
    return str(facts[name].astype(str)) if name in facts else ""
