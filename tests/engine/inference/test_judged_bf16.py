"""bf16 that nobody asked for: taken where it is nearly FP32, and told where it is not."""

import numpy as np
import pytest

from flair_engine import Model, RunOptions, segment
from flair_engine.agreement import LabelDifference
from flair_engine.errors import DisagreementError, EngineError, ReadError
from flair_engine.inference import fp32_check, judged_bf16, kept_agreement
from flair_engine.inference.base import Request
from flair_engine.inference.judged_bf16 import open_judged_bf16
from flair_engine.inference.kept_agreement import MeasuredAgreement
from flair_engine.manifest import read_model_spec
from flair_engine.tolerances import UNASKED_EQUAL

pytest.importorskip("openvino")

COMPARED = 512  # two tiles of 16 px


@pytest.fixture(autouse=True)
def bf16_cpu(monkeypatch):
    """A CPU with bf16, which OpenVINO imitates where it has none."""
    for module in ("judged_bf16", "open_vino"):
        monkeypatch.setattr(f"flair_engine.inference.{module}.check_bf16", lambda core: None)
    for module in (fp32_check, judged_bf16):
        monkeypatch.setattr(module, "COMPARED_PIXELS", COMPARED)


@pytest.fixture
def differ(monkeypatch):
    """Let so many of the compared labels differ, so many of them lower."""

    def differ(different, lower=None, pixels=10_000):
        found = LabelDifference(
            pixels=pixels, different=different, lower=different // 2 if lower is None else lower
        )
        monkeypatch.setattr(fp32_check, "difference_of", lambda *_: found)

    return differ


@pytest.fixture
def request_of(tiny_path, tmp_path):
    def request_of(tiles=9, **changes):
        noise = np.random.default_rng(5).integers(1, 256, (tiles, 2, 32, 32), dtype=np.uint8)
        asked.clear()

        def samples(count):
            asked.append(count)
            return list(noise)

        fields = {"samples": samples, "plan_cache": tmp_path / "kept", **changes}
        return Request(model=tiny_path, spec=read_model_spec(tiny_path), **fields)

    request_of.asked = asked = []
    return request_of


def test_it_is_judged_once(request_of, differ):
    differ(50)  # 99.5 %
    backend = open_judged_bf16(request_of())
    assert backend.precision == "bf16"
    assert backend.difference_fp32.share == UNASKED_EQUAL
    assert request_of.asked == [judged_bf16.CANDIDATES * 2]
    assert backend.busy_s == {"infer": 0.0, "compare": 0.0}
    measured = backend.measured_fp32
    backend.close()
    again = open_judged_bf16(request_of())
    assert request_of.asked == []
    assert again.measured_fp32 == measured
    again.close()


@pytest.mark.parametrize(
    ("different", "lower", "pixels", "message"),
    [
        (51, 25, 10_000, "^99.49% of its labels are FP32's .*, at least 99.5% must be: ask"),
        (1001, 1001, 1_000_000, "^99.90% .*100% of the 1,001 labels .* they lean: ask"),
    ],
)
def test_what_differs_too_much_is_refused_now_and_later(
    request_of, differ, different, lower, pixels, message
):
    differ(different, lower, pixels)
    for asked in ([judged_bf16.CANDIDATES * 2], []):
        request = request_of()
        with pytest.raises(DisagreementError, match=message):
            open_judged_bf16(request)
        assert request_of.asked == asked


@pytest.mark.parametrize("tiles", [0, 2])
def test_few_tiles_are_not_worth_comparing(request_of, tiles):
    with pytest.raises(EngineError, match="on images as small takes as long as FP32 throughout"):
        open_judged_bf16(request_of(tiles=tiles))


def test_tiles_that_cannot_be_read_end_no_run(request_of):
    def unreadable(_count):
        raise ReadError("a.tif: block 3 cannot be decoded", "use --on-error skip")

    with pytest.raises(EngineError, match=r"cannot be read \(a.tif: block 3 cannot be decoded\)"):
        open_judged_bf16(request_of(samples=unreadable))


def test_without_images_there_is_nothing_to_judge_on(request_of):
    with pytest.raises(EngineError, match="no image to compare bf16 with FP32 on"):
        open_judged_bf16(request_of(samples=None))


def run(make_raster, tiny_path, tmp_path, name):
    path, _ = make_raster(height=90, width=90)
    options = RunOptions(device="cpu", plan_cache=tmp_path / "kept")
    return segment(tiny_path, [path], tmp_path / name, options)


def test_a_run_takes_bf16_by_itself(make_raster, tiny_path, tmp_path, differ):
    differ(0, pixels=256)
    report = run(make_raster, tiny_path, tmp_path, "map.tif")
    assert (report.engine, report.precision, report.agreement_fp32) == ("openvino", "bf16", 1.0)
    assert report.notices == (f"engine openvino: {report.description}",)


def test_a_run_falls_back_to_fp32_and_says_so(make_raster, tiny_path, tmp_path, differ):
    differ(100)
    for name in ("first.tif", "second.tif"):
        report = run(make_raster, tiny_path, tmp_path, name)
        assert (report.engine, report.precision, report.agreement_fp32) == (
            "openvino",
            "fp32",
            None,
        )
        (line,) = report.notices
        assert "; not openvino on cpu in bf16: 99.00% of its labels are FP32's (" in line


def test_a_model_without_images_is_exact(tiny_path, monkeypatch):
    found = MeasuredAgreement(difference=LabelDifference(pixels=1), measured="2026-01-01")
    monkeypatch.setattr(kept_agreement, "find", lambda *_: found)
    with Model(tiny_path, RunOptions(device="cpu")) as model:
        assert model._backend.precision == "fp32"
