"""Agreements that are kept: found again for what they belong to, and nothing else believed."""

import json
import stat
from dataclasses import asdict, replace

import pytest

from flair_engine.agreement import LabelDifference
from flair_engine.errors import EngineError
from flair_engine.inference import kept_agreement
from flair_engine.inference.kept_agreement import AgreementKey, MeasuredAgreement, find, keep

KEY = AgreementKey(
    onnx_sha256="a" * 64, version="0.1.0", runtime="OpenVINO 2026.4.1", cpu="AMD EPYC",
    capabilities="BF16 FP32", precision="bf16", batch=1, threads=2,
)  # fmt: skip
FOUND = MeasuredAgreement(
    difference=LabelDifference(pixels=2**18, different=900, lower=400),
    measured="2026-11-26T03:30:00+00:00",
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept"


def test_what_was_kept_is_found(folder):
    assert find(folder, KEY) is None
    keep(folder, KEY, FOUND)
    assert find(folder, KEY) == FOUND
    (path,) = folder.iterdir()
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == (KEY.name, 0o600)
    assert json.loads(path.read_text())["key"] == asdict(KEY)


@pytest.mark.parametrize("field", AgreementKey.__dataclass_fields__)
def test_every_field_of_the_key_counts(folder, field):
    keep(folder, KEY, FOUND)
    other = replace(KEY, **{field: 7 if field in ("batch", "threads") else "other"})
    assert find(folder, other) is None
    (folder / KEY.name).rename(folder / other.name)
    assert find(folder, other) is None


def change(content, **changes):
    return json.dumps({**json.loads(content), **changes})


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda text: "",
        lambda text: text[:-2],
        lambda text: "[]",
        lambda text: change(text, schema=2),
        lambda text: change(text, measured=None),
        lambda text: change(text, difference={"pixels": 1, "different": 2, "lower": 0}),
        lambda text: change(text, difference={"pixels": 8, "different": 2, "lower": 3}),
        lambda text: change(text, difference={"pixels": 8, "different": 2, "lower": -1}),
        lambda text: change(text, difference={"pixels": 8.5, "different": 2, "lower": 1}),
        lambda text: change(text, difference={"pixels": True, "different": 0, "lower": 0}),
        lambda text: change(text, difference={"share": 1}),
        lambda text: change(text, difference=[1, 2, 3]),
    ],
)
def test_a_damaged_file_is_not_believed(folder, spoilt):
    keep(folder, KEY, FOUND)
    path = folder / KEY.name
    path.write_text(spoilt(path.read_text()))
    assert find(folder, KEY) is None
    keep(folder, KEY, FOUND)
    assert find(folder, KEY) == FOUND


def test_a_file_that_others_may_write_is_not_believed(folder):
    keep(folder, KEY, FOUND)
    (folder / KEY.name).chmod(0o666)
    assert find(folder, KEY) is None


def test_a_link_is_not_followed(folder):
    keep(folder, KEY, FOUND)
    path = folder / KEY.name
    path.rename(folder / "elsewhere")
    path.symlink_to("elsewhere")
    assert find(folder, KEY) is None


def test_a_folder_that_others_may_write_is_not_believed(folder):
    keep(folder, KEY, FOUND)
    folder.chmod(0o777)
    assert find(folder, KEY) is None
    with pytest.raises(EngineError, match="others can write to it"):
        keep(folder, KEY, FOUND)


def test_where_nothing_can_be_kept(folder, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_agreement, "write_whole", full)
    with pytest.raises(EngineError, match=r"nothing can be kept there \(No space left"):
        keep(folder, KEY, FOUND)
