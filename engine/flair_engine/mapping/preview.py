"""Preview of a map as one PNG: image and map with a scale bar, and a legend with hectares."""

from __future__ import annotations

import io
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.mapping.legend import hectares_said, share_said
from flair_engine.mapping.standing import PREVIEW_MARK
from flair_engine.texts import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.mapping.picture import LegendEntry, Seen

EDGE_PX = 960
"""Longer edge of image and map."""
SMALLEST_PX = 480
"""Small rasters are enlarged to this, by whole numbers."""
PAD_PX, BETWEEN_PX, ROW_PX, SWATCH_PX = 40, 24, 34, 20
TITLE_PX, TEXT_PX, BAR_TEXT_PX = 30, 18, 16
"""Sizes of type."""
COLUMN_PX = 460
"""Width of a column of the legend, at least."""
BLACK, GREY, PAPER, OUTLINE = "#1d2733", "#5f6b76", "#ffffff", "#c9d1d8"
VOID = (236, 239, 242)
"""Where there is nothing to be seen."""
ROUND = (1, 2, 5)
DEFAULT_FONT = "Aileron"
WIDER_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "arial.ttf")
"""Of Linux, Windows and macOS, for names that are not ASCII."""
WIDE = 1.6
"""Width over height above which the map stands below the image, not beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """What a preview says of a map."""

    title: str
    about: str
    """A line below the title."""
    entries: Sequence[LegendEntry]
    """Classes that occur, the largest first."""
    nodata: str
    """What is said of pixels without a label."""


def preview_png(picture: Seen, caption: Caption) -> bytes:
    """Return the preview as PNG: image and map side by side, or one below the other where wide."""
    from PIL import Image, ImageDraw, PngImagePlugin

    image, drawn = _over_void(picture)
    height, width = image.shape[:2]
    below = width > WIDE * height
    panels_w, panels_h = (
        (width, 2 * height + BETWEEN_PX) if below else (2 * width + BETWEEN_PX, height)
    )
    across = max(panels_w, 2 * COLUMN_PX)
    columns = max(1, across // COLUMN_PX)
    rows = -(-(len(caption.entries) + 1) // columns)
    top = PAD_PX + TITLE_PX + TEXT_PX + 34
    legend_top = top + panels_h + BETWEEN_PX
    size = (across + 2 * PAD_PX, legend_top + rows * ROW_PX + PAD_PX - 12)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (PAD_PX, PAD_PX - 8), caption.title, TITLE_PX, across)
    _text(draw, (PAD_PX, PAD_PX + TITLE_PX + 8), caption.about, TEXT_PX, across, GREY)
    second = (PAD_PX, top + height + BETWEEN_PX) if below else (PAD_PX + width + BETWEEN_PX, top)
    for panel, place in ((image, (PAD_PX, top)), (drawn, second)):
        sheet.paste(Image.fromarray(panel), place)
        draw.rectangle(
            (place[0] - 1, place[1] - 1, place[0] + width, place[1] + height), outline=OUTLINE
        )
    if picture.across_m:
        _scale_bar(draw, (PAD_PX, top + height), width, picture.across_m)
    _legend(draw, caption, (PAD_PX, legend_top), across // columns, rows)
    marked = PngImagePlugin.PngInfo()
    marked.add_text("Software", PREVIEW_MARK)
    content = io.BytesIO()
    sheet.save(content, "PNG", pnginfo=marked, optimize=False)
    return content.getvalue()


def _over_void(picture: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Return image and map as uint8 [h, w, 3], enlarged by the same whole number where small."""
    seen_hw1 = picture.seen_hw[..., None]
    image = np.where(seen_hw1, np.moveaxis(picture.image_bhw, 0, -1), VOID).astype(np.uint8)
    drawn = np.moveaxis(picture.map_bhw, 0, -1)
    drawn = np.where(drawn[..., 3:] > 0, drawn[..., :3], VOID).astype(np.uint8)
    times = max(1, SMALLEST_PX // max(image.shape))
    return tuple(np.kron(a, np.ones((times, times, 1), np.uint8)) for a in (image, drawn))  # type: ignore[return-value]


def _font(size_px: int, text: str = "") -> Any:
    """Return Pillow's own font, which has ASCII alone, or for another text one of the system."""
    from PIL import ImageFont

    for name in () if text.isascii() else WIDER_FONTS:
        with suppress(OSError):  # not on this system
            # Raqm, where Pillow has it, fails on some characters.
            return ImageFont.truetype(name, size_px, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size_px)


def _drawable(text: str, font: Any) -> str:
    """Return a text as a font can draw it: in ASCII, accents dropped, where it has no more."""
    if text.isascii() or font.getname()[0] != DEFAULT_FONT:
        return text
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() or "?"


def _text(
    draw: Any, place: tuple[float, float], text: str, size_px: int, most_px: int, ink: str = BLACK
) -> None:
    """Write a line, cut to a width."""
    text = shown(text)
    font = _font(size_px, text)
    text = _drawable(text, font)
    if draw.textlength(text, font) > most_px:
        while text and draw.textlength(f"{text}...", font) > most_px:
            text = text[:-1]
        text = f"{text}..."
    draw.text(place, text, ink, font)


def _scale_bar(draw: Any, corner: tuple[int, int], width_px: int, across_m: float) -> None:
    """Draw a bar of a round length, a quarter of the image at most, above its lower left corner."""
    length_m = round_length_m(across_m / 4)
    length_px = length_m / across_m * width_px
    label = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    left, bottom = corner[0] + 14, corner[1] - 14
    font = _font(BAR_TEXT_PX)
    wide = max(length_px, draw.textlength(label, font)) + 20
    draw.rectangle((left, bottom - 40, left + wide, bottom), PAPER)
    draw.text((left + 10, bottom - 36), label, BLACK, font)
    draw.rectangle((left + 10, bottom - 12, left + 10 + length_px, bottom - 8), BLACK)


def round_length_m(most_m: float) -> float:
    """Return the longest of 1, 2, 5, 10, 20... metres (or 0.5, 0.2...) up to `most_m`."""
    power = 10.0 ** np.floor(np.log10(most_m))
    return float(max(step * power for step in ROUND if step * power <= most_m * (1 + 1e-9)))


def _legend(draw: Any, caption: Caption, place: tuple[int, int], column_px: int, rows: int) -> None:
    """Write the classes down the columns: colour, name, hectares and share."""
    lines = [
        (e.color, e.name, f"{hectares_said(e.hectares)} ha", share_said(e.share))
        for e in caption.entries
    ]
    lines.append(("", caption.nodata, "", ""))
    for number, (color, name, hectares, share) in enumerate(lines):
        left = place[0] + number // rows * column_px
        top = place[1] + number % rows * ROW_PX
        right = left + column_px - BETWEEN_PX
        if color:
            draw.rectangle((left, top, left + SWATCH_PX, top + SWATCH_PX), color, GREY)
        font = _font(TEXT_PX)
        start = left + (SWATCH_PX + 10 if color else 0)
        room = right - start - (190 if color else 0)
        _text(draw, (start, top), name, TEXT_PX, room, BLACK if color else GREY)
        draw.text((right - 70, top), hectares, GREY, font, anchor="ra")
        draw.text((right, top), share, BLACK, font, anchor="ra")
