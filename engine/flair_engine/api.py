"""The engine as a library: `segment` for rasters, `Model.predict` for arrays."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.agreement import TILES
from flair_engine.backends import EngineName, Request, available_cpus, open_backend
from flair_engine.errors import SourceError
from flair_engine.grid import Grid
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_engine.pipeline import Stopwatch, label_strips, prefetched, written_behind
from flair_engine.report import Report
from flair_engine.strips import ArraySource, read_strips, sample_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from flair_engine.backends import Backend
    from flair_engine.landcover import LabelValues
    from flair_engine.strips import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """How `segment` runs. None lets the engine choose."""

    engine: EngineName = "auto"
    device: str | None = None
    """`cpu`, `cuda` or `cuda:N`."""
    batch: int | None = None
    """Tiles per inference."""
    slots: int = 2
    """Batches in flight: 1 waits for each, 2 is double buffering."""
    threads: int | None = None
    """CPU threads, of inference on the CPU and of decoding."""
    bands: tuple[int, ...] | None = None
    """Numbers (from 1) of the raster's bands in the order the model wants them."""
    gsd_m: float | None = None
    """Ground sampling distance where the raster does not say it."""
    labels: LabelValues = "flair"
    """`flair`: values 1..19, 0 is nodata. `zero-based`: 0..18, 255 is nodata."""
    overwrite: bool = False
    plan_cache: Path | None = None
    """Folder of TensorRT plans; None is `flair-engine/plans` in the user's cache folder."""
    tactic_sources: str | None = None
    """TensorRT's sources of kernels, as trtexec spells them: `-CUBLAS,-CUDNN`."""


def _silent(_line: str) -> None:
    """Say nothing."""


def segment(
    model: Path | str,
    inputs: Sequence[Path | str],
    output: Path | str,
    options: RunOptions = RunOptions(),
    progress: Callable[[int, int], None] | None = None,
    *,
    notify: Callable[[str], None] = _silent,
    status: Callable[[str], None] = _silent,
) -> Report:
    """Label a raster with a model exported by flair-export and write the map to `output`.

    `progress`, where given, is called with (pixels done, pixels in all) as strips are written;
    `notify` with lines people should read, such as the engine that was chosen and why; `status`
    with lines that replace one another while something takes minutes, such as building a plan.
    Raises a FlairError: one with exit_code 2 before the first pixel is read, one with exit_code 1
    for a failure on the way. Either way nothing stands at `output` that did not before.
    """
    from flair_engine.landcover import MapWriter, check_output
    from flair_engine.sources import open_source

    start = time.perf_counter()
    path = Path(output)
    spec = read_model_spec(model)
    check_output(path, overwrite=options.overwrite)
    raster = _only(inputs)
    with (
        open_source(raster, spec, band_numbers=options.bands, gsd_m=options.gsd_m) as source,
        closing(
            _load(
                Path(model),
                spec,
                options,
                samples=lambda: sample_tiles(source, _grid(spec, source), TILES),
                notify=notify,
                status=status,
            )
        ) as backend,
        MapWriter(
            path,
            spec,
            height=source.height,
            width=source.width,
            crs=source.crs,
            transform=source.transform,
            values=options.labels,
            tags=_tags(spec, backend),
            overwrite=options.overwrite,
        ) as writer,
    ):
        grid = _grid(spec, source)
        read, write = Stopwatch(), Stopwatch()
        counts = np.zeros(256, np.int64)
        begin = time.perf_counter()
        strips = prefetched(read.time(read_strips(source, grid, _threads(options))))
        labelled = label_strips(strips, grid, backend.slots)
        with closing(strips), closing(written_behind(labelled, write.timed(writer.write))) as done:
            for strip in done:
                labels = strip.outputs["labels"]
                counts += np.bincount(labels.ravel(), minlength=256)
                if progress:
                    progress((strip.top + labels.shape[0]) * grid.width, grid.height * grid.width)
        write.timed(MapWriter.publish)(writer)
        end = time.perf_counter()
        return Report(
            output=str(path),
            model=spec.name,
            weights_sha256=spec.weights_sha256,
            engine=backend.engine,
            device=backend.device,
            description=backend.description,
            precision=spec.precision,
            batch=backend.batch,
            slots=len(backend.slots),
            tile_px=spec.tile_px,
            margin_px=spec.margin_px,
            gsd_m=spec.gsd_m,
            height=grid.height,
            width=grid.width,
            tiles=grid.rows * grid.cols,
            start_up_s=begin - start,
            wall_s=end - begin,
            busy_s={"read": read.busy_s, **backend.busy_s, "write": write.busy_s},
            pixels_by_class={
                entry.name: int(counts[entry.value])
                for entry in spec.classes
                if counts[entry.value]
            },
        )


