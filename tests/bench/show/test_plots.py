"""Pictures are drawn of what there is."""

import pytest
from doubles.figures import (
    STAGES,
    accuracy,
    geometries,
    parity,
    raster_io,
    throughput,
    whole_run,
)

from flair_bench.show import plots


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize(
    ("figures", "count"),
    [
        (throughput(), 3),
        (throughput(runs={"ort": whole_run(ratios={}, stages=STAGES)}), 2),
        (throughput(runs={"official": whole_run()}), 2),
        (throughput(network=()), 2),
        (parity(), 1),
        (accuracy(), 1),
        (geometries(), 1),
        (raster_io(), 1),
    ],
)
def test_every_measurement_has_its_pictures(figures, count):
    assert len(plots.pictures(figures)) == count


def test_pictures_name_what_they_show():
    speed_up, stages, roofline = plots.pictures(throughput())
    assert words(speed_up).count("4.50") == 6
    assert words(stages) == ["1.00 of 9.00 s", "8.50 of 9.00 s"]
    assert words(roofline) == ["fp32 150"]
    assert words(plots.geometry(geometries())) == ["512 / 128", "512 / 128 int8"]
    assert words(plots.raster_io(raster_io())) == ["50 Mpx/s"] * 2


def test_the_map_shows_where_labels_differ():
    panels = plots.agreement_map(parity()).axes
    assert [axes.get_title() for axes in panels] == [
        "image", "PyTorch FP32", "ort", "different: 1 of 4 px",
    ]  # fmt: skip
    (marks,) = panels[-1].lines
    assert (list(marks.get_xdata()), list(marks.get_ydata())) == ([0], [0])
