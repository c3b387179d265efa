"""The agreement of an engine with FP32, measured once and kept beside the plans.

It belongs to all that it depends on: the model's bytes, versions, the CPU, precision, batch and
threads. What is kept is a file of the user's own as plans are; one that is not, or is damaged, is
measured again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flair_engine.agreement import LabelDifference
from flair_engine.bounded_json import parse
from flair_engine.durable import write_whole
from flair_engine.errors import EngineError
from flair_engine.inference.kept import SIDECAR_BYTES, DistrustedError, own_folder, read_own

if TYPE_CHECKING:
    from pathlib import Path

AGREEMENT_SCHEMA = 1
"""Raised with any change of the fields or their meaning; a file of another is measured again."""
SUFFIX = ".agreement"


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementKey:
    """Everything an agreement depends on, but for the images it was measured on."""

    onnx_sha256: str
    version: str
    """Of flair-engine, which may change the network before the runtime has it."""
    runtime: str
    """With its version."""
    cpu: str
    capabilities: str
    """What the runtime says that the CPU computes in."""
    precision: str
    batch: int
    threads: int

    @property
    def name(self) -> str:
        """File name: 16 hexadecimal digits of the SHA-256 of all fields."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16] + SUFFIX


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredAgreement:
    """How labels differ from FP32's, and when that was measured."""

    difference: LabelDifference
    measured: str
    """ISO 8601, UTC."""


def find(folder: Path | None, key: AgreementKey) -> MeasuredAgreement | None:
    """Return what is kept for `key`, None where nothing is that can be trusted."""
    try:
        path = own_folder(folder) / key.name
        found = parse(read_own(path), largest_bytes=SIDECAR_BYTES)
        if found["schema"] != AGREEMENT_SCHEMA or found["key"] != asdict(key):
            return None
        return _measured(found)
    except (EngineError, DistrustedError, OSError, ValueError, KeyError, TypeError):
        return None


def keep(folder: Path | None, key: AgreementKey, found: MeasuredAgreement) -> None:
    """Keep what was measured. Raises EngineError where the folder is not the user's to write."""
    content = {"schema": AGREEMENT_SCHEMA, "key": asdict(key), **asdict(found)}
    own = own_folder(folder)
    try:
        write_whole(own / key.name, json.dumps(content, indent=2).encode(), mode=0o600)
    except OSError as error:
        raise EngineError(
            f"{own}: nothing can be kept there ({error.strerror or error})",
            "give a writable folder with --plan-cache",
        ) from error


def _measured(content: dict[str, Any]) -> MeasuredAgreement:
    """Return the agreement in a file. Raises KeyError, TypeError, ValueError for other fields."""
    counts, measured = content["difference"], content["measured"]
    difference = LabelDifference(**counts)
    numbers = (difference.pixels, difference.different, difference.lower)
    if not all(type(number) is int for number in numbers) or not isinstance(measured, str):
        raise TypeError("counts are whole numbers, a time is a text")
    if not difference.pixels >= difference.different >= difference.lower >= 0:
        raise ValueError("a part is larger than its whole")
    return MeasuredAgreement(difference=difference, measured=measured)
