"""The page holds what was measured, and says of the rest that it was not."""

import re

import pytest

from flair_bench.measure import parity
from flair_bench.measure.engines import Choice
from flair_bench.results import Machine, Result, section
from flair_bench.show import report

CPU = Machine(cpu="Some CPU", cores=2, ram_gib=24.0, gpu=None)
RATIO = {"wall": 4.5, "wall_spread": [4.0, 5.0], "cpu": 4.4}


def run(**changes):
    return {
        "precision": "fp32",
        "geometry": "512-128",
        "wall_s": 10.0,
        "wall_s_spread": [9.0, 11.0],
        "start_up_s": 1.0,
        "cpu_s": 20.0,
        "peak_mib": 300.0,
        "ratios": {"official": RATIO, "best": RATIO},
        "agreement": 0.99999,
        "comparable": True,
        **changes,
    }


STAGES = {"wall_s": 9, "busy_s": {"read": 1, "infer": 8.5}, "overlap": 1.06}
THROUGHPUT = {
    "size_px": 1536,
    "rounds": 3,
    "limits": {"device": "cpu", "matmul_gflops": {"fp32": 150.0}, "decode_mpx_s": 40.0},
    "models": [
        {
            "geometry": "512-128",
            "gflop_per_tile": 47.2,
            "bounds": [
                {"name": name, "tiles_per_s": 1234.0, "new_mpx_per_s": 77.0}
                for name in ("V100 PCIe 16 GB", "A100 SXM 80 GB", "H100 SXM 80 GB")
            ],
        }
    ],
    "network": [{"label": "ort batch 1", "precision": "fp32", "gflops": 120.0}],
    "runs": {"official": run(), "best": run(), "ort": run(stages=STAGES)},
    "missing": {"openvino bf16": "this CPU has none"},
}


def of(machine, **kinds):
    return Result(
        machine=machine, sections={kind: section(figures) for kind, figures in kinds.items()}
    )


def rows_of(page, machine):
    row = re.search(rf"<tr><td>{machine}</td>.*?</tr>", page)
    assert row, machine
    return re.findall(r"<td>(.*?)</td>", row[0])


def test_machines_nobody_measured_show_as_not_measured():
    page = report.html([of(CPU, throughput=THROUGHPUT)])
    for machine in ("V100", "A100", "H100 or H200"):
        _, fastest, ratio = rows_of(page, machine)
        assert fastest == ratio == "not measured"
        assert re.search(rf"<p>{machine}: <code>pip install .* flair-bench suite ", page)
    assert rows_of(page, "laptop or server without a GPU")[1].startswith("ort: 0.236 Mpx/s")
    assert rows_of(page, "V100 PCIe 16 GB")[1:] == ["1234", "77", "not measured"]
    assert "computed bound, not a measurement" in page


def test_a_measured_gpu_is_no_other():
    page = report.html([of(Machine(cpu="c", cores=8, ram_gib=1, gpu="NVIDIA A100, driver 1"),
                           throughput=THROUGHPUT)])  # fmt: skip
    assert rows_of(page, "A100")[2] == "4.50 (4.00 to 5.00)"
    assert rows_of(page, "V100")[1] == "not measured"
    assert rows_of(page, "laptop or server without a GPU")[1] == "not measured"


def test_the_page_is_self_contained(network, exported, image_file):
    figures = parity.measure(network, exported(8), [image_file[0]], [Choice("ort")])
    page = report.html([of(CPU, throughput=THROUGHPUT, parity=figures)])
    assert page.count("<img") == page.count('src="data:image/png;base64,') == 4
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "openvino bf16: not available here: this CPU has none" in page


def test_without_reference_runners_nothing_is_said_of_them():
    bare = {**THROUGHPUT, "runs": {"ort": run(ratios={}, agreement=None, stages=STAGES)}}
    rows = report.headline([of(CPU, throughput=bare)])
    assert rows[1][2:] == ["-", "-", "-"]


@pytest.mark.parametrize("results", [[], [of(CPU)], [of(CPU, throughput=THROUGHPUT)]])
def test_markdown_has_both_tables(results):
    text = report.markdown(results)
    heads = [line for line in text.splitlines() if line.startswith("| ---")]
    assert [head.count("---") for head in heads] == [5, 4]
    assert "not measured" in text
