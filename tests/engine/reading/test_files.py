import threading

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from flair_engine.errors import ReadError, SourceError, first_line
from flair_engine.grid import Window
from flair_engine.reading.files import (
    FileLayer,
    choose_bands,
    describe,
    describe_all,
    expand,
    open_dataset,
    short,
)

WHOLE = Window(top=0, left=0, height=70, width=53)


def layer_of(path, numbers=(1, 2), *, on_error="stop", **choice):
    info = describe(str(path))
    return FileLayer(info, choose_bands(info, numbers, **choice), on_error=on_error)


def test_a_window_of_a_file_is_that_of_its_pixels(make_raster):
    path, image = make_raster()
    with layer_of(path, (2, 1)) as layer:
        pixels, valid = layer.read(Window(top=2, left=3, height=4, width=5))
    assert (pixels == image[[1, 0], 2:6, 3:8]).all()
    assert valid is None


def test_every_thread_has_its_own_handle_and_all_are_closed(make_raster):
    layer = layer_of(make_raster()[0])
    threads = [threading.Thread(target=layer.read, args=(WHOLE,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    layer.read(WHOLE)
    for thread in threads:
        thread.join()
    handles = list(layer._handles.values())
    assert len({id(handle) for handle in handles}) >= 2
    layer.close()
    layer.close()
    assert all(handle.closed for handle in handles)
    assert layer.read(WHOLE)[1] is None


def test_nodata_needs_every_judged_band(make_raster):
    path, image = make_raster(nodata=255)
    with rasterio.open(path, "r+") as dataset:
        image[:, :5] = 255
        image[0, 5:9] = 255
        image[1, 5:9] = 3
        dataset.write(image)
    with layer_of(path) as layer:
        valid = layer.read(WHOLE)[1]
    assert (valid == ~(image == 255).all(0)).all()
    assert not valid[:5].any()
    assert valid[5:9].all()


def test_nodata_can_be_overridden(make_raster):
    path, image = make_raster(nodata=255)
    with layer_of(path, nodata="none") as layer:
        assert layer.read(WHOLE)[1] is None
    with layer_of(path, (1,), nodata=7.0) as layer:
        assert (layer.read(WHOLE)[1] == (image[0] != 7)).all()


def test_height_beside_the_image_bands_is_not_judged(make_raster):
    path, image = make_raster(nodata=0)
    with layer_of(path, validity_bands=1) as layer:
        assert (layer.read(WHOLE)[1] == (image[0] != 0)).all()


def tag_alpha(path, image):
    image[1, :, :20] = 0
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        dataset.write(image)


def test_an_alpha_band_that_is_not_chosen_is_a_mask(make_raster):
    path, image = make_raster()
    tag_alpha(path, image)
    with layer_of(path, (1,)) as layer:
        assert (layer.read(WHOLE)[1] == (image[1] != 0)).all()


def test_an_alpha_band_that_is_chosen_is_a_band(make_raster):
    path, image = make_raster()
    tag_alpha(path, image)
    with layer_of(path) as layer:
        pixels, valid = layer.read(WHOLE)
    assert valid is None
    assert (pixels == image).all()


def test_a_mask_beside_the_bands_counts(make_raster):
    path, _ = make_raster()
    mask = np.full((70, 53), 255, np.uint8)
    mask[30:, 10:] = 0
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    with layer_of(path) as layer:
        assert (layer.read(WHOLE)[1] == (mask > 0)).all()


def test_band_that_is_not_there(make_raster):
    info = describe(str(make_raster()[0]))
    with pytest.raises(SourceError, match="band 7 was asked for but the file has 2"):
        choose_bands(info, (1, 7))


def test_not_a_raster(tmp_path):
    path = tmp_path / "note.tif"
    path.write_text("not a raster")
    with pytest.raises(SourceError, match="GDAL cannot open it"):
        open_dataset(str(path))


def test_a_container_without_bands(make_raster):
    path, _ = make_raster()

    class Empty:
        count = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    with pytest.raises(SourceError, match="holds no raster band"):
        describe(str(path), Empty)


@pytest.fixture
def damaged(make_raster):
    """A tiled file whose second half is zeros."""
    path, image = make_raster(height=256, width=256, tiled=True, blockxsize=64, blockysize=64,
                              compress="deflate")  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    return path, image


def test_an_unreadable_block_is_named(damaged):
    path, image = damaged
    with layer_of(path) as layer:
        assert (layer.read(Window(top=0, left=0, height=64, width=256))[0] == image[:, :64]).all()
        message = r"in.tif: block \(3, 0\), rows 192 to 255, columns 0 to 63, cannot be decoded"
        with pytest.raises(ReadError, match=message):
            layer.read(Window(top=192, left=0, height=64, width=256))


def test_unreadable_blocks_can_be_skipped(damaged):
    path, image = damaged
    with layer_of(path, on_error="skip") as layer:
        pixels, valid = layer.read(Window(top=0, left=0, height=256, width=256))
    assert 0 < layer.skipped_blocks < 16
    assert valid.sum() == (16 - layer.skipped_blocks) * 64 * 64
    assert (pixels[:, valid] == image[:, valid]).all()


def test_words_for_messages():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert short("<VRTDataset>") == "joined files"
    assert short("/in.tif") == "/in.tif"


def test_folders_patterns_and_names_stand_for_files(make_raster, tmp_path):
    for name in ("b.tif", "a.tif", "c.TIF"):
        make_raster(name)
    (tmp_path / "note.txt").touch()
    names = [str(tmp_path / name) for name in ("a.tif", "b.tif", "c.TIF")]
    assert expand([str(tmp_path)]) == names
    assert expand([str(tmp_path / "*.tif")]) == names[:2]
    assert expand([names[1], str(tmp_path)]) == [names[1], names[0], names[2]]


@pytest.mark.parametrize(
    ("name", "message"), [("", "a folder without rasters"), ("*.jp2", "a pattern that matches no")]
)
def test_names_that_stand_for_nothing(tmp_path, name, message):
    with pytest.raises(SourceError, match=message):
        expand([f"{tmp_path}/{name}"])


def test_no_such_file(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        describe_all([str(tmp_path / "absent.tif")])
