"""Requests for TensorRT on a stand-in for a GPU."""

from dataclasses import replace

import pytest

from flair_engine import RunOptions
from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.manifest import read_model_spec


@pytest.fixture
def options(tmp_path):
    return RunOptions(engine="trt", batch=3, plan_cache=tmp_path / "plans")


@pytest.fixture
def ask(fp16_path, tmp_path):
    """Return a function that opens the FP16 model with TensorRT and says what was notified."""

    def ask(model=fp16_path, engine="trt", **changes):
        request = Request(
            model=model, spec=read_model_spec(model), device="cuda:0", batch=3, slots=2,
            plan_cache=tmp_path / "plans", notify=lines.append, status=states.append,
        )  # fmt: skip
        return open_backend(replace(request, **changes), engine)

    lines, states = [], []
    ask.lines, ask.states, ask.folder = lines, states, tmp_path / "plans"
    return ask
