"""Result files as one self-contained HTML page and a Markdown table."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from flair_bench.show import plots
from flair_bench.show.recipes import RECIPES, Recipe
from flair_bench.show.tables import geometry_label, percent, run_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from flair_bench.results import Result, Section

NOT_MEASURED = "not measured"
DPI = 110
CSS = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1d2733; background: #fff;
       max-width: 62rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; margin-bottom: .2rem; }
h2 { margin-top: 2.8rem; border-bottom: 1px solid #dde3e9; padding-bottom: .3rem; }
h3 { margin: 1.8rem 0 .4rem; }
img { max-width: 100%; display: block; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0; }
th, td { padding: .28rem .7rem; text-align: right; border-bottom: 1px solid #e6ebf0; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: #4a5866; }
code { background: #f2f5f7; padding: .1rem .3rem; border-radius: 3px; font-size: .87em;
       overflow-wrap: anywhere; }
p.source { color: #66747f; font-size: .86rem; }
.bound { color: #8a5a00; }
.table { overflow-x: auto; }
"""
TITLES = {
    "throughput": "How fast",
    "parity": "The same labels",
    "accuracy": "Accuracy",
    "geometry": "Tile and margin",
    "io": "Reading and writing",
}

Rows = list[list[str]]


def html(results: Sequence[Result]) -> str:
    """Return the page: headline, a chapter per machine, then the machines nobody measured."""
    body = ["<h1>flair-engine, measured</h1>", _html_table(headline(results))]
    for result in results:
        body.append(f"<h2>{escape(result.machine.title)}</h2>")
        for kind in (kind for kind in TITLES if kind in result.sections):
            body += _chapter(kind, result.sections[kind])
    rows = machines(results)
    body += ["<h2>Machines</h2>", _html_table([row[:-1] for row in rows])]
    body += [f"<p>{escape(row[0])}: <code>{escape(row[-1])}</code></p>" for row in rows[1:]]
    body += _bounds(results)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>flair-engine, measured</title><style>{CSS}</style></head><body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def markdown(results: Sequence[Result]) -> str:
    """Return the headline and the machines as Markdown tables."""
    return "\n".join([_markdown_table(headline(results)), "", _markdown_table(machines(results))])


def headline(results: Sequence[Result]) -> Rows:
    """Return a row per whole run: how many times as fast as the references, and how right."""
    rows = [["run", "machine", "x official tool", "x PyTorch at its best", "labels equal"]]
    for result in results:
        if "throughput" not in result.sections:
            continue
        for name, run in result.sections["throughput"].figures["runs"].items():
            ratios = [run["ratios"].get(reference) for reference in ("official", "best")]
            rows.append(
                [
                    run_label(name, run),
                    result.machine.gpu or f"{result.machine.cpu}, {result.machine.cores} cores",
                    *("-" if ratio is None else _with_spread(ratio) for ratio in ratios),
                    "-" if run["agreement"] is None else f"{percent(run['agreement'])} %",
                ]
            )
    return rows


def machines(results: Sequence[Result]) -> Rows:
    """Return a row per kind of machine: what was measured there, or that nothing was, and how."""
    rows = [["machine", "fastest whole run", "against the official tool", "recipe"]]
    for recipe in RECIPES:
        result = recipe.measured_by([r for r in results if "throughput" in r.sections])
        found = [NOT_MEASURED, NOT_MEASURED] if result is None else _fastest(result)
        rows.append([recipe.machine, *found, f"{recipe.install} && {recipe.command}"])
    return rows


def _fastest(result: Result) -> list[str]:
    figures = result.sections["throughput"].figures
    ours = {name: run for name, run in figures["runs"].items() if "stages" in run}
    if not ours:
        return [NOT_MEASURED, NOT_MEASURED]
    name = min(ours, key=lambda name: ours[name]["wall_s"])
    rate = figures["size_px"] ** 2 / 1e6 / ours[name]["wall_s"]
    ratio = ours[name]["ratios"].get("official")
    return [f"{name}: {rate:.3g} Mpx/s", _with_spread(ratio) if ratio else "-"]


def _bounds(results: Sequence[Result]) -> list[str]:
    """Say what arithmetic and memory allow on machines, measured or not, from one graph."""
    models = [
        model
        for result in results
        if "throughput" in result.sections
        for model in result.sections["throughput"].figures["models"]
    ]
    if not models:
        return []
    rows = [["computed bound, not a measurement", "tiles/s", "new Mpx/s", "that machine"]]
    for bound in models[0]["bounds"]:
        said = [_state(recipe, results) for recipe in RECIPES if bound["name"] in recipe.peaks]
        row = [bound["name"], f"{bound['tiles_per_s']:.0f}", f"{bound['new_mpx_per_s']:.0f}"]
        rows.append([*row, *said])
    return [
        "<h3>What the graph allows in FP16</h3>",
        (
            f'<p class="bound">Computed from the exported graph ({models[0]["geometry"]}, '
            f"{models[0]['gflop_per_tile']:.1f} GFLOP per tile) and published peaks: each layer "
            "takes the longer of its arithmetic and its memory traffic. No engine reaches it.</p>"
        ),
        _html_table(rows),
    ]


def _state(recipe: Recipe, results: Sequence[Result]) -> str:
    return "measured, see above" if recipe.measured_by(results) else NOT_MEASURED


