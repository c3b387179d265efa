import pytest

from flair_engine.inference.base import batch_shape, threads_text
from flair_engine.manifest import read_model_spec


@pytest.mark.parametrize(("threads", "text"), [(1, "1 CPU thread"), (2, "2 CPU threads")])
def test_threads_are_counted_in_words(threads, text):
    assert threads_text(threads) == text


def test_a_batch_holds_whole_tiles(tiny_path):
    assert batch_shape(read_model_spec(tiny_path), 3) == (3, 2, 32, 32)
