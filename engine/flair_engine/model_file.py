"""The ONNX file as a file: read within bounds, self-contained, of operators that are known.

What a runtime would do with other files is not left to it: weights beside the file are read from
wherever it says, and loops and made-up tensors take what time and memory it says, before the first
pixel. None of that is in a file of flair-export.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flair_engine.errors import ManifestError
from flair_engine.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def load_model(path: Path | str) -> onnx.ModelProto:
    """Return the model in an ONNX file and nothing from beside it.

    Raises ManifestError where there is no file, it cannot be read, or it is no whole ONNX file.
    """
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
        return onnx.load_model_from_string(file.read_bytes())
    except OSError as error:
        raise ManifestError(
            f"{path}: cannot be read ({error.strerror})", "check its permissions"
        ) from error
    except DecodeError as error:
        raise ManifestError(
            f"{path}: not a complete ONNX file", "export or copy it again"
        ) from error


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
