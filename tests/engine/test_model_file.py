"""ONNX files that a runtime must not see: weights elsewhere, graphs in graphs, made-up tensors."""

import hashlib
import os
import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from flair_engine.errors import ManifestError
from flair_engine.manifest import read_model_spec
from flair_engine.model_file import (
    OPERATORS,
    check_model,
    load_graph,
    load_model,
    model_sha256,
)

PASSWD = "../../../../../../etc/passwd"
ELSEWHERE = "weights lie in another file .*: give one self-contained file"


@pytest.fixture
def tiny(tiny_path):
    return onnx.load(tiny_path)


def external(name="stolen"):
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[16])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=PASSWD)
    return tensor


def entries_alone(name="stolen"):
    """An external tensor that does not say that it is one."""
    tensor = external(name)
    tensor.ClearField("data_location")
    return tensor


def location_alone(name="stolen"):
    tensor = external(name)
    del tensor.external_data[:]
    return tensor


def constant(tensor):
    return helper.make_node("Constant", [], ["constant"], value=tensor)


def sparse(tensor):
    values = numpy_helper.from_array(np.ones(1, np.float32), "values")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    found = helper.make_sparse_tensor(values, indices, [4])
    found.values.CopyFrom(tensor)
    return found


def inner(node):
    return helper.make_graph([node], "inner", [], [])


def function(node):
    return helper.make_function(
        "own", "Same", ["a"], ["b"], [node], [helper.make_opsetid("", 17)]
    )  # fmt: skip


PLACES = {
    "initialiser": lambda model, t: model.graph.initializer.append(t),
    "constant": lambda model, t: model.graph.node.append(constant(t)),
    "list of tensors": lambda model, t: model.graph.node.append(
        helper.make_node("Constant", [], ["c"], values=[t])
    ),
    "sparse initialiser": lambda model, t: model.graph.sparse_initializer.append(sparse(t)),
    "sparse constant": lambda model, t: model.graph.node.append(
        helper.make_node("Constant", [], ["c"], sparse_value=sparse(t))
    ),
    "graph of a node": lambda model, t: model.graph.node.append(
        helper.make_node("If", ["x"], ["y"], then_branch=inner(constant(t)))
    ),
    "graph in a graph": lambda model, t: model.graph.node.append(
        helper.make_node(
            "If",
            ["x"],
            ["y"],
            then_branch=inner(helper.make_node("Loop", ["x"], ["y"], body=inner(constant(t)))),
        )
    ),
    "function": lambda model, t: model.functions.append(function(constant(t))),
    "training": lambda model, t: model.training_info.add().algorithm.initializer.append(t),
}


@pytest.mark.parametrize("make", [external, entries_alone, location_alone])
@pytest.mark.parametrize("place", PLACES)
def test_weights_in_another_file_are_refused_wherever_they_are_named(tiny, tmp_path, place, make):
    PLACES[place](tiny, make())
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny.SerializeToString())
    with pytest.raises(ManifestError, match=f"{path}: its {ELSEWHERE}"):
        read_model_spec(path)


