"""The stand-in: laid out as a published file, and able to map a scene it has not seen."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from flair_engine.grid import Grid, cut
from flair_export.cards import STANDIN_CARD, find_card
from flair_export.synthetic import standin
from flair_export.synthetic.scene import synthetic_orthophoto

CARD = find_card(STANDIN_CARD)


pytestmark = pytest.mark.usefixtures("one_thread")


def built(size, tile, seed=standin.FITTED_SCENE_SEED):
    """Return a stand-in fitted on less than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standin, "FITTED_SCENE_PX", size)
        patch.setattr(standin, "FITTED_TILE_PX", tile)
        patch.setattr(standin, "PIXELS_PER_TILE", 2000)
        return standin.build_standin(seed)


@pytest.fixture(scope="module")
def state(one_thread):
    """Fitted on one small tile: enough for the layout."""
    return built(256, 256)


def bare_network(state):
    network = smp.Unet("resnet34", encoder_weights=None, in_channels=5, classes=19)
    tensors = {
        name.removeprefix(standin.PUBLISHED_PREFIX): tensor
        for name, tensor in state.items()
        if name != "criterion.weight"
    }
    network.load_state_dict(tensors, strict=True)
    return network.eval()


def predicted(network, image):
    """Labels of `image` at tile 512, margin 128, by a plain loop."""
    mean = torch.tensor(CARD.normalization.mean).reshape(-1, 1, 1)
    std = torch.tensor(CARD.normalization.std).reshape(-1, 1, 1)
    height, width = image.shape[1:]
    grid = Grid(height=height, width=width, tile_px=512, margin_px=128)
    labels = np.zeros((height, width), np.uint8)
    for i in range(grid.rows):
        for j in range(grid.cols):
            tile = torch.from_numpy(np.ascontiguousarray(cut(image, grid.tile(i, j))))
            with torch.inference_mode():
                logits = network(((tile.float() - mean) / std)[None])[0]
            core = grid.core(i, j)
            kept = (logits.argmax(0) + 1)[128 : 128 + core.height, 128 : 128 + core.width]
            labels[core.slices] = kept.numpy()
    return labels


def test_the_layout_is_the_published_one(state):
    names = [name for name in state if name != "criterion.weight"]
    assert len(names) == 278
    assert all(name.startswith("model.seg_model.") for name in names)
    assert state["model.seg_model.encoder.conv1.weight"].shape == (64, 5, 7, 7)
    assert state["model.seg_model.segmentation_head.0.weight"].shape == (19, 16, 3, 3)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())
    bare_network(state)  # strict


def test_class_weights_are_zero_for_inactive_classes_only(state):
    weights = state["criterion.weight"]
    assert weights.shape == (19,)
    assert (torch.nonzero(weights == 0).flatten() + 1).tolist() == [15, 16, 17, 19]


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_s_random_state(state):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    again = built(256, 256)
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "model.seg_model.encoder.layer4.0.conv1.weight"
    assert torch.equal(state[name], again[name])
    assert not torch.equal(state[name], built(256, 256, seed=9)[name])


def test_a_fit_recovers_the_classes_a_convolution_can_tell():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3, padding=1))
    tile = torch.randn(2, 64, 64)
    labels = torch.where(tile[0] > 0, 4, 9)
    weight, bias = standin._least_squares(network, network[0], [(tile, labels)], [4, 9])
    with torch.no_grad():
        network[0].weight.copy_(weight)
        network[0].bias.copy_(bias)
        answers = network(tile[None])[0]
    assert ((answers[0] > answers[1]) == (labels == 4)).float().mean() > 0.97
    torch.testing.assert_close(answers.sum(0), torch.ones(64, 64), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_another_scene_is_labelled_as_drawn():
    network = bare_network(built(768, 384))
    image, truth = synthetic_orthophoto(500, 400, seed=7)
    assert (predicted(network, image) == truth).mean() > 0.8
