"""The reference against the computation written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from doubles.networks import noise, small_spec

from flair_engine.manifest import OUTPUT_NAMES
from flair_export.errors import ExportError
from flair_export.proof.reference import reference_logits, reference_outputs


@pytest.fixture
def spec(rgb):
    return small_spec(rgb, OUTPUT_NAMES)


def test_reference_is_the_plain_computation(tiny, spec, rgb):
    image = noise(1).numpy()
    outputs = reference_outputs(reference_logits(tiny, spec, image), spec)
    mean = np.array(spec.normalization.mean).reshape(-1, 1, 1)
    std = np.array(spec.normalization.std).reshape(-1, 1, 1)
    with torch.no_grad():
        whole = tiny(torch.from_numpy((image - mean) / std).float())[0, :, 8:24, 8:24].numpy()
    whole[[14, 15, 16, 18]] = -np.inf
    shares = np.exp(whole - whole.max(axis=0))
    shares /= shares.sum(axis=0)
    assert (outputs["labels"][0] == whole.argmax(axis=0) + 1).all()
    assert abs(outputs["probabilities"][0] - 255 * shares).max() <= 0.51
    assert (outputs["confidence"] == outputs["probabilities"].max(axis=1)).all()
    alone = reference_outputs(reference_logits(tiny, small_spec(rgb), image), small_spec(rgb))
    assert alone.keys() == {"labels"}
    assert (alone["labels"] == outputs["labels"]).all()


def test_undefined_logits_are_refused(tiny, spec):
    with torch.no_grad():
        tiny.segmentation_head[0].bias[0] = float("inf")
    with pytest.raises(ExportError, match="infinite or undefined logits"):
        reference_logits(tiny, spec, noise(1).numpy())
