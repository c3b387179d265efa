"""flair-engine: land-cover maps from aerial images with IGN's FLAIR models.

Importing this package loads neither torch nor an inference runtime nor GDAL; each is loaded by the
call that needs it. Modules depend on one another in this order only:
errors, manifest, grid, layers, strips, pipeline; cuda, plan_cache, plan, agreement, backends;
options, report, api; sources, vrt, mosaic, height, inputs; journal, landcover, provenance,
run; cli.
"""

from flair_engine.api import Model, segment
from flair_engine.errors import FlairError
from flair_engine.grid import Grid
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_engine.options import Inputs, MapOptions, ReadOptions, RunOptions
from flair_engine.report import Report

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
    "read_model_spec",
    "segment",
]
