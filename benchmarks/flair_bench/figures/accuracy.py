"""Accuracy: labels against masks."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Averages:
    """Plain means over classes, percent."""

    classes: int
    """How many classes the means are over; those without a pixel count 0."""
    iou: float
    f: float
    precision: float
    recall: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What the published model's card says, on its own test set, percent."""

    oa: float
    miou: float
    """Over 15 classes, snow counted as 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """Scores of one class, percent."""

    value: int
    """As FLAIR numbers it, 1..19."""
    name: str
    pixels: int
    """Of the masks."""
    iou: float
    f: float
    precision: float
    recall: float
    published_iou: float | None
    """The card's, percent; None for a class it gives none of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyFigures:
    """What a confusion matrix says of a model."""

    model: str | None
    """Name in the manifest; None for a matrix that came alone."""
    weights_sha256: str | None
    pixels: int
    oa: float
    """Equal labels among pixels of active classes, percent."""
    official: Averages
    """Over every active class."""
    without_snow: Averages
    """Over the active classes but snow: the later convention."""
    predicted_inactive: float
    """Labels that are inactive classes, percent; the official averages do not see them."""
    masked_inactive: float
    """Mask pixels that are inactive classes, percent; left out of every score."""
    published: Published
    classes: tuple[ClassScore, ...]
    """The active ones, by ascending value."""
    confusion: tuple[tuple[int, ...], ...]
    """[19, 19] pixels: row v - 1 of the mask's class v, column w - 1 labelled w."""
