"""INT8 graphs against arithmetic written out in numpy, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from doubles.networks import random_network, small_spec
from doubles.paths import listing
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

import flair_export.network.checkpoint
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME, read_model_spec, spec_of
from flair_export.cards import CARDS, CHANNELS
from flair_export.cli import export_command, main
from flair_export.convert import int8 as integers
from flair_export.convert.int8_graph import (
    HEADROOM,
    WEIGHT_MAX,
    quantized_tensors,
    rounded_weights,
    scale_and_zero,
    to_int8,
)
from flair_export.convert.ranges import measured_ranges
from flair_export.errors import OptionError
from flair_export.graph.flops import gflop_per_tile
from flair_export.network.modules import LabelNetwork
from flair_export.network.trace import build_graph
from flair_export.proof import samples
from flair_export.rewrite.context_crop import crop_context
from flair_export.rewrite.upsampling import fold_upsampling, spell_out_transposed

pytestmark = pytest.mark.usefixtures("one_thread")


class Branches(nn.Module):
    """A wide convolution, added to what it read."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(64, 64, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.wide(features)) + features


class WideNetwork(nn.Module):
    """Pointwise convolutions, one of them wide."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU())
        self.decoder = Branches()
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(64, CHANNELS, 1), nn.Identity(), nn.Identity()
        )
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.segmentation_head(self.decoder(self.encoder(image)))


@pytest.fixture
def wide() -> WideNetwork:
    torch.manual_seed(5)
    return WideNetwork()


@pytest.fixture
def spec(rgb):
    return small_spec(rgb)


@pytest.fixture
def tiles():
    return np.random.default_rng(3).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)


def quantized(model, tiles):
    return to_int8(model, measured_ranges(model, quantized_tensors(model), tiles))


def labels(model, tiles):
    return open_session(model.SerializeToString()).run(["labels"], {INPUT_NAME: tiles})[0]


def widened(ends):
    return [HEADROOM * end for end in ends]


def rounded(values, scale, zero):
    return scale * (np.clip(np.rint(values / scale) + zero, 0, 255) - zero)


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32), st.floats(0, 1, width=32))
def test_a_range_is_held_to_half_a_step_and_zero_exactly(one, other, share):
    low, high = sorted((one, other))
    scale, zero = scale_and_zero(low, high)
    assert rounded(np.float32(0), scale, float(zero)) == 0
    value = min(max(low + share * (high - low), low), high)
    # Half a step of the value, and half a step that the zero point was moved by.
    assert abs(rounded(value, float(scale), float(zero)) - value) <= 1.001 * float(scale)


def test_weights_are_rounded_by_output_channel():
    kernel = np.random.default_rng(0).normal(size=(5, 7, 3, 3)).astype(np.float32)
    kernel[2] *= 1000
    kernel[3] = 0
    bias = np.array([0.5, -3, 0, 0, 7], np.float32)
    integers_, bias_, scales = rounded_weights(kernel, bias, 0.1)
    assert integers_.dtype == np.int8
    assert np.abs(integers_).max(axis=(1, 2, 3)).tolist() == [64, 64, 64, 0, 64]
    error = np.abs(integers_ * scales[:, None, None, None] - kernel).max(axis=(1, 2, 3))
    assert (error <= 0.5001 * scales).all()
    assert bias_.dtype == np.int32
    assert (np.abs(bias_ * scales * 0.1 - bias) <= 0.0501 * scales).all()
    assert 2 * 255 * WEIGHT_MAX < 2**15


def test_labels_are_those_of_integer_arithmetic_written_out(wide, spec, tiles):
    model = build_graph(LabelNetwork(wide, spec), spec)
    names = quantized_tensors(model)
    ranges = measured_ranges(model, names, tiles)
    parts = {key: value.detach().numpy() for key, value in wide.state_dict().items()}

    def pointwise(values, layer):
        kernel, bias = parts[f"{layer}.weight"][..., 0, 0], parts[f"{layer}.bias"]
        return np.einsum("oc,nchw->nohw", kernel, values) + bias[:, None, None]

    statistics = (np.array(s, np.float32)[:, None, None]
                  for s in (spec.normalization.mean, spec.normalization.std))  # fmt: skip
    mean, std = statistics
    features = np.maximum(pointwise((tiles - mean) / std, "encoder.0"), 0)
    assert np.allclose(ranges[names[0]], (features.min(), features.max()), rtol=1e-5)
    features = rounded(features, *scale_and_zero(*widened(ranges[names[0]])))
    step, _ = scale_and_zero(*widened(ranges[names[0]]))
    kernel, bias, scales = rounded_weights(
        parts["decoder.wide.weight"], parts["decoder.wide.bias"], float(step)
    )
    parts["decoder.wide.weight"] = kernel * scales[:, None, None, None]
    parts["decoder.wide.bias"] = bias * scales * step
    through = np.maximum(pointwise(features, "decoder.wide"), 0)
    through = rounded(through, *scale_and_zero(*widened(ranges[names[1]])))
    logits = pointwise(through + features, "segmentation_head.0")
    active = np.array([entry.value for entry in spec.active_classes])
    expected = active[logits[:, active - 1, 8:24, 8:24].argmax(1)]
    found = labels(to_int8(model, ranges).model, tiles)
    assert (found == expected).mean() > 0.999  # a value half way may round either way
    assert (labels(model, tiles) != expected).any()


def test_a_u_net_is_integers_but_at_both_ends(rgb):
    spec = small_spec(rgb, tile_px=64, margin_px=16)
    model = build_graph(LabelNetwork(random_network(rgb), spec), spec)
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    found = quantized(model, image)
    assert "/encoder/conv1/Conv" in found.kept_fp32[0]
    assert len(found.integer) > 40
    assert len(found.integer) + len(found.kept_fp32) == sum(
        node.op_type == "Conv" for node in model.graph.node
    )
    assert spec_of(found.model, "model") == replace(spec, precision="int8")
    made = {name: node for node in found.model.graph.node for name in node.output}
    types = {t.name: t.data_type for t in found.model.graph.initializer}
    for node in found.model.graph.node:
        if node.op_type == "Conv" and node.name in found.integer:
            assert {made[name].op_type for name in node.input} == {"DequantizeLinear"}
            kinds = [types[made[name].input[0]] for name in node.input[1:]]
            assert kinds == [onnx.TensorProto.INT8, onnx.TensorProto.INT32][: len(kinds)]
    (logits,) = (node.input[0] for node in found.model.graph.node if node.op_type == "ArgMax")
    assert made[logits].op_type != "DequantizeLinear"
    assert (labels(found.model, image) == labels(model, image)).mean() > 0.9
    with pytest.raises(OptionError, match="the model is int8 already: convert the FP32 file"):
        quantized_tensors(found.model)


@pytest.mark.parametrize("name", sorted({card.network for card in CARDS}))
def test_every_architecture_is_computed_in_integers(name):
    card = next(card for card in CARDS if card.network == name)
    spec = small_spec(card, tile_px=64, margin_px=16)
    whole = build_graph(LabelNetwork(random_network(card), spec), spec)
    model = spell_out_transposed(crop_context(fold_upsampling(whole)))
    shape = (2, card.band_count, 64, 64)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = quantized(model, image)
    assert len(found.integer) >= len(found.kept_fp32)
    assert (labels(found.model, image) == labels(model, image)).mean() > 0.7
    assert gflop_per_tile(found.model) == pytest.approx(gflop_per_tile(model))


def test_nothing_wide_is_refused(tiny_path):
    with pytest.raises(OptionError, match="no convolution of the model has 64 channels on both"):
        quantized_tensors(onnx.load(tiny_path))


@pytest.fixture
def full(rgb_file, tmp_path, wide, monkeypatch):
    """An exported FP32 file with a wide convolution."""
    monkeypatch.setattr(flair_export.network.checkpoint, "load_network", lambda *_: wide)
    path = tmp_path / "model.onnx"
    arguments = [str(rgb_file), "-o", str(path), "--tile", "32", "--margin", "8"]
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def image(make_raster):
    return str(make_raster(bands=3)[0])


def test_the_command_measures_converts_and_keeps_the_agreement(
    full, image, tmp_path, capsys, make_raster
):
    output = tmp_path / "model.int8.onnx"
    second = str(make_raster("second.tif", bands=3)[0])
    main([str(full), "--precision", "int8", "-o", str(output), "--calibrate", image, second,
          "--verify", image])  # fmt: skip
    shown = capsys.readouterr().out
    for part in (
        "Labels of INT8 against FP32",
        "calibration images, other tiles",
        "tiles of 1 image)",
        "ranges measured on ",
        "tiles of 2 images",
        "1 of 3 convolutions compute in INT8, in FP32 stay:",
        f"Next: flair-run -m {output}",
    ):
        assert " ".join(part.split()) in " ".join(shown.replace("│", " ").split())
    spec = read_model_spec(output)
    assert spec.precision == "int8"
    assert 0.99 <= spec.agreement_fp32 <= 1
    main(["inspect", str(output)])
    assert f"labels of FP32   {spec.agreement_fp32:.2%} on the images it was made with" in (
        capsys.readouterr().out
    )


def test_a_checkpoint_is_exported_proven_and_converted(
    rgb_file, wide, monkeypatch, image, tmp_path
):
    monkeypatch.setattr(flair_export.network.checkpoint, "load_network", lambda *_: wide)
    output = tmp_path / "int8.onnx"
    arguments = [str(rgb_file), "--precision", "int8", "-o", str(output), "--tile", "32",
                 "--margin", "8", "--calibrate", image]  # fmt: skip
    before = listing(tmp_path)
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    assert "Labels of the ONNX file against PyTorch" in result.output
    assert "Labels of INT8 against FP32" in result.output
    assert listing(tmp_path) == sorted([*before, "int8.onnx"])


def test_too_few_equal_labels_leave_no_file(full, image, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(integers, "LEAST", 1.01)
    with pytest.raises(SystemExit) as caught:
        main([str(full), "--precision", "int8", "-o", str(tmp_path / "i.onnx"),
              "--calibrate", image])  # fmt: skip
    assert caught.value.code == 1
    assert "of labels of the INT8 file agree with FP32, at least 101% have to" in (
        capsys.readouterr().err
    )
    assert "i.onnx" not in listing(tmp_path)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_full_disk_is_one_line(full, image, precision, tmp_path, monkeypatch, capsys):
    def full_disk(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    calibrate = ["--calibrate", image] if precision == "int8" else []
    before = listing(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main([str(full), "--precision", precision, "-o", str(tmp_path / "x.onnx"), *calibrate])
    assert caught.value.code == 1
    assert "bytes cannot be written ([Errno 28] No space left" in capsys.readouterr().err
    assert listing(tmp_path) == before


def test_converting_needs_no_torch(full, image, tmp_path):
    probe = (
        "import sys; from pathlib import Path; from flair_export import ExportOptions, export_int8;"
        f"options = ExportOptions(calibrate=(Path({image!r}),));"
        f"export_int8({str(full)!r}, {str(tmp_path / 'i.onnx')!r}, options);"
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "False\n"


def test_tiles_are_measured_or_compared_never_both(make_raster, rgb, monkeypatch):
    monkeypatch.setattr(samples, "CALIBRATION_PX", 3 * 32**2)
    paths = [make_raster(height=160, width=160, bands=3)[0]]
    measured, others = (
        [tile.image.tobytes() for tile in source.tiles]
        for source in samples.calibration(small_spec(rgb), paths)
    )
    assert len(measured) == len(others) == 3
    assert not set(measured) & set(others)


@pytest.mark.parametrize(
    ("precision", "arguments", "message"),
    [
        ("int8", [], "precision int8 has to measure images like those to be mapped"),
        ("fp16", ["--calibrate", "a.tif"], "--calibrate is for --precision int8, not fp16"),
        ("int8", ["--calibrate", "no.tif"], "no.tif: cannot be opened as an image"),
        ("int8", ["--calibrate", "small.tif"], "small.tif: holds one tile of 32 px; calibration"),
    ],
)
@pytest.mark.parametrize("source", ["model.onnx", "checkpoint"])
def test_what_cannot_be_done_is_one_line(
    source, precision, arguments, message, full, rgb_file, tmp_path, make_raster, capsys,
    monkeypatch,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    make_raster("small.tif", height=16, width=16, bands=3)
    given_ = [str(rgb_file if source == "checkpoint" else full), "--precision", precision,
              "--tile", "32", "--margin", "8", "-o", "new.onnx"]  # fmt: skip
    before = listing(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main([*given_, *arguments])
    stderr = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in stderr
    assert stderr.count("\n") == 1
    assert listing(tmp_path) == before


def test_names_after_an_option_belong_to_it():
    from flair_export.cli import _spread

    given_ = ["m", "--calibrate", "a", "b", "--verify", "c", "d", "-o", "x"]
    assert _spread(given_) == [
        "m", "--calibrate", "a", "--calibrate", "b", "--verify", "c", "--verify", "d", "-o", "x",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [0, 1e-44, 1e-30])
def test_a_dead_channel_keeps_its_bias(size):
    kernel = np.full((1, 64, 3, 3), size, np.float32)
    weights, bias, scales = rounded_weights(kernel, np.array([-0.25], np.float32), 0.02)
    assert not weights.any()
    assert bias * scales * 0.02 == pytest.approx(-0.25)


def test_the_scale_of_a_tensor_that_never_moves():
    assert scale_and_zero(0.0, 0.0) == (1.0, 0)
    assert numpy_helper.from_array(np.asarray(scale_and_zero(-1, 1)[0])).dims == []
