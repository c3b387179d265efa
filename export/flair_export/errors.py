"""Errors of the way from a checkpoint to an ONNX file; each is a FlairError."""

from __future__ import annotations

from flair_engine.errors import FAILED, FlairError


class CardError(FlairError):
    """A model name that stands for none of the published models."""


class CheckpointError(FlairError):
    """A weights file that is absent, unsafe, incomplete or another network's."""


class ExporterMissingError(FlairError):
    """Packages of the `export` extra that are not installed."""


class OptionError(FlairError):
    """A choice that makes no export."""


class ImageError(FlairError):
    """Rasters to verify with or to calibrate on that cannot be used, or are too few."""


class ExportError(FlairError):
    """The ONNX file could not be made, or is not what it has to be."""

    exit_code = FAILED


class DemoError(FlairError):
    """A demo that ran but did not show what it should."""

    exit_code = FAILED
