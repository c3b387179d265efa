"""Ranges of the numbers between image and labels, measured by running an ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME
from flair_export.errors import ExportError
from flair_export.graph.passes import copied

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx

EXTREMES = ("ReduceMin", "ReduceMax")


def measured_ranges(
    model: onnx.ModelProto, names: Sequence[str], tiles: Iterable[np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest value of each FP32 tensor `names` over all `tiles`.

    Tiles are uint8 [bands, T, T] each, run one by one in ONNX Runtime. Raises ExportError where a
    number is infinite or undefined.
    """
    probe = copied(model)
    for name in names:
        for extreme in EXTREMES:
            value = f"{name}/{extreme}"
            probe.graph.node.append(helper.make_node(extreme, [name], [value], keepdims=0))
            probe.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, []))
    session = open_session(probe.SerializeToString())
    wanted = [f"{name}/{extreme}" for extreme in EXTREMES for name in names]
    smallest, largest = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for tile in tiles:
        found = np.array(session.run(wanted, {INPUT_NAME: tile[None]}), np.float64)
        if not np.isfinite(found).all():
            raise ExportError(
                "the network gives infinite or undefined numbers already in FP32", "export it again"
            )
        smallest = np.minimum(smallest, found[: len(names)])
        largest = np.maximum(largest, found[len(names) :])
    pairs = zip(smallest.tolist(), largest.tolist(), strict=True)
    return dict(zip(names, pairs, strict=True))
