"""The bound follows the arithmetic or the memory, whichever takes longer."""

import onnx
import pytest

from flair_bench.yardstick.roofline import PEAKS, NodeWork, Peak, bounds, node_work, seconds_at_best
from flair_export.graph.flops import gflop_per_tile


def test_layers_hold_the_arithmetic_of_the_graph(exported):
    model = onnx.load(exported(8))
    work = node_work(model)
    assert sum(layer.operations for layer in work) / 1e9 == pytest.approx(gflop_per_tile(model))
    convolution = next(layer for layer in work if layer.kind == "Conv")
    assert convolution.operations == 2 * 3 * 9 * 15 * 32 * 32  # 3 bands, 3x3, 15 classes, 32 px
    assert convolution.values == (3 + 15) * 32 * 32


def test_each_layer_takes_the_longer_of_the_two():
    peak = Peak(name="any", tflops=1, terabytes=1)
    heavy = NodeWork(kind="Conv", operations=10**12, values=10)
    wide = NodeWork(kind="Resize", operations=0, values=10**12)
    assert seconds_at_best([heavy, wide], peak, value_bytes=2) == pytest.approx(3)


def test_bounds_name_every_peak(exported):
    found = bounds(onnx.load(exported(8)), core_px=16)
    assert [bound.name for bound in found] == [peak.name for peak in PEAKS]
    for bound in found:
        assert bound.new_mpx_per_s == pytest.approx(bound.tiles_per_s * 256 / 1e6)
