"""Candidates are named by what tells them from others."""

from dataclasses import replace

import pytest

from flair_bench.measure.candidates import candidate_name, geometry_name, list_candidates
from flair_bench.measure.engines import Choice
from flair_bench.show.wording import with_precision
from flair_engine import read_model_spec
from flair_engine.tolerances import ENGINE_EQUAL


@pytest.mark.parametrize(
    ("choice", "precision", "computed", "name", "shown"),
    [
        (Choice("ort"), "fp32", "fp32", "ort 32-8", "ort 32-8 fp32"),
        (Choice("ort"), "fp16", "fp16", "ort 32-8", "ort 32-8 fp16"),
        (Choice("ort"), "int8", "int8", "ort int8 32-8", "ort int8 32-8"),
        (Choice("openvino", "bf16"), "fp32", "bf16", "openvino bf16 32-8", "openvino bf16 32-8"),
        (Choice("openvino", "fp32"), "int8", "int8", *2 * ["openvino fp32 int8 32-8"]),
        (Choice("openvino", "bf16"), "int8", "int8 bf16", *2 * ["openvino bf16 int8 32-8"]),
    ],
)
def test_a_run_is_named_by_what_tells_it_from_others(
    exported, choice, precision, computed, name, shown
):
    spec = replace(read_model_spec(exported(8)), precision=precision)
    assert choice.computes_in(spec) == computed
    assert computed in ENGINE_EQUAL
    assert candidate_name(choice, spec, among_models=2) == name
    assert candidate_name(choice, spec, among_models=1) == choice.label
    assert with_precision(name, computed) == shown


def test_every_engine_meets_every_model(exported):
    models = [exported(8), exported(0)]
    found = list_candidates([Choice("ort"), Choice("openvino", "fp32")], models)
    assert [candidate.name for candidate in found] == [
        "ort 32-8", "openvino fp32 32-8", "ort 32-0", "openvino fp32 32-0",
    ]  # fmt: skip
    assert [candidate.model for candidate in found[1:3]] == models
    assert geometry_name(found[-1].spec) == "32-0"
