"""Maps to be worked on, and what was told meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from doubles.maps import patchy, write_map

from flair_engine.options import Listener


@pytest.fixture
def told():
    """What the user was told."""
    return []


@pytest.fixture
def listener(told):
    """A listener that keeps what is said."""
    return Listener(notify=told.append)


@pytest.fixture
def labels_hw():
    """Regions of many sizes, with nodata among them."""
    return patchy(300, 200)


@pytest.fixture
def a_map(tmp_path, labels_hw):
    """A map of these, with confidence."""
    confidence_hw = np.random.default_rng(1).integers(0, 256, labels_hw.shape, np.uint8)
    return write_map(tmp_path / "map.tif", labels_hw, confidence_hw=confidence_hw)


@pytest.fixture
def small_strips(monkeypatch):
    """Work on 17 rows at a time."""
    monkeypatch.setattr("flair_engine.post.map_file.MOST_ROWS", 17)
