"""Operating systems: what differs between them, on this one and with doubles of the others."""

import errno
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import rasterio
from doubles.field import noise, write
from doubles.other_systems import (
    FORBIDDEN,
    FREE_BYTES,
    MEMORY_BYTES,
    NO_CALLS,
    NO_MODULES,
    O_BINARY,
    control_groups,
    held,
    macos,
    windows,
)
from doubles.paths import listing

import flair_engine
from flair_engine import MapOptions, RunOptions, durable, segment, system
from flair_engine.errors import OutputError, WriteError
from flair_engine.overwriting import same_file

CPU = RunOptions(engine="ort", device="cpu", threads=2)


@pytest.fixture
def on_windows(monkeypatch):
    """The `os` of a double of Windows."""
    return windows(monkeypatch)


@pytest.fixture
def on_macos(monkeypatch):
    """What a double of macOS is asked to put on disk."""
    return macos(monkeypatch)


def test_a_drive_is_told_to_write_on_macos(tmp_path, on_macos):
    with (tmp_path / "file").open("wb") as file:
        durable.sync(file)
        assert on_macos == [(file.fileno(), 51)]
    durable.sync_folder(tmp_path)
    assert len(on_macos) == 2


def test_a_disk_that_macos_cannot_tell(tmp_path, on_macos, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    synced = []
    monkeypatch.setattr(sys.modules["fcntl"], "fcntl", refuse)
    monkeypatch.setattr("os.fsync", synced.append)
    with (tmp_path / "file").open("wb") as file:
        system.sync(file.fileno())
        assert synced == [file.fileno()]


def test_folders_are_not_opened_on_windows(tmp_path, on_windows):
    with pytest.raises(PermissionError):
        on_windows.open(tmp_path, os.O_RDONLY)
    durable.sync_folder(tmp_path)
    durable.write_whole(tmp_path / "file", b"a\nb")
    assert (tmp_path / "file").read_bytes() == b"a\nb"


def pair(folder):
    for name in ("new", "old"):
        (folder / name).write_text(name)
    return folder / "new", folder / "old"


def test_a_scanner_that_has_the_file_open_is_waited_for_on_windows(
    tmp_path, on_windows, monkeypatch
):
    new, old = pair(tmp_path)
    scanner = old.open("rb")
    monkeypatch.setattr(system, "time", SimpleNamespace(
        monotonic=lambda: 0.0, sleep=lambda _: scanner.close())
    )  # fmt: skip
    system.replace(new, old)
    assert listing(tmp_path) == ["old"]
    assert old.read_text() == "new"


def test_a_file_that_stays_open_is_not_replaced_on_windows(tmp_path, on_windows):
    new, old = pair(tmp_path)
    with old.open("rb"), pytest.raises(PermissionError, match="cannot access the file"):
        system.replace(new, old)
    assert old.read_text() == "old"


def test_nothing_is_waited_for_elsewhere(tmp_path):
    new, old = pair(tmp_path)
    with old.open("rb") as file:
        system.replace(new, old)
        assert file.read() == b"old"
    with pytest.raises(FileNotFoundError):
        system.replace(new, old)


def opened(path):
    with os.fdopen(system.open_no_follow(path), "rb") as file:
        return file.read()


def check_links_are_refused(folder):
    (folder / "file").write_bytes(b"a\nb")
    (folder / "link").symlink_to("file")
    assert opened(folder / "file") == b"a\nb"
    with pytest.raises(OSError, match="link") as caught:
        opened(folder / "link")
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(FileNotFoundError):
        opened(folder / "absent")


def test_a_file_is_opened_that_is_no_link(tmp_path):
    check_links_are_refused(tmp_path)


def test_a_file_is_opened_that_is_no_link_on_windows(tmp_path, on_windows, monkeypatch):
    check_links_are_refused(tmp_path)
    flags = []
    real = on_windows.open
    monkeypatch.setattr(
        on_windows, "open", lambda path, flag: flags.append(flag) or real(path, flag)
    )
    opened(tmp_path / "file")
    assert flags == [O_BINARY | os.O_RDONLY]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.close(system.open_no_follow(tmp_path / "pipe"))


def status(mode=0o600, user=None):
    return SimpleNamespace(st_mode=mode, st_uid=os.geteuid() if user is None else user)


MODES = [(0o600, False, False), (0o755, False, False), (0o770, True, False), (0o702, True, True),
         (0o1777, True, False), (0o777, True, True)]  # fmt: skip


@pytest.mark.parametrize(("mode", "write", "everybody"), MODES)
def test_modes_say_what_others_may(mode, write, everybody, monkeypatch):
    assert system.others_may_write(status(mode)) is write
    assert system.others_may_replace(status(mode)) is everybody
    windows(monkeypatch)
    assert system.others_may_write(status(mode)) is False
    assert system.others_may_replace(status(mode)) is False


def test_this_user_and_root_are_trusted(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    trusted = {user: system.owner_is_trusted(status(user=user)) for user in (0, 1000, 1001)}
    assert trusted == {0: True, 1000: True, 1001: False}


def test_windows_names_no_owner(on_windows):
    assert system.owner_is_trusted(status(user=1001)) is True


def test_the_cache_of_linux(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, folder in (("/caches", "/caches"), ("here", None), ("", None), (None, None)):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        if given is not None:
            monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert system.cache_folder() == Path(folder or tmp_path / ".cache")


def test_the_cache_of_windows(on_windows, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", "/profile/local")
    assert system.cache_folder() == Path("/profile/local")
    monkeypatch.delenv("LOCALAPPDATA")
    assert system.cache_folder() == tmp_path / "AppData" / "Local"


def test_the_cache_of_macos(on_macos, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert system.cache_folder() == tmp_path / "Library" / "Caches"


def test_a_user_without_a_home(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(system.Path, "home", nowhere)
    with pytest.raises(OSError, match="the user has no home folder"):
        system.cache_folder()


COMPOSED, APART = "\u00e9.tif", "E\u0301.TIF"


@pytest.mark.parametrize("double", [windows, macos])
def test_case_and_spelling_tell_no_files_apart_elsewhere(double, monkeypatch, tmp_path):
    one, other, third = (tmp_path / name for name in (COMPOSED, APART, "e.tif"))
    assert not same_file(one, other)
    double(monkeypatch)
    assert same_file(one, other)
    assert not same_file(one, third)


def test_the_cpus_of_the_process_are_counted(monkeypatch):
    monkeypatch.setattr(system, "OWN_CGROUPS", Path("absent"))
    assert system.available_cpus() == len(os.sched_getaffinity(0))
    windows(monkeypatch)
    assert system.available_cpus() == os.cpu_count()
    monkeypatch.setattr(system.os, "cpu_count", lambda: None)
    assert system.available_cpus() == 1


CPU_2, CPU_1 = "cpu.max", "cpu/cpu.cfs_quota_us"


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        ("0::/\n", {CPU_2: "max 100000\n"}, 64),
        ("0::/\n", {CPU_2: "300000 100000\n"}, 3),
        ("0::/\n", {CPU_2: "20000 100000\n"}, 1),
        ("0::/\n", {CPU_2: "1000 0\n"}, 64),
        ("0::/\n", {}, 64),
        ("0::/a/b\n", {"a/cpu.max": "250000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("4:cpu,cpuacct:/\n", {CPU_1: "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ("4:cpu,cpuacct:/\n", {CPU_1: "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        # Docker of version 1 mounts the group of the container, whose path is that of the host.
        ("4:cpu:/docker/1\n", {CPU_1: "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ("4:memory:/\n", {CPU_1: "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
    ],
)
def test_a_container_may_have_less_time_than_cpus(monkeypatch, tmp_path, groups, files, cpus):
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda _: range(64))
    control_groups(monkeypatch, tmp_path, groups, files)
    assert system.available_cpus() == cpus


def meminfo(word):
    """Return the bytes of a line of /proc/meminfo."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines[word].split()[0]) * 1024


def test_the_memory_of_linux(monkeypatch):
    monkeypatch.setattr(system, "OWN_CGROUPS", Path("absent"))
    assert system.memory_bytes() == meminfo("MemTotal")
    assert system.free_memory_bytes() == pytest.approx(meminfo("MemAvailable"), rel=0.2)


GROUP_2 = {
    "memory.max": "1000",
    "memory.current": "700",
    "memory.stat": "anon 1\ninactive_file 50\n",
}
GROUP_1 = {
    "memory/memory.limit_in_bytes": "1000",
    "memory/memory.usage_in_bytes": "700",
    "memory/memory.stat": "cache 9\ntotal_inactive_file 50\n",
}
NO_LIMIT = {"memory/memory.limit_in_bytes": str(2**63 - 4096)}


@pytest.mark.parametrize(
    ("groups", "files", "memory"),
    [
        ("0::/\n", GROUP_2, (1000, 350)),
        ("0::/a\n", {f"a/{k}": v for k, v in GROUP_2.items()}, (1000, 350)),
        ("0::/a\n", {**GROUP_2, "a/memory.max": "max", "a/memory.current": "1"}, (1000, 350)),
        ("0::/\n", {**GROUP_2, "memory.current": "1200"}, (1000, 0)),
        ("9:memory:/docker/1\n0::/\n", GROUP_1, (1000, 350)),
        ("9:memory:/\n", {**GROUP_1, **NO_LIMIT}, None),
        ("0::/\n", {**GROUP_2, "memory.max": "max"}, None),
        ("0::/\n", {}, None),
    ],
)
def test_the_memory_of_a_container(monkeypatch, tmp_path, groups, files, memory):
    control_groups(monkeypatch, tmp_path, groups, files)
    if memory is None:
        assert system.memory_bytes() == meminfo("MemTotal")
        assert 1000 < system.free_memory_bytes() <= meminfo("MemTotal")
    else:
        assert (system.memory_bytes(), system.free_memory_bytes()) == memory


def test_the_memory_of_windows(on_windows):
    assert system.memory_bytes() == MEMORY_BYTES
    assert system.free_memory_bytes() == FREE_BYTES


def test_macos_says_no_free_memory(on_macos, monkeypatch):
    monkeypatch.setattr(system, "MEMINFO", Path("absent"))
    assert system.free_memory_bytes() == system.memory_bytes() == meminfo("MemTotal")


def test_the_cpu_has_a_name(monkeypatch, tmp_path):
    assert system.cpu_name()
    monkeypatch.setattr(system, "Path", lambda _: tmp_path / "absent")
    assert system.cpu_name()
    monkeypatch.setattr("platform.processor", lambda: "")
    assert system.cpu_name() == os.uname().machine


def test_the_largest_memory_of_a_process(monkeypatch):
    assert system.peak_bytes(3) == 3 * 1024
    macos(monkeypatch)
    assert system.peak_bytes(3) == 3


def test_a_double_of_windows_refuses_what_is_open(tmp_path, on_windows, make_raster):
    path, _ = make_raster()
    assert not held(path)
    with rasterio.open(path):
        assert held(path) == held(tmp_path) == [str(path)]
        for refused in (path.unlink, lambda: path.replace(tmp_path / "b"), tmp_path.rmdir):
            with pytest.raises(PermissionError, match="cannot access"):
                refused()
    path.unlink()
    assert all(not hasattr(on_windows, name) for name in NO_CALLS)


@pytest.mark.parametrize("options", [{}, {"cog": True}, {"per_input": True}])
def test_a_run_on_a_double_of_windows(
    options, on_windows, make_raster, tiny_path, tmp_path, expected_labels
):
    source, image = make_raster(height=70, width=53)
    folder = tmp_path / "maps"
    folder.mkdir()
    output = folder if options.get("per_input") else folder / "map.tif"
    names = set()

    def look(*_):
        names.update(path.name for path in folder.rglob("*"))

    for again in (False, True):  # the second replaces the maps of the first
        write = MapOptions(overwrite=again, report=folder / "report.json", **options)
        segment(tiny_path, [source], output, CPU, write=write, progress=look)
        look()
        (path,) = folder.glob("*.tif")
        with rasterio.open(path) as dataset:
            assert (dataset.read(1) == expected_labels(image)).all()
        assert not held(tmp_path)
        assert sorted({Path(name).suffix for name in listing(folder)}) == [
            ".json", ".qml", ".tif", ".xml",
        ]  # fmt: skip
    assert "strips.bin" in names
    assert not [name for name in names if set(name) & set(FORBIDDEN)]


def test_a_map_that_is_open_in_qgis_is_kept_on_windows(
    on_windows, make_raster, tiny_path, tmp_path
):
    source, _ = make_raster()
    output = tmp_path / "map.tif"
    segment(tiny_path, [source], output, CPU)
    before = output.read_bytes()
    with rasterio.open(output), pytest.raises(WriteError, match="cannot be put in place"):
        segment(tiny_path, [source], output, CPU, write=MapOptions(overwrite=True))
    assert output.read_bytes() == before
    report = segment(tiny_path, [source], output, CPU, write=MapOptions(resume=True))
    assert report.pixels == 70 * 53


def test_two_maps_whose_names_differ_in_case_alone(on_windows, tiny_path, tmp_path):
    sources = [tmp_path / "one" / "a.tif", tmp_path / "two" / "A.tif"]
    for number, path in enumerate(sources):
        write(path, noise(2, 40, 40, number), col=40 * number)
    (tmp_path / "maps").mkdir()
    with pytest.raises(OutputError, match=r"A.tif: .*(the same file as|have this name)"):
        segment(tiny_path, sources, tmp_path / "maps", CPU, write=MapOptions(per_input=True))


IMPORT_ALL = f"""
import importlib, os, sys
for name in {NO_MODULES}:
    sys.modules[name] = None
for name in {NO_CALLS}:
    delattr(os, name)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_module_is_imported_without_what_windows_lacks():
    found = pkgutil.walk_packages(flair_engine.__path__, "flair_engine.")
    names = [module.name for module in found if not module.name.endswith("__main__")]
    assert len(names) > 50
    subprocess.run([sys.executable, "-c", IMPORT_ALL, *names], check=True)


def test_processes_that_see_one_another_share_a_place(monkeypatch, tmp_path):
    code = "from flair_engine.system import process_place; print(process_place())"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == system.process_place() != ""
    monkeypatch.setattr(system, "BOOT_ID", tmp_path / "absent")
    assert system.process_place() == ""


def test_processes_run_or_do_not(monkeypatch):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert system.is_running(child.pid)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not system.is_running(child.pid), "it has ended, and nobody has asked how"
    child.wait()
    assert not system.is_running(child.pid)
    assert system.is_running(os.getpid())
    monkeypatch.setattr(os, "kill", refuse)
    assert system.is_running(1), "of another user"


def refuse(*_given):
    raise PermissionError
