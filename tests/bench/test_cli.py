"""The commands from the outside: what they print, keep and return."""

import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from doubles import figures
from doubles.figures import CPU, result_of

from flair_bench import cli, results
from flair_engine.version import __version__


@pytest.fixture
def bench(process):
    """Return a function that runs flair-bench with arguments."""
    return partial(process, cli.main)


@pytest.fixture
def kept(tmp_path):
    """Return a result file with whole runs."""
    path = tmp_path / "kept.json"
    result_of(CPU, figures.throughput()).save(path)
    return path


def test_accuracy_prints_and_keeps(bench, exported, patches, tmp_path):
    path = tmp_path / "here.json"
    code, printed, _ = bench("accuracy", "-m", exported(0), patches[0], "--json", path,
                             "--engine", "ort", "--threads", 1)  # fmt: skip
    assert code == 0
    assert "official mean (/15)" in printed
    assert printed.endswith(f"{path}: accuracy is in it\n")
    found = results.load(path).sections["accuracy"].figures
    assert f"OA {found.oa:.4f} %" in printed
    assert np.sum(found.confusion) == found.pixels == 3 * 32 * 32


def test_a_published_matrix_is_scored(bench, tmp_path):
    np.save(tmp_path / "confmat.npy", np.eye(19, dtype=np.int64))
    code, printed, _ = bench("accuracy", "--confusion", tmp_path / "confmat.npy")
    assert code == 0
    assert "OA 100.0000 %" in printed


def test_refusals_are_one_line(bench, exported, patches):
    for dataset in (patches[0], "absent"):
        code, _, said = bench("accuracy", "-m", exported(8), dataset)
        assert (code, said.count("\n")) == (2, 1)
        assert "keeps 16 of 32 px" in said, "before the dataset is looked at"
    code, _, said = bench("accuracy")
    assert code == 2
    assert "give -m MODEL and DATASET, or --confusion MATRIX" in said
    code, _, said = bench("geometry", "--reference", "weights.pth", "--engine", "warp")
    assert (code, said.count("\n")) == (2, 1)
    assert "engine 'warp' is unknown" in said


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


def test_geometry_takes_images_masks_and_models(bench, image_file, write_image, monkeypatch):
    asked = []

    def measure(options, scene, _):
        asked.append((options, scene))
        return figures.geometries()

    monkeypatch.setattr("flair_bench.measure.geometry.BORDER_PX", 16)
    monkeypatch.setattr("flair_bench.measure.geometry.measure", measure)
    mask = write_image(image_file[0].with_name("mask.tif"), np.ones((1, 96, 80), np.uint8))
    code, printed, _ = bench("geometry", image_file[0], "--mask", mask, "--reference", "w.pth",
                             "--repeats", 2)  # fmt: skip
    assert (code, "512 / 128 int8" in printed) == (0, True)
    ((options, scene),) = asked
    assert (options.checkpoint, options.choice.label, options.repeats) == ("w.pth", "ort", 2)
    assert options.models == ()
    assert (scene.image_bhw.shape, scene.truth_hw.shape) == ((3, 96, 64), (96, 64))


def test_throughput_prints_and_keeps(bench, exported, image_file, tmp_path, monkeypatch):
    monkeypatch.setattr("flair_bench.measure.network_speed.NETWORK_S", 0.01)
    monkeypatch.setattr("flair_bench.yardstick.limits.EDGE", {"cpu": 64})
    monkeypatch.setattr("flair_bench.yardstick.limits.COPY_BYTES", 2**16)
    path = tmp_path / "here.json"
    code, printed, said = bench("throughput", image_file[0], "-m", exported(8), "--size", 96,
                                "--engine", "ort", "--repeats", 1, "--json", path)  # fmt: skip
    assert (code, said) == (0, "")
    assert "wall is" in printed
    run = results.load(path).sections["throughput"].figures.runs["ort"]
    assert run.stages.tiles == 36
    assert run.agreement == 1


