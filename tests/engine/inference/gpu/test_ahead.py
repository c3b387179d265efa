"""Plans that were built where no GPU is, on GPUs they are for and others."""

import json
import os
import stat
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from doubles import fake_tensorrt

from flair_engine import RunOptions, segment
from flair_engine.cli import command
from flair_engine.errors import EngineError, OutputError
from flair_engine.inference.gpu.ahead import AheadKey, AheadPlan, sidecar_of, write_ahead
from flair_engine.inference.gpu.plan import PlanOptions, build_plan, flags_text, profile_text
from flair_engine.manifest import read_model_spec
from flair_engine.model_file import model_sha256

BATCH = 3


@pytest.fixture
def rtx(monkeypatch):
    """A host with an RTX card."""
    return fake_tensorrt.Machine(fake_tensorrt.RTX).install(monkeypatch)


@pytest.fixture
def plan(rtx, fp16_path, tmp_path):
    """A plan built ahead for two kinds of cards."""
    spec = read_model_spec(fp16_path)
    told = PlanOptions(batch=BATCH, precision="fp16", capabilities=("7.5", "8.9"))
    built = build_plan(rtx.tensorrt, fp16_path.read_bytes(), spec, told)
    rtx.builds = 0
    ahead = AheadPlan(
        path=tmp_path / "model.plan",
        plan=built.plan,
        key=AheadKey(
            onnx_sha256=model_sha256(fp16_path),
            library="tensorrt_rtx",
            tensorrt=fake_tensorrt.RTX,
            compute_capabilities=told.capabilities,
            profile=profile_text(spec, BATCH),
            flags=flags_text(rtx.tensorrt, told),
        ),
        built_s=0.5,
    )
    write_ahead(ahead)
    return ahead.path


def rewritten(plan, **changes):
    """Change fields of the key in a sidecar."""
    sidecar = sidecar_of(plan)
    description = json.loads(sidecar.read_text())
    description["key"] |= changes
    sidecar.write_text(json.dumps(description))


def test_a_plan_is_judged_where_it_first_meets_a_gpu_and_then_no_more(
    rtx, plan, make_raster, fp16_path, tmp_path, expected_cross
):
    before = sidecar_of(plan).read_bytes()
    assert json.loads(before)["facts"] == {"built_s": 0.5, "agreement": "not judged"}
    path, image = make_raster(height=100, width=93)
    lines, plans = [], tmp_path / "plans"
    options = RunOptions(plan=plan, plan_cache=plans)  # of any engine the one that has plans
    for name in ("one.tif", "two.tif"):
        lines.append([])
        report = segment(fp16_path, [path], tmp_path / name, options, notify=lines[-1].append)
        with rasterio.open(tmp_path / name) as dataset:
            assert (dataset.read(1) == expected_cross(image)).all()
        assert (report.engine, report.batch, report.agreement_fp32) == ("trt", BATCH, 1.0)
    judged = f"{plan}: 100.000% of labels agree with FP32 on 16 tiles of images"
    assert [any(judged in line for line in said) for said in lines] == [True, False]
    assert rtx.builds == 0
    assert not list(plans.glob("*.plan"))
    (kept,) = plans.glob("*.json")
    assert json.loads(kept.read_text())["facts"]["origin"] == "images"
    assert sidecar_of(plan).read_bytes() == before


def test_a_plan_is_compiled_once_for_a_card_and_driver(rtx, plan, ask):
    for expected in (1, 1):
        ask(plan=plan).close()
        assert rtx.compilations == expected
    rtx.driver_cuda += 10
    for expected in (2, 2):
        ask(plan=plan).close()
        assert rtx.compilations == expected
    rtx.capability = (7, 5)
    ask(plan=plan).close()
    assert rtx.compilations == 3
    assert len(list(ask.folder.glob("*.compiled"))) == 2
    assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in ask.folder.glob("*.compiled"))


def test_a_plan_built_on_the_gpu_is_compiled_once_too(rtx, ask):
    for _ in range(2):
        ask().close()
    assert (rtx.builds, rtx.compilations) == (1, 1)