def test_a_model_saved_with_its_weights_beside_it(tiny, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(tiny, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").is_file()
    with pytest.raises(ManifestError, match=rf"{ELSEWHERE}"):
        read_model_spec(path)


def test_names_in_the_message_are_few_and_can_be_shown(tiny):
    for name in ("\x1b[31mred", "b", "c", "d", "e" * 1000):
        tiny.graph.initializer.append(external(name))
    with pytest.raises(ManifestError, match=r"another file \(") as caught:
        check_model(tiny, "model.onnx")
    assert "2 more" in caught.value.what
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 200


def endless_loop():
    body = helper.make_graph(
        [helper.make_node("Cast", ["go"], ["on"], to=TensorProto.BOOL)],
        "body",
        [helper.make_tensor_value_info("n", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )  # fmt: skip
    return helper.make_node("Loop", ["", "true"], [], body=body)


HOSTILE = {
    "Loop": endless_loop(),
    "ConstantOfShape": helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
    "Range": helper.make_node("Range", ["zero", "huge", "one"], ["numbers"]),
    "If": helper.make_node("If", ["x"], ["y"]),
    "Scan": helper.make_node("Scan", ["x"], ["y"]),
    "Expand": helper.make_node("Expand", ["x", "shape"], ["y"]),
    "Tile": helper.make_node("Tile", ["x", "times"], ["y"]),
    "com.microsoft.FusedConv": helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft"),
    "own.Conv": helper.make_node("Conv", ["x"], ["y"], domain="own"),
    "without a name": helper.make_node("", ["x"], ["y"]),
}


@pytest.mark.parametrize("operator", HOSTILE)
def test_operators_that_no_model_of_ours_has_are_refused(tiny, tmp_path, operator):
    shape = numpy_helper.from_array(np.array([10**18]), "shape")
    tiny.graph.initializer.append(shape)
    tiny.graph.node.insert(0, HOSTILE[operator])
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny.SerializeToString())
    with pytest.raises(ManifestError, match=rf"no model of flair-export has \({operator}\)"):
        read_model_spec(path)


def test_graphs_beside_the_one_are_refused_even_of_known_operators(tiny):
    tiny.functions.append(function(helper.make_node("Relu", ["a"], ["b"])))
    with pytest.raises(ManifestError, match="holds 2 graphs and functions, where a model has one"):
        check_model(tiny, "model.onnx")


def test_the_standard_set_by_either_of_its_names(tiny):
    for node in tiny.graph.node:
        node.domain = "ai.onnx"
    check_model(tiny, "model.onnx")
    assert {node.op_type for node in tiny.graph.node} <= OPERATORS


def test_no_such_file(tmp_path):
    with pytest.raises(ManifestError, match="no such model file"):
        load_model(tmp_path / "absent.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")  # which would be waited for
    with pytest.raises(ManifestError, match="no such model file"):
        load_model(tmp_path / "pipe.onnx")


@pytest.mark.parametrize("name", ["half.onnx", "half.json", "half.onnxtxt"])
def test_truncated_file(tiny_path, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(tiny_path.read_bytes()[:700])
    with pytest.raises(ManifestError, match="not a complete ONNX file: export or copy it again"):
        load_model(path)


def test_a_file_too_large_for_the_format_is_not_read(tmp_path):
    path = tmp_path / "huge.onnx"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ManifestError, match=r"1,099,511,627,776 bytes, which no ONNX file has"):
        load_model(path)


def test_a_file_that_cannot_be_read(tiny_path, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(ManifestError, match=r"cannot be read \(Permission denied\): check its"):
        load_model(tiny_path)


def test_graphs_nested_without_end_are_no_onnx_file(tiny, tmp_path):
    """Written by hand: protobuf refuses to read them."""

    def message(field, content):
        size, digits = len(content), bytearray()
        while True:
            digits.append(size & 127 | (128 if size > 127 else 0))
            size >>= 7
            if not size:
                return bytes([field << 3 | 2]) + bytes(digits) + content

    node = b""
    for _ in range(2000):  # graph.node.attribute.g, fields 1, 5 and 6
        node = message(5, message(6, message(1, node)))
    path = tmp_path / "deep.onnx"
    path.write_bytes(tiny.SerializeToString() + message(7, message(1, node)))
    with pytest.raises(ManifestError, match="not a complete ONNX file"):
        load_model(path)


def test_large_weights_cost_no_time(tiny):
    weights = np.zeros((32, 1 << 20), np.float32)
    tiny.graph.initializer.append(numpy_helper.from_array(weights, "large"))
    began = time.process_time()
    check_model(tiny, "model.onnx")
    assert time.process_time() - began < 0.05  # copying them takes longer


def without_numbers(model):
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    return model


def test_a_graph_is_read_without_the_numbers_of_its_weights(tiny_path, tmp_path):
    model = onnx.load(tiny_path)
    for size in (0, 1, 127, 128, 70_000):  # lengths of one, two and three bytes
        tensor = numpy_helper.from_array(np.arange(size, dtype=np.uint16), f"n{size}")
        model.graph.initializer.append(tensor)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    read = load_graph(path)
    assert read.ByteSize() < path.stat().st_size - 140_000
    assert read == without_numbers(model)


@given(sizes=st.lists(st.integers(0, 40_000), max_size=4))
def test_any_weights_are_left_out_and_nothing_else(tmp_path, sizes):
    model = helper.make_model(helper.make_graph([], "graph", [], []))
    for number, size in enumerate(sizes):
        tensor = numpy_helper.from_array(np.zeros(size, np.uint8), str(number))
        model.graph.initializer.append(tensor)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert load_graph(path) == without_numbers(model)


@settings(max_examples=200)
@given(content=st.binary(max_size=60))
def test_no_bytes_are_read_as_another_model(tmp_path, content):
    path = tmp_path / "any.onnx"
    path.write_bytes(content)
    try:
        read = load_graph(path)
    except ManifestError:
        return
    assert read == without_numbers(load_model(path))


@pytest.mark.parametrize(
    "content",
    [
        b"\x0a\x05ab",  # longer than the file
        b"\x08" + b"\xff" * 11,  # a number without an end
        b"\x0b",  # a group, which ONNX has none of
        b"\x09\x00\x00",  # half a number of eight bytes
        b"\x3a\x03\x2a\x05a",  # an initializer longer than its graph
    ],
)
def test_what_is_no_message_is_no_whole_file(tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match="not a complete ONNX file"):
        load_graph(path)


def test_the_sha256_of_a_file_is_that_of_its_bytes_now(tmp_path):
    path = tmp_path / "model.onnx"
    for content in (b"", b"first", b"a" * (2**20 + 1)):
        path.write_bytes(content)
        assert model_sha256(path) == hashlib.sha256(content).hexdigest()
        assert model_sha256(path) == hashlib.sha256(content).hexdigest()
