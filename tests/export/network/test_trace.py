"""Traced graphs against the modules they were made of, and what cannot be traced."""

from __future__ import annotations

import pytest
from doubles.networks import graph_of, noise, small_spec, uniform_head
from doubles.small_graphs import answers_of, operators
from torch import nn

from flair_engine.manifest import OUTPUT_NAMES
from flair_export.errors import ExportError
from flair_export.network.modules import LabelNetwork


@pytest.fixture
def spec(rgb):
    return small_spec(rgb, OUTPUT_NAMES)


@pytest.fixture
def model(tiny, spec):
    return graph_of(tiny, spec)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_graph_gives_what_the_module_gives_for_any_batch(tiny, spec, model, count):
    image = noise(count)
    found = answers_of(model, image.numpy())
    for name, tensor in zip(spec.outputs, LabelNetwork(tiny, spec)(image), strict=True):
        assert found[name].shape == tuple(tensor.shape)
        difference = abs(found[name].astype(int) - tensor.numpy())
        assert difference.max() <= (0 if name == "labels" else 1)


def test_nothing_is_kept_for_a_backward_pass(tiny, spec):
    kept = []
    tiny.encoder.register_forward_hook(lambda _module, _given, made: kept.append(made[-1].grad_fn))
    graph_of(tiny, spec)
    assert kept == [None]
    assert all(weight.requires_grad for weight in tiny.parameters())


def test_softmax_only_where_it_is_asked_for(tiny, rgb):
    spec = small_spec(rgb)
    found = operators(graph_of(tiny, spec))
    assert "Softmax" not in found
    assert found.count("Cast") == 3
    assert found[-1] == "Cast"


def test_tie_and_inactive_classes_in_the_file(tiny, rgb):
    uniform_head(tiny, dict.fromkeys(rgb.active, -9.0), others=50.0)
    spec = small_spec(rgb, OUTPUT_NAMES)
    found = answers_of(graph_of(tiny, spec), noise().numpy())
    assert (found["labels"] == 1).all()
    assert (found["confidence"] == 17).all()
    assert not found["probabilities"][:, [14, 15, 16, 18]].any()


def test_network_that_mixes_the_batch_is_refused(tiny, spec):
    class Mixing(nn.Module):
        def forward(self, image):
            return image.reshape(-1, 32).reshape(image.shape)

    tiny.decoder = Mixing()
    with pytest.raises(ExportError, match="mixes the batch axis"):
        graph_of(tiny, spec)


def test_exporter_warnings_stay_silent(tiny, spec, recwarn):
    graph_of(tiny, spec)
    assert not recwarn.list
