"""Images, masks and rasters that are measured on."""
