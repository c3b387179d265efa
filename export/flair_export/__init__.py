"""From a FLAIR checkpoint to a checked ONNX file.

Needs the `export` extra to run; importing this package loads none of it. May import flair_engine,
which never imports this package.
"""

from flair_export.cards import CARDS, Card, find_card
from flair_export.compare import Agreement
from flair_export.errors import (
    CardError,
    CheckpointError,
    ExporterMissingError,
    ExportError,
    ImageError,
    OptionError,
    VerificationError,
)
from flair_export.publish import ExportOptions, export, export_fp16, export_int8
from flair_export.verify import Verdict

__all__ = [
    "CARDS",
    "Agreement",
    "Card",
    "CardError",
    "CheckpointError",
    "ExportError",
    "ExportOptions",
    "ExporterMissingError",
    "ImageError",
    "OptionError",
    "Verdict",
    "VerificationError",
    "export",
    "export_fp16",
    "export_int8",
    "find_card",
]
