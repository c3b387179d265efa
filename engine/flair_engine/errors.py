"""The errors a user can cause, one class per thing that can be wrong.

A message says what was found, what was expected and what to do, in one line. `exit_code` is what
the command line returns: 2 for what is refused before the first pixel, 1 for a failure on the way.
"""

from __future__ import annotations


class FlairError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 2


class ManifestError(FlairError):
    """The ONNX file is not a model this engine can run."""


class GeometryError(FlairError):
    """Tile, margin or raster size that cannot be worked with."""


class SourceError(FlairError):
    """An input raster that is refused before anything is read from it."""


class OutputError(FlairError):
    """A place the map cannot be written to."""


class EngineError(FlairError):
    """An inference engine, device or runtime that is missing or refuses the model."""


class DeviceMemoryError(EngineError):
    """Memory of a device, or page-locked for it, that could not be had."""


class PlanError(EngineError):
    """A TensorRT plan that does not serve here, though its bytes are as they were written."""


class ReadError(FlairError):
    """A block of an input raster that could not be decoded during the run."""

    exit_code = 1


class WriteError(FlairError):
    """The map could not be written during the run."""

    exit_code = 1


class InferenceError(FlairError):
    """The inference runtime failed during the run."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Return the first line of what GDAL says of an error."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return text.splitlines()[0]
