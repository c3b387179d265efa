"""What a measurement looks like on a terminal."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under columns, the first column to the left, the others to the right."""
    drawn = Table(title=title, title_justify="left", min_width=min(len(title), 100))
    for position, column in enumerate(columns):
        drawn.add_column(column, justify="right" if position else "left")
    for row in rows:
        drawn.add_row(*row)
    # A pipe has no width: 80 columns would cut figures.
    console = Console()
    Console(width=None if console.is_terminal else 140).print(drawn)


def print_accuracy(figures: Mapping[str, Any]) -> None:
    """Show the scores of `flair_bench.measure.accuracy.figures`."""
    rows = [
        (
            entry["name"],
            f"{entry['pixels']:,}",
            *(f"{entry[key]:.2f}" for key in ("iou", "f", "precision", "recall")),
            "-" if entry["published_iou"] is None else f"{entry['published_iou']:.2f}",
        )
        for entry in figures["classes"]
    ]
    for title, key in (("official mean", "official"), ("mean without snow", "without_snow")):
        means = figures[key]
        published = figures["published"]["miou"] * 15 / means["classes"]
        rows.append(
            (
                f"{title} (/{means['classes']})",
                "",
                *(f"{means[name]:.4f}" for name in ("iou", "f", "precision", "recall")),
                f"{published:.4f}" if means["classes"] in (14, 15) else "-",
            )
        )
    columns = ("class", "mask px", "IoU %", "F %", "precision %", "recall %", "card's IoU %")
    table(f"Accuracy on {figures['pixels']:,} px", columns, rows)
    click.echo(
        f"OA {figures['oa']:.4f} % (card's model on its test set {figures['published']['oa']} %)"
    )
    click.echo(
        f"labels of inactive classes {figures['predicted_inactive']:.4f} %, "
        f"mask pixels of inactive classes {figures['masked_inactive']:.4f} % (in no score)"
    )


def print_parity(figures: Mapping[str, Any]) -> None:
    """Show the figures of `flair_bench.measure.parity.measure`."""
    engines = figures["engines"]
    rows = [("all", f"{figures['pixels']:,}", *(percent(e["agreement"]) for e in engines.values()))]
    for name, counted in next(iter(engines.values()))["classes"].items():
        pixels = counted["pixels"]
        different = (entry["classes"][name]["different"] for entry in engines.values())
        shares = (percent(1 - count / pixels) if pixels else "-" for count in different)
        rows.append((name, f"{pixels:,}", *shares))
    table(f"Labels equal to PyTorch FP32, %, {figures['tiles']}", ("class", "px", *engines), rows)
    edges = ["0", *(f"{edge:g}" for edge in figures["margin_edges"]), "inf"]
    rows = [
        (
            f"{low} to {high}",
            f"{pixels:,}",
            *(str(e["flipped_by_margin"][n]) for e in engines.values()),
        )
        for n, (low, high, pixels) in enumerate(
            zip(edges, edges[1:], figures["margins"], strict=False)
        )
    ]
    table("Pixels that flip, by top-1 minus top-2 logit", ("margin", "px", *engines), rows)
    for label, entry in engines.items():
        flips = ", ".join(f"{a} to {b} {count}" for a, b, count in entry["flips"][:3])
        click.echo(
            f"{label}: {percent(entry['agreement'])} % equal, tolerance "
            f"{entry['tolerance']:.2%}; largest margin lost {entry['largest_margin_lost']:.3g}"
            + (f"; most often {flips}" if flips else "")
        )
    click.echo(
        f"logits (ONNX Runtime, twin of the file): largest difference "
        f"{figures['logit_largest']:.3g}, 99.9th percentile {figures['logit_p999']:.3g}"
    )
    print_missing(figures["missing"])


def print_geometry(figures: Mapping[str, Any]) -> None:
    """Show the figures of `flair_bench.measure.geometry.measure`."""
    first = figures["geometries"][0]
    rows = []
    for entry in figures["geometries"]:
        low, high = entry["s_per_new_mpx_spread"]
        seams = (entry[f"{where}_different"] for where in ("seam", "elsewhere"))
        rows.append(
            (
                geometry_label(entry),
                percent(entry["equal_to_whole"]),
                percent(entry["equal_to_first"]),
                *("-" if share is None else f"{100 * share:.3f}" for share in seams),
                "-" if entry["oa"] is None else f"{entry['oa']:.3f}",
                f"{entry['gflop_per_new_mpx']:.0f}",
                f"{entry['s_per_new_mpx']:.2f} ({low:.2f} to {high:.2f})",
                f"{first['s_per_new_mpx'] / entry['s_per_new_mpx']:.2f}",
            )
        )
    columns = (
        "tile / margin",
        "= whole %",
        "= first %",
        "seams ≠ %",
        "elsewhere ≠ %",
        "OA %",
        "GFLOP/Mpx",
        "s/Mpx",
        "speed-up",
    )
    title = f"{figures['engine']} on {figures['height']} x {figures['width']} px, per new megapixel"
    table(title, columns, rows)
    if figures["whole_oa"] is not None:
        click.echo(f"the whole raster at once: OA {figures['whole_oa']:.3f} %")