def _chapter(kind: str, section: Section) -> list[str]:
    """Return one measurement: what it says, its pictures, where it comes from."""
    versions = ", ".join(f"{name} {version}" for name, version in section.versions.items())
    with mpl.rc_context(plots.STYLE):
        figures = [figure for figure in _figures(kind, section.figures) if figure is not None]
        images = [_image(figure) for figure in figures]
    return [
        f"<h3>{TITLES[kind]}</h3>",
        *(f"<p>{escape(line)}</p>" for line in _words(kind, section.figures)),
        *(_html_table(table) for table in [_table(kind, section.figures)] if table),
        *images,
        (
            f'<p class="source">{escape(section.date)}, commit {escape(section.commit)}, '
            f"<code>{escape(section.command)}</code><br>{escape(versions)}</p>"
        ),
    ]


def _figures(kind: str, figures: Mapping[str, Any]) -> list[Figure | None]:
    if kind == "throughput":
        references = any(run["ratios"] for run in figures["runs"].values())
        speed_up = plots.speed_up(figures) if references else None
        return [speed_up, plots.stages(figures), plots.roofline(figures)]
    draw = {
        "parity": plots.agreement_map,
        "accuracy": plots.accuracy,
        "geometry": plots.geometry,
        "io": plots.io,
    }
    return [draw[kind](figures)]


def _words(kind: str, figures: Mapping[str, Any]) -> list[str]:
    """Return the sentences a measurement needs beside its table."""
    missing = [f"{n}: not available here: {r}" for n, r in figures.get("missing", {}).items()]
    if kind == "parity":
        return [f"Against PyTorch FP32 on {figures['pixels']:,} px, {figures['tiles']}.", *missing]
    if kind == "accuracy":
        official, later = figures["official"], figures["without_snow"]
        return [
            (
                f"OA {figures['oa']:.4f} %, mIoU {official['iou']:.4f} % over "
                f"{official['classes']} classes, {later['iou']:.4f} % over "
                f"{later['classes']} without snow, on {figures['pixels']:,} px. "
                "The marks are the published model's on its own test set: another model on other "
                "patches is not comparable with them."
            )
        ]
    if kind == "throughput":
        return [
            (
                f"A raster of {figures['size_px']} x {figures['size_px']} px, whole processes, "
                f"{figures['rounds']} rounds in turn. Start-up is a run over one core. `official` "
                "works as IGN's flair-detect is published to work; `best` is PyTorch "
                "with channels_last, argmax inside, the fastest precision here, and this engine's "
                "reading."
            ),
            *missing,
        ]
    if kind == "geometry":
        return [
            (
                f"{figures['engine']} on {figures['height']} x {figures['width']} px, against the "
                "same network run over the whole raster at once; per new megapixel."
            )
        ]
    return [f"{figures['threads']} threads, files in the page cache."]


def _table(kind: str, figures: Mapping[str, Any]) -> Rows:
    """Return a measurement's figures as a table, its head first."""
    if kind == "parity":
        head = ["engine", "precision", "equal %", "tolerance", "different px", "margin lost"]
        return [head, *(_parity_row(name, entry) for name, entry in figures["engines"].items())]
    if kind == "throughput":
        head = ["run", "wall s", "start-up s", "CPU s", "peak MiB", "wall ÷ busiest stage"]
        return [head, *(_run_row(name, run) for name, run in figures["runs"].items())]
    if kind == "geometry":
        head = ["tile / margin", "equal to the raster at once %", "GFLOP", "seconds", "OA %"]
        return [head, *map(_geometry_row, figures["geometries"])]
    if kind == "io":
        peaks = ([name, f"{mib:.0f}"] for name, mib in figures["memory"].items())
        return [["whole runs of a trivial model", "peak MiB"], *peaks]
    return []


def _parity_row(name: str, entry: Mapping[str, Any]) -> list[str]:
    return [
        name,
        entry["precision"],
        percent(entry["agreement"]),
        f"{100 * entry['tolerance']:.2f}",
        f"{entry['different']:,}",
        f"{entry['largest_margin_lost']:.2g}",
    ]


def _run_row(name: str, run: Mapping[str, Any]) -> list[str]:
    numbers = [f"{run[key]:.1f}" for key in ("wall_s", "start_up_s", "cpu_s")]
    overlap = f"{run['stages']['overlap']:.3f}" if "stages" in run else "-"
    return [name, *numbers, f"{run['peak_mib']:.0f}", overlap]


def _geometry_row(entry: Mapping[str, Any]) -> list[str]:
    low, high = entry["s_per_new_mpx_spread"]
    return [
        geometry_label(entry),
        percent(entry["equal_to_whole"]),
        f"{entry['gflop_per_new_mpx']:.0f}",
        f"{entry['s_per_new_mpx']:.2f} ({low:.2f} to {high:.2f})",
        "-" if entry["oa"] is None else f"{entry['oa']:.3f}",
    ]


def _with_spread(ratio: Mapping[str, Any]) -> str:
    low, high = ratio["wall_spread"]
    return f"{ratio['wall']:.2f} ({low:.2f} to {high:.2f})"


def _image(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{content}">'


def _html_table(rows: Rows) -> str:
    head, *body = rows
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body]
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    cells = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="table"><table><tr>{titles}</tr>{cells}</table></div>'


def _markdown_table(rows: Rows) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