def test_what_was_compiled_and_cannot_be_kept_stops_nothing(rtx, plan, ask, monkeypatch):
    really = os.open

    def full(path, flags, *more, **named):
        if flags & os.O_CREAT and ".compiled" in str(path):
            raise OSError(28, "No space left on device")
        return really(path, flags, *more, **named)

    monkeypatch.setattr("os.open", full)
    ask(plan=plan).close()
    assert any(line.startswith("what was compiled is not kept: ") for line in ask.lines)
    rtx.fail.add("serialize_compiled")
    ask(plan=plan).close()


def test_without_images_it_is_judged_on_noise_and_again_on_images(rtx, plan, ask):
    ask(plan=plan).close()
    assert "on 4 tiles of noise" in ask.lines[-1]
    ask.lines.clear()
    ask(plan=plan).close()
    assert ask.lines == []
    tiles = [np.full((2, 32, 32), value, np.uint8) for value in range(16)]
    ask(plan=plan, samples=lambda count: tiles[:count]).close()
    assert "on 16 tiles of images" in ask.lines[-1]


def test_another_plan_of_the_same_kind_is_judged_by_itself(rtx, plan, ask):
    ask(plan=plan).close()
    content = plan.read_bytes().replace(b'"cards"', b' "cards"')
    from hashlib import sha256

    plan.write_bytes(content)
    description = json.loads(sidecar_of(plan).read_text())
    description["plan_sha256"] = sha256(content).hexdigest()
    sidecar_of(plan).write_text(json.dumps(description))
    ask.lines.clear()
    ask(plan=plan).close()
    assert "of labels agree with FP32" in ask.lines[-1]


def test_a_plan_that_answers_otherwise_is_refused(rtx, plan, ask):
    rtx.spoil = lambda labels: np.where(labels == 3, 2, labels)
    with pytest.raises(EngineError, match="the TensorRT plan of tiny: .* so it is refused"):
        ask(plan=plan)
    assert not list(ask.folder.glob("*.json"))


