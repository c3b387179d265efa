"""The chapter on geometry: cost and effect of each, beside the first."""

from doubles.figures import geometries, geometry_cost

from flair_bench.show.chapters.geometry import geometry_chapter


def test_geometries_stand_beside_the_first():
    (table,) = geometry_chapter(geometries()).tables
    assert table.rows[0] == (
        "512 / 128", "99.3860", "100.0000", "-", "0.100", "-", "720", "2.00 (1.00 to 3.00)", "1.00",
    )  # fmt: skip
    assert table.rows[1][0] == "512 / 128 int8"
    assert table.rows[1][-1] == "2.00"


def test_accuracy_is_said_where_there_are_masks():
    scored = geometries(geometries=(geometry_cost(oa=74.231),))
    chapter = geometry_chapter(scored)
    assert chapter.tables[0].rows[0][5] == "74.231"
    assert chapter.notes == ("the whole raster at once: OA 74.200 %",)
    assert geometry_chapter(geometries(whole_oa=None)).notes == ()