def test_what_is_fast_but_wrong_fails(bench, exported, image_file, monkeypatch):
    wrong = figures.throughput(runs={"ort": figures.whole_run(agreement=0.5)})
    monkeypatch.setattr("flair_bench.measure.throughput.measure", lambda *_: wrong)
    code, _, said = bench("throughput", image_file[0], "-m", exported(8))
    assert (code, said) == (
        1,
        (
            "flair-bench: fast but wrong: ort agrees on 50.0000% of labels, at least 99.99% have "
            "to: look at flair-bench parity on images of yours\n"
        ),
    )


def test_io_takes_a_size(bench, image_file, monkeypatch):
    asked = []

    def measure(options, image_bhw, *_):
        asked.append((options.size_px, options.repeats, image_bhw.shape))
        return figures.raster_io()

    monkeypatch.setattr("flair_bench.measure.raster_io.measure", measure)
    code, printed, _ = bench("io", image_file[0], "--size", 100)
    assert (code, "write labels" in printed) == (0, True)
    assert asked == [(100, 3, (3, 96, 80))]


def test_a_report_is_a_page_or_a_text_or_both(bench, kept, tmp_path):
    page, text = tmp_path / "page.html", tmp_path / "text.md"
    text.write_text("<!-- begin: figures headline -->\n<!-- end: figures headline -->\n")
    assert bench("report", kept, "-o", page)[0] == 0
    assert "<h3>How fast</h3>" in page.read_text()
    page.unlink()
    code, printed, _ = bench("report", kept, "--markdown", text)
    assert (code, printed) == (0, f"{text} holds the figures\n")
    assert "4.5 times as fast as the official way" in text.read_text()
    assert not page.exists()
    assert bench("report", kept, "-o", page, "--markdown", text)[0] == 0
    assert page.exists()


def test_the_version_is_that_of_the_three_packages(bench):
    code, printed, _ = bench("--version")
    assert (code, printed.endswith(f"version {__version__}\n")) == (0, True)


def test_a_report_of_nowhere_is_refused_in_one_line(bench, kept, tmp_path):
    code, _, said = bench("report", kept)
    assert (code, said.count("\n")) == (2, 1)
    assert "give -o PAGE.html, or --markdown FILE" in said
    code, _, said = bench("report", kept, "--markdown", tmp_path / "absent.md")
    assert (code, said.count("\n")) == (2, 1)
    text = tmp_path / "text.md"
    text.write_text("no markers\n")
    code, _, said = bench("report", kept, "--markdown", text)
    assert (code, said.count("\n")) == (2, 1)
    assert "text.md: holds no markers of figures" in said
    assert text.read_text() == "no markers\n"


def test_the_suite_is_asked_by_its_options(bench, tmp_path, monkeypatch):
    asked = []

    def run_suite(request, _):
        asked.append(request)
        return request.output.with_suffix(".html")

    monkeypatch.setattr("flair_bench.suite.run_suite", run_suite)
    code, printed, _ = bench("suite", "-o", tmp_path / "new" / "r.json", "--size", 64)
    assert (code, printed.endswith("r.html are ready\n")) == (0, True)
    (request,) = asked
    assert (request.size_px, request.repeats, request.data, request.checkpoint) == (
        64,
        3,
        None,
        None,
    )
    assert (tmp_path / "new").is_dir()


def test_installing_is_measured_from_the_command_line(bench, tmp_path, monkeypatch):
    seen = []

    def measure(folder, status):
        seen.append(folder)
        status("installing")
        return figures.install()

    monkeypatch.setattr("flair_bench.measure.install.measure", measure)
    code, printed, _ = bench("install", "--json", tmp_path / "r.json")
    assert code == 0
    assert ".[cpu,export]" in printed
    assert "install is in it" in printed
    assert len(seen) == 1


