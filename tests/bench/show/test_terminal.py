"""The terminal shows every row whole, also through a pipe."""

import pytest
from doubles.figures import EVERY_KIND, geometries, with_mark

from flair_bench.show.chapters.order import chapter
from flair_bench.show.terminal import print_figures


def test_tables_come_between_lead_and_notes(capsys):
    print_figures(geometries())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ort on 640 x 672 px")
    assert lines[-1] == "the whole raster at once: OA 74.200 %"
    assert any("512 / 128 int8" in line and "1.00 (1.00 to 3.00)" in line for line in lines)


def test_no_cell_is_cut_in_a_pipe(capsys):
    for make in EVERY_KIND:
        print_figures(make())
        printed = capsys.readouterr().out
        for table in chapter(make()).tables:
            for row in table.rows:
                assert all(cell in printed for cell in row), row


@pytest.mark.parametrize("make", EVERY_KIND)
def test_names_are_no_markup_and_no_commands_of_the_terminal(capsys, make):
    print_figures(with_mark(make(), "[/] [red] :smile: \x1b[2J"))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"[/] [red] :smile: \x1b[2J" in printed
