"""Counts of equal labels, and two files compared."""

from __future__ import annotations

from pathlib import Path

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
    by_image,
    by_source,
    compare_files,
)
from flair_export.proof.samples import Source, Tile

pytestmark = pytest.mark.usefixtures("one_thread")


def counted(
    name: str, expected: list[int], found: list[int], image: Path | None = None
) -> LabelCounts:
    counts = LabelCounts(name=name, note="1 tile")
    counts.add(np.array(expected, np.uint8), np.array(found, np.uint8), image)
    return counts


def test_labels_are_counted_by_source_and_by_class_of_the_reference(rgb):
    counts = [counted("one", [1, 1, 2], [1, 2, 2]), counted("two", [2, 2], [2, 3])]
    assert by_source(counts) == (
        EqualLabels(name="one", pixels=3, different=1, lower=0, note="1 tile"),
        EqualLabels(name="two", pixels=2, different=1, lower=0, note="1 tile"),
    )
    classes = by_class(small_spec(rgb), counts)
    assert [entry.name for entry in classes[:2]] == ["building", "pervious surface"]
    assert [(entry.pixels, entry.different) for entry in classes[:3]] == [(2, 1), (3, 1), (0, 0)]
    assert len(classes) == len(rgb.active)


def test_the_total_is_over_all_sources():
    sources = by_source([counted("one", [1, 1, 2], [1, 2, 2]), counted("two", [2], [2])])
    total = Comparison(sources=sources, classes=(), images=()).total
    assert (total.pixels, total.different, total.share) == (4, 1, 0.75)


def test_lean_is_counted_by_source_class_and_image(rgb):
    random = np.random.default_rng(3)
    expected, found = random.integers(1, 4, (2, 4, 100))
    paths = [Path("a.tif"), Path("b.tif"), Path("a.tif"), None]
    counts = [
        counted(str(n), list(expected[n]), list(found[n]), path) for n, path in enumerate(paths)
    ]
    lower, different = found < expected, found != expected
    assert [entry.lower for entry in by_source(counts)] == list(lower.sum(1))
    classes = by_class(small_spec(rgb), counts)
    assert [entry.lower for entry in classes[:3]] == [lower[expected == n].sum() for n in (1, 2, 3)]
    first, second = by_image(counts)
    assert (first.name, first.pixels, second.name, second.pixels) == ("a.tif", 200, "b.tif", 100)
    assert (first.different, first.lower) == (different[[0, 2]].sum(), lower[[0, 2]].sum())


def test_noise_is_not_asked_for_its_lean():
    leaning = {"pixels": 10**6, "different": 2000, "lower": 1501}
    for name, leans in (("noise", False), ("images", True)):
        sources = (EqualLabels(name=name, **leaning),)
        fault = Comparison(sources=sources, classes=(), images=()).lean_fault
        assert fault.startswith("75% of the 2,000 labels") is leans


def test_no_pixels_agree():
    assert EqualLabels(name="x", pixels=0, different=0, lower=0).share == 1


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
