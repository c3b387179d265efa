"""Seams, scenes and figures of geometries on a network whose context is one pixel."""

import numpy as np
import pytest

from flair_bench.errors import ModelError
from flair_bench.measure import geometry
from flair_bench.measure.engines import Choice
from flair_bench.measure.geometry import GeometryOptions


def test_seams_lie_within_eight_pixels_of_core_edges():
    mask = geometry.seam_mask(40, 64, 20)
    rows = np.flatnonzero(mask[:, 30])  # column 30 is far from the edges at 20 and 40
    assert rows.tolist() == list(range(12, 28))
    assert np.flatnonzero(mask[0]).tolist() == [*range(12, 28), *range(32, 48), *range(52, 64)]
    assert not geometry.seam_mask(16, 16, 16).any()


def test_a_network_without_context_has_no_seams(network, exported, monkeypatch):
    monkeypatch.setattr(geometry, "reference_network", lambda *_: network)
    monkeypatch.setattr(geometry, "SEAM_PX", 2)
    image = np.random.default_rng(2).integers(0, 256, (3, 300, 288), dtype=np.uint8)
    scene = geometry.cut_scene(image, np.ones((300, 288), np.uint8))
    options = GeometryOptions(
        checkpoint="unused", choice=Choice("ort"), models=[exported(8), exported(0)], repeats=2
    )
    figures = geometry.measure(options, scene)
    first, second = figures.geometries
    assert (figures.height, figures.width) == (288, 288)
    assert first.seam_different == first.elsewhere_different == 0
    assert first.equal_to_whole > 0.98, "padding differs at the raster's border alone"
    assert second.seam_different > second.elsewhere_different
    assert (first.overlap, second.overlap) == (4, 1)
    assert first.gflop_per_new_mpx == pytest.approx(4 * second.gflop_per_new_mpx)
    assert first.oa is not None
    least, most = first.s_per_new_mpx_spread
    assert 0 < least <= first.s_per_new_mpx <= most


def test_without_models_the_checkpoint_is_exported_at_every_geometry(
    network, exported, monkeypatch
):
    made = []

    def export(_, path, options):
        made.append((options.tile_px, options.margin_px))
        path.write_bytes(exported(options.margin_px).read_bytes())

    monkeypatch.setattr(geometry, "reference_network", lambda *_: network)
    monkeypatch.setattr(geometry, "export", export)
    scene = geometry.cut_scene(np.zeros((3, 288, 288), np.uint8), None)
    options = GeometryOptions(
        checkpoint="weights.pth", choice=Choice("ort"), geometries=((32, 8), (32, 0)), repeats=1
    )
    figures = geometry.measure(options, scene)
    assert made == [(cost.tile_px, cost.margin_px) for cost in figures.geometries]
    assert figures.whole_oa is None


def test_small_images_are_refused():
    with pytest.raises(ModelError, match=r"image is 200 x 900 px, .* more than 256"):
        geometry.cut_scene(np.zeros((3, 200, 900), np.uint8), None)
