"""The box-filter model for named bands, written once."""

from functools import cache

import pytest
from doubles.tiny_model import write_box_model


@pytest.fixture(scope="session")
def band_model(tmp_path_factory):
    """Write the box-filter model for named bands; return its path. Tests only read it."""

    @cache
    def make(*bands):
        return write_box_model(tmp_path_factory.mktemp("model"), *bands)

    return make


@pytest.fixture
def colour_and_height(band_model):
    """A model that compares red with elevation."""
    return band_model("red", "elevation")
