"""The cost of one map: told before it is written, and held against the disk."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from flair_engine.errors import OutputError
from flair_engine.options import Listener
from flair_engine.territory.cost import Cost
from flair_engine.territory.finish import finish


def test_the_cost_of_a_large_map_is_told_first_and_its_disk_is_checked(
    made, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr("flair_engine.territory.finish.COSTLY_PX", 10_000)
    monkeypatch.setattr("flair_engine.territory.cost.SAMPLE_EDGE_PX", 256)
    said, free = [], SimpleNamespace(free=10**9)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: free)
    listener = Listener(notify=said.append, progress=lambda *_: said.append("written"))
    finish(made, tmp_path / "map.tif", listener=listener)
    (told, *rest) = said
    found = re.fullmatch(rf"{tmp_path}/map.tif: takes about (\d+) s, (.+) MB and, on the way, "
                         r"(.+) MB of disk", told)  # fmt: skip
    size = (tmp_path / "map.tif").stat().st_size / 1e6
    assert set(rest) == {"written"}
    assert float(found[2]) == float(found[3]) == pytest.approx(size, rel=0.3, abs=0.1)
    assert (tmp_path / "map.tif").read_bytes() == whole.read_bytes()
    left = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("."))
    assert left == []
    free.free = 1000
    with pytest.raises(OutputError, match=r"other.tif: takes about .*, 0.0 MB are free: give a"):
        finish(made, tmp_path / "other.tif", listener=listener)
    assert not (tmp_path / "other.tif").exists()
    finish(made, tmp_path / "other.vrt", listener=listener)


def test_the_cost_of_a_cog_counts_the_copy():
    cost = Cost(wall_s=7200, size=10**10, disk=2 * 10**10)
    assert str(cost) == "about 2.0 h, 10.0 GB and, on the way, 20.0 GB of disk"
    assert "about 20 min" in str(replace(cost, wall_s=1200))
