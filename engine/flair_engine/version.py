"""The version of the three packages, which are delivered together."""

__version__ = "0.1.0"
