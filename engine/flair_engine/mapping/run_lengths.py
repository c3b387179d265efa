"""Run lengths of labels: what finished strips are kept as until the map is assembled."""

from __future__ import annotations

import numpy as np


def pack(array: np.ndarray) -> bytes:
    """Return uint8 values as run lengths, values and lengths (uint32) apart, or raw where longer.

    Label maps are mostly equal pixels in a row: this is several times faster than deflate, and
    small enough to be kept until the map is there.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    differs = flat[1:] != flat[:-1]
    # Counted first: of noise the places of the ends would take 12 times its pixels.
    if 5 * (np.count_nonzero(differs) + 1) >= flat.size:
        return b"".join((b"raw", flat.data))
    ends = np.append(np.flatnonzero(differs), flat.size - 1).astype("<u4")
    lengths = np.diff(ends, prepend=np.uint32(2**32 - 1)).astype("<u4")
    return b"".join((b"run", flat[ends].tobytes(), lengths.tobytes()))


def count_packed(packed: bytes) -> np.ndarray:
    """Return how many pixels have each value, int64 [256], without unpacking."""
    body = np.frombuffer(packed, np.uint8, offset=3)
    if packed[:3] == b"raw":
        return np.bincount(body, minlength=256)
    count = body.size // 5
    counts = np.bincount(body[:count], body[count:].view("<u4"), minlength=256)
    return counts.astype(np.int64)  # float64 sums of a strip's pixels are exact


def unpack(packed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return the uint8 array that `pack` was given."""
    body = np.frombuffer(packed, np.uint8, offset=3)
    if packed[:3] == b"raw":
        return body.reshape(shape)
    count = body.size // 5
    return np.repeat(body[:count], body[count:].view("<u4")).reshape(shape)
