"""Chapters: the figures of a measurement as sentences and titled rows, for every renderer."""