class Model(AbstractContextManager["Model"]):
    """A model loaded once for many arrays, for notebooks and tests.

    >>> with Model("model.onnx") as model:
    ...     labels_hw = model.predict(image_bhw)
    """

    def __init__(self, path: Path | str, options: RunOptions = RunOptions()) -> None:
        self.spec = read_model_spec(path)
        self._threads = _threads(options)
        self._backend = _load(Path(path), self.spec, options)

    def predict(self, image_bhw: np.ndarray) -> np.ndarray:
        """Return labels uint8 [H, W] (FLAIR values 1..19) of uint8 [bands, H, W], any size.

        The geometry is that of `segment`: the grid starts at the first pixel, outside is
        reflected. Raises SourceError for another shape or type.
        """
        return self.predict_all(image_bhw)["labels"]

    def predict_all(self, image_bhw: np.ndarray) -> dict[str, np.ndarray]:
        """Return every output of the model by name: uint8 [H, W], probabilities [19, H, W]."""
        bands = len(self.spec.bands)
        if image_bhw.dtype != np.uint8 or image_bhw.ndim != 3 or len(image_bhw) != bands:
            raise SourceError(
                f"image is {image_bhw.dtype} {list(image_bhw.shape)}, the model wants uint8 "
                f"[{bands}, height, width] ({', '.join(self.spec.bands)})"
            )
        source = ArraySource(image_bhw)
        grid = _grid(self.spec, source)
        strips = read_strips(source, grid, self._threads)
        labelled = list(label_strips(strips, grid, self._backend.slots))
        return {
            name: np.concatenate([strip.outputs[name] for strip in labelled], axis=-2)
            for name in self.spec.outputs
        }

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._backend.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _only(inputs: Sequence[Path | str]) -> Path:
    if len(inputs) != 1:
        raise SourceError(
            f"{len(inputs)} input rasters given, one expected: join them first with "
            "gdalbuildvrt all.vrt FILES and give all.vrt"
        )
    return Path(inputs[0])


def _load(model: Path, spec: ModelSpec, options: RunOptions, **hooks: Any) -> Backend:
    """Open the model; `hooks` are the callables of a Request."""
    request = Request(
        model=model,
        spec=spec,
        device=options.device,
        batch=options.batch,
        slots=options.slots,
        threads=options.threads,
        plan_cache=options.plan_cache,
        tactic_sources=options.tactic_sources,
        **hooks,
    )
    return open_backend(request, options.engine)


def _grid(spec: ModelSpec, source: Source) -> Grid:
    return Grid(
        height=source.height, width=source.width, tile_px=spec.tile_px, margin_px=spec.margin_px
    )


def _threads(options: RunOptions) -> int:
    return options.threads or available_cpus()


def _tags(spec: ModelSpec, backend: Backend) -> dict[str, str]:
    """Return what the map says of its making; the same run writes the same tags."""
    return {
        "FLAIR_MODEL": spec.name,
        "FLAIR_WEIGHTS_SHA256": spec.weights_sha256,
        "FLAIR_GEOMETRY": f"tile {spec.tile_px} px, margin {spec.margin_px} px",
        "FLAIR_ENGINE": f"{backend.engine} {backend.device} {spec.precision}",
        "FLAIR_EXPORTER": spec.exporter,
        "TIFFTAG_SOFTWARE": f"flair-engine {metadata.version('flair-engine')}",
    }