def geometry_label(entry: Mapping[str, Any]) -> str:
    """Return tile and margin of one geometry, and that its model is INT8."""
    integers = " int8" if entry.get("precision") == "int8" else ""  # older results do not say
    return f"{entry['tile_px']} / {entry['margin_px']}{integers}"


def print_throughput(figures: Mapping[str, Any]) -> None:
    """Show the figures of `measure.throughput`: the network alone, then whole runs."""
    peak = figures["limits"]["matmul_gflops"]
    rows = [
        (
            with_precision(entry["label"], entry["precision"]),
            f"{1e3 * entry['s_per_tile']:.1f}",
            " to ".join(f"{1e3 * seconds:.1f}" for seconds in entry["s_per_tile_spread"]),
            f"{entry['new_mpx_per_s']:.3f}",
            f"{entry['gflops']:.0f}",
            f"{entry['gflops'] / peak[kind]:.0%}" if (kind := entry["precision"]) in peak else "-",
            "-" if entry["agreement"] is None else percent(entry["agreement"]),
        )
        for entry in figures["network"]
    ]
    columns = ("network alone", "ms/tile", "spread", "new Mpx/s", "GFLOP/s", "of peak", "= FP32 %")
    table(f"{figures['rounds']} rounds in turn", columns, rows)
    size = figures["size_px"]
    table(
        f"{size} x {size} px, whole processes; times as long as each",
        ("whole run", "wall s", "start-up s", "CPU s", "MiB", "x official", "x best", "= %"),
        [_run_row(name, run) for name, run in figures["runs"].items()],
    )
    for name, run in figures["runs"].items():
        if "stages" in run:
            click.echo(f"{name}: {_stages(run['stages'])}")
    limits = {k: v for k, v in figures["limits"].items() if isinstance(v, float)}
    products = ", ".join(f"{kind} {rate:.0f}" for kind, rate in peak.items())
    others = ", ".join(f"{name} {rate:.1f}" for name, rate in limits.items())
    click.echo(f"limits here: matrix products {products} GFLOP/s; {others}")
    print_missing(figures["missing"])


def _run_row(name: str, run: Mapping[str, Any]) -> list[str]:
    ratios = [run["ratios"].get(reference) for reference in ("official", "best")]
    return [
        with_precision(name, run["precision"]),
        f"{run['wall_s']:.1f} ({run['wall_s_spread'][0]:.1f} to {run['wall_s_spread'][1]:.1f})",
        f"{run['start_up_s']:.1f}",
        f"{run['cpu_s']:.1f}",
        f"{run['peak_mib']:.0f}",
        *("-" if r is None else f"{r['wall']:.2f} (CPU {r['cpu']:.2f})" for r in ratios),
        "-" if run["agreement"] is None else percent(run["agreement"]),
    ]


def _stages(stages: Mapping[str, Any]) -> str:
    busy = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in stages["busy_s"].items())
    return f"busy {busy} of {stages['wall_s']:.2f} s: wall is {stages['overlap']:.3f} x the busiest"


def print_io(figures: Mapping[str, Any]) -> None:
    """Show the figures of `flair_bench.measure.raster_io.measure`."""
    work = {f"read {name}": entry for name, entry in figures["reading"].items()}
    work["write labels"] = figures["writing"]
    rows = [
        (
            name,
            f"{entry['mpx_per_s']:.1f}",
            f"{entry['gdal_mpx_per_s']:.1f}",
            f"{entry['of_gdal']['median']:.2f}",
            " to ".join(f"{ratio:.2f}" for ratio in entry["of_gdal"]["spread"]),
            f"{entry['blocks_requested']} / {entry['blocks']}" if "blocks" in entry else "-",
        )
        for name, entry in work.items()
    ]
    columns = ("work", "Mpx/s", "GDAL Mpx/s", "x GDAL", "spread", "blocks read / stored")
    table(f"{figures['size_px']}² px, {figures['threads']} threads, page cache", columns, rows)
    for name, peak in figures["memory"].items():
        click.echo(f"peak memory, {name}: {peak:.0f} MiB")


def print_missing(missing: Mapping[str, str]) -> None:
    """Say which engines were not measured and why."""
    for label, reason in missing.items():
        click.echo(f"{label}: not available here: {reason}")


def with_precision(name: str, precision: str) -> str:
    """Return a run's name with those words of its precision that it lacks."""
    return " ".join([name, *(word for word in precision.split() if word not in name.split())])


def run_label(name: str, run: Mapping[str, Any]) -> str:
    """Return a whole run's name with its precision and geometry, each once."""
    return with_precision(name, f"{run['precision']} {run['geometry']}")


def percent(share: float) -> str:
    """Return a share in percent, cut and not rounded: 100.0000 is said of what differs nowhere."""
    return f"{floor(1e6 * share) / 1e4:.4f}"
