"""The chapter on parity: engines, classes, leads."""

from doubles.figures import parity

from flair_bench.show.chapters.parity import parity_chapter


def test_engines_classes_and_leads_have_their_tables():
    engines, classes, leads = parity_chapter(parity()).tables
    assert engines.rows == (
        ("ort", "fp32", "99.5000", "99.99", "1", "100", "0.02", "water to building 1"),
    )
    assert classes.rows == (("building", "0", "-"), ("water", "100", "99.0000"))
    assert leads.rows == (
        ("0 to 0.01", "0", "0"), ("0.01 to 0.1", "40", "1"), ("0.1 to inf", "60", "0"),
    )  # fmt: skip


def test_notes_say_what_logits_differ_by_and_what_is_missing():
    assert parity_chapter(parity()).notes == (
        "logits (ONNX Runtime, twin of the file): largest difference 0.03, 99.9th percentile 0.01",
        "trt: not available here: there is no GPU",
    )
