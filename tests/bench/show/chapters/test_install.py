"""The chapter on installing."""

from doubles.figures import install

from flair_bench.show.chapters.install import install_chapter


def test_sizes_and_seconds_stand_by_extras():
    chapter = install_chapter(install())
    (table,) = chapter.tables
    assert table.rows[0] == (".[cpu]", "300", "0", "3")
    assert table.rows[1] == (".[cpu,export]", "6,000", "5,700", "60")
    assert chapter.notes == ("the demo then takes 60 s",)
