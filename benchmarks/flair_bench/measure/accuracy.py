"""Accuracy of an exported model on patches with masks, as the FLAIR benchmark scores it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from flair_bench.data.dataset import Pair, read_pair
from flair_bench.errors import DatasetError, ModelError
from flair_bench.figures import AccuracyFigures, ClassScore, Published
from flair_bench.measure.engines import opened
from flair_bench.measure.scores import (
    PUBLISHED_IOU,
    PUBLISHED_MIOU,
    PUBLISHED_OA,
    Scores,
    confusion,
    scores,
)
from flair_engine.inference.stream import stream
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_export.cards import ACTIVE_15, CHANNELS, NOMENCLATURE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from flair_engine.options import RunOptions


def scorable(model: Path) -> ModelSpec:
    """Return the manifest of a model that labels whole tiles. Raises ModelError for another."""
    spec = read_model_spec(model)
    if spec.margin_px:
        raise ModelError(
            f"{model}: keeps {spec.core_px} of {spec.tile_px} px (margin {spec.margin_px}); the "
            f"benchmark scores whole patches",
            f"export with --tile {spec.tile_px} --margin 0",
        )
    return spec


def count_confusion(
    model: Path,
    spec: ModelSpec,
    pairs: Sequence[Pair],
    options: RunOptions,
    status: Callable[[str], None] = lambda _: None,
) -> np.ndarray:
    """Label every patch with a scorable model; return the confusion matrix int64 [19, 19].

    Raises DatasetError and what opening the engine raises.
    """
    matrix = np.zeros((CHANNELS, CHANNELS), np.int64)

    def tiles() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, pair in enumerate(pairs, 1):
            status(f"patch {number} of {len(pairs)}")
            image_bhw, truth_hw = read_pair(pair, spec)
            yield truth_hw, image_bhw

    with closing(opened(model, spec, options)) as backend:
        for truth_hw, outputs in stream(tiles(), backend.slots):
            matrix += confusion(truth_hw, outputs["labels"])
    return matrix


def read_confusion(path: Path) -> np.ndarray:
    """Read a matrix that numpy saved: [19, 19], rows masks, columns labels. Raises DatasetError."""
    try:
        matrix: np.ndarray = np.load(path)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: is no .npy file ({error})", "give a confusion matrix"
        ) from error
    if matrix.shape != (CHANNELS, CHANNELS):
        raise DatasetError(
            f"{path}: is {list(matrix.shape)}", f"give [{CHANNELS}, {CHANNELS}], rows the masks"
        )
    return matrix


def score(matrix: np.ndarray, spec: ModelSpec | None) -> AccuracyFigures:
    """Return everything a confusion matrix says; without a model, of the 15 classes."""
    active = [entry.value for entry in spec.active_classes] if spec else list(ACTIVE_15)
    found = scores(matrix, active)
    return AccuracyFigures(
        model=spec.name if spec else None,
        weights_sha256=spec.weights_sha256 if spec else None,
        pixels=int(matrix.sum()),
        oa=found.oa,
        official=found.official,
        without_snow=found.without_snow,
        predicted_inactive=found.predicted_inactive,
        masked_inactive=found.masked_inactive,
        published=Published(oa=PUBLISHED_OA, miou=PUBLISHED_MIOU),
        classes=tuple(_class_score(found, value) for value in active),
        confusion=tuple(map(tuple, matrix.tolist())),
    )


def _class_score(found: Scores, value: int) -> ClassScore:
    return ClassScore(
        value=value,
        name=NOMENCLATURE[value - 1][0],
        pixels=found.pixels[value],
        iou=found.iou[value],
        f=found.f[value],
        precision=found.precision[value],
        recall=found.recall[value],
        published_iou=PUBLISHED_IOU.get(value),
    )
