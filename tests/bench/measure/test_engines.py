"""Engines are chosen by label, and those that cannot run are named with the reason."""

import pytest

from flair_bench.measure import engines
from flair_bench.measure.engines import Choice, chosen, every_choice, probe
from flair_engine import read_model_spec
from flair_engine.errors import EngineError


def test_engines_are_chosen_by_label():
    assert chosen([]) == every_choice()
    assert [choice.label for choice in chosen(["ort"])] == ["ort"]
    assert chosen(["auto", "auto fp32"]) == list(engines.BY_ITSELF)
    assert not set(engines.BY_ITSELF) & set(every_choice())
    with pytest.raises(EngineError, match=r"engine 'warp' is unknown: choose from .*ort"):
        chosen(["warp"])


def test_a_choice_says_the_same_to_the_library_and_on_the_command_line():
    assert chosen(["ort"])[0].arguments() == ["--engine", "ort"]
    choice = Choice("openvino", "bf16")
    options = choice.options(batch=3)
    assert (options.engine, options.precision, options.batch) == ("openvino", "bf16", 3)
    assert choice.arguments() == ["--engine", "openvino", "--precision", "bf16"]


def test_engines_that_cannot_run_are_named(exported, monkeypatch):
    model, opened = exported(8), engines.opened

    def refuse(path, spec, options):
        if options.engine != "ort":
            raise EngineError("no such thing here", "get one")
        return opened(path, spec, options)

    monkeypatch.setattr(engines, "opened", refuse)
    usable, missing = probe(model, read_model_spec(model), every_choice())
    assert usable == [Choice("ort")]
    assert missing.keys() == {"trt", "openvino fp32", "openvino bf16"}
    assert set(missing.values()) == {"no such thing here: get one"}
