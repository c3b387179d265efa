"""The errors a user can cause, one class per thing that can be wrong.

An error holds what was found, and expected, apart from what to do about it; its text is both in
one line. `exit_code` is what the command line returns: 2 for what is refused before the first
pixel, 1 for a failure on the way.
"""

from __future__ import annotations

FAILED = 1
"""Exit code of a failure on the way."""

REFUSED = 2
"""Exit code of what is refused before the first pixel."""


class FlairError(Exception):
    """Base of every error raised on purpose."""

    exit_code = REFUSED

    def __init__(self, what: str, remedy: str) -> None:
        """Hold `what` was found, and expected, and the `remedy`, written in small letters."""
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


class ManifestError(FlairError):
    """The ONNX file is not a model this engine can run."""


class CompleteError(FlairError):
    """All maps of a run are there already: nothing is left to do."""

    exit_code = 0


class GeometryError(FlairError):
    """Tile, margin or raster size that cannot be worked with."""


class SourceError(FlairError):
    """An input raster that is refused before anything is read from it."""


class TooManyFilesError(SourceError):
    """An input raster that would have to be opened beside all those that are."""


class OutputError(FlairError):
    """A place the map cannot be written to."""


class BusyError(OutputError):
    """A place that another process is writing to."""


class EngineError(FlairError):
    """An inference engine, device or runtime that is missing or refuses the model."""


class RefusedModelError(EngineError):
    """A model that a runtime refuses, whatever the machine has."""


class DisagreementError(EngineError):
    """A precision whose labels differ too much from FP32's to be used unasked."""


class DeviceMemoryError(EngineError):
    """Memory of a device, or page-locked for it, that could not be had."""


class PlanError(EngineError):
    """A TensorRT plan that does not serve here, though its bytes are as they were written."""


class ReadError(FlairError):
    """A block of an input raster that could not be decoded during the run."""

    exit_code = FAILED


class WriteError(FlairError):
    """The map could not be written during the run."""

    exit_code = FAILED


class InferenceError(FlairError):
    """The inference runtime failed during the run."""

    exit_code = FAILED


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says of an error, which can be a page."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return text.splitlines()[0]
