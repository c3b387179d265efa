"""The exported module against the plain computation."""

from __future__ import annotations

import pytest
import torch
from doubles.networks import noise, random_network, small_spec, uniform_head
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.manifest import OUTPUT_NAMES
from flair_export.cards import CARDS, find_card
from flair_export.network.modules import LabelNetwork, active_head, label_values, quantised, spread

pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.sets(st.integers(1, 255), min_size=1, max_size=40))
def test_label_arithmetic_is_the_lookup(values: set[int]):
    ascending = sorted(values)
    labels = label_values(torch.arange(len(ascending)), ascending)
    assert labels.tolist() == ascending


@pytest.mark.parametrize("name", ["rgb_15cl_resnet34-unet", "rgb_12cl_resnet34-unet"])
def test_inactive_class_never_wins_even_over_negative_logits(tiny, name):
    card = find_card(name)
    uniform_head(tiny, dict.fromkeys(card.active, -50.0) | {card.active[-1]: -49.0}, others=90.0)
    labels, confidence, probabilities = LabelNetwork(tiny, small_spec(card, OUTPUT_NAMES))(noise())
    inactive = [v - 1 for v in range(1, 20) if v not in card.active]
    assert labels.unique().tolist() == [card.active[-1]]
    assert probabilities[:, inactive].max() == 0
    assert (confidence == probabilities[:, card.active[-1] - 1]).all()


def test_tie_keeps_the_first_class(tiny, rgb):
    uniform_head(tiny, {3: 1.0, 12: 1.0, 18: 1.0}, others=0.0)
    (labels,) = LabelNetwork(tiny, small_spec(rgb))(noise())
    assert labels.unique().tolist() == [3]


def test_network_is_shared_and_left_as_it_was(tiny, rgb):
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    network = LabelNetwork(tiny, small_spec(rgb))
    assert network.encoder is tiny.encoder
    assert network.head[0].out_channels == 15
    assert tiny.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in tiny.state_dict().items())


def test_active_head_keeps_the_rows_of_its_classes(tiny):
    head = active_head(tiny.segmentation_head, [2, 19])
    assert torch.equal(head[0].weight, tiny.segmentation_head[0].weight[[1, 18]])
    assert torch.equal(head[0].bias, tiny.segmentation_head[0].bias[[1, 18]])


@pytest.mark.parametrize("margin", [0, 1, 15])
def test_margin_cuts_the_centre(tiny, rgb, margin):
    whole = LabelNetwork(tiny, small_spec(rgb, margin_px=0))
    (kept,) = LabelNetwork(tiny, small_spec(rgb, margin_px=margin))(noise())
    (labels,) = whole(noise())
    assert torch.equal(kept, labels[:, margin : 32 - margin, margin : 32 - margin])


def test_zero_padding_is_padding_with_the_mean(tiny, rgb):
    image = noise(1)
    network = LabelNetwork(tiny, small_spec(rgb, margin_px=0))
    mean, std = (
        torch.tensor(v).reshape(-1, 1, 1) for v in ([105.08, 110.87, 101.82], [52.17, 45.38, 44.0])
    )
    expected = tiny((image.float() - mean) / std)[:, [v - 1 for v in rgb.active]]
    torch.testing.assert_close(network.logits(image), expected)


def test_quantised_rounds_halves_up():
    shares = torch.tensor([0.0, 0.499 / 255, 0.5 / 255, 1.0])
    assert quantised(shares).tolist() == [0, 0, 1, 255]


def test_spread_is_the_scatter():
    planes = torch.arange(1.0, 4.0).reshape(1, 3, 1, 1)
    assert spread(planes, [2, 3, 6], 7).flatten().tolist() == [0, 1, 2, 0, 0, 3, 0]


@pytest.mark.parametrize("card", CARDS[:1], ids=lambda card: card.short_name)
def test_outputs_are_those_asked_for(card):
    net = random_network(card)
    image = noise(1, card.band_count, 64)
    everything = LabelNetwork(net, small_spec(card, OUTPUT_NAMES, 64, 16))(image)
    some = LabelNetwork(net, small_spec(card, ("labels", "probabilities"), 64, 16))(image)
    assert [tuple(output.shape) for output in everything] == [
        (1, 32, 32),
        (1, 32, 32),
        (1, 19, 32, 32),
    ]
    assert all(output.dtype == torch.uint8 for output in everything)
    assert torch.equal(some[0], everything[0])
    assert torch.equal(some[1], everything[2])
