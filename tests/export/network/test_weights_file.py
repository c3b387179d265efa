"""Weights files that are refused, and a download from a Hub on the loopback."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from doubles.networks import saved

from flair_export.errors import CheckpointError
from flair_export.network.checkpoint import choose_card, read_checkpoint
from flair_export.network.weights_file import weights_name

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("IGNF/FLAIR-INC_rgb_15cl_resnet34-unet", "FLAIR-INC_rgb_15cl_resnet34-unet"),
        ("in/FLAIR-INC_rgb_15cl_resnet34-unet_weights.pth", "FLAIR-INC_rgb_15cl_resnet34-unet"),
        ("mine.v2.ckpt", "mine.v2"),
    ],
)
def test_weights_are_called_by_their_own_name(checkpoint, name):
    assert weights_name(checkpoint) == name


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
    with pytest.raises(CheckpointError, match=r"a.bin: ends in '.bin': give a .pth, .pt"):
        read_checkpoint(str(tmp_path / "a.bin"))


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


OFFLINE = """
import json, sys, time
from flair_export.errors import CheckpointError
from flair_export.network.weights_file import locate
answers = []
for name in sys.argv[1], "IGNF/absent":
    began = time.perf_counter()
    try:
        answers.append(str(locate(name)))
    except CheckpointError as error:
        answers.append(str(error))
    answers.append(time.perf_counter() - began)
print(json.dumps(answers))
"""


def answers_of(probe, server, folder):
    """Run a probe whose Hub is a server of this machine; return what it answers."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(folder / "hub"),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", probe, HubHandler.repository],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_download_from_the_hub_and_from_its_cache_in_seconds(rgb_file, tmp_path):
    HubHandler.content = rgb_file.read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        path, sha256, name, refusal = answers_of(PROBE, server, tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert path.startswith(str(tmp_path / "hub"))
    assert sha256 == hashlib.sha256(HubHandler.content).hexdigest()
    assert f"IGNF/{name}" == HubHandler.repository
    assert "IGNF/absent: no such file here, and the Hub does not give absent_weights.pth" in refusal
    cached, cached_s, refusal, refused_s = answers_of(OFFLINE, server, tmp_path)
    assert cached == path
    assert "check the name and the network, or download the file yourself" in refusal
    assert max(cached_s, refused_s) < 15, "huggingface_hub alone tries for half a minute"
