"""Input and output are measured together: every format, writing, memory."""

import numpy as np

from flair_bench.measure import raster_io
from flair_bench.measure.raster_io import RasterIoOptions


def test_everything_is_measured_with_the_same_rasters(tmp_path, monkeypatch):
    monkeypatch.setattr(raster_io, "FORMATS", {"tiled deflate": (2, {})})
    monkeypatch.setattr(raster_io, "measure_memory", lambda *_: {"9 px file": 300.0})
    monkeypatch.setattr(raster_io, "measure_wide", lambda *_: {})
    image = np.random.default_rng(8).integers(0, 256, (5, 90, 70), dtype=np.uint8)
    options, said = RasterIoOptions(size_px=700, repeats=1), []
    figures = raster_io.measure(options, image, tmp_path, said.append)
    assert said == ["reading tiled deflate", "writing"]
    assert (figures.size_px, figures.repeats) == (700, 1)
    assert figures.reading["tiled deflate"].mpx_per_s > 0
    assert figures.writing.mpx_per_s > 0
    assert figures.memory == {"9 px file": 300.0}
