from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from doubles import fake_tensorrt
from doubles.networks import random_network, small_spec
from doubles.paths import listing
from onnx import TensorProto, helper, numpy_helper

from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME, read_model_spec, spec_of
from flair_export.cli import export_command, main
from flair_export.convert import fp16 as half
from flair_export.convert.fp16 import convert_to_fp16
from flair_export.convert.fp16_graph import casts, largest_activations, to_fp16
from flair_export.errors import ExportError, OptionError
from flair_export.network.modules import LabelNetwork
from flair_export.network.trace import build_graph

HEAD, TAIL = ["FLOAT", "FLOAT16"], ["FLOAT", "UINT8"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tile():
    return np.random.default_rng(4).integers(0, 256, (1, 2, 32, 32), dtype=np.uint8)


def gained(path, first: float, second: float):
    """Return the golden model with two more layers that multiply and divide its sums."""
    model = onnx.load(path)
    for name, gain in (("up", first), ("down", second)):
        kernel = np.eye(2, dtype=np.float32)[:, :, None, None] * np.float32(gain)
        model.graph.initializer.append(numpy_helper.from_array(kernel, f"{name}.weight"))
    cast, convolution, *rest = [onnx.NodeProto.FromString(n.SerializeToString())
                                for n in model.graph.node]  # fmt: skip
    rest[0].input[0] = "low"
    added = [
        helper.make_node("Conv", ["sums", "up.weight"], ["high"], name="up"),
        helper.make_node("Relu", ["high"], ["kept"], name="relu"),
        helper.make_node("Conv", ["kept", "down.weight"], ["low"], name="down"),
    ]
    del model.graph.node[:]
    model.graph.node.extend([cast, convolution, *added, *rest])
    return model


def labels(model, tile):
    return open_session(model.SerializeToString()).run(["labels"], {INPUT_NAME: tile})[0]


@pytest.mark.parametrize("outputs", [("labels",), ("labels", "confidence", "probabilities")])
def test_a_resnet_has_the_casts_of_the_design_and_no_others(rgb, outputs):
    spec = small_spec(rgb, outputs, tile_px=64, margin_px=16)
    model = build_graph(LabelNetwork(random_network(rgb), spec), spec)
    converted = to_fp16(model)
    assert converted.kept_fp32 == ()
    found = casts(converted.model)
    assert found[:2] == HEAD
    if outputs == ("labels",):
        assert found == HEAD + TAIL
    else:  # the softmax is FP32, so the logits come to it through one Cast more
        assert sorted(found[2:]) == ["FLOAT", "FLOAT", "UINT8", "UINT8", "UINT8"]
    assert spec_of(converted.model, "half") == replace(spec, precision="fp16")
    types = {t.name: t.data_type for t in converted.model.graph.initializer}
    for node in converted.model.graph.node:
        if node.op_type == "Resize":
            assert types[node.input[2]] == TensorProto.FLOAT
        if node.op_type == "Conv":
            assert {types[name] for name in node.input[1:]} == {TensorProto.FLOAT16}
        if node.op_type in ("Sub", "Div"):
            assert types[node.input[1]] == TensorProto.FLOAT


def test_the_network_gives_nearly_the_labels_of_fp32(rgb):
    spec = small_spec(rgb, tile_px=64, margin_px=16)
    model = build_graph(LabelNetwork(random_network(rgb), spec), spec)
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    assert (labels(model, image) == labels(to_fp16(model).model, image)).mean() > 0.98


def test_activations_are_measured_over_all_tiles(tiny_path, tile):
    model = gained(tiny_path, 100.0, 0.01)
    quiet = np.zeros_like(tile[0])
    largest = largest_activations(model, [quiet, tile[0]])
    assert largest["pixels"] == tile.max()
    assert largest["high"] == pytest.approx(100 * largest["sums"])
    assert largest_activations(model, [quiet])["high"] == 0


def test_layers_that_overflow_are_bracketed_and_listed(tiny_path, tile):
    model = gained(tiny_path, 100.0, 0.01)
    largest = largest_activations(model, tile)
    assert largest["high"] > 65504
    converted = to_fp16(model, largest)
    assert converted.kept_fp32 == ("up", "relu", "down")
    assert casts(converted.model) == [*HEAD, "FLOAT", "FLOAT16", *TAIL]
    expected = labels(model, tile)
    assert (labels(converted.model, tile) == expected).mean() > 0.95
    narrow = to_fp16(model)
    assert casts(narrow.model) == HEAD + TAIL
    assert narrow.kept_fp32 == ()


def test_headroom_is_left_for_images_that_were_not_measured(tiny_path):
    model = gained(tiny_path, 1.0, 1.0)
    assert to_fp16(model, {"high": 65504 / 4}).kept_fp32 == ()
    assert to_fp16(model, {"high": 65504 / 3.9}).kept_fp32 == ("up", "relu")


def test_weights_that_fp16_cannot_hold_stay(tiny_path, tile):
    model = gained(tiny_path, 1e5, 1e-5)
    converted = to_fp16(model)
    assert converted.kept_fp32 == ("up",)
    values = {t.name: numpy_helper.to_array(t) for t in converted.model.graph.initializer}
    assert values["up.weight"].max() == 1e5
    assert not any(np.isinf(value).any() for value in values.values())


def test_what_is_fp16_already_is_refused(fp16_model):
    with pytest.raises(OptionError, match="the model is fp16 already: convert the FP32 file"):
        to_fp16(fp16_model)


@pytest.fixture
def fp16_model(tiny_path):
    return to_fp16(onnx.load(tiny_path)).model


def test_numbers_that_are_undefined_are_refused(tiny_path, tile):
    with pytest.raises(ExportError, match="infinite or undefined numbers already in FP32"):
        largest_activations(gained(tiny_path, np.inf, 0.0), tile)


@pytest.fixture
def full(rgb_file, tmp_path, quick):
    path = tmp_path / "model.onnx"
    arguments = [str(rgb_file), "-o", str(path), "--tile", "32", "--margin", "8"]
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    return path


def test_the_command_halves_a_model(full, tmp_path, make_raster):
    output = tmp_path / "model.fp16.onnx"
    image = str(make_raster(bands=3)[0])
    arguments = [str(full), "--precision", "fp16", "-o", str(output), "--verify", image]
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    for part in (
        "weights only: a CPU computes in FP32",
        "tiles of 1 image",
        "where FP16 ends at 65,504",
        "layers kept in FP32 between Casts: none",
        f"Next: flair-run -m {output}",
    ):
        assert part in result.output
    assert read_model_spec(output).precision == "fp16"


def test_a_checkpoint_is_exported_proven_and_halved(rgb_file, tmp_path, quick):
    output = tmp_path / "half.onnx"
    arguments = [str(rgb_file), "--precision", "fp16", "-o", str(output), "--tile", "32",
                 "--margin", "8"]  # fmt: skip
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    assert "Labels of the ONNX file against PyTorch" in result.output
    assert "Labels of FP16 against FP32" in result.output
    assert read_model_spec(output).precision == "fp16"
    assert listing(tmp_path) == ["half.onnx"]


def test_too_few_equal_labels_leave_no_file(full, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(half, "LEAST", 1.01)
    with pytest.raises(SystemExit) as caught:
        main([str(full), "--precision", "fp16", "-o", str(tmp_path / "h.onnx")])
    assert caught.value.code == 1
    assert "of labels of the FP16 file agree with FP32, at least 101.0% have" in (
        capsys.readouterr().err
    )
    assert "h.onnx" not in listing(tmp_path)


def test_halving_needs_no_torch(full, tmp_path):
    probe = (
        "import sys; from pathlib import Path; from flair_export import export_fp16;"
        f"export_fp16({str(full)!r}, {str(tmp_path / 'h.onnx')!r});"
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.onnx", "-o", "x.onnx"], "model.onnx: is exported already: add --precision fp16"),
        (["w.pth", "--engine", "trt"], "flair-export w.pth --precision fp16 -o model.fp16.onnx"),
        (["w.pth"], "Missing option '-o' / '--output'"),
        (["model.onnx", "--precision", "fp16", "-o", "no/x.onnx"], "no/x.onnx: its folder does"),
        (["absent.onnx", "--precision", "fp16", "-o", "x.onnx"], "absent.onnx: no such model file"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    stderr = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("release", fake_tensorrt.RELEASES)
@pytest.mark.parametrize("with_image", [False, True])
def test_a_plan_is_built_ahead(release, with_image, full, tmp_path, monkeypatch, make_raster):
    machine = fake_tensorrt.Machine(release).install(monkeypatch)
    output = tmp_path / "half.onnx"
    convert_to_fp16(full, output)
    arguments = [str(output), "--engine", "trt", "--batch", "2",
                 "--plan-cache", str(tmp_path / "plans")]  # fmt: skip
    if with_image:
        arguments += ["--verify", str(make_raster(bands=3)[0])]
    for _ in range(2):
        result = CliRunner().invoke(export_command, arguments)
        assert result.exit_code == 0, result.output
    assert f"The plan for TensorRT {release} on NVIDIA Stand-in (cuda:0), plan " in result.output
    assert machine.builds == 1
    assert not machine.memory
    (sidecar,) = (tmp_path / "plans").glob("*.json")
    assert ('"origin": "images"' if with_image else '"origin": "noise"') in sidecar.read_text()
