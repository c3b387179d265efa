"""Tables that every renderer shows: titled rows of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows under columns."""

    title: str
    columns: tuple[str, ...]
    """The first to the left, the others to the right."""
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chapter:
    """What one measurement says."""

    title: str
    lead: str
    """Sentences before the tables: what was measured, and against what."""
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    """Lines after the tables."""
