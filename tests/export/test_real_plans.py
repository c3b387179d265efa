"""Plans of every network of the collection by the real TensorRT for RTX, which needs no GPU.

It shows that graphs parse and build; what a plan answers needs a GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import onnx
import pytest
import torch
from doubles.networks import small_spec
from torch import nn

import flair_export.network.trace
from flair_engine.inference.gpu.plan import PlanOptions, build_plan, logger_of
from flair_engine.manifest import OUTPUT_NAMES
from flair_export.cards import CARDS, CHANNELS, Card, find_card
from flair_export.convert.fp16_graph import to_fp16
from flair_export.network.modules import build_network
from flair_export.publish import _graph

trt = pytest.importorskip(
    "tensorrt_rtx_bindings",
    reason="TensorRT for RTX cannot be imported here: pip install 'flair-engine[rtx]'",
    exc_type=ImportError,
)
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

CARDS_OF_GPU = ("8.0", "8.9")
BATCH = 16
MALFORMED = 32
SOAK = os.environ.get("FLAIR_SOAK") is not None
UNET = find_card("rgbie_15cl_resnet34-unet")
LARGE = "mit_b5"
QUICK = [card for card in CARDS if card.encoder != LARGE]
SMALL_MIT = replace(find_card("rgb_15cl_mitb5-unet"), encoder="mit_b0")
"""The smallest of the family: MiT-B5 takes a minute to trace and half a minute to build."""


def unlearnt(card: Card) -> nn.Module:
    """Return a network of a card whose weights nobody took seconds to draw well."""
    torch.manual_seed(3)
    if "mit" in card.encoder:
        return build_network(card, CHANNELS).eval()
    with torch.device("meta"):
        net = build_network(card, CHANNELS)
    net.to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.normal_(std=0.02)
        for name, tensor in net.named_buffers():
            tensor.fill_(1 if name.endswith("running_var") else 0)
    return net


def fp32_graph(card: Card, tile_px: int, outputs, monkeypatch) -> tuple[onnx.ModelProto, object]:
    """Return the graph that is exported of a card at a geometry, and its manifest.

    A U-Net of convolutions holds no number of pixels before its context is cropped, so it is traced
    on a small tile.
    """
    spec = small_spec(card, outputs, tile_px=tile_px, margin_px=128)
    traced = flair_export.network.trace._traced
    if card.network == UNET.network:
        small = replace(spec, tile_px=320)
        monkeypatch.setattr(
            flair_export.network.trace, "_traced", lambda net, _: traced(net, small)
        )
    return _graph(unlearnt(card), spec, crop=True), spec


def build(graph, spec, record_property, name) -> bytes:
    start = time.monotonic()
    told = PlanOptions(batch=BATCH, precision=spec.precision, capabilities=CARDS_OF_GPU)
    plan = build_plan(trt, graph.SerializeToString(), spec, told).plan
    seconds = time.monotonic() - start
    kind = f"{spec.tile_px}/{spec.margin_px} {spec.precision} {len(spec.outputs)} outputs"
    record_property("plan", (f"{name} {kind}", len(plan) / 1e6, seconds))
    assert trt.Runtime(logger_of(trt)).get_engine_validity(plan)[1] & MALFORMED == 0
    return plan


def weight_bytes(graph: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in graph.graph.initializer)


def check(card, tile_px, monkeypatch, record_property, *, all_of_it=True) -> None:
    """Build in FP16, and FP32 too; a plan holds all weights in the precision of its graph."""
    outputs = OUTPUT_NAMES if all_of_it else OUTPUT_NAMES[:1]
    graph, spec = fp32_graph(card, tile_px, outputs, monkeypatch)
    half = to_fp16(graph).model
    name = card.short_name.replace("mitb5", card.encoder.replace("_", ""))
    plan = build(half, replace(spec, precision="fp16"), record_property, name)
    assert weight_bytes(half) < len(plan)
    if all_of_it:
        assert weight_bytes(graph) < len(build(graph, spec, record_property, name))


@pytest.mark.parametrize("card", [*QUICK, SMALL_MIT], ids=lambda card: card.short_name)
def test_every_network_at_512(card, monkeypatch, record_property):
    of_its_kind = card == UNET or card.network != UNET.network
    check(card, 512, monkeypatch, record_property, all_of_it=of_its_kind)


def test_unet_at_2048(monkeypatch, record_property):
    check(UNET, 2048, monkeypatch, record_property)


@pytest.mark.skipif(not SOAK, reason="a minute and a half and 5 GB: make soak")
def test_the_largest_network(monkeypatch, record_property):
    card = next(card for card in CARDS if card.encoder == LARGE)
    check(card, 512, monkeypatch, record_property)


@pytest.mark.skipif(not SOAK, reason="traces at 512 px: make soak")
def test_a_unet_traced_on_a_small_tile_is_that_traced_on_a_whole_one(monkeypatch):
    small, spec = fp32_graph(UNET, 512, OUTPUT_NAMES, monkeypatch)
    monkeypatch.undo()
    whole = _graph(unlearnt(UNET), spec, crop=True)
    assert small.SerializeToString() == whole.SerializeToString()


INTERRUPTED = """
import sys
from pathlib import Path
import tensorrt_rtx_bindings as trt
from flair_engine import signals
from flair_engine.inference.gpu.plan import PlanOptions, build_plan
from flair_engine.manifest import read_model_spec
signals.raise_once()
path = Path(sys.argv[1])
spec, model = read_model_spec(path), path.read_bytes()
told = PlanOptions(batch=16, precision=spec.precision)
try:
    for _ in range(100):
        build_plan(trt, model, spec, told, status=lambda line: print(line, flush=True))
except signals.SignalError as error:
    print(error)
"""


def test_a_signal_during_a_build_is_not_lost(monkeypatch, tmp_path):
    """TensorRT lets no exception out of the Python that it calls."""
    graph, _ = fp32_graph(UNET, 512, OUTPUT_NAMES[:1], monkeypatch)
    onnx.save(graph, tmp_path / "model.onnx")
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "model.onnx")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert said.splitlines()[-1] == "interrupted"
