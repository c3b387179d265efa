"""Labels of every engine against PyTorch FP32 on real tiles.

One pass: PyTorch answers a batch of tiles, then each engine. Labels come from the shipped file,
logits from a twin of it that exposes them. Only pixels inside a raster count.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from flair_bench.errors import ModelError
from flair_bench.figures import (
    AgreementMap,
    ClassParity,
    EngineParity,
    Flip,
    ParityFigures,
    packed,
)
from flair_bench.measure.engines import Choice, opened, probe
from flair_engine.agreement import LabelDifference
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME, ModelSpec, read_model_spec
from flair_engine.model_file import load_model
from flair_engine.tolerances import ENGINE_EQUAL
from flair_export.graph.contract import LOGITS_NAME, with_logits
from flair_export.proof.reference import reference_logits
from flair_export.proof.samples import check_images, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import onnxruntime as ort
    from torch import nn

    from flair_engine.inference.base import Backend
    from flair_export.proof.samples import Tile

LEAD_EDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Edges of the bins of leads: top-1 minus top-2 logit."""
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
    flipped: np.ndarray = field(default_factory=lambda: np.zeros(len(LEAD_EDGES) + 1, np.int64))
    """Pixels that differ by the bin of the reference's lead."""
    largest_lead: float = 0.0
    """Of a pixel that differs."""

    def add(self, expected: np.ndarray, found: np.ndarray, leads: np.ndarray) -> int:
        """Count one tile's labels uint8 [h, w] and the leads; return how many differ."""
        pairs = expected.ravel().astype(np.intp) * 256 + found.ravel()
        self.confusion += np.bincount(pairs, minlength=256**2).reshape(256, 256)
        lost = leads[expected != found]
        self.flipped += _binned(lost)
        self.largest_lead = max(self.largest_lead, float(lost.max(initial=0.0)))
        return int(lost.size)

    @property
    def agreement(self) -> float:
        """Share of equal labels."""
        return float(np.trace(self.confusion) / self.confusion.sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """An open engine and what it differs in so far."""

    backend: Backend
    tally: Tally


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """The tile with most differences in any engine."""

    different: int
    """Pixels."""
    map: AgreementMap


@dataclass(slots=True)
class Reference:
    """What PyTorch says of the tiles, and what the twin's logits differ by."""

    leads: np.ndarray = field(default_factory=lambda: np.zeros(len(LEAD_EDGES) + 1, np.int64))
    """Pixels by the bin of their lead."""
    logit_largest: float = 0.0
    logit_p999: float = 0.0
    """99.9th percentile of the absolute differences of a tile, the largest of any tile."""
    shown: Shown | None = None
    """None before the first tile."""


def measure(
    net: nn.Module,
    model: Path,
    images: Sequence[Path],
    choices: Sequence[Choice],
    status: Callable[[str], None] = lambda _: None,
) -> ParityFigures:
    """Compare every engine among `choices` that runs here with `net`.

    Raises ModelError where none runs, ImageError for an image the model cannot read.
    """
    spec = read_model_spec(model)
    check_images(images, spec.bands)
    usable, missing = probe(model, spec, choices)
    if not usable:
        raise ModelError(f"no engine can run {model} here", "; ".join(missing.values()))
    *_, source = sources(spec, images)
    twin = open_session(with_logits(load_model(model)).SerializeToString())
    reference = Reference()
    with ExitStack() as stack:
        engines = {}
        for choice in usable:
            backend = opened(model, spec, choice.options(batch=BATCH, slots=1))
            stack.callback(backend.close)
            tally = Tally(backend.precision, np.zeros((256, 256), np.int64))
            engines[choice.label] = Judged(backend=backend, tally=tally)
        for step, tiles in enumerate(_batches(source.tiles)):
            status(f"tile {step * BATCH + 1} of {source.count}")
            logits = _step(net, spec, tiles, engines, reference)
            if step % LOGITS_EVERY == 0:
                _compare_logits(logits, _batch(tiles), twin, tiles, reference)
    tallies = {label: engine.tally for label, engine in engines.items()}
    return _figures(spec, source.note, reference, tallies, missing)


def faults(figures: ParityFigures, tolerance: float | None = None) -> list[str]:
    """Return the engines that lean or agree on less than `tolerance`, or their precision's."""
    least = [
        f"{label} agrees on {entry.agreement:.4%} of labels, at least "
        f"{tolerance or entry.tolerance:.2%} have to"
        for label, entry in figures.engines.items()
        if entry.agreement < (tolerance or entry.tolerance)
    ]
    lean = [
        f"{label}: {fault}"
        for label, entry in figures.engines.items()
        if entry.lower is not None
        and (
            fault := LabelDifference(
                pixels=figures.pixels, different=entry.different, lower=entry.lower
            ).fault
        )
    ]
    return least + lean


def _step(
    net: nn.Module,
    spec: ModelSpec,
    tiles: Sequence[Tile],
    engines: dict[str, Judged],
    reference: Reference,
) -> np.ndarray:
    """Run one batch through PyTorch and every engine; return the reference logits."""
    values = np.array([entry.value for entry in spec.active_classes], np.uint8)
    logits: np.ndarray = reference_logits(net, spec, _batch(tiles)).numpy()
    second, first = np.partition(logits, -2, axis=1)[:, -2:].swapaxes(0, 1)
    labels, leads = values[logits.argmax(1)], first - second
    for label, engine in engines.items():
        (slot,) = engine.backend.slots
        slot.images_nchw[: len(tiles)] = _batch(tiles)
        slot.submit()
        found = slot.wait()["labels"]
        for n, tile in enumerate(tiles):
            maps = labels[n][tile.inside], found[n][tile.inside]
            different = engine.tally.add(*maps, leads[n][tile.inside])
            if reference.shown is None or different > reference.shown.different:
                found_map = _map(spec, tile, label, *maps)
                reference.shown = Shown(different=different, map=found_map)
    for n, tile in enumerate(tiles):
        reference.leads += _binned(leads[n][tile.inside])
    return logits


def _compare_logits(
    logits: np.ndarray,
    batch: np.ndarray,
    twin: ort.InferenceSession,
    tiles: Sequence[Tile],
    reference: Reference,
) -> None:
    (found,) = twin.run([LOGITS_NAME], {INPUT_NAME: batch})
    for n, tile in enumerate(tiles):
        inside = (n, *tile.inside)
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
) -> ParityFigures:
    assert reference.shown is not None, "images have a tile at least"
    return ParityFigures(
        model=spec.name,
        weights_sha256=spec.weights_sha256,
        tile_px=spec.tile_px,
        margin_px=spec.margin_px,
        tiles=note,
        pixels=int(reference.leads.sum()),
        lead_edges=LEAD_EDGES,
        leads=tuple(reference.leads.tolist()),
        logit_largest=reference.logit_largest,
        logit_p999=reference.logit_p999,
        engines={label: _engine_parity(spec, tally) for label, tally in tallies.items()},
        missing=missing,
        map=reference.shown.map,
    )


