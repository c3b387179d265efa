"""Records of a journal: lines of JSON, each with a checksum, some followed by packed pixels."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flair_engine import bounded_json
from flair_engine.mapping.run_lengths import pack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

Skipped = tuple[str, int, int]
"""A block that could not be decoded: file, first row and column in it."""

JOURNAL_SCHEMA = 4
"""Number of the layout of the file; CONTRIBUTING.md says when it goes up."""

LINE_BYTES = 2**26
"""More than any line is: the fingerprints of 200,000 files. What is longer was spoilt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One record: one output of one strip."""

    panel: int
    """Number of the panel in the run."""
    i: int
    """Row of cores."""
    name: str
    """Output of the model."""
    shape: tuple[int, ...]
    length: int
    """Bytes of packed pixels."""
    crc32: int
    """Of the packed pixels."""
    skipped: tuple[Skipped, ...]
    """Blocks that could not be decoded, those that no earlier record names."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Entry:
        """Return the entry that a line holds; JSON has no tuples."""
        skipped = tuple((file, top, left) for file, top, left in fields["skipped"])
        return cls(**{**fields, "shape": tuple(fields["shape"]), "skipped": skipped})


def strip_record(
    panel: int, i: int, name: str, array: np.ndarray, skipped: Sequence[Skipped]
) -> tuple[Entry, bytes, bytes]:
    """Return the record of one output of a strip, uint8 [bands, h, w]: entry, line and pixels."""
    packed = pack(array)
    entry = Entry(
        panel=panel,
        i=i,
        name=name,
        shape=array.shape,
        length=len(packed),
        crc32=zlib.crc32(packed),
        skipped=tuple(skipped),
    )
    return entry, line_of(asdict(entry)), packed


def line_of(fields: Mapping[str, Any]) -> bytes:
    """Return a line of the journal: JSON, a blank, its CRC-32 in eight hexadecimal digits."""
    text = json.dumps(fields).encode()
    return b"%b %08x\n" % (text, zlib.crc32(text))


def fields_of(line: bytes) -> dict[str, Any] | None:
    """Return what a line of the journal says, None where it is not as it was written."""
    text, _, crc32 = line.rpartition(b" ")
    return _json(text) if crc32 == b"%08x\n" % zlib.crc32(text) else None


def strip_before(line: bytes) -> dict[str, Any] | None:
    """Return the record of a strip of the layouts before this, which began with one."""
    fields = _json(line)
    return fields if fields and fields.keys() >= {"panel", "length"} else None


def _json(text: bytes) -> dict[str, Any] | None:
    """Return the object that a text holds, None where it holds none."""
    try:
        fields = bounded_json.parse(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None
