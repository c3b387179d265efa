"""Labels of every engine against PyTorch FP32 on real tiles.

One pass: PyTorch answers a batch of tiles, then each engine. Labels come from the shipped file,
logits from a twin of it that exposes them. Only pixels inside a raster count.
"""

from __future__ import annotations

import base64
import zlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from flair_bench.errors import ModelError
from flair_bench.measure.engines import TOLERANCE, Choice, opened, probe
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME, ModelSpec, read_model_spec
from flair_export.network.trace import with_logits
from flair_export.proof.samples import check_images, sources
from flair_export.proof.verify import reference_logits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

    from flair_engine.inference.base import Backend
    from flair_export.proof.samples import Tile

MARGINS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Edges of the bins of top-1 minus top-2 logit."""
BATCH = 2
"""Tiles per step; above 1, so that a batch axis that is not free shows."""
LOGITS_EVERY = 4
"""Steps from one comparison of logits to the next: the twin costs one more inference."""
FLIPS_SHOWN = 10
"""Pairs of classes shown of those that are exchanged."""


@dataclass(slots=True)
class Tally:
    """What one engine differs in, summed over tiles."""

    precision: str
    confusion: np.ndarray
    """int64 [256, 256]: reference label, engine's label."""
    flipped: np.ndarray = field(default_factory=lambda: np.zeros(len(MARGINS) + 1, np.int64))
    """Pixels that differ by the bin of the reference's margin."""
    largest_margin: float = 0.0
    """Of a pixel that differs."""

    def add(self, expected: np.ndarray, found: np.ndarray, margins: np.ndarray) -> int:
        """Count one tile's labels uint8 [h, w] and the margins; return how many differ."""
        pairs = expected.ravel().astype(np.intp) * 256 + found.ravel()
        self.confusion += np.bincount(pairs, minlength=256**2).reshape(256, 256)
        lost = margins[expected != found]
        self.flipped += _binned(lost)
        self.largest_margin = max(self.largest_margin, float(lost.max(initial=0.0)))
        return int(lost.size)

    @property
    def agreement(self) -> float:
        """Share of equal labels."""
        return float(np.trace(self.confusion) / self.confusion.sum())


@dataclass(slots=True)
class Reference:
    """What PyTorch says of the tiles, and what the twin's logits differ by."""

    margins: np.ndarray = field(default_factory=lambda: np.zeros(len(MARGINS) + 1, np.int64))
    """Pixels by the bin of their margin."""
    logit_largest: float = 0.0
    logit_p999: float = 0.0
    """99.9th percentile of the absolute differences of a tile, the largest of any tile."""
    shown: tuple[int, dict[str, np.ndarray]] = (-1, {})
    """The tile with most differences in any engine: how many, and its maps."""


