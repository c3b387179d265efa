"""A model file gets its name only once it is whole and proven."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flair_engine.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx


@contextmanager
def at_last(output: Path) -> Iterator[Path]:
    """Yield a temporary name beside `output`; it becomes `output` at the end, or nothing.

    Raises WriteError where it cannot be put in place.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        try:
            temporary.replace(output)
        except OSError as error:
            raise WriteError(f"{output}: cannot be put in place ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_model(path: Path, model: onnx.ModelProto) -> None:
    """Write an ONNX file. Raises WriteError where it cannot be written whole."""
    content = model.SerializeToString()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise WriteError(
            f"{path}: {len(content)} bytes cannot be written ({error}). Free some space or choose "
            "another folder"
        ) from error
