"""Runs over a row of files, whose blocks are decoded once where memory holds the whole width."""

import numpy as np

from flair_bench.measure import wide


def test_factor_and_memory_are_those_of_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(wide, "FILE_PX", 700)
    monkeypatch.setattr(wide, "MOSAIC_PX", 2100)
    monkeypatch.setattr(wide, "TILES_PX", (512,))
    monkeypatch.setattr(
        wide, "WIDE_FORMATS", {"tiled": {}, "strips": wide.WIDE_FORMATS["strips of 2500"]}
    )
    said = []
    image = np.random.default_rng(8).integers(0, 256, (3, 90, 70), dtype=np.uint8)
    found = wide.measure_wide(image, tmp_path, said.append)
    assert said == [f"wide mosaic of {name}, 512/128" for name in names]
    assert [each.decode_factor for each in found.values()] == [1, 1, 1]
    assert [each.blocks for each in found.values()] == [3 * 4, 3, 3]
    assert min(each.peak_mib for each in found.values()) > 10


def test_memory_for_one_core_decodes_blocks_again(tmp_path, monkeypatch):
    monkeypatch.setattr(wide, "FILE_PX", 1500)
    monkeypatch.setattr(wide, "MOSAIC_PX", 3000)
    monkeypatch.setattr(wide, "TILES_PX", (512,))
    names = {"tiled": "tiled 512", "JPEG 2000": "JPEG 2000 1024", "strips": "strips of 2500"}
    formats = {name: wide.WIDE_FORMATS[long] for name, long in names.items()}
    monkeypatch.setattr(wide, "WIDE_FORMATS", formats)
    said = []
    image = np.random.default_rng(8).integers(0, 256, (3, 90, 70), dtype=np.uint8)
    found = wide.measure_wide(image, tmp_path, said.append)
    assert said == [f"wide mosaic of {name}, 512/128" for name in names]
    assert [each.decode_factor for each in found.values()] == [1, 1, 1]
    assert [each.blocks for each in found.values()] == [3 * 4, 3, 3]
    assert min(each.peak_mib for each in found.values()) > 10


def test_memory_for_one_core_decodes_blocks_again(tmp_path, monkeypatch):
    monkeypatch.setattr(wide, "FILE_PX", 1500)
    monkeypatch.setattr(wide, "MOSAIC_PX", 3000)
    monkeypatch.setattr(wide, "TILES_PX", (512,))
    monkeypatch.setattr(wide, "WIDE_FORMATS", {"tiled": {}})
    monkeypatch.setattr(wide, "WIDE_MEMORY", "1M")
    image = np.random.default_rng(8).integers(0, 256, (3, 90, 70), dtype=np.uint8)
    (found,) = wide.measure_wide(image, tmp_path, lambda _: None).values()

    assert found.decode_factor > 1.5
