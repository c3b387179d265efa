"""Labelled strips to published maps: journal, assembly, GeoTIFF."""
