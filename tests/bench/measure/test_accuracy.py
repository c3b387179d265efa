"""Confusion matrix and averages against an oracle, the card, and the refusals."""

import numpy as np
import pytest

from flair_bench.data.dataset import find_pairs
from flair_bench.errors import DatasetError, ModelError
from flair_bench.measure import accuracy
from flair_bench.measure.scores import PUBLISHED_IOU, confusion, mean_over, scores
from flair_engine import Model, RunOptions
from flair_export.cards import ACTIVE_12, ACTIVE_15

CPU = RunOptions(engine="ort", device="cpu", threads=1, batch=2)


def oracle(truth, labels, active):
    """The official averages, pixel by pixel as their definition says."""
    counted = [(t, w) for t, w in zip(truth, labels, strict=True) if t in active and w in active]
    hits = sum(t == w for t, w in counted)
    ious, fs = [], []
    for value in active:
        both = sum(t == w == value for t, w in counted)
        either = sum(value in pair for pair in counted)
        sums = sum(t == value for t, _ in counted) + sum(w == value for _, w in counted)
        ious.append(both / either if either else 0)
        fs.append(2 * both / sums if sums else 0)
    return 100 * hits / len(counted), 100 * np.mean(ious), 100 * np.mean(fs)


@pytest.mark.parametrize("active", [ACTIVE_12, ACTIVE_15])
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_their_definition(active, seed):
    random = np.random.default_rng(seed)
    truth = random.integers(1, 20, 800).astype(np.uint8)
    truth[truth == 14] = 13  # no snow, as in the test set
    labels = np.where(random.random(800) < 0.5, truth, random.integers(1, 20, 800)).astype(np.uint8)
    found = scores(confusion(truth, labels), active)
    expected = oracle(truth.tolist(), labels.tolist(), active)
    assert (found.oa, found.official.iou, found.official.f) == pytest.approx(expected)
    assert found.predicted_inactive == pytest.approx(100 * np.mean(~np.isin(labels, active)))
    assert found.masked_inactive == pytest.approx(100 * np.mean(~np.isin(truth, active)))


def test_the_cards_fourteen_ious_give_both_published_means():
    assert mean_over(PUBLISHED_IOU, ACTIVE_15) == pytest.approx(54.7168, abs=5e-5)
    without_snow = [value for value in ACTIVE_15 if value != 14]
    assert mean_over(PUBLISHED_IOU, without_snow) == pytest.approx(58.625, abs=5e-4)


def test_the_official_averages_do_not_see_inactive_classes():
    matrix = np.eye(19, dtype=np.int64) * 10
    matrix[13] = 0  # no snow
    matrix[0, 14] = 1_000  # labelled clear cut, an inactive class
    found = scores(matrix, ACTIVE_15)
    assert found.official.iou == pytest.approx(100 * 14 / 15)
    assert found.without_snow.iou == found.oa == 100
    assert found.predicted_inactive > 80


def test_accuracy_is_that_of_the_models_labels(exported, patches):
    folder, images, masks = patches
    matrix = accuracy.count_confusion(exported(0), find_pairs(folder), CPU)
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


def test_patches_of_another_size_are_refused(exported, patches, image_file):
    folder, _, _ = patches
    image_file[0].replace(folder / "aerial/D1/Z0/img/IMG_000.tif")
    with pytest.raises(DatasetError, match=r"image 3 x 96 x 80, mask 32 x 32; .* 3 x 32 x 32"):
        accuracy.count_confusion(exported(0), find_pairs(folder), CPU)


def test_masks_of_other_values_are_refused(exported, patches, write_image):
    folder, _, masks = patches
    write_image(folder / "labels/D1/Z0/msk/MSK_000.tif", masks[0] - 1)
    with pytest.raises(DatasetError, match=r"values 0 to 18, expected 1 to 19"):
        accuracy.count_confusion(exported(0), find_pairs(folder), CPU)


def test_lists_choose_patches_by_name(patches, tmp_path):
    folder, _, _ = patches
    path = tmp_path / "test.csv"
    path.write_text("img,msk\nelsewhere/img/IMG_002.tif,elsewhere/msk/MSK_002.tif\n")
    assert [pair.image.name for pair in find_pairs(folder, [path])] == ["IMG_002.tif"]


def test_datasets_that_cannot_be_scored_are_refused(patches, tmp_path):
    folder, _, _ = patches
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"is no folder"):
        find_pairs(tmp_path / "absent")
    with pytest.raises(DatasetError, match=r"no IMG_\*\.tif below"):
        find_pairs(tmp_path / "empty")
    with pytest.raises(DatasetError, match=r"cannot be read .* give a CSV"):
        find_pairs(folder, [tmp_path / "absent.csv"])
    (tmp_path / "no.csv").write_text("nothing\n")
    with pytest.raises(DatasetError, match=r"names no \.tif"):
        find_pairs(folder, [tmp_path / "no.csv"])
    next(folder.rglob("MSK_001.tif")).unlink()
    with pytest.raises(DatasetError, match=r"1 of 3 patches have no MSK_\*\.tif \(MSK_001"):
        find_pairs(folder)


def test_a_saved_matrix_is_scored(tmp_path):
    matrix = np.eye(19, dtype=np.int64)
    np.save(tmp_path / "confmat.npy", matrix)
    figures = accuracy.figures(accuracy.read_confusion(tmp_path / "confmat.npy"), None)
    assert figures["oa"] == figures["official"]["iou"] == 100
    np.save(tmp_path / "small.npy", matrix[:5])
    with pytest.raises(DatasetError, match=r"is \[5, 19\], expected \[19, 19\]"):
        accuracy.read_confusion(tmp_path / "small.npy")
    (tmp_path / "text.npy").write_text("no")
    with pytest.raises(DatasetError, match=r"is no \.npy file"):
        accuracy.read_confusion(tmp_path / "text.npy")
