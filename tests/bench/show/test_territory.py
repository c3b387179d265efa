"""Costs of territories, from figures whose answer is known."""

from dataclasses import replace

import pytest
from doubles.figures import A100, CPU, STAGES, raster_io, result_of, throughput, whole_run

from flair_bench.show.territory import NO_FIGURE, costs, needed, notes


def measured(machine=CPU, *, decoding=10.0, rate=10.0, threads=2, with_io=True):
    """A machine that maps, and decodes JPEG 2000, so many Mpx/s."""
    run = whole_run(
        precision="fp32",
        geometry="512-128",
        wall_s=1 + 1000**2 / rate / 1e6,
        start_up_s=1.0,
        stages=STAGES,
    )
    figures = replace(throughput(size_px=1000), runs={"ort": run})
    io = raster_io()
    speed = replace(next(iter(io.reading.values())), mpx_per_s=decoding)
    io = replace(io, threads=threads, reading={"JPEG 2000": speed})
    return result_of(machine, figures, *([io] if with_io else []))


def test_on_cpus_decoding_is_added_and_machines_add_up():
    (row, gpu) = costs([measured()]).rows
    # 150 Gpx at 1 / (1/10 + 1/10) = 5 Mpx/s: 30,000 s.
    words = "Some CPU, 2 cores, ONNX Runtime FP32 at 512 / 128"
    assert row[:6] == (words, "10.00", "5.00", "8.3 h", "63 min", "8 min")
    assert row[6:] == ("31.8 days", "4.0 days", "11.9 h")
    assert gpu == ("any GPU", *[NO_FIGURE] * 8)


@pytest.mark.parametrize(("decoding", "together"), [(40.0, "40.00"), (900.0, "100.00")])
def test_beside_a_gpu_the_slower_of_the_two_counts(decoding, together):
    (row,) = costs([measured(A100, rate=100.0, decoding=decoding)]).rows
    assert row[0].startswith(A100.short)
    assert row[2] == together


def test_what_was_not_measured_is_not_made_up():
    (row, _) = costs([measured(with_io=False)]).rows
    assert row[2:] == (NO_FIGURE,) * 7
    assert costs([]).rows == (("any GPU", *[NO_FIGURE] * 8),)
    assert f"decoding {NO_FIGURE}" in notes([measured(with_io=False)])[0]
    assert f"({NO_FIGURE})" in needed([]).rows[0][1]


def test_the_rate_that_is_needed_and_the_cores_that_decode_it():
    rows = needed([measured(decoding=10.0, threads=2)]).rows
    # 150e9 px / 86,400 s = 1.736 Mpx/s, of which a core decodes 5.
    assert rows[1] == ("département in a day", "1.74 (0.3)", "0.22 (0.0)", "0.03 (0.0)")
    assert rows[2][:2] == ("France in a day", "159.14 (31.8)")


def test_it_is_said_where_rates_were_measured():
    said = notes([measured()])
    assert said[0].startswith("Some CPU, 2 cores, 24 GiB, no GPU: runs 2")
    assert len(said) == 3


def test_a_faster_run_that_is_not_exact_stands_beside_the_exact_one():
    result = measured()
    section = result.sections["throughput"]
    (exact,) = section.figures.runs.values()
    faster = replace(exact, precision="int8", wall_s=1.05)
    figures = replace(section.figures, runs={"ort": exact, "openvino int8": faster})
    rows = costs([result.with_section(replace(section, figures=figures))]).rows
    assert [row[0].split(", ")[2] for row in rows[:2]] == [
        "OpenVINO INT8 at 512 / 128", "ONNX Runtime FP32 at 512 / 128",
    ]  # fmt: skip
    assert rows[0][1] == "20.00"
