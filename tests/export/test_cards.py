"""Published models by all their names, and as manifests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doubles.networks import small_spec
from doubles.tiny_model import SPEC

from flair_engine.manifest import parse_manifest
from flair_export.cards import ACTIVE_12, ACTIVE_15, CARDS, card_of, export_bytes, find_card
from flair_export.errors import CardError

SEED_MODEL = "FLAIR-INC_rgbie_15cl_resnet34-unet"


def test_eight_models_of_two_nomenclatures():
    assert len({card.name for card in CARDS}) == 8
    assert {card.active for card in CARDS} == {ACTIVE_12, ACTIVE_15}
    assert len(ACTIVE_12) == 12
    assert len(ACTIVE_15) == 15


@pytest.mark.parametrize(
    "name",
    [
        SEED_MODEL,
        f"IGNF/{SEED_MODEL}",
        f"ignf/{SEED_MODEL.upper()}",
        "rgbie_15cl_resnet34-unet",
        " RGBIE_15cl_ResNet34-UNet ",
        "FLAIR-INC_RVBIE_resnet34_unet_15cl_norm",
        "FLAIR-INC_RVBIE_unetresnet34_15cl_norm",
        "rvbie_unetresnet34_15cl_norm",
    ],
)
def test_one_model_by_all_its_names(name: str):
    assert find_card(name).name == SEED_MODEL


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.short_name)
def test_every_card_by_its_names_and_as_manifest(card):
    assert find_card(card.hub_id) is find_card(card.short_name) is card
    spec = small_spec(card)
    assert parse_manifest(spec.to_json(), "card") == spec
    assert spec.bands == ("red", "green", "blue", "nir", "elevation")[: card.band_count]
    assert tuple(entry.value for entry in spec.active_classes) == card.active
    assert [entry.value for entry in spec.classes] == list(range(1, 20))
    assert card.statistics_published == (card.band_count != 4)


def test_unknown_name_lists_the_known_ones_closest_first():
    with pytest.raises(
        CardError,
        match=r"'rgb_12cl_resnet50-unet' is not known: choose from rgb_12cl_resnet34-unet",
    ) as caught:
        find_card("rgb_12cl_resnet50-unet")
    assert all(card.short_name in str(caught.value) for card in CARDS)


def test_memory_of_an_export_grows_with_the_tile_and_with_attention():
    unet, mit = find_card("rgb_15cl_resnet34-unet"), find_card("rgb_15cl_mitb5-unet")
    # Peaks measured at 1024 and 2048 px: 2468 and 4772 MiB.
    assert export_bytes(unet, 1024) / 2**20 == pytest.approx(2468, rel=0.1)
    assert export_bytes(unet, 2048) / 2**20 == pytest.approx(4772, rel=0.1)
    matrices = 2 * 2 * (2048 // 4) ** 2 * (2048 // 32) ** 2
    assert export_bytes(mit, 2048) - export_bytes(unet, 2048) == 4 * matrices
    assert export_bytes(find_card("rgb_15cl_resnet34-deeplabv3"), 512) > export_bytes(unet, 512)


def spec_of(card, **changes):
    """Return the manifest of weights that fit a card."""
    says = {"name": card.name, "architecture": card.network, "bands": card.bands}
    return replace(SPEC, **{**says, "classes": card.classes, **changes})


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.short_name)
def test_weights_are_known_by_name_and_shape(card):
    assert card_of(spec_of(card)) == card
    assert all(card_of(spec_of(card, name=name)) == card for name in (card.hub_id, *card.aliases))


@pytest.mark.parametrize(
    "changes", [{"name": "mine"}, {"architecture": "vit"}, {"bands": ("red",)}, {"classes": ()}]
)
def test_weights_of_another_name_or_shape_are_not_the_published_ones(changes):
    assert card_of(spec_of(CARDS[0], **changes)) is None
