"""flair-engine: land-cover maps from aerial images with IGN's FLAIR models.

Importing this package loads nothing that is heavy, so that commands handle signals before they
load it: a name below is looked up when it is asked for. ARCHITECTURE.md in the repository says
which module may import which.
"""

from importlib import import_module

from flair_engine.version import __version__

TYPE_CHECKING = False  # to import typing takes as long as all else here
if TYPE_CHECKING:
    from typing import Any

    from flair_engine.api import Model, segment
    from flair_engine.errors import FlairError
    from flair_engine.grid import Grid
    from flair_engine.manifest import ModelSpec, read_model_spec
    from flair_engine.options import Inputs, MapOptions, ReadOptions, RunOptions
    from flair_engine.report import Report
    from flair_engine.territory.finish import finish
    from flair_engine.territory.part import run_part
    from flair_engine.territory.plan import plan
    from flair_engine.territory.plan_file import Plan
    from flair_engine.territory.state import PartRecord

__all__ = [
    "FlairError",
    "Grid",
    "Inputs",
    "MapOptions",
    "Model",
    "ModelSpec",
    "PartRecord",
    "Plan",
    "ReadOptions",
    "Report",
    "RunOptions",
    "__version__",
    "finish",
    "plan",
    "read_model_spec",
    "run_part",
    "segment",
]

_HOMES = {
    **dict.fromkeys(("Model", "segment"), "api"),
    **dict.fromkeys(("ModelSpec", "read_model_spec"), "manifest"),
    **dict.fromkeys(("Inputs", "MapOptions", "ReadOptions", "RunOptions"), "options"),
    "FlairError": "errors",
    "Grid": "grid",
    "Report": "report",
    "finish": "territory.finish",
    "run_part": "territory.part",
    "plan": "territory.plan",
    "Plan": "territory.plan_file",
    "PartRecord": "territory.state",
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
