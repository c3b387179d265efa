import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from flair_engine.agreement import Agreement
from flair_engine.errors import EngineError
from flair_engine.inference.gpu.plan_cache import (
    CachedPlan,
    NoPlan,
    PlanCache,
    PlanFacts,
    PlanKey,
)

KEY = PlanKey(
    onnx_sha256="a" * 64, library="tensorrt", tensorrt="10.4.0", gpu="NVIDIA A",
    compute_capability="8.0", multiprocessors=108, profile="image 8x5x512x512",
    flags="strongly typed",
)  # fmt: skip
AGREEMENT = Agreement(
    origin="images",
    tiles=2,
    pixels=8,
    different=2,
    lower=1,
    share_by_class={"first": 0.5, "third": 1.0},
)
FACTS = PlanFacts(built_s=3.5, agreement=AGREEMENT)


@pytest.fixture
def cache(tmp_path):
    return PlanCache(tmp_path / "plans")


def test_what_was_stored_is_found(cache):
    path = cache.store(KEY, b"plan", FACTS)
    assert cache.find(KEY) == CachedPlan(plan=b"plan", facts=FACTS)
    assert path.read_bytes() == b"plan"
    assert sorted(file.suffix for file in cache.folder.iterdir()) == [".json", ".plan"]
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("field", PlanKey.__dataclass_fields__)
def test_every_field_of_the_key_counts(cache, field):
    cache.store(KEY, b"plan", FACTS)
    other = replace(KEY, **{field: 1 if field == "multiprocessors" else "other"})
    why = cache.find(other).why
    if field == "onnx_sha256":
        assert why == "there is none yet"
    else:
        assert f"there is one with {field} {getattr(KEY, field)} instead of" in why


def test_a_truncated_plan(cache):
    path = cache.store(KEY, b"a plan of some length", FACTS)
    path.write_bytes(b"a plan of")
    assert "is truncated or changed (SHA-256 differs)" in cache.find(KEY).why


def test_a_plan_that_is_gone(cache):
    cache.store(KEY, b"plan", FACTS).unlink()
    assert "has no plan beside it" in cache.find(KEY).why


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"schema": 3}',
        '{"schema": 3, "key": 3, "plan_sha256": 1, "facts": 1}',
        '{"schema": 3, "key": {}, "plan_sha256": "", "facts": {"built_s": 1, "share": 1}}',
    ],
)
def test_a_damaged_sidecar(cache, content):
    cache.store(KEY, b"plan", FACTS).with_suffix(".json").write_text(content)
    assert "is damaged" in cache.find(KEY).why
    assert cache.find(replace(KEY, gpu="other")) == NoPlan(why="there is none yet")


@pytest.mark.parametrize("schema", [None, 0, 1, 2, "3"])
def test_a_sidecar_of_another_version_means_building_again(cache, schema):
    sidecar = cache.store(KEY, b"plan", FACTS).with_suffix(".json")
    description = json.loads(sidecar.read_text())
    del description["schema"]
    sidecar.write_text(json.dumps(description | ({} if schema is None else {"schema": schema})))
    assert "was made by another version of flair-engine" in cache.find(KEY).why
    cache.store(KEY, b"plan", FACTS)
    assert cache.find(KEY).plan == b"plan"


def test_a_renamed_pair_is_not_taken_for_another_plan(cache):
    path = cache.store(KEY, b"plan", FACTS)
    other = replace(KEY, gpu="NVIDIA B")
    for suffix in (".json", ".plan"):
        path.with_suffix(suffix).rename(cache.folder / f"{other.digest}{suffix}")
    assert "is of another plan (gpu NVIDIA A instead of NVIDIA B)" in cache.find(other).why


def test_a_folder_of_somebody_else(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1)
    os.chown(tmp_path, 2, -1)
    with pytest.raises(EngineError, match=r"belongs to user 2, not to you, .*--plan-cache"):
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
    cache.store(KEY, b"plan", FACTS)
    really = os.open

    def refuse_to_make(path, flags, *more, **named):
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return really(path, flags, *more, **named)

    monkeypatch.setattr("os.open", refuse_to_make)
    assert isinstance(cache.find(KEY), CachedPlan)
    with pytest.raises(
        EngineError, match=r"cannot be kept there \(Read-only file system\): give a"
    ):
        cache.store(KEY, b"plan", FACTS)
    with pytest.raises(EngineError, match="Read-only"), cache.locked(KEY, lambda: None):
        pass


