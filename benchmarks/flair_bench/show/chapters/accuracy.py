"""The chapter on accuracy: scores of every class and their means, beside the published model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_bench.show.tables import Chapter, Table
from flair_bench.show.wording import NONE

if TYPE_CHECKING:
    from flair_bench.figures import AccuracyFigures, Averages


def accuracy_chapter(figures: AccuracyFigures) -> Chapter:
    """Return the scores of every class and their means, beside the published model's."""
    means = (("official mean", figures.official), ("mean without snow", figures.without_snow))
    rows = [
        (
            entry.name,
            f"{entry.pixels:,}",
            *(f"{v:.2f}" for v in (entry.iou, entry.f, entry.precision, entry.recall)),
            NONE if entry.published_iou is None else f"{entry.published_iou:.2f}",
        )
        for entry in figures.classes
    ]
    columns = ("class", "mask px", "IoU %", "F %", "precision %", "recall %", "card's IoU %")
    return Chapter(
        title="Accuracy",
        lead=(
            f"{figures.model or 'A confusion matrix'} on {figures.pixels:,} px. The card's figures "
            "are the published model's on its own test set: another model on other patches is "
            "not comparable with them."
        ),
        tables=(
            Table(
                title="Scores by class and their means",
                columns=columns,
                rows=(*rows, *(_mean(title, mean, figures) for title, mean in means)),
            ),
        ),
        notes=(
            f"OA {figures.oa:.4f} % (card's model on its test set {figures.published.oa} %)",
            (
                f"labels of inactive classes {figures.predicted_inactive:.4f} %, "
                f"mask pixels of inactive classes {figures.masked_inactive:.4f} % (in no score)"
            ),
        ),
    )


def _mean(title: str, means: Averages, figures: AccuracyFigures) -> tuple[str, ...]:
    published = figures.published.miou * 15 / means.classes
    return (
        f"{title} (/{means.classes})",
        "",
        *(f"{v:.4f}" for v in (means.iou, means.f, means.precision, means.recall)),
        f"{published:.4f}" if means.classes in (14, 15) else NONE,
    )
