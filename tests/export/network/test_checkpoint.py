"""Checkpoints in every wrapping, the card they fit, and what does not load."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from doubles.networks import random_network, saved, state_dict
from safetensors.torch import save_file

from flair_export.cards import CARDS, find_card
from flair_export.errors import CardError, CheckpointError
from flair_export.network.checkpoint import (
    Checkpoint,
    choose_card,
    load_network,
    read_checkpoint,
)
from flair_export.synthetic.standin import PUBLISHED_PREFIX

pytestmark = pytest.mark.usefixtures("one_thread")


def bare(state: dict) -> dict:
    return {
        k.removeprefix(PUBLISHED_PREFIX): v for k, v in state.items() if k != "criterion.weight"
    }


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
def test_every_container_gives_the_same_network(rgb, rgb_state, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(rgb_state, path)
    elif suffix == ".ckpt":
        torch.save({"epoch": 3, "state_dict": rgb_state, "hyper_parameters": {"lr": 0.1}}, path)
    else:
        torch.save(rgb_state, path)
    checkpoint = read_checkpoint(str(path))
    assert (checkpoint.architecture, checkpoint.encoder) == ("unet", "resnet34")
    assert (checkpoint.band_count, checkpoint.channels) == (3, 19)
    assert checkpoint.active == rgb.active
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert choose_card(checkpoint, None) is rgb
    loaded = load_network(checkpoint, rgb).state_dict()
    assert loaded.keys() == bare(rgb_state).keys()
    assert all(torch.equal(loaded[key], value) for key, value in bare(rgb_state).items())


@pytest.mark.parametrize("prefix", ["", "model.", "seg_model.", "module.model.seg_model."])
def test_other_wrappings_of_the_same_tensors(rgb_state, tmp_path, prefix):
    state = {prefix + key: value for key, value in bare(rgb_state).items()}
    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", state))
    assert checkpoint.active is None
    load_network(checkpoint, choose_card(checkpoint, "rgb_15cl_resnet34-unet"))


def test_old_names_of_deeplabv3_load_too(tmp_path):
    card = find_card("rgb_15cl_resnet34-deeplabv3")
    net = random_network(card)
    renamed = {"aspp": "0", "conv": "1", "bn": "2"}
    state = {}
    for key, value in state_dict(card, net, prefix="").items():
        for new, old in renamed.items():
            key = re.sub(rf"^decoder\.{new}\.", f"decoder.{old}.", key)
        state[PUBLISHED_PREFIX + key if key != "criterion.weight" else key] = value
    assert any(key.startswith(f"{PUBLISHED_PREFIX}decoder.2.") for key in state)
    checkpoint = read_checkpoint(saved(tmp_path / "old.pth", state))
    loaded = load_network(checkpoint, choose_card(checkpoint, None)).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in net.state_dict().items())


# Choosing the card: what the tensors show is enough, no tensor is needed.


def showing(card, **changes) -> Checkpoint:
    seen = Checkpoint(
        path=Path("w.pth"),
        sha256="0" * 64,
        tensors={},
        encoder=card.encoder,
        architecture=card.architecture,
        band_count=card.band_count,
        channels=19,
        active=card.active,
    )
    return replace(seen, **changes)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.short_name)
def test_tensors_tell_the_eight_models_apart(card):
    assert choose_card(showing(card), None) is card
    assert choose_card(showing(card), card.hub_id) is card
    assert choose_card(showing(card, active=None), card.short_name) is card


def test_without_class_weights_the_model_has_to_be_named(rgb):
    with pytest.raises(
        CheckpointError,
        match=r"no criterion.weight.*--model rgb_15cl_resnet34-unet or --model rgb_12cl",
    ):
        choose_card(showing(rgb, active=None), None)


@pytest.mark.parametrize(
    ("named", "changes", "said"),
    [
        ("rgbie_15cl_resnet34-unet", {}, "input bands found 3, the card says 5"),
        ("rgb_12cl_resnet34-unet", {}, "active classes found 1-14 18, the card says 1-12"),
        ("rgb_15cl_resnet34-fpn", {}, "decoder found unet, the card says fpn"),
        ("rgb_15cl_mitb5-unet", {}, "encoder found resnet34, the card says mit_b5"),
        ("rgb_15cl_resnet34-unet", {"channels": 13}, "output channels found 13, .* 19"),
    ],
)
def test_conflict_of_card_and_file(rgb, named, changes, said):
    with pytest.raises(CheckpointError, match=f"w.pth: is not FLAIR-INC_{named}: .*{said}"):
        choose_card(showing(rgb, **changes), named)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": 13}, "nearest is FLAIR-INC_rgb_15cl_resnet34-unet, but output channels"),
        ({"active": ()}, "active classes found none"),
        ({"band_count": 7}, "input bands found 7"),
    ],
)
def test_network_of_no_card(rgb, changes, said):
    with pytest.raises(CheckpointError, match=f"fits none of the 8 published models.*{said}"):
        choose_card(showing(rgb, **changes), None)


def test_unknown_model_name(rgb):
    with pytest.raises(CardError, match="'unet' is not known"):
        choose_card(showing(rgb), "unet")


# Loading is all or nothing.


def test_one_message_lists_every_fault(rgb, rgb_state, tmp_path):
    state = dict(rgb_state)
    del state[f"{PUBLISHED_PREFIX}encoder.bn1.bias"]
    del state[f"{PUBLISHED_PREFIX}segmentation_head.0.bias"]
    state[f"{PUBLISHED_PREFIX}decoder.extra"] = torch.zeros(1)
    state["optimizer"] = torch.zeros(1)
    state[f"{PUBLISHED_PREFIX}encoder.bn1.weight"] = torch.zeros(7)
    state[f"{PUBLISHED_PREFIX}encoder.bn1.running_mean"] = torch.zeros(64, dtype=torch.int64)
    state[f"{PUBLISHED_PREFIX}encoder.bn1.running_var"] = torch.full((64,), float("nan"))
    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", state))
    with pytest.raises(CheckpointError, match="does not load into unet-resnet34") as caught:
        load_network(checkpoint, rgb)
    message = str(caught.value)
    for part in (
        "unet-resnet34 of 278 tensors",
        "2 missing (encoder.bn1.bias, segmentation_head.0.bias)",
        "2 unexpected (decoder.extra, optimizer (not model.seg_model.*))",
        (
            "2 mis-shaped (encoder.bn1.weight [7], expected [64], "
            "encoder.bn1.running_mean [64] of integers, expected [64])"
        ),
        "1 not finite (encoder.bn1.running_var)",
    ):
        assert part in message
    assert "\n" not in message


def test_nothing_but_the_first_convolution_loads_nothing(rgb, rgb_state, tmp_path):
    first = f"{PUBLISHED_PREFIX}encoder.conv1.weight"
    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", {first: rgb_state[first]}))
    assert checkpoint.channels is None
    with pytest.raises(CheckpointError, match=r"277 missing \(encoder.bn1.weight, .* and 257 more"):
        load_network(checkpoint, rgb)


def test_tensors_outside_the_prefix_are_not_taken_for_the_network(rgb, rgb_state, tmp_path):
    name = "decoder.blocks.0.conv1.0.weight"
    state = dict(rgb_state)
    state[name] = state.pop(PUBLISHED_PREFIX + name)
    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", state))
    with pytest.raises(CheckpointError, match="1 missing .*; 1 unexpected"):
        load_network(checkpoint, rgb)


# Files without a network.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ({"epoch": 3, "a": torch.zeros(1)}, r"1 of its 2 entries are not tensors \(epoch\)"),
        ({}, "no FLAIR-INC network: found 0 first convolutions .* among none: give a"),
        ({"a": torch.zeros(1)}, "holds 1 tensors but no FLAIR-INC network.* among a: give a"),
        (
            {f"{p}encoder.conv1.weight": torch.zeros(1, 3, 1, 1) for p in ("a.", "b.")},
            "found 2 first convolutions",
        ),
        (
            {"encoder.conv1.weight": torch.zeros(1), "criterion.weight": torch.ones(13)},
            r"criterion.weight is \[13\], expected one weight for each of 19",
        ),
    ],
)
def test_file_without_a_network(tmp_path, content, said):
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(saved(tmp_path / "a.pth", content))
