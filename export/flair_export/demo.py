"""Demonstration of the whole way on one page: `python -m flair_export.demo FOLDER`.

Draws a synthetic aerial image, makes stand-in weights, exports them, maps the image, compares the
map with what was drawn, and leaves a picture of both. Nothing is downloaded.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

import flair_engine
from flair_engine.command import SETTINGS, run_command
from flair_engine.errors import OutputError
from flair_engine.tolerances import DEMO_EQUAL
from flair_export.cards import BANDS, GSD_M, OFFICIAL_TILE_PX, STANDIN_CARD, find_card
from flair_export.errors import DemoError
from flair_export.preview import Bytes, draw_preview
from flair_export.publish import ExportOptions, export
from flair_export.synthetic.scene import SCENE_CRS, SCENE_ORIGIN_M, synthetic_orthophoto

MAPPED_SCENE_PX = 2048
MAPPED_SCENE_SEED = 2
"""Another scene than the one the stand-in is fitted on."""
ORTHOPHOTO_BLOCK_PX = 512
"""Edge of the blocks the image is stored in."""


def demonstrate(folder: Path) -> None:
    """Fill `folder` with image, weights, model, map and preview, and say so step by step.

    Raises DemoError where fewer than DEMO_EQUAL of the pixels are labelled as drawn, OutputError
    where the folder cannot be made, and what export and run raise.
    """
    start = time.perf_counter()
    _make(folder)
    orthophoto, model = folder / "orthophoto.tif", folder / "model.onnx"
    checkpoint, landcover = folder / "standin.pth", folder / "landcover.tif"

    click.echo(f"1/5  drawing a synthetic aerial image: {orthophoto}")
    image, truth = synthetic_orthophoto(MAPPED_SCENE_PX, MAPPED_SCENE_PX, MAPPED_SCENE_SEED)
    write_orthophoto(orthophoto, image)

    click.echo(f"2/5  fitting stand-in weights on another synthetic scene: {checkpoint}")
    notice = write_standin(checkpoint)
    click.echo(f"     {notice}")

    click.echo(f"3/5  exporting and comparing with PyTorch: {model}")
    # The smallest tiles of the collection: their proof takes the least time.
    geometry = ExportOptions(tile_px=OFFICIAL_TILE_PX, overwrite=True)
    verdict = export(checkpoint, model, geometry)
    click.echo(f"     {verdict.total.share:.4%} of {verdict.total.pixels:,} labels equal")

    click.echo(f"4/5  mapping the image: {landcover}")
    written = flair_engine.MapOptions(overwrite=True)
    report = flair_engine.segment(model, [orthophoto], landcover, write=written)
    click.echo(f"     {report.closing_line}")

    labels = read_labels(landcover)
    share = equal_share(labels, truth)
    preview = folder / "preview.png"
    click.echo(f"5/5  drawing image and map side by side: {preview}")
    draw_preview(preview, image, labels, find_card(STANDIN_CARD).classes, share)
    click.echo(
        f"{share:.1%} of the pixels are labelled as drawn ({time.perf_counter() - start:.0f} s)"
    )
    if share < DEMO_EQUAL:
        raise DemoError(
            f"{landcover}: {share:.1%} of the pixels are labelled as drawn, expected at least "
            f"{DEMO_EQUAL:.0%}",
            f"look at {preview}",
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
        crs=SCENE_CRS,
        transform=from_origin(*SCENE_ORIGIN_M, GSD_M, GSD_M),
        tiled=True,
        blockxsize=ORTHOPHOTO_BLOCK_PX,
        blockysize=ORTHOPHOTO_BLOCK_PX,
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
        raise DemoError(
            f"the map is {labels.shape}, the image is {truth.shape} pixels", "start the demo again"
        )
    return float((labels == truth).mean())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})", "name another") from error


@click.command(context_settings=SETTINGS)
@click.argument("folder", type=Path)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(folder: Path, debug: bool) -> None:  # noqa: ARG001  run_command reads debug
    """Show the whole way on a synthetic image and leave the results in FOLDER."""
    demonstrate(folder)


def main() -> None:
    """Entry point of the demo."""
    run_command(command, "demo")


if __name__ == "__main__":
    main()
