"""The engine as a library: `segment` for rasters, `Model.predict` for arrays."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.errors import SourceError
from flair_engine.grid import area_of
from flair_engine.inference.base import available_cpus
from flair_engine.inference.choose import load
from flair_engine.inference.labelling import label_strips
from flair_engine.manifest import output_bands, read_model_spec, tile_grid
from flair_engine.options import (
    Inputs,
    Job,
    Listener,
    MapOptions,
    ReadOptions,
    RunOptions,
    silent,
)
from flair_engine.reading.layers import array_raster
from flair_engine.reading.schedule import ReadCounter
from flair_engine.reading.strips import read_strips

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flair_engine.report import Report


def segment(
    model: Path | str,
    inputs: Inputs | Sequence[Path | str],
    output: Path | str,
    run: RunOptions = RunOptions(),
    *,
    read: ReadOptions = ReadOptions(),
    write: MapOptions = MapOptions(),
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    status: Callable[[str], None] | None = None,
) -> Report:
    """Label rasters with a model exported by flair-export and write the map to `output`.

    `progress`, where given, is called with (pixels done, pixels in all), `notify` with what the
    user should know, `status` with lines that replace one another while something takes minutes,
    such as building a TensorRT plan. Raises a FlairError: one with exit_code 2 before the first
    pixel is read, one with exit_code 1 for a failure on the way. Either way nothing half-written
    stands at `output`, and finished strips are kept for a run with `resume`.
    """
    from flair_engine.run import run as run_job

    named = inputs if isinstance(inputs, Inputs) else Inputs(images=tuple(map(str, inputs)))
    job = Job(model=Path(model), inputs=named, output=Path(output), run=run, read=read, write=write)
    listener = Listener(
        progress=progress or silent, notify=notify or silent, status=status or silent
    )
    return run_job(job, listener)


class Model(AbstractContextManager["Model"]):
    """A model loaded once for many arrays, for notebooks and tests.

    >>> with Model("model.onnx") as model:
    ...     labels_hw = model.predict(image_bhw)

    Raises ManifestError for a file the engine cannot read, EngineError where the options cannot
    be had on this machine.
    """

    def __init__(self, path: Path | str, options: RunOptions = RunOptions()) -> None:
        self.spec = read_model_spec(path)
        self._threads = options.threads or available_cpus()
        self._backend = load(Path(path), self.spec, options)

    def predict(self, image_bhw: np.ndarray) -> np.ndarray:
        """Return labels uint8 [H, W] (FLAIR values 1..19) of uint8 [bands, H, W], any size.

        The geometry is that of `segment`: the grid starts at the first pixel, outside is
        reflected. Raises SourceError for another shape or type, InferenceError where the runtime
        fails.
        """
        return self.predict_all(image_bhw)["labels"]

    def predict_all(self, image_bhw: np.ndarray) -> dict[str, np.ndarray]:
        """Return every output of the model by name: uint8 [H, W], probabilities [19, H, W].

        Raises as `predict`.
        """
        bands = len(self.spec.bands)
        if image_bhw.dtype != np.uint8 or image_bhw.ndim != 3 or len(image_bhw) != bands:
            raise SourceError(
                f"image is {image_bhw.dtype} {list(image_bhw.shape)}",
                f"give uint8 [{bands}, height, width] ({', '.join(self.spec.bands)})",
            )
        raster = array_raster(image_bhw)
        grid = tile_grid(self.spec, raster)
        whole = area_of(grid, None)
        strips = read_strips(
            raster, whole, whole.rows, threads=self._threads, counter=ReadCounter()
        )
        labelled = list(label_strips(strips, grid, self._backend.slots, output_bands(self.spec)))
        joined = {
            name: np.concatenate([strip.outputs[name] for strip in labelled], axis=-2)
            for name in self.spec.outputs
        }
        return {n: a if n == "probabilities" else a[0] for n, a in joined.items()}

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._backend.close()

    def __exit__(self, *_error: object) -> None:
        self.close()
