import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.mapping.picture import LegendEntry, Seen
from flair_engine.mapping.preview import (
    BETWEEN_PX,
    PAD_PX,
    VOID,
    WIDER_FONTS,
    Caption,
    preview_png,
    round_length_m,
)
from flair_engine.mapping.standing import is_preview

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")


def picture(height=500, width=700, across_m=140.0):
    rng = np.random.default_rng(height + width)
    image_bhw = rng.integers(0, 256, (3, height, width), dtype=np.uint8)
    map_bhw = rng.integers(0, 256, (4, height, width), dtype=np.uint8)
    map_bhw[3] = 255
    map_bhw[3, : height // 4] = 0
    seen_hw = np.ones((height, width), bool)
    seen_hw[:, : width // 4] = False
    return Seen(image_bhw=image_bhw, seen_hw=seen_hw, map_bhw=map_bhw, across_m=across_m)


def caption(names=("water", "snow"), title="map.tif"):
    entries = [
        LegendEntry(name=name, color="#1553ae", pixels=9, hectares=1234.5, share=1 / len(names))
        for name in names
    ]
    return Caption(title=title, about="by a model", entries=entries, nodata="every pixel")


def drawn(shown, said):
    return np.asarray(Image.open(io.BytesIO(preview_png(shown, said))))


def panel_at(sheet, top, left, height, width):
    return sheet[top : top + height, left : left + width]


@pytest.mark.parametrize(("height", "width"), [(500, 700), (600, 600), (300, 900)])
def test_image_and_map_are_shown_as_they_are(height, width):
    """Side by side, or one below the other where wide; what is not seen is grey."""
    shown = picture(height, width, across_m=None)
    sheet = drawn(shown, caption())
    image = np.where(shown.seen_hw[..., None], shown.image_bhw.transpose(1, 2, 0), VOID)
    places = np.argwhere((sheet == image[0, -1]).all(-1))
    top = next(
        top for top, right in places if (sheet[top : top + height, right] == image[:, -1]).all()
    )
    assert (panel_at(sheet, top, PAD_PX, height, width) == image).all()
    labels = shown.map_bhw.transpose(1, 2, 0)
    labels = np.where(labels[..., 3:] > 0, labels[..., :3], VOID)
    below = width > 1.6 * height
    second = (top + height + BETWEEN_PX, PAD_PX) if below else (top, PAD_PX + width + BETWEEN_PX)
    assert (panel_at(sheet, *second, height, width) == labels).all()


def test_small_rasters_are_enlarged_pixel_by_pixel():
    sheet = drawn(picture(20, 30, across_m=6.0), caption())
    assert min(sheet.shape[:2]) > 20 * (480 // 30)


def test_a_scale_bar_and_legend_are_drawn():
    bare = drawn(picture(across_m=None), caption(()))
    assert (drawn(picture(), caption(())) != bare).any()
    many = drawn(picture(), caption([f"class {n}" for n in range(255)]))
    assert many.shape[0] > bare.shape[0] + 255 // 4 * 30
    blue = (many == (0x15, 0x53, 0xAE)).all(-1).sum()
    assert blue >= 255 * 19 * 19


@given(name=st.text(max_size=300), title=st.text(max_size=300))
def test_any_name_can_be_drawn(name, title):
    preview_png(picture(20, 30), caption([name.replace("\n", " ")], title.replace("\n", " ")))


@given(st.floats(0.01, 1e7))
def test_a_bar_is_1_2_or_5_times_a_power_of_ten(most_m):
    length_m = round_length_m(most_m)
    assert length_m <= most_m * (1 + 1e-6) < 2.5000001 * length_m
    first = f"{length_m:.3e}"[0:5]
    assert first in ("1.000", "2.000", "5.000")


@pytest.mark.parametrize("there", [False, True])
def test_names_with_accents_are_drawn_with_or_without_a_font_that_has_them(monkeypatch, there):
    """Pillow's own has ASCII alone: anything else would be drawn as empty boxes."""
    fonts = pytest.importorskip("PIL.ImageFont")
    asked = []

    pillows_own = fonts.truetype

    def truetype(name, *size_px, **options):
        if not isinstance(name, str):
            return pillows_own(name, *size_px, **options)
        asked.append(name)
        if there and name == WIDER_FONTS[1]:
            return fonts.load_default(size_px[0] + 1)
        raise OSError

    monkeypatch.setattr(fonts, "truetype", truetype)
    shown = picture(20, 30)
    found = drawn(shown, caption(["forêt"], title="é²水.tif"))
    if there:
        assert asked[:2] == [*WIDER_FONTS[:2]]
    else:
        assert (found == drawn(shown, caption(["foret"], title="e2.tif"))).all()
    asked.clear()
    drawn(shown, caption())
    assert asked == []


def test_a_preview_is_known_for_ours(tmp_path):
    (tmp_path / "map.preview.png").write_bytes(preview_png(picture(), caption()))
    assert is_preview(tmp_path / "map.preview.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "other.preview.png")
    assert not is_preview(tmp_path / "other.preview.png")
    assert not is_preview(tmp_path / "absent.preview.png")
