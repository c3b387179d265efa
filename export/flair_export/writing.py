"""Model files that get their name only once they are whole and proven."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from flair_engine import durable
from flair_engine.errors import ManifestError, WriteError
from flair_engine.manifest import DEEPNESS_KEY, METADATA_KEY
from flair_engine.model_file import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx


@contextmanager
def at_last(output: Path) -> Iterator[Path]:
    """Yield a temporary name beside `output`; it becomes `output` at the end, or nothing.

    Raises WriteError where it cannot be put in place.
    """
    temporary = durable.beside(output)
    try:
        yield temporary
        try:
            durable.publish([(temporary, output)])
        except OSError as error:
            raise WriteError(
                f"{output}: cannot be put in place ({error})", "name another"
            ) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_model(path: Path) -> bool:
    """Return whether an ONNX file of ours stands at `path`, one that the engine reads or not."""
    try:
        model = load_model(path)
    except ManifestError:
        return False
    return any(entry.key in (METADATA_KEY, DEEPNESS_KEY) for entry in model.metadata_props)


def write_model(path: Path, model: onnx.ModelProto) -> None:
    """Write an ONNX file. Raises WriteError where it cannot be written whole."""
    content = model.SerializeToString()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise WriteError(
            f"{path}: {len(content)} bytes cannot be written ({error})",
            "free some space or choose another folder",
        ) from error
