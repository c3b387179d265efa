"""The chapter on throughput: runs, the network beside the limits, what is missing."""

from doubles.figures import STAGES, network_speed, throughput, whole_run

from flair_bench.show.chapters.throughput import throughput_chapter


def test_runs_stand_beside_the_references():
    runs, _, _ = throughput_chapter(throughput()).tables
    assert runs.rows[2] == (
        "ort fp32 512-128", "10.0 (9.0 to 11.0)", "1.0", "20.0", "300",
        *("4.50 (4.00 to 5.00)", "4.40") * 2, "99.9990",
    )  # fmt: skip
    alone = throughput(runs={"ort": whole_run(ratios={}, agreement=None, stages=STAGES)})
    assert throughput_chapter(alone).tables[0].rows[0][5:] == ("-",) * 5


def test_without_a_network_alone_there_is_no_table_of_it():
    runs, limits = throughput_chapter(throughput(network=())).tables
    assert "whole run" in runs.columns
    assert "limit" in limits.columns


def test_the_network_stands_beside_what_was_measured_in_its_precision():
    network = (network_speed(), network_speed(precision="int8", agreement=None))
    _, alone, limits = throughput_chapter(throughput(network=network)).tables
    assert alone.rows[0][1:] == ("250.0", "200.0 to 300.0", "0.260", "120", "80%", "99.9990")
    assert alone.rows[1][-2:] == ("-", "-")
    assert ("matrix products fp32, GFLOP/s", "150.0") in limits.rows
    assert not any("device" in name for name, _ in limits.rows), "there is no GPU"


def test_notes_say_what_was_busy_and_what_is_missing():
    assert throughput_chapter(throughput()).notes == (
        "ort: busy read 1.00 s, infer 8.50 s of 9.00 s: wall is 1.060 x the busiest",
        "openvino bf16: not available here: this CPU has none",
    )
