"""Measurements, one module each."""
