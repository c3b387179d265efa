"""The engine of a territory: what the plan has chosen and judged, every part has or refuses."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from doubles.territory import CPU, labels_of, put_together

from flair_engine import Model, RunOptions, segment
from flair_engine.agreement import LabelDifference
from flair_engine.errors import EngineError, WriteError
from flair_engine.inference import choose, fp32_check, judged_bf16
from flair_engine.mapping.published import sha256_of
from flair_engine.provenance import EngineFacts
from flair_engine.territory.engine import ENGINE_FILE, check_engine
from flair_engine.territory.part import Worker, run_part, run_parts
from flair_engine.territory.plan import plan
from flair_engine.territory.plan_file import read_plan
from flair_engine.territory.state import states

AUTO = RunOptions(threads=1)


@pytest.fixture
def bf16_cpu(monkeypatch):
    """A CPU with bf16, which OpenVINO imitates where it has none, and no GPU."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(choose, "_ALL_PLACES", [p for p in choose._ALL_PLACES if p.device == "cpu"])
    for module in ("judged_bf16", "open_vino"):
        monkeypatch.setattr(f"flair_engine.inference.{module}.check_bf16", lambda core: None)
    for module in (fp32_check, judged_bf16):
        monkeypatch.setattr(module, "COMPARED_PIXELS", 512)


@pytest.fixture
def differ(monkeypatch):
    """Let so many of 10,000 compared labels differ."""

    def differ(different):
        found = LabelDifference(pixels=10_000, different=different, lower=different // 2)
        monkeypatch.setattr(fp32_check, "difference_of", lambda *_: found)

    return differ


@pytest.mark.usefixtures("bf16_cpu")
@pytest.mark.parametrize(("at_plan", "later", "precision"), [(0, 900, "bf16"), (900, 0, "fp32")])
def test_auto_is_chosen_and_judged_once_for_all_parts(
    territory, tiny_path, tmp_path, differ, nothing_kept, at_plan, later, precision
):
    differ(at_plan)
    row = str(territory.tiles / "t0*.tif")
    made = plan(tiny_path, row, tmp_path / "job", AUTO, part_px=512)
    assert len(made.parts) == 4
    expected = RunOptions(engine="openvino", device="cpu", precision=precision, batch=1, threads=1)
    assert made.run == read_plan(made.folder).run == expected
    assert made.engine.precision == precision
    # What bf16 is judged on, and what is kept of that, is another for each part.
    differ(later)
    records = []
    for part in made.parts:
        shutil.rmtree(nothing_kept, ignore_errors=True)
        records.append(run_part(made, part.id))
    assert {EngineFacts(identity=r.engine, precision=r.precision, batch=r.batch)
            for r in records} == {made.engine}  # fmt: skip
    segment(tiny_path, row, tmp_path / "whole.tif", expected)
    assert (put_together(made) == labels_of(tmp_path / "whole.tif")).all()
    # Planned again with what it has settled it is the same.
    assert plan(tiny_path, row, made.folder, made.run, part_px=512) == made


@pytest.mark.usefixtures("bf16_cpu")
def test_a_machine_without_the_planned_precision_is_refused(
    territory, tiny_path, tmp_path, differ, monkeypatch
):
    differ(0)
    made = plan(tiny_path, territory.tiles, tmp_path / "job", AUTO, part_px=1024)

    def no_bf16(_core):
        raise EngineError("this CPU computes FP32 only", "use --precision fp32")

    monkeypatch.setattr("flair_engine.inference.open_vino.check_bf16", no_bf16)
    with Worker(made) as worker, pytest.raises(EngineError, match="this CPU computes FP32 only"):
        list(run_parts(worker, made.parts))
    assert {state.name for state in states(made)} == {"missing"}


def test_a_model_loaded_otherwise_is_refused(planned, territory):
    made = planned()
    match = r"all parts are for .*\(fp32, batch 2\), this process has .*\(fp32, batch 3\): use mac"
    with (
        Model(territory.model, replace(CPU, batch=3)) as other,
        pytest.raises(EngineError, match=match),
    ):
        run_part(made, made.parts[0].id, model=other)
    assert states(made)[0].name == "missing"


GPU = RunOptions(engine="trt", threads=1, batch=8)


@pytest.fixture
def away_from_gpu(monkeypatch):
    """A machine where jobs are planned and no GPU is."""
    monkeypatch.setattr("flair_engine.territory.engine.has_nvidia_driver", lambda: False)


@pytest.mark.usefixtures("away_from_gpu")
def test_away_from_the_gpu_the_first_part_says_what_it_is(territory, tmp_path):
    said = []
    made = plan(territory.model, territory.tiles, tmp_path / "job", GPU, notify=said.append)
    assert (made.run, made.engine) == (GPU, None)
    assert said == ["engine trt: no GPU is here, the first part says what it is"]
    first, other = (
        SimpleNamespace(identity=name, precision="fp16", batch=8) for name in ("A100", "V100")
    )
    check_engine(made, first)
    check_engine(made, first)
    with pytest.raises(EngineError, match="all parts are for A100.*this process has V100"):
        check_engine(made, other)
    (made.folder / ENGINE_FILE).write_text("{")
    with pytest.raises(WriteError, match="engine.json: cannot be used .*: delete it"):
        check_engine(made, first)


@pytest.mark.usefixtures("away_from_gpu")
def test_away_from_the_gpu_the_batch_has_to_be_given(territory, tmp_path):
    run = replace(GPU, batch=None)
    with pytest.raises(EngineError, match="no GPU is on this machine to settle the batch of all"):
        plan(territory.model, territory.tiles, tmp_path / "job", run)


def test_a_tensorrt_plan_is_built_once_for_all_parts(
    territory, fp16_path, tmp_path, one_machine, monkeypatch
):
    """It lies in the job's folder, whoever owns that and wherever it is mounted."""
    row = str(territory.tiles / "t0[0-2].tif")
    for module in ("engine", "plan"):
        monkeypatch.setattr(f"flair_engine.territory.{module}.has_nvidia_driver", lambda: True)
    run = RunOptions(engine="trt", threads=1, batch=3)
    made = plan(fp16_path, row, tmp_path / "job", run, part_px=512)
    (kept,) = (made.folder / "plans").glob("*.plan")
    assert made.run.plan_sha256 == sha256_of(kept)
    assert json.loads((made.folder / "plan.json").read_text())["run"]["plan_cache"] == "plans"
    moved = read_plan(made.folder.rename(tmp_path / "mounted"))
    for path in (moved.folder / "plans", *(moved.folder / "plans").iterdir()):
        path.chmod(0o777)  # a group's: what is there are the bytes of the plan, or it is refused
    records = [run_part(moved, part.id) for part in moved.parts[:1]]
    assert {r.engine for r in records} == {made.engine.identity}
    assert one_machine.builds == 1
    (kept,) = (moved.folder / "plans").glob("*.plan")
    kept.write_bytes(kept.read_bytes() + b" ")
    with pytest.raises(EngineError, match="the TensorRT plan of all parts is not to be had in .*"
                       "another plan than that of the job"):  # fmt: skip
        run_part(moved, moved.parts[-1].id)
    assert one_machine.builds == 1
