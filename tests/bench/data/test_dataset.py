"""Patches are found by name, read whole, and refused where they cannot be scored."""

import pytest

from flair_bench.data.dataset import Pair, find_pairs, read_pair
from flair_bench.errors import DatasetError
from flair_engine import read_model_spec


@pytest.fixture
def spec(exported):
    return read_model_spec(exported(0))


def test_pairs_are_image_and_mask_of_one_name(patches, spec):
    folder, images, masks = patches
    pairs = find_pairs(folder)
    assert [pair.mask.name for pair in pairs] == ["MSK_000.tif", "MSK_001.tif", "MSK_002.tif"]
    image_bhw, truth_hw = read_pair(pairs[1], spec)
    assert (image_bhw == images[1]).all()
    assert (truth_hw == masks[1][0]).all()


def test_patches_of_another_size_are_refused(patches, image_file, spec):
    pair = Pair(image_file[0], find_pairs(patches[0])[0].mask)
    with pytest.raises(DatasetError, match=r"image 3 x 96 x 80, mask 32 x 32; .* 3 x 32 x 32"):
        read_pair(pair, spec)


def test_masks_of_other_values_are_refused(patches, write_image, spec):
    folder, _, masks = patches
    write_image(folder / "labels/D1/Z0/msk/MSK_000.tif", masks[0] - 1)
    with pytest.raises(DatasetError, match=r"values 0 to 18, expected 1 to 19"):
        read_pair(find_pairs(folder)[0], spec)


def test_lists_choose_patches_by_name(patches, tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("img,msk\nelsewhere/img/IMG_002.tif,elsewhere/msk/MSK_002.tif\n")
    assert [pair.image.name for pair in find_pairs(patches[0], [path])] == ["IMG_002.tif"]


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
