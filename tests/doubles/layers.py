"""Layers in memory that are stored in blocks, and rasters of them."""

from __future__ import annotations

import numpy as np

from flair_engine.grid import Window
from flair_engine.reading.layers import Pixels, Raster


class BlockLayer:
    """An array stored in blocks at a place; counts how often each pixel is read."""

    def __init__(self, image_bhw, block_px=(16, 16), top=0, left=0, valid_hw=None, lost_hw=None):
        self.image_bhw, self.valid_hw, self.lost_hw = image_bhw, valid_hw, lost_hw
        self.count, height, width = image_bhw.shape
        self.dtype = image_bhw.dtype.type
        self.window = Window(top=top, left=left, height=height, width=width)
        self.block_px = block_px
        self.name = "blocks"
        self.reads = np.zeros((height, width), int)
        self.closed = self.closed_mine = 0
        self.skipped = set()

    def read(self, part, out_bhw=None):
        rows, cols = part.slices
        self.reads[rows, cols] += 1
        valid_hw, lost_hw = (
            None if said_hw is None else said_hw[rows, cols]
            for said_hw in (self.valid_hw, self.lost_hw)
        )
        pixels = self.image_bhw[:, rows, cols]
        if out_bhw is not None:
            out_bhw[...] = pixels
        return Pixels(pixels if out_bhw is None else out_bhw, valid_hw, lost_hw)

    def close(self):
        self.closed += 1

    def close_mine(self):
        self.closed_mine += 1


def noise(bands, height, width):
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, 256, (bands, height, width), dtype=np.uint8)


def raster_of(height, width, *products, fill=7):
    count = sum(product.bands.stop - product.bands.start for product in products)
    return Raster(height=height, width=width, count=count, products=products, fill=(fill,) * count)
