"""flair-engine: land-cover maps from aerial images with IGN's FLAIR models.

Importing this package loads neither torch nor an inference runtime nor GDAL; each is loaded by the
call that needs it. ARCHITECTURE.md in the repository says which module may import which.
"""

from flair_engine.api import Model, segment
from flair_engine.errors import FlairError
from flair_engine.grid import Grid
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_engine.options import Inputs, MapOptions, ReadOptions, RunOptions
from flair_engine.report import Report
from flair_engine.version import __version__

__all__ = [
    "FlairError",
    "Grid",
    "Inputs",
    "MapOptions",
    "Model",
    "ModelSpec",
    "ReadOptions",
    "Report",
    "RunOptions",
    "__version__",
    "read_model_spec",
    "segment",
]
