"""Tables of the documentation name what the code has."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from doubles.paths import ROOT

from flair_bench.results import Machine, Result, Section
from flair_engine.inference.gpu.plan_cache import PlanKey
from flair_engine.manifest import ModelSpec
from flair_engine.mapping.records import Entry
from flair_engine.report import Report
from flair_export.cards import ACTIVE_12, ACTIVE_15, NOMENCLATURE


def page(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("maps.md", Report),
        ("formats.md", ModelSpec),
        ("formats.md", Entry),
        ("formats.md", PlanKey),
        ("formats.md", Machine),
        ("formats.md", Section),
        ("formats.md", Result),
    ],
)
def test_every_field_is_named(name, kind):
    """Between back-quotes, or in the example of a record."""
    named = set(re.findall(r'[`"](\w+)[`"]', page(name)))
    assert [field.name for field in fields(kind) if field.name not in named] == []


def test_classes_are_those_of_the_models():
    rows = re.findall(r"^\| (\d+) \| (.+?) \| `(#\w+)` \| (.*?)\| (.*?)\|$", page("maps.md"), re.M)
    expected = [
        (str(value), name, color, value in ACTIVE_15, value in ACTIVE_12)
        for value, (name, color) in enumerate(NOMENCLATURE, start=1)
    ]
    assert [(*row[:3], *("yes" in cell for cell in row[3:])) for row in rows] == expected
