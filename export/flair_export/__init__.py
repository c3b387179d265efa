"""Way from a FLAIR checkpoint to a checked ONNX file.

Needs the `export` extra to run; importing this package loads none of it: a name below is looked up
when it is asked for. May import flair_engine,
which never imports this package. Modules import those before them in this order only:
errors, cards, writing; graph; network, rewrite, synthetic; proof; convert; publish, stac, trial;
tuning; show, preview; cli, demo. torch is in network, proof.reference, synthetic.standin and demo
alone.
"""

from importlib import import_module

TYPE_CHECKING = False  # to import typing takes as long as all else here
if TYPE_CHECKING:
    from typing import Any

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
    from flair_export.publish import (
        ExportOptions,
        export,
        export_deepness,
        export_fp16,
        export_int8,
    )
    from flair_export.trial import Trial, Way
    from flair_export.tuning import Trials, Tuned, TuneOptions, tune

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
    "Trial",
    "Trials",
    "TuneOptions",
    "Tuned",
    "Verdict",
    "VerificationError",
    "Way",
    "export",
    "export_deepness",
    "export_fp16",
    "export_int8",
    "find_card",
    "tune",
]

_HOMES = {
    **dict.fromkeys(("CARDS", "Card", "find_card"), "cards"),
    **dict.fromkeys(
        ("ExportOptions", "export", "export_deepness", "export_fp16", "export_int8"), "publish"
    ),
    **dict.fromkeys(("Trial", "Way"), "trial"),
    **dict.fromkeys(("Trials", "TuneOptions", "Tuned", "tune"), "tuning"),
    "EqualLabels": "proof.compare",
    "Verdict": "proof.verify",
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "errors"),
    "VerificationError": "proof.verify",
}
"""Module that each name is defined in."""


def __getattr__(name: str) -> "Any":
    """Return what a name stands for, importing its module the first time."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
