"""The engine as a library: `segment` for rasters, `Model.predict` for arrays."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from flair_engine.checking import check_job, check_model_name, check_run
from flair_engine.errors import EngineError, SourceError
from flair_engine.grid import whole_area
from flair_engine.inference.choose import load
from flair_engine.inference.labelling import label_strips
from flair_engine.manifest import label_values, output_bands, read_model_spec, tile_grid
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
from flair_engine.system import available_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flair_engine.inference.base import Backend
    from flair_engine.report import Report


def segment(
    model: Path | str | Model,
    inputs: Inputs | Path | str | Sequence[Path | str],
    output: Path | str,
    run: RunOptions = RunOptions(),
    *,
    read: ReadOptions = ReadOptions(),
    write: MapOptions = MapOptions(),
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
    status: Callable[[str], None] | None = None,
    command: str | None = None,
) -> Report:
    """Label rasters with a model exported by flair-export and write the map to `output`.

    `inputs` are names of files, folders or patterns, one alone or several, or products. A `model`
    that is loaded already is used as it is, whatever `run` says of its engine, and stays loaded.

    `progress`, where given, is called with (pixels labelled, pixels to be labelled), `notify` with
    what the user should know, `warn` with what makes the map wrong or less than it should be (where
    it is not given, `notify` is), `status` with lines that replace one another while something
    takes minutes, such as building a TensorRT plan. `command` is what the run's record says was
    typed. Raises a FlairError: one with exit_code 2 before the first
    pixel is read, one with exit_code 1 for a failure on the way. Either way nothing half-written
    stands at `output`, and finished strips are kept for a run with `resume`.
    """
    from flair_engine.run import run as run_job

    named = inputs if isinstance(inputs, Inputs) else Inputs(images=inputs)  # type: ignore[arg-type]
    loaded = model if isinstance(model, Model) else None
    job = Job(
        model=loaded.path if loaded else Path(model),  # type: ignore[arg-type]
        inputs=named,
        output=Path(output),
        run=run,
        read=read,
        write=write,
        command=command,
    )
    listener = Listener(
        progress=progress or silent,
        notify=notify or silent,
        warn=warn or notify or silent,
        status=status or silent,
    )
    check_job(job)
    if loaded is None:
        return run_job(job, listener)
    with loaded.in_turn() as backend:
        return run_job(job, listener, backend=backend)


_models: weakref.WeakSet[Model] = weakref.WeakSet()


def _keep_after_fork() -> None:
    """Have the models of this process, copied by a fork, last until it ends, and let it end.

    ONNX Runtime waits for ever for threads that were not copied, as it frees a model and as the
    process exits: the handlers of C are left out there, where glibc lets them be.
    """
    for model in _models:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(model._backend))
    c_library = ctypes.CDLL(None)
    if "onnxruntime" in sys.modules and hasattr(c_library, "on_exit"):
        c_library.on_exit(c_library._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_after_fork)


class Model(AbstractContextManager["Model"]):
    """A model loaded once for many arrays, for notebooks and tests.

    >>> with Model("model.onnx") as model:
    ...     labels_hw = model.predict(image_bhw)

    Any thread may call it: one array is labelled after the other, each with all that `options`
    give, and `close` waits for those under way. It belongs to the process that made it: in one
    forked from that, whose copy lacks the threads of the runtime, it is refused, and it cannot be
    pickled. Raises ManifestError for a file the engine cannot read, EngineError where the options
    cannot be had on this machine, and where it is used after `close` or in another process.
    """

    def __init__(self, path: Path | str, options: RunOptions = RunOptions()) -> None:
        check_model_name(path)
        check_run(options)
        self.path = Path(path)
        self.spec = read_model_spec(path)
        self._threads = options.threads or available_cpus()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._backend: Backend | None = load(Path(path), self.spec, options)
        _models.add(self)

    def predict(self, image_bhw: np.ndarray) -> np.ndarray:
        """Return labels uint8 [H, W] (FLAIR values 1..19) of uint8 [bands, H, W], any size.

        The geometry is that of `segment`: the grid starts at the first pixel, outside is
        reflected. Raises SourceError for another shape or type, InferenceError where the runtime
        fails, EngineError after `close` and in a forked process.
        """
        return self.predict_all(image_bhw)["labels"]

    def predict_all(self, image_bhw: np.ndarray) -> dict[str, np.ndarray]:
        """Return every output of the model by name: uint8 [H, W], probabilities [19, H, W].

        Raises as `predict`.
        """
        bands = len(self.spec.bands)
        if not isinstance(image_bhw, np.ndarray):
            raise SourceError(f"image is {type(image_bhw).__name__}", "give an array of numpy")
        if image_bhw.dtype != np.uint8 or image_bhw.ndim != 3 or len(image_bhw) != bands:
            raise SourceError(
                f"image is {image_bhw.dtype} {list(image_bhw.shape)}",
                f"give uint8 [{bands}, height, width] ({', '.join(self.spec.bands)})",
            )
        with self.in_turn() as backend:
            return self._labelled(image_bhw, backend)

    def close(self) -> None:
        """Free the model, after what is under way; a second call does nothing."""
        if os.getpid() != self._process:
            return  # the copy in a forked process ends with it
        with self._lock:
            backend, self._backend = self._backend, None
            if backend is not None:
                backend.close()

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise EngineError(
            "a Model cannot be pickled or copied: it holds a runtime of this process",
            "pass the name of its file, and open that where it is used",
        )

    @contextmanager
    def in_turn(self) -> Iterator[Backend]:
        """Yield the backend to one thread at a time. Raises EngineError where it is not usable."""
        if os.getpid() != self._process:
            # Before the lock, which another thread of the first process may have held.
            raise EngineError(
                "this Model was opened in another process, and a fork copies no threads",
                "open it in the process that uses it, or start that with spawn",
            )
        with self._lock:
            if self._backend is None:
                raise EngineError("this Model is closed", "open it again")
            try:
                yield self._backend
            except BaseException:
                # Whoever comes next finds the slots idle.
                for slot in self._backend.slots:
                    with suppress(Exception):
                        slot.wait()
                raise

    def _labelled(self, image_bhw: np.ndarray, backend: Backend) -> dict[str, np.ndarray]:
        """Return every output of the model for a checked image."""
        raster = array_raster(image_bhw)
        grid = tile_grid(self.spec, raster)
        whole = whole_area(grid)
        strips = read_strips(
            raster, whole, whole.rows, threads=self._threads, counter=ReadCounter()
        )
        slots, of_output = backend.slots, output_bands(self.spec)
        values = label_values(self.spec)
        labelled = list(label_strips(strips, grid, slots, of_output, values=values))
        joined = {
            name: np.concatenate([strip.outputs[name] for strip in labelled], axis=-2)
            for name in self.spec.outputs
        }
        return {n: a if n == "probabilities" else a[0] for n, a in joined.items()}
