from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from doubles.networks import PREFIX, random_network, state_dict
from safetensors.torch import save_file

from flair_export.cards import CARDS, find_card
from flair_export.errors import CardError, CheckpointError
from flair_export.network.checkpoint import (
    Checkpoint,
    choose_card,
    load_network,
    read_checkpoint,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


def bare(state: dict) -> dict:
    return {k.removeprefix(PREFIX): v for k, v in state.items() if k != "criterion.weight"}


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
        state[PREFIX + key if key != "criterion.weight" else key] = value
    assert any(key.startswith(f"{PREFIX}decoder.2.") for key in state)
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
    del state[f"{PREFIX}encoder.bn1.bias"]
    del state[f"{PREFIX}segmentation_head.0.bias"]
    state[f"{PREFIX}decoder.extra"] = torch.zeros(1)
    state["optimizer"] = torch.zeros(1)
    state[f"{PREFIX}encoder.bn1.weight"] = torch.zeros(7)
    state[f"{PREFIX}encoder.bn1.running_mean"] = torch.zeros(64, dtype=torch.int64)
    state[f"{PREFIX}encoder.bn1.running_var"] = torch.full((64,), float("nan"))
    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", state))
    with pytest.raises(CheckpointError) as caught:
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
    first = f"{PREFIX}encoder.conv1.weight"
    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", {first: rgb_state[first]}))
    assert checkpoint.channels is None
    with pytest.raises(CheckpointError, match=r"277 missing \(encoder.bn1.weight, .* and 257 more"):
        load_network(checkpoint, rgb)


def test_tensors_outside_the_prefix_are_not_taken_for_the_network(rgb, rgb_state, tmp_path):
    name = "decoder.blocks.0.conv1.0.weight"
    state = dict(rgb_state)
    state[name] = state.pop(PREFIX + name)
    checkpoint = read_checkpoint(saved(tmp_path / "a.pth", state))
    with pytest.raises(CheckpointError, match="1 missing .*; 1 unexpected"):
        load_network(checkpoint, rgb)


# Files that are refused.


class Hostile:
    def __reduce__(self):
        return os.mkdir, (str(Hostile.mark),)


def test_hostile_pickle_is_refused_and_not_run(tmp_path):
    Hostile.mark = tmp_path / "ran"
    path = saved(tmp_path / "evil.pth", {"state_dict": {}, "payload": Hostile()})
    with pytest.raises(CheckpointError, match=r"needs posix.mkdir.*run code.*--trust-checkpoint"):
        read_checkpoint(path)
    assert not Hostile.mark.exists()


def test_trust_reads_what_a_training_script_left(rgb, rgb_state, tmp_path):
    content = {"state_dict": rgb_state, "hyper_parameters": argparse.Namespace(lr=0.1)}
    path = saved(tmp_path / "a.ckpt", content)
    with pytest.raises(CheckpointError, match="needs argparse.Namespace"):
        read_checkpoint(path)
    assert choose_card(read_checkpoint(path, trust=True), None) is rgb


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("name", ["a.pth", "a.ckpt", "a.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04cut"]
)
def test_damaged_file(tmp_path, name, content, trust):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: cannot be read as a .* checkpoint"):
        read_checkpoint(str(path), trust=trust)


def test_file_cut_short(rgb_file, tmp_path):
    path = tmp_path / "short.pth"
    path.write_bytes(rgb_file.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="cannot be read.*zip archive"):
        read_checkpoint(str(path))


def test_no_such_file():
    with pytest.raises(CheckpointError, match=r"weights/a.pth: no such checkpoint.*Hub id such as"):
        read_checkpoint("weights/a.pth")


def test_folder(tmp_path):
    with pytest.raises(CheckpointError, match="is no file"):
        read_checkpoint(str(tmp_path))


def test_unknown_suffix(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"ends in .pth.*, not in '.bin'"):
        read_checkpoint(str(tmp_path / "a.bin"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ({"epoch": 3, "a": torch.zeros(1)}, r"1 of its 2 entries are not tensors \(epoch\)"),
        ({}, "no FLAIR-INC network: found 0 first convolutions .* are none"),
        ({"a": torch.zeros(1)}, "holds 1 tensors but no FLAIR-INC network.* are a"),
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


# The Hub: its own client against a server on the loopback.


class HubHandler(BaseHTTPRequestHandler):
    """Answers what `hf_hub_download` asks of one repository."""

    content = b""
    repository = "IGNF/FLAIR-INC_rgb_15cl_resnet34-unet"
    path_asked = f"/{repository}/resolve/main/{repository.partition('/')[2]}_weights.pth"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body: bool):
        found = self.path == self.path_asked
        self.send_response(200 if found else 404)
        if found:
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("ETag", '"weights"')
        elif self.path.startswith(f"/{self.repository}/"):
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("X-Error-Code", "RepoNotFound")
        body = self.content if found else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


PROBE = """
import json, os, sys
from flair_export.network.checkpoint import choose_card, read_checkpoint
from flair_export.errors import CheckpointError
read = read_checkpoint(sys.argv[1])
answers = [str(read.path), read.sha256, choose_card(read, None).name]
try:
    read_checkpoint("IGNF/absent")
except CheckpointError as error:
    answers.append(str(error))
print(json.dumps(answers))
"""


def test_download_from_the_hub(rgb_file, tmp_path):
    HubHandler.content = rgb_file.read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hub"),
        "NO_PROXY": "127.0.0.1",
    }
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE, HubHandler.repository],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert probe.returncode == 0, probe.stderr
    path, sha256, name, refusal = json.loads(probe.stdout)
    assert path.startswith(str(tmp_path / "hub"))
    assert sha256 == hashlib.sha256(HubHandler.content).hexdigest()
    assert f"IGNF/{name}" == HubHandler.repository
    assert "IGNF/absent: no such file here, and the Hub does not give absent_weights.pth" in refusal
