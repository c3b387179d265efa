"""The ONNX file as a file: read within bounds, self-contained, of operators that are known.

What a runtime would do with other files is not left to it: weights beside the file are read from
wherever it says, and loops and made-up tensors take what time and memory it says, before the first
pixel. None of that is in a file of flair-export.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

from flair_engine.errors import ManifestError
from flair_engine.texts import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx

ONNX_BYTES = (2 << 30) - 1
"""What protobuf, the format of ONNX, holds."""

OPERATORS = frozenset(
    {
        *("Add", "ArgMax", "Cast", "Clip", "Concat", "Constant", "Conv", "ConvTranspose"),
        *("DepthToSpace", "DequantizeLinear", "Div", "Erf", "Floor", "Gather"),
        *("GlobalAveragePool", "InstanceNormalization", "LayerNormalization", "MatMul"),
        *("MaxPool", "Mul", "QuantizeLinear", "ReduceMax", "ReduceSum", "Relu", "Reshape"),
        *("Resize", "Slice", "Softmax", "Split", "Sub", "Transpose", "Unsqueeze"),
    }
)
"""Operators of the standard set that a model may hold: those of flair-export's files in FP32, FP16
and INT8, cropped or not, and Split. None runs a graph within the graph or makes up numbers."""
STANDARD_DOMAINS = ("", "ai.onnx")
NAMES_SAID = 3
"""Faults of a kind that a message names."""
RAW_DATA = (7, 5, 9)
"""Fields of onnx.proto from a model to the numbers of a weight: graph, initializer, raw_data."""
VARINT_BYTES = 10
"""Of the longest number in protobuf's wire format."""
HASHED_BYTES = 1 << 20
"""Read at a time."""
_one_at_a_time = Lock()


def load_model(path: Path | str) -> onnx.ModelProto:
    """Return the model in an ONNX file and nothing from beside it.

    Raises ManifestError where there is no file, it cannot be read, or it is no whole ONNX file.
    """
    return _parsed(path, lambda file: file.read_bytes())


def load_graph(path: Path | str) -> onnx.ModelProto:
    """Return the model in an ONNX file without the numbers of its weights, which are not read.

    Raises as `load_model`.
    """
    return _parsed(path, _without_weights)


def model_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, read once unless it changes.

    Threads that ask at the same time wait for one of them to read it. Raises OSError.
    """
    status = path.stat()
    with _one_at_a_time:
        return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _sha256(path: Path, _size: int, _changed_ns: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASHED_BYTES):
            found.update(chunk)
    return found.hexdigest()


def _parsed(path: Path | str, content_of: Callable[[Path], bytes]) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    file = Path(path)
    if not file.is_file():
        raise ManifestError(f"{path}: no such model file", "give the .onnx that flair-export wrote")
    try:
        if (size := file.stat().st_size) > ONNX_BYTES:
            raise ManifestError(
                f"{path}: not a complete ONNX file ({size:,} bytes, which no ONNX file has)",
                "export or copy it again",
            )
        return onnx.load_model_from_string(content_of(file))
    except OSError as error:
        raise ManifestError(
            f"{path}: cannot be read ({error.strerror})", "check its permissions"
        ) from error
    except DecodeError as error:
        raise ManifestError(
            f"{path}: not a complete ONNX file", "export or copy it again"
        ) from error


def _without_weights(path: Path) -> bytes:
    """Return the message in a file but for what RAW_DATA leads to. Raises OSError, DecodeError."""
    with path.open("rb") as file:
        return _copied(file, path.stat().st_size, RAW_DATA)


def _copied(file: BinaryIO, end: int, left_out: tuple[int, ...]) -> bytes:
    """Return the fields of a message that ends at `end`, but those that `left_out` leads to.

    Raises DecodeError where that is no message of protobuf, or not whole. See "Encoding" in its
    documentation: each field is a number, its kind in the lowest three bits, and its value.
    """
    from google.protobuf.message import DecodeError

    found = bytearray()
    while file.tell() < end:
        start, key = _varint(file)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, _ = _varint(file)
        elif kind in (1, 5):
            value = file.read(8 if kind == 1 else 4)
        elif kind == 2:
            length, size = _varint(file)
            stop = file.tell() + size
            if stop > end:
                raise DecodeError("a field is longer than what holds it")
            if number != left_out[0]:
                value = length + file.read(size)
            elif len(left_out) == 1:
                file.seek(stop)
                continue
            else:
                inner = _copied(file, stop, left_out[1:])
                value = _as_varint(len(inner)) + inner
        else:
            raise DecodeError(f"a field is of kind {kind}")
        found += start + value
    if file.tell() != end:
        raise DecodeError("a message ends within a field")
    return bytes(found)


def _varint(file: BinaryIO) -> tuple[bytes, int]:
    """Read a number; return its bytes, seven bits in each, the lowest first, and what it is."""
    from google.protobuf.message import DecodeError

    found, value = b"", 0
    while len(found) < VARINT_BYTES and (byte := file.read(1)):
        value |= (byte[0] & 0x7F) << 7 * len(found)
        found += byte
        if byte[0] < 0x80:
            return found, value
    raise DecodeError("a number does not end")


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def check_model(model: onnx.ModelProto, origin: str) -> None:
    """Raise ManifestError unless a model holds all its weights, and known operators alone.

    `origin` names it in the message. Takes no longer for large weights.
    """
    import onnx

    elsewhere: dict[str, None] = {}
    unknown: dict[str, None] = {}
    graphs = 0
    for part in _parts(model, onnx.TensorProto):
        if isinstance(part, onnx.TensorProto):
            if part.data_location == onnx.TensorProto.EXTERNAL or part.external_data:
                elsewhere[_named(part.name)] = None
        elif isinstance(part, onnx.NodeProto):
            if part.domain not in STANDARD_DOMAINS:
                unknown[f"{_named(part.domain)}.{_named(part.op_type)}"] = None
            elif part.op_type not in OPERATORS:
                unknown[_named(part.op_type)] = None
        elif isinstance(part, (onnx.GraphProto, onnx.FunctionProto)):
            graphs += 1
    if elsewhere:
        raise ManifestError(
            f"{origin}: its weights lie in another file ({_some(elsewhere)})",
            "give one self-contained file, as flair-export writes",
        )
    if unknown:
        raise ManifestError(
            f"{origin}: holds operators that no model of flair-export has ({_some(unknown)})",
            "export the checkpoint with flair-export",
        )
    if graphs > 1:
        raise ManifestError(
            f"{origin}: holds {graphs} graphs and functions, where a model has one graph",
            "export the checkpoint with flair-export",
        )


def _parts(message: Any, closed: type) -> Iterator[Any]:
    """Yield a message and all messages in it, whatever field they lie in, but those in `closed`.

    Tensors are closed: to list their fields would copy the weights.
    """
    from google.protobuf.message import Message

    left = [message]
    while left:
        part = left.pop()
        yield part
        if isinstance(part, closed):
            continue
        for field, value in part.ListFields():
            if field.message_type is not None:
                left += [value] if isinstance(value, Message) else value


def _named(text: str) -> str:
    return shown(text)[:40] or "without a name"


def _some(names: dict[str, None]) -> str:
    """Return the first of some names, and how many more there are."""
    more = [f"{len(names) - NAMES_SAID} more"] if len(names) > NAMES_SAID else []
    return ", ".join([*list(names)[:NAMES_SAID], *more])
