"""The preview as a picture file."""

from __future__ import annotations

import sys

import matplotlib.image
import numpy as np
import pytest

from flair_export.cards import STANDIN_CARD, find_card
from flair_export.errors import DemoError
from flair_export.preview import PANEL_PX, draw_preview
from flair_export.synthetic.scene import synthetic_orthophoto

CLASSES = find_card(STANDIN_CARD).classes


@pytest.mark.parametrize("size", [(64, 64), (33, 150), (1100, 40)])
def test_the_preview_shows_image_and_map(tmp_path, size):
    image, labels = synthetic_orthophoto(*size, 4)
    path = tmp_path / "preview.png"
    draw_preview(path, image, labels, CLASSES, 1.0)
    picture = matplotlib.image.imread(path)
    assert picture.shape[0] >= PANEL_PX
    assert picture.shape[1] >= 2 * PANEL_PX
    colors = {tuple(color) for color in (picture[::4, ::4, :3].reshape(-1, 3) * 255).astype(int)}
    most = np.bincount(labels.ravel()).argmax()
    assert tuple(bytes.fromhex(CLASSES[most - 1].color[1:])) in colors


def test_a_preview_needs_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    image, labels = synthetic_orthophoto(8, 8, 4)
    with pytest.raises(DemoError, match="matplotlib is not installed: run pip install"):
        draw_preview(tmp_path / "preview.png", image, labels, CLASSES, 1.0)
