"""Names say of a model that it is INT8, and nothing of the others."""

from flair_bench.figures import with_int8


def test_int8_is_said_and_nothing_else():
    assert with_int8("ort", "int8") == "ort int8"
    assert with_int8("512 / 128", "fp16") == "512 / 128"
