"""The network of a checkpoint is the one the model was made from."""

import numpy as np
import pytest

from flair_bench.errors import ModelError
from flair_bench.yardstick.networks import reference_network, whole_raster_labels
from flair_engine import Model, read_model_spec


def test_another_checkpoint_is_refused(exported, monkeypatch):
    class Read:
        sha256 = "1" * 64

    monkeypatch.setattr("flair_bench.yardstick.networks.read_checkpoint", lambda _: Read)
    with pytest.raises(ModelError, match=r"SHA-256 is 1{12}…, .* exported from 0{12}…"):
        reference_network("weights.pth", exported(8))


def test_the_whole_raster_is_the_tile_where_there_is_only_one(network, exported):
    image = np.random.default_rng(1).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    spec = read_model_spec(exported(0))
    with Model(exported(0)) as model:
        assert (whole_raster_labels(network, spec, image) == model.predict(image)).all()
