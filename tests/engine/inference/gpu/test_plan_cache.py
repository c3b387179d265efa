import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from flair_engine.errors import EngineError
from flair_engine.inference.gpu import plan_cache
from flair_engine.inference.gpu.plan_cache import CachedPlan, PlanCache, PlanKey, default_folder

KEY = PlanKey(
    onnx_sha256="a" * 64, tensorrt="10.4.0", gpu="NVIDIA A", compute_capability="8.0",
    multiprocessors=108, profile="image 8x5x512x512", flags="strongly typed",
)  # fmt: skip


@pytest.fixture
def cache(tmp_path):
    return PlanCache(tmp_path / "plans")


def test_what_was_stored_is_found(cache):
    path = cache.store(KEY, b"plan", {"share": 1.0})
    assert cache.find(KEY) == CachedPlan(plan=b"plan", facts={"share": 1.0})
    assert path.read_bytes() == b"plan"
    assert sorted(file.suffix for file in cache.folder.iterdir()) == [".json", ".plan"]
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("field", PlanKey.__dataclass_fields__)
def test_every_field_of_the_key_counts(cache, field):
    cache.store(KEY, b"plan", {})
    other = replace(KEY, **{field: 1 if field == "multiprocessors" else "other"})
    why = cache.find(other)
    if field == "onnx_sha256":
        assert why == "there is none yet"
    else:
        assert f"there is one with {field} {getattr(KEY, field)} instead of" in why


def test_a_truncated_plan(cache):
    path = cache.store(KEY, b"a plan of some length", {})
    path.write_bytes(b"a plan of")
    assert "is truncated or changed (SHA-256 differs)" in cache.find(KEY)


def test_a_plan_that_is_gone(cache):
    cache.store(KEY, b"plan", {}).unlink()
    assert "has no plan beside it" in cache.find(KEY)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"key": 3, "plan_sha256": 1, "facts": 1}']
)
def test_a_damaged_sidecar(cache, content):
    cache.store(KEY, b"plan", {}).with_suffix(".json").write_text(content)
    assert "is damaged" in cache.find(KEY)
    assert cache.find(replace(KEY, gpu="other")) == "there is none yet"


def test_a_renamed_pair_is_not_taken_for_another_plan(cache):
    path = cache.store(KEY, b"plan", {})
    other = replace(KEY, gpu="NVIDIA B")
    for suffix in (".json", ".plan"):
        path.with_suffix(suffix).rename(cache.folder / f"{other.digest}{suffix}")
    assert "is of another plan (gpu NVIDIA A instead of NVIDIA B)" in cache.find(other)


def test_a_folder_of_somebody_else(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(EngineError, match=r"belongs to user \d+, not to you .*--plan-cache"):
        PlanCache(tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_others_can_write_to(tmp_path, mode):
    tmp_path.chmod(mode)
    with pytest.raises(EngineError, match=rf"others can write to it \(mode {mode:o}\).*chmod go-w"):
        PlanCache(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="the folder for plans cannot be made .*--plan-cache"):
        PlanCache(tmp_path / "file" / "plans")


def test_a_read_only_folder_serves_and_refuses_a_new_plan(cache, monkeypatch):
    cache.store(KEY, b"plan", {})

    def refuse(*_args, **_kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(plan_cache.tempfile, "mkstemp", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", lambda path: os.read(os.open(path, os.O_RDONLY), 9999))
    assert isinstance(cache.find(KEY), CachedPlan)
    with pytest.raises(
        EngineError, match=r"cannot be kept there \(Read-only file system\)\. Give a"
    ):
        cache.store(KEY, b"plan", {})
    with pytest.raises(EngineError, match="Read-only"), cache.locked(KEY, lambda: None):
        pass


def test_a_write_that_fails_leaves_the_old_plan(cache, monkeypatch):
    cache.store(KEY, b"old", {})
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(EngineError, match="No space left"):
        cache.store(KEY, b"new", {})
    assert cache.find(KEY).plan == b"old"
    assert not list(cache.folder.glob(".writing-*"))


HOLD = """
import sys, time
from pathlib import Path
from flair_engine.inference.gpu.plan_cache import PlanCache, PlanKey

cache = PlanCache(Path(sys.argv[1]))
key = PlanKey(**eval(sys.argv[2]))
with cache.locked(key, lambda: None):
    (cache.folder / "held").touch()
    while not (cache.folder / "release").exists():
        time.sleep(0.01)
    cache.store(key, b"plan", {})
"""


def test_a_second_builder_waits_says_so_and_finds_the_plan(cache):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(cache.folder), repr(asdict(KEY))])
    deadline = time.monotonic() + 30
    while not (cache.folder / "held").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cache.find(KEY) == "there is none yet"
    said = []

    def waiting():
        said.append("waiting")
        (cache.folder / "release").touch()

    with cache.locked(KEY, waiting):
        assert said == ["waiting"]
        assert cache.find(KEY).plan == b"plan"
    assert other.wait(10) == 0


def test_the_default_folder_follows_the_specification(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "flair-engine" / "plans"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "flair-engine" / "plans"


def test_the_sidecar_can_be_read(cache):
    path = cache.store(KEY, b"plan", {"built_s": 3.5})
    description = json.loads(path.with_suffix(".json").read_text())
    assert description["key"]["gpu"] == "NVIDIA A"
    assert len(description["plan_sha256"]) == 64
    assert description["facts"] == {"built_s": 3.5}
