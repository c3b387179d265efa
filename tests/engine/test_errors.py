import pytest

from flair_engine import errors
from flair_engine.errors import FlairError, first_line

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_says_what_was_found_and_what_to_do(kind):
    error = kind("a.tif: is text", "give a raster")
    assert (error.what, error.remedy) == ("a.tif: is text", "give a raster")
    assert str(error) == "a.tif: is text: give a raster"
    assert error.exit_code in ((0,) if kind is errors.CompleteError else (1, 2))
    assert isinstance(error, FlairError)


def test_the_first_line_is_that_of_the_cause():
    error = ValueError("outer")
    assert first_line(error) == "outer"
    error.__cause__ = OSError("no such block\nin a page of detail")
    assert first_line(error) == "no such block"
    assert first_line(KeyError()) == "KeyError"