def test_a_write_that_fails_leaves_the_old_plan(cache, monkeypatch):
    cache.store(KEY, b"old", FACTS)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(EngineError, match="No space left"):
        cache.store(KEY, b"new", FACTS)
    assert cache.find(KEY).plan == b"old"
    assert not list(cache.folder.glob("*.partial"))


HOLD = """
import sys, time
from pathlib import Path
from flair_engine.agreement import Agreement
from flair_engine.inference.gpu.plan_cache import PlanCache, PlanFacts, PlanKey

cache = PlanCache(Path(sys.argv[1]))
key = PlanKey(**eval(sys.argv[2]))
with cache.locked(key, lambda: None):
    (cache.folder / "held").touch()
    while not (cache.folder / "release").exists():
        time.sleep(0.01)
    counts = {"tiles": 4, "pixels": 1, "different": 0, "lower": 0}
    agreement = Agreement(origin="noise", share_by_class={"x": 1.0}, **counts)
    cache.store(key, b"plan", PlanFacts(built_s=1.0, agreement=agreement))
"""


def test_a_second_builder_waits_says_so_and_finds_the_plan(cache):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(cache.folder), repr(asdict(KEY))])
    deadline = time.monotonic() + 30
    while not (cache.folder / "held").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cache.find(KEY) == NoPlan(why="there is none yet")
    said = []

    def waiting():
        said.append("waiting")
        (cache.folder / "release").touch()

    with cache.locked(KEY, waiting):
        assert said == ["waiting"]
        assert cache.find(KEY).plan == b"plan"
    assert other.wait(10) == 0


def test_the_sidecar_can_be_read(cache):
    path = cache.store(KEY, b"plan", FACTS)
    description = json.loads(path.with_suffix(".json").read_text())
    assert list(description) == ["schema", "key", "plan_sha256", "facts"]
    assert description["schema"] == 3
    assert description["key"]["gpu"] == "NVIDIA A"
    assert len(description["plan_sha256"]) == 64
    assert description["facts"] == {
        "built_s": 3.5,
        "origin": "images",
        "tiles": 2,
        "pixels": 8,
        "different": 2,
        "lower": 1,
        "share_by_class": {"first": 0.5, "third": 1.0},
    }


def test_plans_are_nobody_elses_to_write_whatever_the_umask(tmp_path):
    before = os.umask(0o002)
    try:
        cache = PlanCache(tmp_path / "plans")
        cache.store(KEY, b"plan", FACTS)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "plans").iterdir()}
    assert modes == {0o600}


def open_to_all(path):
    path.chmod(0o666)


def open_to_the_group(path):
    path.chmod(0o620)


def linked(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def somebody_elses(path):
    os.chown(path, 12345, -1)


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.mark.parametrize("suffix", [".plan", ".json"])
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (open_to_all, r"can be written by others \(mode 666\)"),
        (open_to_the_group, r"can be written by others \(mode 620\)"),
        (linked, "is a symbolic link"),
        (a_pipe, "is no regular file"),
        pytest.param(somebody_elses, "belongs to user 12345", marks=as_root),
    ],
)
def test_a_file_that_others_may_have_made_is_not_used_but_replaced(cache, suffix, spoil, why):
    path = cache.store(KEY, b"old", FACTS).with_suffix(suffix)
    spoil(path)
    found = cache.find(KEY)
    assert isinstance(found, NoPlan)
    assert re.search(f"{suffix} {why}, and plans can hold code", found.why)
    kept = path.read_bytes() if spoil is linked else None
    cache.store(KEY, b"new", FACTS)
    assert cache.find(KEY).plan == b"new"
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if spoil is linked:
        assert path.with_name("elsewhere").read_bytes() == kept


@pytest.mark.parametrize("suffix", [".plan", ".json"])
def test_a_folder_in_the_place_of_a_file(cache, suffix):
    path = cache.store(KEY, b"old", FACTS).with_suffix(suffix)
    a_folder(path)
    assert f"{suffix} cannot be read (Is a directory)" in cache.find(KEY).why
    with pytest.raises(EngineError, match="a plan cannot be kept there"):
        cache.store(KEY, b"new", FACTS)


