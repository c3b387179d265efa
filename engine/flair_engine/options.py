"""Choices of a user, in frozen dataclasses that the command line and the library share."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

EngineName = Literal["auto", "trt", "ort", "openvino"]
Precision = Literal["fp32", "bf16"]
LabelValues = Literal["flair", "zero-based"]
OnError = Literal["stop", "skip"]
Nodata: TypeAlias = float | Literal["none"] | None
"""A value that overrides the file's, `none` for no value at all, None for what the file says."""
MaskChoice: TypeAlias = int | Literal["none", "alpha"] | None
"""Number of the band that is 0 where a pixel is invalid, `alpha` for the one tagged so, `none` for
no mask at all, None for what the file says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Names of what is segmented: files, folders or patterns.

    Either `images` that hold the model's bands, or products; height may stand beside both.
    """

    images: tuple[str, ...] = ()
    rvb: tuple[str, ...] = ()
    irc: tuple[str, ...] = ()
    ndsm: tuple[str, ...] = ()
    """Height already encoded in 8 bits."""
    dsm: tuple[str, ...] = ()
    """Surface model in metres."""
    dtm: tuple[str, ...] = ()
    """Terrain model in metres."""

    def __post_init__(self) -> None:
        """Take one name, or a path, for what it is; else its letters would be the names."""
        for field in fields(self):
            names = getattr(self, field.name)
            if isinstance(names, (str, os.PathLike)):
                names = (names,)
            with suppress(TypeError):  # what is no name is refused with the other choices
                object.__setattr__(self, field.name, tuple(map(_text, names)))

    @property
    def given(self) -> dict[str, tuple[str, ...]]:
        """The names by product, of the products that are given."""
        return {f.name: names for f in fields(self) if (names := getattr(self, f.name))}


def _text(name: Any) -> Any:
    """Return a path as a text, anything else as it is."""
    return os.fspath(name) if isinstance(name, os.PathLike) else name


def _path(name: Any) -> Any:
    """Return a text as a path, anything else as it is."""
    return Path(name) if isinstance(name, str) else name


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """How inputs are read."""

    bands: tuple[int, ...] | None = None
    """Numbers (from 1) of the images' bands in the order the model wants them."""
    gsd_m: float | None = None
    """Ground sampling distance where the files do not say it."""
    nodata: Nodata = None
    mask: MaskChoice = None
    """Like `nodata` of images alone: heights keep what their files say."""
    resample: bool = False
    on_error: OnError = "stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """How a model is run. None lets the engine choose."""

    engine: EngineName = "auto"
    device: str | None = None
    """`cpu`, `cuda`, `cuda:N`, several GPUs such as `cuda:0,cuda:1`, or `cuda:all`."""
    batch: int | None = None
    """Tiles per inference."""
    slots: int = 2
    """Batches in flight, on each of several GPUs: 1 waits for each, 2 is double buffering."""
    threads: int | None = None
    """CPU threads, of inference on the CPU and of decoding."""
    memory_mib: int | None = None
    """MiB of decoded pixels; None is a quarter of what is free, 1024 at most. A run that is
    continued takes what it began with."""
    precision: Precision | None = None
    """What is computed in, beside INT8: `fp32` is exact with every engine, `bf16` is OpenVINO's.
    None is bf16 for `auto` on a CPU that has it, where its labels are nearly those of FP32, and
    what the file holds for other engines."""
    plan_cache: Path | None = None
    """Folder of TensorRT plans and of what bf16 was found to differ by; None is
    `flair-engine/plans` in the user's cache folder."""
    plan: Path | None = None
    """A TensorRT plan that flair-export built ahead, with its sidecar beside it."""
    plan_sha256: str | None = None
    """The only TensorRT plan that is taken, of whoever owns `plan_cache`; what flair-job sets."""
    tactic_sources: str | None = None
    """TensorRT's sources of kernels, as trtexec spells them: `-CUBLAS,-CUDNN`."""

    def __post_init__(self) -> None:
        """Take the text of a path for one."""
        object.__setattr__(self, "plan_cache", _path(self.plan_cache))
        object.__setattr__(self, "plan", _path(self.plan))


@dataclass(frozen=True, kw_only=True, slots=True)
class MapOptions:
    """What of the raster is mapped, and how the map is written."""

    labels: LabelValues = "flair"
    """`flair`: values 1..19, 0 is nodata. `zero-based`: 0..18, 255 is nodata."""
    bbox: tuple[float, float, float, float] | None = None
    """xmin, ymin, xmax, ymax in the raster's CRS; the pixels whose centres it holds are mapped."""
    aoi: str | None = None
    """Vector file; the pixels whose centres its shapes hold are mapped."""
    aoi_layer: str | None = None
    """The layer of `aoi` that counts, None for all."""
    whole_cores: bool = False
    """Of `bbox` and `aoi`, map every pixel of the cores they touch."""
    per_input: bool = False
    """One map per delivered file, in the folder `output`, instead of one mosaic."""
    cog: bool = False
    overwrite: bool = False
    resume: bool = False
    """Continue the unfinished run on this output, where there is one."""
    co: tuple[str, ...] = ()
    """Creation options of GDAL for the rasters, `NAME=VALUE`; see mapping/creation.py."""
    report: Path | None = None
    """Where the run's record goes: a page for people where the name ends in .html, else JSON."""
    preview: bool = False
    """Draw a picture beside each map, NAME.preview.png."""
    stac: bool = False
    """Write a STAC Item beside each map, NAME.json."""
    acquired: str | None = None
    """When the images were taken, for the Item: a day, month or year, or START/END of them."""

    def __post_init__(self) -> None:
        """Take the text of a path for one, and a path for the name of the file of shapes."""
        object.__setattr__(self, "report", _path(self.report))
        object.__setattr__(self, "aoi", _text(self.aoi))
        object.__setattr__(self, "co", (self.co,) if isinstance(self.co, str) else self.co)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run: what is mapped with which model, where to, and how."""

    model: Path
    inputs: Inputs
    output: Path
    run: RunOptions = RunOptions()
    read: ReadOptions = ReadOptions()
    write: MapOptions = MapOptions()
    command: str | None = None
    """What was typed to start it, for its record; None where it was started otherwise."""


def silent(*_said: object) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """What a caller wants to be told while a run goes on."""

    progress: Callable[[int, int], None] = silent
    """Called with (pixels labelled, pixels to be labelled); the first call has what was before the
    run was resumed. Pixels to be labelled get fewer where images turn out to be void."""
    notify: Callable[[str], None] = silent
    """Called with what the user should know."""
    warn: Callable[[str], None] = silent
    """Called with what makes the map wrong, or less than it should be."""
    status: Callable[[str], None] = silent
    """Called with lines that replace one another while something takes minutes."""
