"""Arrays as text, for result files."""

import base64
import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedArray:
    """A uint8 array as text."""

    shape: tuple[int, ...]
    content: str
    """The bytes in C order, deflated, in base64."""

    def unpacked(self) -> np.ndarray:
        """Return the array."""
        content = zlib.decompress(base64.b64decode(self.content))
        array: np.ndarray = np.frombuffer(content, np.uint8).reshape(self.shape)
        return array


def packed(array: np.ndarray) -> PackedArray:
    """Return a uint8 array as text."""
    content = base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()
    return PackedArray(shape=array.shape, content=content)
