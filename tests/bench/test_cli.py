"""The commands from the outside: what they print, keep and return."""

import sys

import numpy as np
import pytest

from flair_bench import cli, results
from flair_bench.show import tables
from flair_bench.show.tables import percent


@pytest.fixture
def bench(monkeypatch, capsys):
    """Run flair-bench; return (exit code, what it printed, what it said on stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["flair-bench", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code or 0
        return code, *capsys.readouterr()

    return run


def test_accuracy_prints_and_keeps(bench, exported, patches, tmp_path):
    path = tmp_path / "here.json"
    code, printed, _ = bench("accuracy", "-m", exported(0), patches[0], "--json", path,
                             "--engine", "ort", "--threads", 1)  # fmt: skip
    assert code == 0
    assert "official mean (/15)" in printed
    figures = results.load(path).sections["accuracy"].figures
    assert f"OA {figures['oa']:.4f} %" in printed
    assert np.sum(figures["confusion"]) == figures["pixels"] == 3 * 32 * 32


def test_a_published_matrix_is_scored(bench, tmp_path):
    np.save(tmp_path / "confmat.npy", np.eye(19, dtype=np.int64))
    code, printed, _ = bench("accuracy", "--confusion", tmp_path / "confmat.npy")
    assert code == 0
    assert "OA 100.0000 %" in printed


def test_refusals_are_one_line(bench, exported, patches):
    code, _, said = bench("accuracy", "-m", exported(8), patches[0])
    assert (code, said.count("\n")) == (2, 1)
    assert "keeps 16 of 32 px" in said
    code, _, said = bench("accuracy")
    assert code == 2
    assert "give -m MODEL and DATASET, or --confusion MATRIX" in said


@pytest.mark.parametrize(("tolerance", "code"), [("0.5", 0), ("1.1", 1)])
def test_parity_fails_past_its_tolerance(
    bench, exported, image_file, network, monkeypatch, tolerance, code
):
    monkeypatch.setattr("flair_bench.yardstick.networks.reference_network", lambda *_: network)
    found, printed, said = bench("parity", "-m", exported(8), "--reference", "weights", "--engine",
                                 "ort", "--tolerance", tolerance, image_file[0])  # fmt: skip
    assert found == code
    assert "Labels equal to PyTorch FP32" in printed
    assert ("have to" in said) == bool(code)


def test_throughput_and_its_report(bench, exported, image_file, tmp_path, monkeypatch):
    monkeypatch.setattr("flair_bench.measure.network_speed.NETWORK_S", 0.01)
    monkeypatch.setattr("flair_bench.yardstick.limits.EDGE", {"cpu": 64})
    monkeypatch.setattr("flair_bench.yardstick.limits.COPY_BYTES", 2**16)
    path, page = tmp_path / "here.json", tmp_path / "page.html"
    code, printed, said = bench("throughput", image_file[0], "-m", exported(8), "--size", 96,
                                "--engine", "ort", "--repeats", 1, "--json", path)  # fmt: skip
    assert (code, said) == (0, "")
    assert "wall is" in printed
    run = results.load(path).sections["throughput"].figures["runs"]["ort"]
    assert run["stages"]["tiles"] == 36
    assert run["agreement"] == 1
    assert bench("report", path, "-o", page, "--markdown", tmp_path / "table.md")[0] == 0
    assert "<h3>How fast</h3>" in page.read_text()
    figures = results.load(path).sections["throughput"].figures
    monkeypatch.setattr("flair_bench.measure.throughput.measure", lambda *_: figures)
    monkeypatch.setattr(
        "flair_bench.measure.throughput.faults", lambda _: ["ort agrees on nothing"]
    )
    code, _, said = bench("throughput", image_file[0], "-m", exported(8))
    assert (code, said) == (1, "flair-bench: fast but wrong: ort agrees on nothing\n")


def test_tables_of_geometry_and_io(capsys):
    entry = {
        "tile_px": 512, "margin_px": 128, "equal_to_whole": 0.99386, "equal_to_first": 1.0,
        "seam_different": None, "elsewhere_different": 0.001, "oa": None,
        "gflop_per_new_mpx": 720.0, "s_per_new_mpx": 2.0, "s_per_new_mpx_spread": [1.0, 3.0],
    }  # fmt: skip
    entries = [entry, {**entry, "precision": "int8"}]
    figures = {"engine": "ort", "height": 64, "width": 64, "whole_oa": 74.2, "geometries": entries}
    tables.print_geometry(figures)
    work = {"mpx_per_s": 5.0, "gdal_mpx_per_s": 6.0, "of_gdal": {"median": 0.8, "spread": [0, 1]}}
    tables.print_io(
        {
            "size_px": 9,
            "threads": 2,
            "reading": {"JPEG": {**work, "blocks_requested": 4, "blocks": 4}},
            "writing": work,
            "memory": {"5000 px file": 300.0},
        }
    )
    printed = capsys.readouterr().out
    for said in (
        "512 / 128 int8",
        "99.3860",
        "2.00 (1.00 to 3.00)",
        "OA 74.200 %",
        "4 / 4",
        "300 MiB",
    ):
        assert said in printed


def test_shares_are_cut_not_rounded():
    assert percent(0.99999999) == "99.9999"
    assert percent(1.0) == "100.0000"
