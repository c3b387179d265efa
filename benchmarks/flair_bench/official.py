"""The official tool's settings: what IGN's flair-detect is published to work with."""

from flair_export.cards import OFFICIAL_MARGIN_PX, OFFICIAL_TILE_PX

OFFICIAL_GEOMETRY = (OFFICIAL_TILE_PX, OFFICIAL_MARGIN_PX)
OFFICIAL_BATCH = 4
"""Tiles per inference, in the YAML that flair-detect ships with."""
OFFICIAL_WORKERS = 2
"""At most, as its README advises on Linux."""