@pytest.mark.parametrize("spoil", [open_to_all, linked, a_pipe, a_folder])
def test_timings_that_others_may_have_made_are_not_used(cache, spoil):
    cache.store_timings(KEY, b"timings")
    assert cache.timings(KEY) == b"timings"
    spoil(next(cache.folder.glob("*.timing")))
    assert cache.timings(KEY) == b""


def test_what_another_sidecar_says_counts_only_where_it_is_trusted(cache):
    open_to_all(cache.store(KEY, b"plan", FACTS).with_suffix(".json"))
    assert cache.find(replace(KEY, gpu="other")).why == "there is none yet"


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o1777, False), (0o775, False)])
def test_a_folder_below_one_that_everybody_may_write(tmp_path, mode, refused):
    above = tmp_path / "above"
    (above / "mine").mkdir(parents=True)
    above.chmod(mode)
    (tmp_path / "link").symlink_to(above / "mine")
    for folder in (above / "mine" / "plans", tmp_path / "link" / "plans"):
        if refused:
            with pytest.raises(
                EngineError, match=r"where everybody can put another .*--plan-cache"
            ):
                PlanCache(folder)
        else:
            PlanCache(folder)


def test_where_users_have_no_numbers_modes_and_owners_say_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    tmp_path.chmod(0o777)
    cache = PlanCache(tmp_path / "plans")
    open_to_all(cache.store(KEY, b"plan", FACTS))
    assert cache.find(KEY).plan == b"plan"


def sha256_of(content):
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("mode", [0o755, 0o2770, 0o777])
def test_a_plan_whose_bytes_are_known_is_taken_from_anybody(cache, monkeypatch, mode):
    """A group's folder, or a container of another user: other bytes are refused."""
    path = cache.store(KEY, b"plan", FACTS)
    for place in (cache.folder, path, path.with_suffix(".json")):
        os.chown(place, 2, -1)
        place.chmod(mode if place == cache.folder else 0o666)
    monkeypatch.setattr("os.geteuid", lambda: 1)
    with pytest.raises(EngineError, match="belongs to user 2, not to you"):
        PlanCache(cache.folder)
    known = PlanCache(cache.folder, sha256_of(b"plan"))
    assert known.find(KEY) == CachedPlan(plan=b"plan", facts=FACTS)
    assert "there is one with gpu" in known.find(replace(KEY, gpu="other")).why
    path.write_bytes(b"evil")
    assert "is another plan than that of the job (SHA-256 differs)" in known.find(KEY).why
    path.unlink()
    path.symlink_to(cache.folder / "elsewhere")
    assert "is a symbolic link" in known.find(KEY).why


def test_no_home_for_a_plan_whose_bytes_are_known(monkeypatch):
    def no_home():
        raise OSError(2, "the user has no home folder")

    monkeypatch.setattr("flair_engine.inference.kept.default_folder", no_home)
    with pytest.raises(EngineError, match="the folder for plans cannot be made .*no home"):
        PlanCache(None, "0" * 64)


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from flair_engine.inference.gpu.plan_cache import PlanCache, PlanKey
os.setgroups([]); os.setgid(65534); os.setuid(65534)
key = PlanKey(**eval(sys.argv[2]))
print(getattr(PlanCache(Path(sys.argv[1]), sys.argv[3]).find(key), "plan", None))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reads_what_lies_in_a_folder_that_it_may_list():
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent) / "plans"
        folder.mkdir(mode=0o755)
        os.chown(folder, 1234, -1)
        cache = PlanCache.__new__(PlanCache)
        cache.folder = folder
        path = cache.store(KEY, b"plan", FACTS)
        for file in folder.iterdir():
            os.chown(file, 1234, -1)
            assert stat.S_IMODE(file.stat().st_mode) == 0o644
        found = [
            subprocess.run(
                [sys.executable, "-c", AS_ANOTHER_USER, folder, repr(asdict(KEY)), digest],
                capture_output=True, text=True, check=True, timeout=30,
            ).stdout.strip()
            for digest in (sha256_of(b"plan"), sha256_of(b"other"))
        ]  # fmt: skip
        assert path.exists()
        assert found == ["b'plan'", "None"]