@pytest.fixture
def named(tmp_path, image_file, patches, exported):
    """Return files that measurements read, by what stands for them in arguments."""
    model = tmp_path / "m.onnx"
    shutil.copy(exported(0), model)
    (tmp_path / "list.csv").write_text("a.tif,b.tif\n")
    (tmp_path / "weights.pth").write_bytes(b"weights")
    np.save(tmp_path / "matrix.npy", np.eye(19, dtype=np.int64))
    return {
        "image": image_file[0],
        "mask": next(patches[0].rglob("MSK_*.tif")),
        "data": patches[0],
        "model": model,
        "list": tmp_path / "list.csv",
        "weights": tmp_path / "weights.pth",
        "matrix": tmp_path / "matrix.npy",
    }


@pytest.mark.parametrize(
    ("arguments", "inputs"),
    [
        ("accuracy {data} -m {model} --list {list}", "model list"),
        ("accuracy --confusion {matrix}", "matrix"),
        ("parity {image} -m {model} --reference {weights}", "image model weights"),
        ("geometry {image} --mask {mask} --reference {weights} -m {model}",
         "image mask weights model"),
        ("throughput {image} -m {model} --reference {weights}", "image model weights"),
        ("io {image}", "image"),
    ],
)  # fmt: skip
def test_figures_replace_no_input(bench, named, tmp_path, arguments, inputs):
    words = [word.format(**named) for word in arguments.split()]
    for name in inputs.split():
        before = named[name].read_bytes()
        link = tmp_path / "link.json"
        link.unlink(missing_ok=True)
        link.hardlink_to(named[name])
        for path in (named[name], link):
            code, printed, said = bench(*words, "--json", path)
            assert (code, printed, said.count("\n")) == (2, "", 1)
            assert f"{path}: is the input {named[name]}: give the output another name" in said
        assert named[name].read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    ["accuracy {data} -m {model}", "accuracy --confusion {matrix}", "install", "io {image}",
     "parity {image} -m {model} --reference {weights}",
     "geometry {image} --reference {weights}", "throughput {image} -m {model}"],
)  # fmt: skip
def test_figures_replace_nothing_but_figures(bench, named, tmp_path, arguments):
    words = [word.format(**named) for word in arguments.split()]
    notes = tmp_path / "notes.json"
    notes.write_text("mine")
    code, printed, said = bench(*words, "--json", notes)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert "notes.json: is no result of flair-bench" in said
    assert notes.read_text() == "mine"
    assert "its folder does not exist" in bench(*words, "--json", tmp_path / "no/r.json")[2]


def test_a_page_replaces_neither_results_nor_files_of_somebody(bench, kept, tmp_path):
    before = kept.read_bytes()
    notes = tmp_path / "notes.html"
    notes.write_text("<html>mine</html>")
    text = tmp_path / "text.md"
    text.write_text("<!-- begin: figures headline -->\n<!-- end: figures headline -->\n")
    for page, said in (
        (kept, "is the input"),
        (notes, "is no page of flair-bench"),
        (text, "is the input"),
        (tmp_path / "no/page.html", "its folder does not exist"),
    ):
        code, printed, line = bench("report", kept, "-o", page, "--markdown", text)
        assert (code, printed, line.count("\n"), said in line) == (2, "", 1, True), line
    assert kept.read_bytes() == before
    assert notes.read_text() == "<html>mine</html>"
    assert text.read_text().count("\n") == 2


def test_names_in_the_line_of_what_is_done_are_no_markup():
    with cli.working() as (_, status):
        status("measuring [/] [/red] [red].tif")


WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(("torch", "segmentation_models_pytorch")))
from flair_bench.cli import main
main()
"""


def test_with_the_extra_of_benchmarks_alone_it_is_said_what_else_they_need():
    arguments = ["parity", "image.tif", "-m", "model.onnx", "--reference", "w.pth"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "flair-bench: torch is not installed: run pip install 'flair-engine[export]'\n",
    )
