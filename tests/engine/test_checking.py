"""Choices that are refused before anything is opened, each in one line that names it."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from flair_engine import checking
from flair_engine.checking import check_job, check_memory, check_run
from flair_engine.errors import EngineError, FlairError, ManifestError, OutputError, SourceError
from flair_engine.manifest import read_model_spec
from flair_engine.options import Inputs, Job, MapOptions, ReadOptions, RunOptions


def job(inputs=("a.tif",), output="map.tif", model="m.onnx", **parts):
    named = inputs if isinstance(inputs, Inputs) else Inputs(images=inputs)
    return Job(model=Path(model), inputs=named, output=Path(output), **parts)


RUN = [
    ({"engine": "tensorrt"}, "engine is 'tensorrt': give 'auto' or 'trt' or 'ort' or 'openvino'"),
    ({"precision": "fp16"}, "precision is 'fp16': give 'fp32' or 'bf16' or None"),
    ({"device": 0}, "device is 0: give a text or None"),
    ({"threads": 0}, "threads 0 does nothing: use 1 or more"),
    ({"threads": 20000}, "threads 20000 is more than this machine has a use for: use 256 or less"),
    ({"threads": 1.5}, "threads is 1.5: give a whole number or None"),
    ({"threads": True}, "threads is True: give a whole number or None"),
    ({"batch": -1}, "batch -1 does nothing"),
    ({"batch": 10**12}, "batch 1000000000000 is more than .*: use 1024 or less"),
    ({"batch": np.float32(2)}, r"batch is .*2\.0.*: give a whole number"),
    ({"slots": 0}, "slots 0 does nothing"),
    ({"slots": None}, "slots is None: give a whole number"),
    ({"slots": 65}, "slots 65 is more than .*: use 64 or less"),
    ({"tactic_sources": 3}, "tactic_sources is 3: give a text or None"),
    ({"plan_cache": 3}, "plan_cache is 3: give a path or None"),
]
READ = [
    ({"on_error": "foo"}, "on_error is 'foo': give 'stop' or 'skip'"),
    ({"on_error": None}, "on_error is None: give 'stop' or 'skip'"),
    ({"bands": ()}, r"bands is \(\): give numbers from 1"),
    ({"bands": (0, 1)}, r"bands is \(0, 1\): give numbers from 1"),
    ({"bands": "123"}, "bands is '123': give a tuple of whole numbers or None"),
    ({"bands": (1, "2")}, r"bands is \(1, '2'\): give a tuple of whole numbers"),
    ({"mask": 0}, "mask is 0: give the number of a band, from 1"),
    ({"mask": "beta"}, "mask is 'beta': give a whole number or 'none' or 'alpha' or None"),
    ({"nodata": float("nan")}, "nodata is nan, which no 8-bit image holds: give a number, or none"),
    ({"nodata": "0"}, "nodata is '0': give a number or 'none' or None"),
    ({"gsd_m": "0.2"}, "gsd_m is '0.2': give a number or None"),
    ({"resample": 1}, "resample is 1: give True or False"),
]
WRITE = [
    ({"labels": "foo"}, "labels is 'foo': give 'flair' or 'zero-based'"),
    ({"bbox": (1, 2, 3)}, r"bbox is \(1, 2, 3\): give a tuple of 4 numbers or None"),
    ({"bbox": (1, 2, float("nan"), 4)}, "bbox 1,2,nan,4 holds what is no number: give xmin"),
    ({"bbox": "1,2,3,4"}, "bbox is '1,2,3,4': give a tuple of 4 numbers"),
    ({"aoi": 5}, "aoi is 5: give a text or None"),
    ({"aoi": ""}, "the file of shapes has an empty name"),
    ({"cog": "yes"}, "cog is 'yes': give True or False"),
    ({"report": 5}, "report is 5: give a path or None"),
    ({"report": "r" * 300}, r"r{40}\.\.\.: the report has a name of 300 bytes: give one of 255"),
]


def check_refused(given, kind, message):
    with pytest.raises(kind, match=f"^{message}") as error:
        check_job(given)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("choices", "message"), RUN)
def test_ways_to_run_a_model(choices, message):
    check_refused(job(run=RunOptions(**choices)), EngineError, message)


@pytest.mark.parametrize(("choices", "message"), READ)
def test_ways_to_read(choices, message):
    check_refused(job(read=ReadOptions(**choices)), SourceError, message)


@pytest.mark.parametrize(("choices", "message"), WRITE)
def test_ways_to_write(choices, message):
    check_refused(job(write=MapOptions(**choices)), FlairError, message)


@pytest.mark.parametrize(
    "given",
    [
        job(),
        job(run=RunOptions(batch=1024, slots=64, device="cuda:1", plan_cache="plans")),
        job(read=ReadOptions(bands=[3, 1], nodata=0, gsd_m=1, mask="alpha")),
        job(read=ReadOptions(nodata=-9999.0, mask=4)),
        job(write=MapOptions(bbox=[0, 0, np.inf, 2.5], report="run.json", aoi=Path("a.gpkg"))),
        job(write=MapOptions(per_input=True), output="."),
        job(Inputs(rvb="a.tif", irc=Path("b.tif"), dsm=["c.tif"], dtm=iter(["d.tif"]))),
        job(["<VRTDataset/>" * 90, "/vsicurl/https://example.org/" + "a" * 300]),
        job("été 日本 %.tif"),
    ],
)
def test_what_means_something_is_taken(given):
    check_job(given)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "no image given: name files as INPUT, or with --rvb and --irc"),
        ("", "an input has an empty name"),
        (("a.tif", ""), "an input has an empty name"),
        (5, "images is 5: give a tuple of names"),
        (("a.tif", 5), r"images is \('a.tif', 5\): give a tuple of names"),
        ([np.zeros((2, 9, 9))], r"images is \(array\(.*: give a tuple of names"),
        ("a\0.tif", r"'a\\x00.tif': an input has a null byte in its name"),
        ("d\udce9p.tif", "d.p.tif: the name holds bytes that are not UTF-8: rename it"),
        ("a" * 256, r"a{40}\.\.\.: an input has a name of 256 bytes: give one of 255 or less"),
        ("é" * 128, "é{40}.*: an input has a name of 256 bytes"),
    ],
)
def test_names_of_inputs(inputs, message):
    check_refused(job(inputs), SourceError, message)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", ".: is a folder: give the name of the map, ending in .tif"),
        (".", ".: is a folder"),
        ("/", "/: is a folder"),
        ("a/..", "a/..: is a folder"),
        ("a" * 236 + ".tif", "a{236}.tif: its name has 240 bytes, and files beside it longer ones"),
        ("a\0.tif", "'a.x00.tif': the output has a null byte"),
        ("b" * 999 + "/a.tif", "b{40}...: the output has a name of 999 bytes"),
    ],
)
def test_names_of_outputs(output, message):
    check_refused(job(output=output), OutputError, message)


def test_the_name_of_the_model(tmp_path):
    told = "m{40}...: the model has a name of 300 bytes"
    check_refused(job(model="m" * 300), ManifestError, told)
    for name in ("", ".", "/", tmp_path):
        check_refused(job(model=name), ManifestError, f"{Path(name)}: is a folder: give the .onnx")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        check_refused(job(model=tmp_path / "pipe"), ManifestError, ".*pipe: is a pipe: give the .o")


@pytest.mark.parametrize("name", ["run", "read", "write"])
def test_options_of_another_kind(name):
    check_refused(
        job(**{name: {"batch": 1}}), FlairError, r"{'batch': 1} is given for \w+Options: "
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_for_a_report_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    told = f"{tmp_path}/pipe: is a pipe, which is waited for: give the name of a file"
    check_refused(job(write=MapOptions(report=tmp_path / "pipe")), OutputError, told)
    reader, writer = os.pipe()  # as the shell's >(command)
    check_job(job(write=MapOptions(report=f"/dev/fd/{writer}")))
    os.close(reader)
    os.close(writer)


def test_more_cpus_may_have_more_threads(monkeypatch):
    monkeypatch.setattr(checking, "available_cpus", lambda: 128)
    check_run(RunOptions(threads=512))
    with pytest.raises(EngineError, match="threads 513 is more than .*: use 512 or less"):
        check_run(RunOptions(threads=513))


def test_slots_that_do_not_fit_into_memory(tiny_path, monkeypatch):
    spec = read_model_spec(tiny_path)
    check_memory(spec, RunOptions())
    check_memory(spec, RunOptions(batch=1024, slots=64))  # 2048 + 256 bytes a tile
    monkeypatch.setattr(checking, "memory_bytes", lambda: 2**27)
    with pytest.raises(
        EngineError,
        match=r"^batch 1024 x slots 64 take 0.1 GiB, this machine has 0.1: use a smaller --batch$",
    ):
        check_memory(spec, RunOptions(batch=1024, slots=64))


def test_threads_need_addresses(monkeypatch):
    monkeypatch.setattr(checking, "address_space_bytes", lambda: 2 * 2**30)
    check_run(RunOptions(threads=32))
    with pytest.raises(
        EngineError,
        match=r"may have 2.00 GiB of addresses, 64 threads want 3.00: raise ulimit -v, or use few",
    ):
        check_run(RunOptions(threads=64))


class Unshowable:
    def __repr__(self):
        raise RuntimeError


def test_a_value_that_cannot_be_shown():
    check_refused(
        job(read=ReadOptions(gsd_m=Unshowable())), SourceError, "gsd_m is Unshowable: give"
    )


@pytest.mark.parametrize(
    ("option", "package", "extra"), [("--preview", "PIL", "preview"), ("--stac", "pystac", "stac")]
)
def test_without_a_package_its_extra_is_named(monkeypatch, option, package, extra):
    checking.check_package(option, "json", extra)
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"{option} needs one package more: run pip install 'flair-engine\[{extra}\]'"
    with pytest.raises(OutputError, match=message):
        checking.check_package(option, package, extra)
