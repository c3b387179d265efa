"""The whole way on one page: `python -m flair_export.demo FOLDER`.

Draws a synthetic aerial image, makes stand-in weights, exports them, maps the image, compares the
map with what was drawn, and leaves a picture of both. Nothing is downloaded.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

import flair_engine
from flair_engine.errors import FlairError, OutputError
from flair_export.cards import BANDS, GSD_M, STANDIN_CARD, find_card
from flair_export.publish import ExportOptions, export
from flair_export.synthetic.scene import synthetic_orthophoto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flair_engine.manifest import LandCoverClass

Bytes = npt.NDArray[np.uint8]

SCENE_PX = 2048
SCENE_SEED = 2
"""Another scene than the one the stand-in is fitted on."""
LAMBERT_93 = "EPSG:2154"
ORIGIN_M = (700_000.0, 6_600_000.0)
"""Easting and northing of the top-left corner: the origin of the projection."""
LEAST_SHARE = 0.8
"""Share of pixels that have to be labelled as drawn."""
PANEL_PX = 1024
DPI = 100
ROUND_M = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class DemoError(FlairError):
    """A demo that ran but did not show what it should."""

    exit_code = 1


def demonstrate(folder: Path) -> None:
    """Fill `folder` with image, weights, model, map and preview, and say so step by step.

    Raises DemoError where fewer than 80 % of the pixels are labelled as drawn, OutputError where
    the folder cannot be made, and what export and run raise.
    """
    start = time.perf_counter()
    _make(folder)
    orthophoto, model = folder / "orthophoto.tif", folder / "model.onnx"
    checkpoint, landcover = folder / "standin.pth", folder / "landcover.tif"

    _say(f"1/5  drawing a synthetic aerial image: {orthophoto}")
    image, truth = synthetic_orthophoto(SCENE_PX, SCENE_PX, SCENE_SEED)
    write_orthophoto(orthophoto, image)

    _say(f"2/5  fitting stand-in weights on another synthetic scene: {checkpoint}")
    notice = write_standin(checkpoint)
    _say(f"     {notice}")

    _say(f"3/5  exporting and comparing with PyTorch: {model}")
    verdict = export(checkpoint, model, ExportOptions(overwrite=True))
    _say(f"     {verdict.total.share:.4%} of {verdict.total.pixels:,} labels equal")

    _say(f"4/5  mapping the image: {landcover}")
    written = flair_engine.MapOptions(overwrite=True)
    report = flair_engine.segment(model, [orthophoto], landcover, write=written)
    _say(f"     {report.closing_line}")

    labels = read_labels(landcover)
    share = equal_share(labels, truth)
    preview = folder / "preview.png"
    _say(f"5/5  drawing image and map side by side: {preview}")
    draw_preview(preview, image, labels, find_card(STANDIN_CARD).classes, share)
    _say(f"{share:.1%} of the pixels are labelled as drawn ({time.perf_counter() - start:.0f} s)")
    if share < LEAST_SHARE:
        raise DemoError(
            f"{landcover}: {share:.1%} of the pixels are labelled as drawn, expected at least "
            f"{LEAST_SHARE:.0%}. Look at {preview}"
        )


def write_orthophoto(path: Path, image: Bytes) -> None:
    """Write uint8 [5, H, W] as a tiled GeoTIFF of 0.2 m pixels in Lambert-93."""
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.transform import from_origin

    count, height, width = image.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=count,
        dtype=image.dtype,
        crs=LAMBERT_93,
        transform=from_origin(*ORIGIN_M, GSD_M, GSD_M),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        predictor=2,
        photometric="rgb",
    ) as raster:
        raster.colorinterp = [
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
            *[ColorInterp.undefined] * (count - 3),
        ]
        raster.descriptions = BANDS[:count]
        raster.update_tags(TIFFTAG_IMAGEDESCRIPTION="synthetic scene, no real place")
        raster.write(image)


def write_standin(path: Path) -> str:
    """Write the stand-in checkpoint; return the line that says what it is not."""
    import torch

    from flair_export.synthetic.standin import NOTICE, build_standin

    torch.save(build_standin(), path)
    return NOTICE


def read_labels(path: Path) -> Bytes:
    """Return the labels of a map, uint8 [H, W]."""
    import rasterio

    with rasterio.open(path) as raster:
        labels: Bytes = raster.read(1)
    return labels


def equal_share(labels: Bytes, truth: Bytes) -> float:
    """Return the share of pixels, 0..1, where `labels` is `truth`.

    Raises DemoError where their shapes differ.
    """
    if labels.shape != truth.shape:
        raise DemoError(f"the map is {labels.shape}, the image is {truth.shape} pixels")
    return float((labels == truth).mean())


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
        raise DemoError("matplotlib is not installed. Run: pip install matplotlib") from error

    step = max(1, -(-max(labels.shape) // PANEL_PX))
    picture = _thinned(image[:3], step).transpose(1, 2, 0)
    palette = np.zeros((256, 3), np.uint8)
    for entry in classes:
        palette[entry.value] = list(bytes.fromhex(entry.color.removeprefix("#")))

    gap, top, bottom = 40, 120, 190
    width, height = 2 * PANEL_PX + 3 * gap, PANEL_PX + top + bottom
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    panels = (
        (picture, "Aerial image, 0.2 m (red, green, blue of five bands)"),
        (palette[labels[::step, ::step]], f"Land cover, {share:.1%} of pixels labelled as drawn"),
    )
    for index, (pixels, title) in enumerate(panels):
        left = gap + index * (PANEL_PX + gap)
        box = (left / width, bottom / height, PANEL_PX / width, PANEL_PX / height)
        axes = figure.add_axes(box)
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(title, loc="left", fontsize=15, color="#333333", pad=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        if index == 0:
            _scale_bar(axes, labels.shape, step)
    figure.text(
        gap / width,
        1 - 52 / height,
        "A synthetic scene mapped with stand-in weights",
        fontsize=25,
        fontweight="bold",
        color="#222222",
    )
    figure.text(
        1 - gap / width,
        1 - 50 / height,
        "not a real place, not IGN's weights",
        fontsize=16,
        color="#8a1538",
        horizontalalignment="right",
    )
    _legend(figure, labels, classes, (bottom - 24) / height)
    figure.savefig(path, dpi=DPI)


def _thinned(bands: Bytes, step: int) -> Bytes:
    """Average blocks of `step` x `step` pixels; what does not fill a block is dropped."""
    count, height, width = bands.shape
    rows, cols = max(1, height // step), max(1, width // step)
    blocks = bands[:, : rows * step, : cols * step].reshape(count, rows, step, cols, step)
    mean: Bytes = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
    return mean


def _scale_bar(axes: Axes, shape: tuple[int, ...], step: int) -> None:
    """Draw a bar of a round length, at most a quarter of the picture."""
    from matplotlib.patches import Rectangle

    across_m = shape[1] * GSD_M
    length_m = max((m for m in ROUND_M if m <= across_m / 4), default=1)
    unit = shape[1] / step / 100  # a hundredth of the picture, in its pixels
    bottom, length = shape[0] / step - 3 * unit, length_m / GSD_M / step
    frame: dict[str, Any] = {"edgecolor": "none", "facecolor": "white"}
    axes.add_patch(Rectangle((2.4 * unit, bottom - unit), length, 0.7 * unit, **frame))
    label = axes.text(
        2.4 * unit, bottom - 1.9 * unit, f"{length_m} m", color="white", fontsize=15, weight="bold"
    )
    label.set_bbox({"facecolor": "black", "alpha": 0.35, "edgecolor": "none", "pad": 3})


def _legend(figure: Figure, labels: Bytes, classes: tuple[LandCoverClass, ...], top: float) -> None:
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
        bbox_to_anchor=(0.5, top),
        ncols=5,
        fontsize=15,
        frameon=False,
        handlelength=1.6,
        handleheight=1.1,
        columnspacing=2.6,
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}): name another") from error


def _say(line: str) -> None:
    click.echo(line)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=Path)
def command(folder: Path) -> None:
    """Show the whole way on a synthetic image and leave the results in FOLDER."""
    demonstrate(folder)


def main() -> None:
    """Entry point: every failure is one line on stderr and an exit code."""
    try:
        command.main(standalone_mode=False)
    except FlairError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(str(error), 1)
    except click.ClickException as error:
        _fail(f"{error.format_message()} (see --help)", 2)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", 130)


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"demo: {message}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
