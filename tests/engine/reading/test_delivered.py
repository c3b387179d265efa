"""Products as they are delivered: JPEG 2000 tiles of RVB and IRC, height from two models."""

import numpy as np
import pytest
import rasterio
from rasterio.merge import merge
from rasterio.transform import from_origin

from flair_engine import Inputs, MapOptions, RunOptions, segment

EDGE_PX = 640


def write(path, image_bhw, transform, **profile):
    count, height, width = image_bhw.shape
    with rasterio.open(
        path, "w", count=count, height=height, width=width, dtype=image_bhw.dtype,
        crs="EPSG:2154", transform=transform, **profile,
    ) as dataset:  # fmt: skip
        dataset.write(image_bhw)
    return str(path)


def cut_jpeg2000(folder, image_bhw, transform):
    """Cut an image into lossless JPEG 2000 tiles, as orthophotos come."""
    folder.mkdir()
    _, height, width = image_bhw.shape
    for top in range(0, height, EDGE_PX):
        for left in range(0, width, EDGE_PX):
            part = image_bhw[:, top : top + EDGE_PX, left : left + EDGE_PX]
            write(
                folder / f"{left}-{top}.jp2",
                np.ascontiguousarray(part),
                transform @ rasterio.Affine.translation(left, top),
                driver="JP2OpenJPEG",
                REVERSIBLE="YES",
                QUALITY="100",
                YCBCR420="NO",
                BLOCKXSIZE=256,
                BLOCKYSIZE=256,
            )
    return str(folder)


@pytest.fixture
def real_block(shared_data):
    """Nine real patches as one: uint8 [5, 1536, 1536] and its transform."""
    files = sorted((shared_data / "flair1" / "Z6_block" / "img").glob("*.tif"))
    image_bhw, transform = merge(files)
    return image_bhw, from_origin(transform.c, transform.f, 0.2, 0.2)


@pytest.mark.slow
def test_delivered_products_give_the_labels_of_the_composite(real_block, band_model, tmp_path):
    image, transform = real_block
    model = band_model("red", "green", "blue", "nir", "elevation")
    ground = np.linspace(80, 120, 1536, dtype=np.float32)[None, None, :] * np.ones(
        (1, 1536, 1), np.float32
    )
    inputs = Inputs(
        rvb=(cut_jpeg2000(tmp_path / "rvb", image[:3], transform),),
        irc=(f"{cut_jpeg2000(tmp_path / 'irc', image[[3, 0, 1]], transform)}/*.jp2",),
        dsm=(write(tmp_path / "dsm.tif", ground + image[4:] / np.float32(5), transform),),
        dtm=(write(tmp_path / "dtm.tif", ground, transform),),
    )
    run = RunOptions(engine="ort", device="cpu", threads=2)
    report = segment(model, inputs, tmp_path / "map.tif", run, write=MapOptions(cog=True))
    composite = write(tmp_path / "composite.tif", image, transform)
    segment(model, [composite], tmp_path / "expected.tif", run)
    with (
        rasterio.open(tmp_path / "map.tif") as found,
        rasterio.open(tmp_path / "expected.tif") as expected,
    ):
        assert (found.read(1) == expected.read(1)).all()
        assert found.overviews(1) == [2, 4]
    assert report.blocks_requested == report.blocks
    assert report.missing_height_pixels == 0
