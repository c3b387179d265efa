"""Limits of the number formats that files are converted to."""

FP16_MAX = 65504.0
"""Largest finite FP16 number."""
