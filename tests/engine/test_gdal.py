"""Blocks that GDAL keeps are bounded while a run lasts, unless the user says how many."""

from rasterio._env import get_gdal_config

from flair_engine.gdal import CACHE, block_cache


def test_gdal_keeps_less_for_a_while(monkeypatch):
    monkeypatch.delenv(CACHE, raising=False)
    before = get_gdal_config(CACHE)
    with block_cache(before // 2):
        assert get_gdal_config(CACHE) == before // 2
    assert get_gdal_config(CACHE) == before
    with block_cache(2 * before):
        assert get_gdal_config(CACHE) == before
    monkeypatch.setenv(CACHE, "1000000")
    with block_cache(before // 2):
        assert get_gdal_config(CACHE) == before