REFUSED = {
    "another card": (
        lambda rtx, plan: setattr(rtx, "capability", (8, 6)),
        {},
        (
            r"model.plan: is for compute capability 7.5, 8.9, NVIDIA Stand-in has 8.6: build it "
            r"again with flair-export --engine trt --for, or leave out --plan$"
        ),
    ),
    "another release": (
        lambda rtx, plan: rewritten(plan, tensorrt="1.6.0.99"),
        {},
        (
            r"model.plan: was built by TensorRT for RTX 1.6.0.99, TensorRT for RTX 1.7.1.116 is "
            r"installed: install that release, or build it again"
        ),
    ),
    "another library": (
        lambda rtx, plan: rewritten(plan, library="tensorrt"),
        {},
        r"TensorRT is not installed: run pip install 'flair-engine\[trt\]'",
    ),
    "another model": (
        lambda rtx, plan: rewritten(plan, onnx_sha256="ab" * 32),
        {},
        r"model.plan: is of a model file of SHA-256 abababababab, that of \S+ is \w{12}: give that",
    ),
    "another shape": (
        lambda rtx, plan: rewritten(plan, profile="image 3x2x64x64"),
        {},
        r"model.plan: is for batches of shape image 3x2x64x64, not image 3x2x32x32: leave out",
    ),
    "another batch": (
        lambda rtx, plan: None,
        {"batch": 4},
        r"3x2x32x32, not image 4x2x32x32: leave",
    ),
    "tactic sources": (
        lambda rtx, plan: None,
        {"tactic_sources": "-JIT_CONVOLUTIONS"},
        r"tactic sources say how a plan is built, \S+model.plan is built: leave one of them out",
    ),
    "another engine": (
        lambda rtx, plan: None,
        {"engine": "ort"},
        r"plan \S+model.plan is for engine trt, not ort: leave out one of the two",
    ),
    "another schema": (
        lambda rtx, plan: sidecar_of(plan).write_text('{"schema": 2}'),
        {},
        r"model.plan.json: is of schema 2, this version of flair-engine reads 3: build it again",
    ),
    "a damaged sidecar": (
        lambda rtx, plan: sidecar_of(plan).write_text('{"schema": 3, "key": [], "plan_sha256": 1}'),
        {},
        r"model.plan.json: is not what flair-export writes beside a plan: build it again",
    ),
    "a key of no library": (
        lambda rtx, plan: rewritten(plan, library="libtorch"),
        {},
        r"model.plan.json: is not what flair-export writes beside a plan",
    ),
    "a truncated plan": (
        lambda rtx, plan: plan.write_bytes(plan.read_bytes()[:-1]),
        {},
        r"model.plan: is truncated or changed .*: copy both files again",
    ),
    "no plan": (lambda rtx, plan: plan.unlink(), {}, r"model.plan: does not exist: give a .plan"),
    "no sidecar": (
        lambda rtx, plan: sidecar_of(plan).unlink(),
        {},
        r"model.plan.json: does not exist: give a .plan with its .plan.json beside it",
    ),
    "writable by others": (
        lambda rtx, plan: plan.chmod(0o666),
        {},
        r"model.plan can be written by others \(mode 666\), and plans can hold code: copy it as a",
    ),
    "refused by its header": (
        lambda rtx, plan: rtx.fail.update({"UNSUPPORTED_CC"}),
        {},
        r"model.plan: TensorRT for RTX 1.7.1.116 refuses it \(unsupported cc\): build it again",
    ),
    "an old driver, by its header": (
        lambda rtx, plan: rtx.fail.update({"OLD_CUDA_DRIVER"}),
        {},
        (
            r"RTX 1.7.1.116 cannot use the driver of NVIDIA Stand-in \(old cuda driver\): "
            r"install (a newer NVIDIA driver|NVIDIA driver 525 or newer), or use --engine ort$"
        ),
    ),
    "refused without a reason": (
        lambda rtx, plan: rtx.fail.update({"unexplained", "deserialize"}),
        {},
        r"model.plan: TensorRT for RTX 1.7.1.116 refuses it \(Serialization assertion failed",
    ),
    "less memory, by its header": (
        lambda rtx, plan: rtx.fail.update({"INSUFFICIENT_GPU_MEMORY"}),
        {},
        (
            r"model.plan: out of memory for 2 slots of 3 tiles: cuda:0: insufficient gpu memory: "
            r"give one built with --batch 1, or leave out --plan$"
        ),
    ),
    "less memory, once loaded": (
        lambda rtx, plan: setattr(rtx, "activations", 3 << 30),
        {},
        (
            r"model.plan: out of memory for 2 slots of 3 tiles: the plan takes 3.0 GiB for what is "
            r"between its layers, cuda:0 \(NVIDIA Stand-in\) has 1.0 GiB: give one built with "
            r"--batch 1"
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_plan_that_does_not_serve_is_refused_in_one_line(rtx, plan, ask, name):
    spoil, changes, line = REFUSED[name]
    spoil(rtx, plan)
    with pytest.raises(EngineError, match=line) as caught:
        ask(plan=plan, **{"batch": None, **changes})
    assert len(str(caught.value).splitlines()) == 1
    assert rtx.builds == 0


def test_too_little_memory_for_a_plan_that_is_built_here_names_a_batch(machine, ask):
    machine.activations = 3 << 30
    with pytest.raises(EngineError, match=r"takes 3.0 GiB .* has 1.0 GiB: try --batch 1$"):
        ask()


def test_the_command_takes_it_and_writes_over_it_never(
    rtx, plan, make_raster, fp16_path, tmp_path, monkeypatch
):
    monkeypatch.setenv("FLAIR_PLAN_CACHE", str(tmp_path / "plans"))
    raster, _ = make_raster(height=70, width=53)
    arguments = ["-m", str(fp16_path), "--plan", str(plan), str(raster)]
    done = CliRunner().invoke(command, [*arguments, str(tmp_path / "map.tif")])
    assert done.exit_code == 0, done.output
    assert "of labels agree with FP32 on" in done.stderr
    options = replace(RunOptions(plan=str(plan)), plan_cache=tmp_path / "plans")
    with pytest.raises(OutputError, match="model.plan"):
        segment(fp16_path, [raster], plan, options)
