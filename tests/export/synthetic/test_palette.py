"""Labels of the palette against the nomenclature."""

from __future__ import annotations

from flair_export.cards import NOMENCLATURE
from flair_export.synthetic import palette


def test_labels_are_those_of_the_nomenclature():
    for value, name in (
        (palette.BUILDING, "building"),
        (palette.WATER, "water"),
        (palette.BRUSH, "brushwood"),
        (palette.GRASS, "herbaceous vegetation"),
        (palette.POOL, "swimming pool"),
        (palette.GREENHOUSE, "greenhouse"),
    ):
        assert NOMENCLATURE[value - 1][0] == name
