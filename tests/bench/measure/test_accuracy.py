"""Accuracy is that of the model's labels, and matrices come as saved."""

import numpy as np
import pytest

from flair_bench.data.dataset import find_pairs
from flair_bench.errors import DatasetError, ModelError
from flair_bench.measure import accuracy
from flair_bench.measure.scores import confusion
from flair_engine import Model, RunOptions

CPU = RunOptions(engine="ort", device="cpu", threads=1, batch=2)


def test_accuracy_is_that_of_the_models_labels(exported, patches):
    folder, images, masks = patches
    spec = accuracy.scorable(exported(0))
    matrix = accuracy.count_confusion(exported(0), spec, find_pairs(folder), CPU)
    with Model(exported(0), CPU) as model:
        expected = sum(
            confusion(mask[0], model.predict(image))
            for image, mask in zip(images, masks, strict=True)
        )
    assert (matrix == expected).all()
    assert matrix.sum() == masks.size


def test_a_model_with_a_margin_is_refused(exported):
    with pytest.raises(ModelError, match=r"keeps 16 of 32 px .* --tile 32 --margin 0"):
        accuracy.scorable(exported(8))


def test_a_saved_matrix_is_scored(tmp_path):
    matrix = np.eye(19, dtype=np.int64)
    np.save(tmp_path / "confmat.npy", matrix)
    figures = accuracy.score(accuracy.read_confusion(tmp_path / "confmat.npy"), None)
    assert figures.oa == figures.official.iou == 100
    assert figures.classes[-1].name == "greenhouse"
    assert figures.confusion[18][18] == 1
    np.save(tmp_path / "small.npy", matrix[:5])
    with pytest.raises(DatasetError, match=r"is \[5, 19\]: give \[19, 19\], rows the masks"):
        accuracy.read_confusion(tmp_path / "small.npy")
    (tmp_path / "text.npy").write_text("no")
    with pytest.raises(DatasetError, match=r"is no \.npy file"):
        accuracy.read_confusion(tmp_path / "text.npy")
