"""Tiles to labels: the interface of a runtime, the chooser, the runtimes."""
