"""Runs over a row of files, whose blocks are decoded once where memory holds the whole width."""

import numpy as np

from flair_bench.measure import wide

IMAGE = np.random.default_rng(8).integers(0, 256, (3, 90, 70), dtype=np.uint8)


def shrink(monkeypatch, file_px, files, formats):
    monkeypatch.setattr(wide, "FILE_PX", file_px)
    monkeypatch.setattr(wide, "MOSAIC_PX", file_px * files)
    monkeypatch.setattr(wide, "TILES_PX", (512,))
    monkeypatch.setattr(wide, "WIDE_FORMATS", formats)


def test_factor_and_memory_are_those_of_runs(tmp_path, monkeypatch):
    shrink(monkeypatch, 700, 3, wide.WIDE_FORMATS)
    said = []
    found = wide.measure_wide(IMAGE, tmp_path, said.append)
    assert said == [f"wide mosaic of {name}, 512/128" for name in wide.WIDE_FORMATS]
    assert [each.decode_factor for each in found.values()] == [1, 1, 1]
    assert [each.blocks for each in found.values()] == [3 * 4, 3, 3]
    assert min(each.peak_mib for each in found.values()) > 10


def test_memory_for_one_core_decodes_blocks_again(tmp_path, monkeypatch):
    shrink(monkeypatch, 1500, 2, {"tiled": {}})
    monkeypatch.setattr(wide, "WIDE_MEMORY", "1M")
    (found,) = wide.measure_wide(IMAGE, tmp_path, lambda _: None).values()
    assert found.decode_factor > 1.5
