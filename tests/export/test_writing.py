"""Model files in place at last, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from doubles.paths import listing

from flair_engine.errors import WriteError
from flair_export.writing import at_last, is_model, write_model


def test_a_file_gets_its_name_at_the_end(tiny_path, tmp_path):
    output = tmp_path / "model.onnx"
    output.write_bytes(b"old")
    model = onnx.load(tiny_path)
    with at_last(output) as temporary:
        write_model(temporary, model)
        assert output.read_bytes() == b"old"
        assert temporary.parent == tmp_path
    assert onnx.load(output) == model
    assert listing(tmp_path) == ["model.onnx"]


def test_a_failure_leaves_what_was_there(tmp_path):
    output = tmp_path / "model.onnx"
    output.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="on the way"), at_last(output) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("on the way")
    assert output.read_bytes() == b"old"
    assert listing(tmp_path) == ["model.onnx"]


def refuse(*_):
    raise OSError(28, "No space left on device")


def test_a_name_that_cannot_be_given_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", refuse)
    with (
        pytest.raises(WriteError, match=r"m\.onnx: cannot be put in place .*: name another"),
        at_last(tmp_path / "m.onnx") as temporary,
    ):
        temporary.write_bytes(b"whole")
    assert listing(tmp_path) == []


def test_a_full_disk_is_told(tiny_path, tmp_path, monkeypatch):
    model = onnx.load(tiny_path)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(WriteError, match=r"\d+ bytes cannot be written .*: free some space"):
        write_model(tmp_path / "m.onnx", model)


def test_a_model_of_ours_is_known_by_its_manifest(tiny_path, tmp_path):
    assert is_model(tiny_path)
    foreign = onnx.load(tiny_path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "empty.onnx").touch()
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path, *tmp_path.iterdir(), tmp_path / "absent.onnx"):
        assert not is_model(path)


def test_a_model_of_an_older_manifest_is_ours(tiny_path, tmp_path):
    old = onnx.load(tiny_path)
    next(entry for entry in old.metadata_props if entry.key == "flair").value = '{"schema": 1}'
    onnx.save(old, tmp_path / "old.onnx")
    assert is_model(tmp_path / "old.onnx")
