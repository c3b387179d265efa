"""Arrays as text, for result files."""

import base64
import zlib
from dataclasses import dataclass
from math import prod

import numpy as np

LARGEST_BYTES = 64 << 20
"""Of an array: a tile has a tenth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedArray:
    """A uint8 array as text."""

    shape: tuple[int, ...]
    content: str
    """The bytes in C order, deflated, in base64."""

    def __post_init__(self) -> None:
        self.unpacked()

    def unpacked(self) -> np.ndarray:
        """Return the array. Raises ValueError where the text is not one of this shape."""
        size = prod(self.shape)
        if min(self.shape, default=0) < 1 or size > LARGEST_BYTES:
            raise ValueError(f"an array of shape {list(self.shape)[:4]}")
        try:
            inflate = zlib.decompressobj()
            content = inflate.decompress(base64.b64decode(self.content, validate=True), size + 1)
        except zlib.error as error:
            raise ValueError("an array that cannot be inflated") from error
        if len(content) != size:
            raise ValueError(f"an array of {len(content)} bytes or more, not {size}")
        array: np.ndarray = np.frombuffer(content, np.uint8).reshape(self.shape)
        return array


def packed(array: np.ndarray) -> PackedArray:
    """Return a uint8 array as text."""
    content = base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()
    return PackedArray(shape=array.shape, content=content)
