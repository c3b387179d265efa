"""Measurements, and what several of them share."""
