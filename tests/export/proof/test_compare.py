"""Counts of equal labels, and two files compared."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from doubles.networks import graph_of, shift_bias, small_spec
from doubles.small_graphs import labels_of

from flair_export.proof.compare import (
    Comparison,
    EqualLabels,
    LabelCounts,
    by_class,
    by_source,
    compare_files,
)
from flair_export.proof.samples import Source, Tile

pytestmark = pytest.mark.usefixtures("one_thread")


def counted(name: str, expected: list[int], found: list[int]) -> LabelCounts:
    counts = LabelCounts(name=name, note="1 tile")
    counts.add(np.array(expected, np.uint8), np.array(found, np.uint8))
    return counts


def test_labels_are_counted_by_source_and_by_class_of_the_reference(rgb):
    counts = [counted("one", [1, 1, 2], [1, 2, 2]), counted("two", [2, 2], [2, 3])]
    assert by_source(counts) == (
        EqualLabels(name="one", pixels=3, different=1, note="1 tile"),
        EqualLabels(name="two", pixels=2, different=1, note="1 tile"),
    )
    classes = by_class(small_spec(rgb), counts)
    assert [entry.name for entry in classes[:2]] == ["building", "pervious surface"]
    assert [(entry.pixels, entry.different) for entry in classes[:3]] == [(2, 1), (3, 1), (0, 0)]
    assert len(classes) == len(rgb.active)


def test_the_total_is_over_all_sources():
    sources = by_source([counted("one", [1, 1, 2], [1, 2, 2]), counted("two", [2], [2])])
    total = Comparison(sources=sources, classes=()).total
    assert (total.pixels, total.different, total.share) == (4, 1, 0.75)


def test_no_pixels_agree():
    assert EqualLabels(name="x", pixels=0, different=0).share == 1


def test_only_pixels_inside_the_raster_of_two_files_are_compared(tiny, rgb, tmp_path):
    spec = small_spec(rgb)
    model = graph_of(tiny, spec)
    shifted = graph_of(tiny, spec)
    shift_bias(shifted, channel=4, amount=50.0)
    files = tmp_path / "one.onnx", tmp_path / "two.onnx"
    onnx.save(model, files[0])
    onnx.save(shifted, files[1])
    image = np.random.default_rng(2).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    source = Source("image", "1 tile", 1, iter([Tile(image, height=5, width=7)]))
    steps: list[str] = []
    found = compare_files(spec, files, [source], steps.append)
    expected = labels_of(model, image[None])[0, :5, :7]
    assert steps == ["comparing on image: tile 1 of 1"]
    assert (found.total.pixels, found.total.different) == (35, int((expected != 5).sum()))
    assert found.sources[0].note == "1 tile"
