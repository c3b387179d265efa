"""Costs of a territory, computed from what was measured: a département, a country.

Where only CPUs were measured that is said, and which rate a GPU would need; no rate is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_bench.show.tables import Table
from flair_bench.show.wording import spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flair_bench.figures import RasterIoFigures, ThroughputFigures, WholeRun
    from flair_bench.results import Result

TERRITORIES = (("département", 150e9), ("France", 13.75e12))
"""Pixels of 0.2 m: 6,000 km2, and 550,000 km2."""
COUNTS = (1, 8, 64)
"""Machines, or GPUs."""
WANTED = (
    ("département in an hour", 150e9, 3_600.0),
    ("département in a day", 150e9, 86_400.0),
    ("France in a day", 13.75e12, 86_400.0),
    ("France in a week", 13.75e12, 604_800.0),
)
"""What may be wanted: name, pixels, seconds."""
DELIVERED = "JPEG 2000"
"""What BD ORTHO is delivered in."""
NO_FIGURE = "not measured"
RATES = (
    "Mpx/s is a whole run of flair-run from a TIFF, but for its start; the next column has the "
    f"decoding of five bands of {DELIVERED} added, on the cores that infer. Beside a GPU the "
    "slower of the two counts."
)
NOT_COUNTED = (
    "Machines and cores are taken to add up: parts share nothing but the drive, whose rate is not "
    "in this, nor are failures and waiting in a queue."
)


def costs(results: Sequence[Result]) -> Table:
    """Return how long territories take, machine by machine that was measured."""
    rows = [row for result in results for row in _rows(result)]
    if not any(result.machine.gpu for result in results):
        rows.append(("any GPU", *[NO_FIGURE] * (2 + len(TERRITORIES) * len(COUNTS))))
    return Table(
        title="Time that a territory takes",
        columns=(
            "measured on",
            "Mpx/s",
            f"of {DELIVERED}",
            *(f"{name}, {count}" for name, _ in TERRITORIES for count in COUNTS),
        ),
        rows=tuple(rows),
    )


def needed(results: Sequence[Result]) -> Table:
    """Return the rate of each of some machines that a territory needs, and the cores to decode."""
    each = _decoded_per_core(results)
    rows = []
    for name, pixels, wall_s in WANTED:
        rates = [pixels / wall_s / count / 1e6 for count in COUNTS]
        rows.append((name, *(f"{rate:,.2f} ({_cores(rate, each)})" for rate in rates)))
    return Table(
        title=f"Mpx/s that each machine or GPU needs (cores that decode so much {DELIVERED})",
        columns=("", *map(str, COUNTS)),
        rows=tuple(rows),
    )


def notes(results: Sequence[Result]) -> tuple[str, ...]:
    """Return where rates come from, and what was assumed."""
    measured = (_source(result) for result in results if _throughput(result))
    return (*measured, RATES, NOT_COUNTED)


def _rows(result: Result) -> Iterator[tuple[str, ...]]:
    """Yield what the fastest run says, and the fastest that is exact where it is another."""
    figures = _throughput(result)
    if figures is None:
        return
    ordered = sorted(figures.own_runs.items(), key=lambda pair: pair[1].wall_s)
    exact = [(name, run) for name, run in ordered if run.precision == "fp32"]
    for name, run in dict([*ordered[:1], *exact[:1]]).items():
        words = f"{result.machine.short}, {spoken(name, run)}"
        yield (words, *_times(result, _rate(figures, run)))


def _times(result: Result, rate: float) -> Iterator[str]:
    """Yield rates and times of all territories, of a run of so many Mpx/s."""
    yield f"{rate:.2f}"
    decoding = _decoding(result)
    if decoding is None:
        yield from [NO_FIGURE] * (1 + len(TERRITORIES) * len(COUNTS))
        return
    together = min(rate, decoding) if result.machine.gpu else 1 / (1 / rate + 1 / decoding)
    yield f"{together:.2f}"
    for _, pixels in TERRITORIES:
        yield from (_time(pixels / (count * together * 1e6)) for count in COUNTS)


def _throughput(result: Result) -> ThroughputFigures | None:
    section = result.sections.get("throughput")
    return section.figures if section and section.figures.own_runs else None


def _io(result: Result) -> RasterIoFigures | None:
    section = result.sections.get("io")
    return section.figures if section else None


def _rate(figures: ThroughputFigures, run: WholeRun) -> float:
    """Return the Mpx/s of a whole run, but for what it takes to start."""
    return figures.size_px**2 / (run.wall_s - run.start_up_s) / 1e6


def _decoding(result: Result) -> float | None:
    """Return the Mpx/s of reading what is delivered, None where it was not measured."""
    figures = _io(result)
    speed = figures.reading.get(DELIVERED) if figures else None
    return speed.mpx_per_s if speed else None


def _decoded_per_core(results: Sequence[Result]) -> float | None:
    """Return the best of what one core was seen to decode, Mpx/s; None where nothing was."""
    found = [
        rate / figures.threads
        for result in results
        if (figures := _io(result)) and (rate := _decoding(result))
    ]
    return max(found, default=None)


def _cores(rate: float, each: float | None) -> str:
    return NO_FIGURE if each is None else f"{rate / each:,.1f}"


def _source(result: Result) -> str:
    date, io = result.sections["throughput"].date, result.sections.get("io")
    decoded = io.date[:10] if io else NO_FIGURE
    return f"{result.machine.title}: runs {date[:10]}, decoding {decoded}"


def _time(wall_s: float) -> str:
    """Return a time in the unit that people would use."""
    for unit, size in (("years", 365 * 86_400.0), ("days", 86_400.0), ("h", 3600.0)):
        if wall_s >= 2 * size:
            return f"{wall_s / size:.1f} {unit}"
    return f"{wall_s / 60:.0f} min"
