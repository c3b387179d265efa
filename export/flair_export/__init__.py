"""Way from a FLAIR checkpoint to a checked ONNX file.

Needs the `export` extra to run; importing this package loads none of it. May import flair_engine,
which never imports this package. Modules import those before them in this order only:
errors, cards, writing; graph; network, rewrite, synthetic; proof; convert; publish; show, preview;
cli, demo. torch is in network, proof.reference, synthetic.standin and demo alone.
"""

from flair_export.cards import CARDS, Card, find_card
from flair_export.errors import (
    CardError,
    CheckpointError,
    ExporterMissingError,
    ExportError,
    ImageError,
    OptionError,
)
from flair_export.proof.compare import EqualLabels
from flair_export.proof.verify import Verdict, VerificationError
from flair_export.publish import ExportOptions, export, export_fp16, export_int8

__all__ = [
    "CARDS",
    "Card",
    "CardError",
    "CheckpointError",
    "EqualLabels",
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
