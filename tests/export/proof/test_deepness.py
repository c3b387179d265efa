"""Answers of the plugin's way, computed here step by step."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from doubles.networks import graph_of, one_layer, small_spec

from flair_export.convert.deepness_graph import to_deepness
from flair_export.proof.deepness import PluginModel


@pytest.fixture
def write(rgb, tmp_path):
    """Write a file for the plugin with changes to its metadata; return its path."""

    def write(**changes):
        model = to_deepness(graph_of(one_layer(), small_spec(rgb, margin_px=0)))
        for entry in model.metadata_props:
            if entry.key in changes:
                entry.value = json.dumps(changes[entry.key])
        path = tmp_path / "deep.onnx"
        onnx.save(model, path)
        return path

    return write


@pytest.fixture
def images():
    return np.random.default_rng(5).integers(0, 256, (2, 3, 32, 32)).astype(np.uint8)


def test_the_file_is_fed_with_raw_values(write, images):
    """Divided by 255 and by 1/255 again: what comes near the raw values within FP32."""
    fed = []
    model = PluginModel(write())
    model._session = Recording(model._session, fed)
    answer = model.answer(images)
    assert fed[0].dtype == np.float32
    assert fed[0] == pytest.approx(images.astype(np.float32), rel=3e-7)
    assert answer.shares.shape == (2, 15, 32, 32)
    assert (answer.channels == answer.shares.argmax(axis=1)).all()
    assert model.class_names[:2] == ["building", "pervious surface"]


class Recording:
    """A session that keeps what it was fed with."""

    def __init__(self, session, fed):
        self.session, self.fed = session, fed

    def get_inputs(self):
        return self.session.get_inputs()

    def run(self, names, feed):
        self.fed += feed.values()
        return self.session.run(names, feed)


def test_what_the_metadata_say_counts(write, images):
    right = PluginModel(write()).answer(images)
    other = PluginModel(write(standardization_std=[1.0] * 3)).answer(images)
    assert np.abs(right.shares - other.shares).max() > 0.01
    none = PluginModel(write(seg_thresh=1.1)).answer(images)
    assert (none.channels == 0).all(), "below the threshold everywhere: the first class"
    assert (none.shares == right.shares).all()


def test_bands_that_a_model_does_not_read_are_left_out(write, images):
    model = PluginModel(write())
    more = np.concatenate([images, images[:, :2]], axis=1)
    assert (model.answer(more).channels == model.answer(images).channels).all()