def measure(
    net: nn.Module,
    model: Path,
    images: Sequence[Path],
    choices: Sequence[Choice],
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare every engine among `choices` that runs here with `net`; return figures.

    Raises ModelError where none runs, ImageError for an image the model cannot read.
    """
    spec = read_model_spec(model)
    check_images(images, spec.bands)
    usable, missing = probe(model, spec, choices)
    if not usable:
        raise ModelError(f"no engine can run {model} here: {'; '.join(missing.values())}")
    *_, source = sources(spec, images)
    twin = open_session(with_logits(onnx.load(model)).SerializeToString())
    reference = Reference()
    with ExitStack() as stack:
        engines = {}
        for choice in usable:
            backend = opened(model, spec, choice.options(batch=BATCH, slots=1))
            stack.callback(backend.close)
            tally = Tally(backend.precision, np.zeros((256, 256), np.int64))
            engines[choice.label] = backend, tally
        for step, start in enumerate(range(0, source.count, BATCH)):
            progress(f"tile {start + 1} of {source.count}")
            tiles = list(islice(source.tiles, BATCH))
            logits = _step(net, spec, tiles, engines, reference)
            if step % LOGITS_EVERY == 0:
                _compare_logits(logits, _batch(tiles), twin, tiles, reference)
    return _figures(spec, source.note, reference, {k: t for k, (_, t) in engines.items()}, missing)


def faults(figures: dict[str, Any], tolerance: float | None = None) -> list[str]:
    """Return the engines whose agreement is below `tolerance`, or their precision's own."""
    return [
        f"{label} agrees on {entry['agreement']:.4%} of labels, at least "
        f"{tolerance or entry['tolerance']:.2%} have to"
        for label, entry in figures["engines"].items()
        if entry["agreement"] < (tolerance or entry["tolerance"])
    ]


def _step(
    net: nn.Module,
    spec: ModelSpec,
    tiles: Sequence[Tile],
    engines: dict[str, tuple[Backend, Tally]],
    reference: Reference,
) -> np.ndarray:
    """Run one batch through PyTorch and every engine; return the reference logits."""
    values = np.array([entry.value for entry in spec.active_classes], np.uint8)
    logits: np.ndarray = reference_logits(net, spec, _batch(tiles)).numpy()
    second, first = np.partition(logits, -2, axis=1)[:, -2:].swapaxes(0, 1)
    labels, margins = values[logits.argmax(1)], first - second
    for label, (backend, tally) in engines.items():
        (slot,) = backend.slots
        slot.images_nchw[: len(tiles)] = _batch(tiles)
        slot.submit()
        found = slot.wait()["labels"]
        for n, tile in enumerate(tiles):
            inside = slice(tile.height), slice(tile.width)
            maps = labels[n][inside], found[n][inside]
            different = tally.add(*maps, margins[n][inside])
            if different > reference.shown[0]:
                reference.shown = different, _maps(spec, tile, label, *maps)
    for n, tile in enumerate(tiles):
        reference.margins += _binned(margins[n, : tile.height, : tile.width])
    return logits


def _compare_logits(
    logits: np.ndarray,
    batch: np.ndarray,
    twin: Any,
    tiles: Sequence[Tile],
    reference: Reference,
) -> None:
    (found,) = twin.run(["logits"], {INPUT_NAME: batch})
    for n, tile in enumerate(tiles):
        inside = (n, ..., slice(tile.height), slice(tile.width))
        differences = np.abs(logits[inside] - found[inside])
        reference.logit_largest = max(reference.logit_largest, float(differences.max()))
        p999 = float(np.percentile(differences, 99.9))
        reference.logit_p999 = max(reference.logit_p999, p999)


def _figures(
    spec: ModelSpec,
    note: str,
    reference: Reference,
    tallies: dict[str, Tally],
    missing: dict[str, str],
) -> dict[str, Any]:
    return {
        "model": spec.name,
        "weights_sha256": spec.weights_sha256,
        "tile_px": spec.tile_px,
        "margin_px": spec.margin_px,
        "tiles": note,
        "pixels": int(reference.margins.sum()),
        "margin_edges": list(MARGINS),
        "margins": reference.margins.tolist(),
        "logit_largest": reference.logit_largest,
        "logit_p999": reference.logit_p999,
        "engines": {label: _engine(spec, tally) for label, tally in tallies.items()},
        "missing": missing,
        "map": {
            name: packed(array) if isinstance(array, np.ndarray) else array
            for name, array in reference.shown[1].items()
        },
    }


def _engine(spec: ModelSpec, tally: Tally) -> dict[str, Any]:
    names = {entry.value: entry.name for entry in spec.classes}
    matrix = tally.confusion.copy()
    equal = np.diag(matrix).copy()
    np.fill_diagonal(matrix, 0)
    worst = np.argsort(matrix, axis=None)[::-1][:FLIPS_SHOWN]
    return {
        "precision": tally.precision,
        "tolerance": TOLERANCE[tally.precision],
        "agreement": tally.agreement,
        "different": int(matrix.sum()),
        "largest_margin_lost": tally.largest_margin,
        "flipped_by_margin": tally.flipped.tolist(),
        "classes": {
            entry.name: {
                "pixels": int(tally.confusion[entry.value].sum()),
                "different": int(tally.confusion[entry.value].sum() - equal[entry.value]),
            }
            for entry in spec.active_classes
        },
        "flips": [
            [names.get(row, str(row)), names.get(col, str(col)), int(matrix[row, col])]
            for row, col in (divmod(int(index), 256) for index in worst)
            if matrix[row, col]
        ],
    }


def _maps(
    spec: ModelSpec, tile: Tile, label: str, expected: np.ndarray, found: np.ndarray
) -> dict[str, Any]:
    core = (
        slice(spec.margin_px, spec.margin_px + tile.height),
        slice(spec.margin_px, spec.margin_px + tile.width),
    )
    return {
        "image": tile.image[:3, core[0], core[1]].copy(),
        "reference": expected.copy(),
        "engine": found.copy(),
        "label": label,
        "colors": {entry.value: entry.color for entry in spec.classes},
    }


def packed(array: np.ndarray) -> dict[str, Any]:
    """Return a uint8 array as JSON: shape, and deflated bytes in base64."""
    content = base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()
    return {"shape": list(array.shape), "content": content}


def unpacked(value: dict[str, Any]) -> np.ndarray:
    """Return the array that `packed` was given."""
    content = zlib.decompress(base64.b64decode(value["content"]))
    array: np.ndarray = np.frombuffer(content, np.uint8).reshape(value["shape"])
    return array


def _batch(tiles: Sequence[Tile]) -> np.ndarray:
    return np.stack([tile.image for tile in tiles])


def _binned(margins: np.ndarray) -> np.ndarray:
    bins = np.digitize(margins.ravel(), MARGINS)
    counts: np.ndarray = np.bincount(bins, minlength=len(MARGINS) + 1)
    return counts
