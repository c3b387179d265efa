"""The errors of the way from a checkpoint to an ONNX file; each is a FlairError."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_engine.errors import FlairError

if TYPE_CHECKING:
    from flair_export.verify import Verdict


class CardError(FlairError):
    """A model name that stands for none of the published models."""


class CheckpointError(FlairError):
    """A weights file that is absent, unsafe, incomplete or another network's."""


class ExporterMissingError(FlairError):
    """Packages of the `export` extra that are not installed."""


class OptionError(FlairError):
    """A choice that makes no export."""


class ImageError(FlairError):
    """A verification raster the model cannot be run on."""


class ExportError(FlairError):
    """The ONNX file could not be made, or is not what it has to be."""

    exit_code = 1


class VerificationError(ExportError):
    """The ONNX file does not give the network's answers; `verdict` says where."""

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message)
        self.verdict = verdict
