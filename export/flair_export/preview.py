"""Preview of a map: the image and its land cover side by side, with a legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flair_export.cards import GSD_M
from flair_export.errors import DemoError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flair_engine.manifest import LandCoverClass

Bytes = npt.NDArray[np.uint8]

PANEL_PX = 1024
GAP_PX, TOP_PX, BOTTOM_PX = 40, 120, 190
"""White between and beside the panels, above them (title) and below them (legend)."""
WIDTH_PX, HEIGHT_PX = 2 * PANEL_PX + 3 * GAP_PX, PANEL_PX + TOP_PX + BOTTOM_PX
PREVIEW_DPI = 100
ROUND_M = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def draw_preview(
    path: Path,
    image: Bytes,
    labels: Bytes,
    classes: tuple[LandCoverClass, ...],
    share: float,
) -> None:
    """Draw image [5, H, W] beside map [H, W], with a legend of the classes that occur, as PNG.

    `share` is the share of pixels labelled as drawn. Raises DemoError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DemoError("matplotlib is not installed", "run pip install matplotlib") from error

    step = max(1, -(-max(labels.shape) // PANEL_PX))
    size = (WIDTH_PX / PREVIEW_DPI, HEIGHT_PX / PREVIEW_DPI)
    figure = Figure(figsize=size, dpi=PREVIEW_DPI, facecolor="white")
    photo = _thinned(image[:3], step).transpose(1, 2, 0)
    left = _panel(figure, 0, photo, "Aerial image, 0.2 m (red, green, blue of five bands)")
    _scale_bar(left, labels.shape, step)
    drawn = _palette(classes)[labels[::step, ::step]]
    _panel(figure, 1, drawn, f"Land cover, {share:.1%} of pixels labelled as drawn")
    _titles(figure)
    _legend(figure, labels, classes)
    figure.savefig(path, dpi=PREVIEW_DPI)


def _palette(classes: tuple[LandCoverClass, ...]) -> Bytes:
    """Return the colour of each label value, uint8 [256, 3]."""
    palette = np.zeros((256, 3), np.uint8)
    for entry in classes:
        palette[entry.value] = list(bytes.fromhex(entry.color.removeprefix("#")))
    return palette


def _panel(figure: Figure, column: int, pixels: Bytes, title: str) -> Axes:
    """Add one picture, uint8 [H, W, 3], in the left (0) or right (1) half."""
    left_px = GAP_PX + column * (PANEL_PX + GAP_PX)
    box = (
        left_px / WIDTH_PX,
        BOTTOM_PX / HEIGHT_PX,
        PANEL_PX / WIDTH_PX,
        PANEL_PX / HEIGHT_PX,
    )
    axes = figure.add_axes(box)
    axes.imshow(pixels, interpolation="nearest")
    axes.set_title(title, loc="left", fontsize=15, color="#333333", pad=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def _titles(figure: Figure) -> None:
    """Say what is shown, and what it is not."""
    figure.text(
        GAP_PX / WIDTH_PX,
        1 - 52 / HEIGHT_PX,
        "A synthetic scene mapped with stand-in weights",
        fontsize=25,
        fontweight="bold",
        color="#222222",
    )
    figure.text(
        1 - GAP_PX / WIDTH_PX,
        1 - 50 / HEIGHT_PX,
        "not a real place, not IGN's weights",
        fontsize=16,
        color="#8a1538",
        horizontalalignment="right",
    )


def _thinned(bands: Bytes, step: int) -> Bytes:
    """Average blocks of `step` x `step` pixels; what does not fill a block is dropped."""
    count, height, width = bands.shape
    rows, cols = max(1, height // step), max(1, width // step)
    blocks = bands[:, : rows * step, : cols * step].reshape(count, rows, step, cols, step)
    mean: Bytes = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
    return mean


def _scale_bar(axes: Axes, shape: tuple[int, ...], step: int) -> None:
    """Draw a bar of a round length, at most a quarter of the photo."""
    from matplotlib.patches import Rectangle

    across_m = shape[1] * GSD_M
    length_m = max((m for m in ROUND_M if m <= across_m / 4), default=1)
    unit = shape[1] / step / 100  # a hundredth of the photo, in its pixels
    bottom, length = shape[0] / step - 3 * unit, length_m / GSD_M / step
    frame: dict[str, Any] = {"edgecolor": "none", "facecolor": "white"}
    axes.add_patch(Rectangle((2.4 * unit, bottom - unit), length, 0.7 * unit, **frame))
    label = axes.text(
        2.4 * unit, bottom - 1.9 * unit, f"{length_m} m", color="white", fontsize=15, weight="bold"
    )
    label.set_bbox({"facecolor": "black", "alpha": 0.35, "edgecolor": "none", "pad": 3})


def _legend(figure: Figure, labels: Bytes, classes: tuple[LandCoverClass, ...]) -> None:
    """List the classes that occur, most frequent first, with their colour and share."""
    from matplotlib.patches import Patch

    counts = np.bincount(labels.ravel(), minlength=256)
    present = sorted(
        (entry for entry in classes if counts[entry.value]), key=lambda entry: -counts[entry.value]
    )
    figure.legend(
        handles=[
            Patch(
                facecolor=entry.color,
                edgecolor="#888888",
                linewidth=0.5,
                label=f"{entry.name}  {counts[entry.value] / labels.size:.1%}",
            )
            for entry in present
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, (BOTTOM_PX - 24) / HEIGHT_PX),
        ncols=5,
        fontsize=15,
        frameon=False,
        handlelength=1.6,
        handleheight=1.1,
        columnspacing=2.6,
    )
