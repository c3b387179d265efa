"""Packages of the extra `vector`, imported by the call that needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from flair_engine.errors import SourceError


def needed(name: str) -> Any:
    """Return a package of the extra. Raises SourceError where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise SourceError(
            f"{name.split('.')[0]} is not installed ({error})",
            "pip install 'flair-engine[vector]'",
        ) from error
