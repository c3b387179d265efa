"""Drawn scene and stand-in checkpoint, for where real ones are not at hand."""
