"""Weights files as files: found, downloaded, decoded, named."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from flair_export.cards import CARDS
from flair_export.errors import CheckpointError

HUB_TIMEOUT_S = 5.0
"""For an answer of the Hub, before it counts as out of reach."""
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


def locate(source: str) -> Path:
    """Return the local path of a weights file, after a download where `source` is a Hub id.

    Raises CheckpointError.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.exists():
        raise CheckpointError(f"{path}: is no file", "give the weights file inside it")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and path.suffix not in CHECKPOINT_SUFFIXES:
        return _download(source)
    raise CheckpointError(
        f"{path}: no such checkpoint",
        f"give a {', '.join(CHECKPOINT_SUFFIXES)} file or a Hub id such as {CARDS[0].hub_id}",
    )


def weights_name(source: str) -> str:
    """Return what the weights are called: by their file or Hub id, not by the card they fit.

    Weights trained by somebody else on a published architecture must not carry its name.
    """
    path = Path(source)
    if path.suffix in CHECKPOINT_SUFFIXES:
        return path.stem.removesuffix("_weights")
    return source.rpartition("/")[2]


def read_file(path: Path, *, trust: bool) -> Any:
    """Decode a weights file; what it holds is not looked at yet. Raises CheckpointError."""
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise CheckpointError(
            f"{path}: ends in '{path.suffix}'", f"give a {', '.join(CHECKPOINT_SUFFIXES)} file"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch remarks on, it also refuses
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # a damaged file raises whatever its damage leads to
        needs = re.search(r"GLOBAL (\S+)", str(error))
        if needs and isinstance(error, pickle.UnpicklingError):
            raise CheckpointError(
                f"{path}: needs {needs[1]}, so loading it would run code that comes with the "
                "file; tensors alone do not",
                "use --trust-checkpoint if you trust who made it",
            ) from error
        raise CheckpointError(
            f"{path}: cannot be read as a {path.suffix} checkpoint "
            f"({type(error).__name__}: {_reason(error)})",
            "download or save it again",
        ) from error


def _reason(error: Exception) -> str:
    """Return the line that says what is wrong, among torch's advice on its options."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("Unsupported")]
    return (telling or lines or ["it is cut short"])[0][:200]


def _download(hub_id: str) -> Path:
    """Fetch the weights of a Hub repository into its cache, or find them there.

    The Hub is asked once whether it is there: a download tries for half a minute to reach one that
    is not.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    filename = f"{hub_id.partition('/')[2]}_weights.pth"
    try:
        try:
            url = huggingface_hub.hf_hub_url(hub_id, filename)
            huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S)
        except (EntryNotFoundError, RepositoryNotFoundError):
            raise  # the Hub is there, the file is not
        except Exception:
            cached = huggingface_hub.try_to_load_from_cache(hub_id, filename)
            if not isinstance(cached, str):
                raise
            return Path(cached)
        return Path(huggingface_hub.hf_hub_download(hub_id, filename))
    except Exception as error:  # its classes and those of its HTTP client changed over versions
        raise CheckpointError(
            f"{hub_id}: no such file here, and the Hub does not give {filename} "
            f"({type(error).__name__}: {_reason(error)})",
            "check the name and the network, or download the file yourself and give its path",
        ) from error


def sha256_of(path: Path) -> str:
    """Return the hash of a file, as the Hub shows it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