def _engine_parity(spec: ModelSpec, tally: Tally) -> EngineParity:
    pixels, equal = tally.confusion.sum(1), np.diag(tally.confusion)
    return EngineParity(
        precision=tally.precision,
        tolerance=ENGINE_EQUAL[tally.precision],
        agreement=tally.agreement,
        different=int(pixels.sum() - equal.sum()),
        lower=int(np.tril(tally.confusion, -1).sum()),
        largest_lead_lost=tally.largest_lead,
        flipped_by_lead=tuple(tally.flipped.tolist()),
        classes={
            entry.name: ClassParity(
                pixels=int(pixels[entry.value]),
                different=int(pixels[entry.value] - equal[entry.value]),
            )
            for entry in spec.active_classes
        },
        flips=_flips(spec, tally.confusion),
    )


def _flips(spec: ModelSpec, confusion: np.ndarray) -> tuple[Flip, ...]:
    """Return the pairs of classes that are exchanged most often."""
    names = {entry.value: entry.name for entry in spec.classes}
    matrix = confusion.copy()
    np.fill_diagonal(matrix, 0)
    worst = np.argsort(matrix, axis=None)[::-1][:FLIPS_SHOWN]
    return tuple(
        Flip(names.get(row, str(row)), names.get(col, str(col)), int(matrix[row, col]))
        for row, col in (divmod(int(index), 256) for index in worst)
        if matrix[row, col]
    )


def _map(
    spec: ModelSpec, tile: Tile, label: str, expected: np.ndarray, found: np.ndarray
) -> AgreementMap:
    core = (
        slice(spec.margin_px, spec.margin_px + tile.height),
        slice(spec.margin_px, spec.margin_px + tile.width),
    )
    return AgreementMap(
        image=packed(tile.image[:3, core[0], core[1]]),
        reference=packed(expected),
        engine=packed(found),
        label=label,
        colors={str(entry.value): entry.color for entry in spec.classes},
    )


def _batches(tiles: Iterator[Tile]) -> Iterator[list[Tile]]:
    """Yield tiles in batches."""
    while batch := list(islice(tiles, BATCH)):
        yield batch


def _batch(tiles: Sequence[Tile]) -> np.ndarray:
    return np.stack([tile.image for tile in tiles])


def _binned(leads: np.ndarray) -> np.ndarray:
    bins = np.digitize(leads.ravel(), LEAD_EDGES)
    counts: np.ndarray = np.bincount(bins, minlength=len(LEAD_EDGES) + 1)
    return counts
