"""Files to strips of pixels on one grid; the only room that opens rasters to read them."""
