"""The chapter on accuracy: classes, means, and the card's figures where it has them."""

from doubles.figures import accuracy

from flair_bench.show.chapters.accuracy import accuracy_chapter


def test_classes_and_means_stand_beside_the_cards():
    (table,) = accuracy_chapter(accuracy()).tables
    shares = ("40.00", "50.00", "60.00", "70.00")
    assert table.rows[:2] == (
        ("building", "1,000", *shares, "82.63"), ("snow", "1,000", *shares, "-"),
    )  # fmt: skip
    assert table.rows[2][0] == "official mean (/15)"
    assert table.rows[2][-1] == "54.7168"
    assert table.rows[3][-1] == "-", "the card has no mean over twelve classes"


def test_notes_say_what_no_score_sees():
    chapter = accuracy_chapter(accuracy())
    assert "not comparable" in chapter.lead
    assert chapter.notes[0].startswith("OA 55.5000 %")
    assert "labels of inactive classes 0.5000 %" in chapter.notes[1]
