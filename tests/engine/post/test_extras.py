import pytest

from flair_engine.errors import SourceError
from flair_engine.post.extras import needed


def test_a_package_that_is_there():
    assert needed("json").loads("1") == 1


def test_one_that_is_not_names_the_extra():
    with pytest.raises(SourceError, match=r"nothing_of_that_name is not installed.*\[vector\]'"):
        needed("nothing_of_that_name.inner")
