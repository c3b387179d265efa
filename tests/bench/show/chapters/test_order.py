"""Chapters come in one order, whatever the order they were measured in."""

import pytest
from doubles.figures import (
    CPU,
    EVERY_KIND,
    accuracy,
    geometries,
    parity,
    raster_io,
    result_of,
    throughput,
)

from flair_bench.show.chapters.order import chapter, chapters

ORDER = (throughput, parity, accuracy, geometries, raster_io)


def test_how_fast_comes_first():
    result = result_of(CPU, raster_io(), geometries(), throughput())
    titles = [written.title for _, written in chapters(result)]
    assert titles == ["How fast", "Tile and margin", "Reading and writing"]


def test_a_chapter_comes_with_its_section():
    result = result_of(CPU, *(make() for make in ORDER))
    assert [section.figures for section, _ in chapters(result)] == [make() for make in ORDER]


@pytest.mark.parametrize("make", EVERY_KIND)
def test_rows_are_as_wide_as_their_table(make):
    written = chapter(make())
    assert written.lead
    for table in written.tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title
