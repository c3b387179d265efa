"""Summaries say what was measured where, and of the rest that it was not."""

from dataclasses import replace

from doubles.figures import A100, CPU, RATIO, STAGES, install, result_of, throughput, whole_run

from flair_bench.figures import Environment, RunRatio, Spread
from flair_bench.results import Result
from flair_bench.show.summary import computed_bounds, every_run, headline, installing, machines

MEASURED = result_of(CPU, throughput())


def row_of(table, first):
    return next(row for row in table.rows if row[0] == first)


def test_every_run_stands_beside_the_references():
    table = every_run([MEASURED])
    assert [row[0] for row in table.rows] == [
        "official fp32 512-128", "best fp32 512-128", "ort fp32 512-128",
    ]  # fmt: skip
    assert table.rows[2][1:] == ("Some CPU, 2 cores", *["4.50 (4.00 to 5.00)"] * 2, "99.9990")


def test_without_references_nothing_is_said_of_them():
    alone = throughput(runs={"ort": whole_run(ratios={}, agreement=None, stages=STAGES)})
    assert every_run([result_of(CPU, alone)]).rows[0][2:] == ("-", "-", "-")


def test_machines_nobody_measured_show_as_not_measured():
    table = machines([MEASURED])
    for kind in ("V100", "A100", "H100 or H200"):
        assert row_of(table, kind)[1:] == ("not measured", "not measured")
    found = row_of(table, "laptop or server without a GPU")
    assert found[1:] == ("ort: 0.236 Mpx/s", "4.50 (4.00 to 5.00)")


def test_a_measured_gpu_is_no_other():
    table = machines([result_of(A100, throughput())])
    assert row_of(table, "A100")[2] == "4.50 (4.00 to 5.00)"
    assert row_of(table, "V100")[1] == "not measured"
    assert row_of(table, "laptop or server without a GPU")[1] == "not measured"


def test_a_machine_without_runs_of_its_own_is_not_measured():
    references = throughput(runs={"official": whole_run()})
    table = machines([result_of(A100, references)])
    assert row_of(table, "A100")[1] == "not measured"


def test_bounds_are_said_to_be_computed():
    explained, table = computed_bounds([result_of(A100, throughput())])
    assert "47.2 GFLOP per tile" in explained
    assert table.columns[0] == "computed bound, not a measurement"
    assert row_of(table, "V100 PCIe 16 GB")[1:] == ("1234", "77", "not measured")
    assert row_of(table, "A100 SXM 80 GB")[3] == "measured, see above"
    assert computed_bounds([Result(machine=CPU)]) is None


def own(times, precision, geometry="512-128", **changes):
    ratio = RunRatio(wall=times, wall_spread=Spread(times, times), cpu=times)
    return whole_run(
        precision=precision,
        geometry=geometry,
        wall_s=100 / times,
        ratios={"official": ratio},
        comparable=geometry == "512-128",
        stages=STAGES,
        **changes,
    )


def test_the_headline_names_what_runs_by_default_and_the_fastest():
    runs = {
        "official": whole_run(),
        "ort 512-128": own(2.7, "fp32"),
        "auto 512-128": own(5.5, "bf16"),
        "auto 1024-128": own(9.1, "bf16", "1024-128", agreement=0.9962),
        "auto fp32 1024-128": own(5.2, "fp32", "1024-128", agreement=None),
        "auto int8 2048-128": own(21.6, "int8 bf16", "2048-128", agreement=None),
    }
    assert headline([result_of(CPU, throughput(runs=runs))]) == (
        "On Some CPU, 2 cores, a whole run over 1536 x 1536 px is 9.1 times as fast as the "
        "official way with the engine it takes by itself, bf16 at 1024 / 128 (99.6200 % of the "
        "labels equal), 5.2 times with the engine it takes by itself, FP32 at 1024 / 128, and at "
        "best 21.6 times with the engine it takes by itself, INT8 and bf16 at 2048 / 128."
    )


def test_the_headline_is_of_the_machine_measured_last():
    newer = result_of(A100, throughput(runs={"auto": own(40.0, "fp16", "1024-128")}))
    section = newer.sections["throughput"]
    newest = newer.with_section(replace(section, date="2999-01-01T00:00:00+00:00"))
    assert headline([newest, MEASURED]) == (
        "On NVIDIA A100, driver 1, a whole run over 1536 x 1536 px is 40.0 times as fast as the "
        "official way with the engine it takes by itself, FP16 at 1024 / 128 (99.9990 % of the "
        "labels equal)."
    )


def test_without_the_official_way_there_is_no_headline():
    alone = throughput(runs={"ort": whole_run(ratios={"best": RATIO}, stages=STAGES)})
    for results in ([], [result_of(CPU, alone)]):
        assert headline(results) == "Nothing has been measured beside the official tool yet."


def test_what_installing_takes_is_said_as_it_was_measured_last():
    assert "has not been measured" in installing([result_of(CPU, throughput())])
    assert installing([result_of(CPU, install())]) == (
        "`'.[cpu]'` 300 MiB in 3 s, `'.[cpu,export]'` 6,000 MiB (5,700 of it CUDA libraries) in "
        "60 s, `make demo` 6,300 MiB (6,000 of it CUDA libraries) in 63 s, and 60 s for the demo "
        "itself. PyTorch's CPU build leaves the CUDA libraries out."
    )


def test_only_environments_that_were_made_are_spoken_of():
    slim = {"cpu": Environment(mib=300.0, cuda_mib=0.0, install_s=3.0)}
    assert installing([result_of(CPU, install(environments=slim))]) == (
        "`'.[cpu]'` 300 MiB in 3 s, and 60 s for the demo itself."
    )
