"""Page of a run in one self-contained file: what was mapped, of what, how, what was skipped."""

from __future__ import annotations

import base64
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from flair_engine.mapping.legend import hectares_said, share_said
from flair_engine.mapping.targets import PAGE_MARK
from flair_engine.pace import duration
from flair_engine.texts import shown
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flair_engine.inference.base import DeviceUse
    from flair_engine.mapping.picture import MapPicture
    from flair_engine.report import Report
    from flair_engine.work import Work

MOST_FILES = 30
"""Rows of a table of files; how many more there are is said."""
FEW_FILES = 8
"""Rows that are shown without being asked for."""
MEBIBYTE = 2**20
PAGE_CSS = """
:root { color-scheme: light dark; --ink: #1d2733; --faint: #566370; --paper: #fff;
        --line: #dfe5ea; --wash: #f3f6f8; --warn: #8a4b00; --bar: #2f6f9f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --faint: #9aa7b3; --paper: #14191f; --line: #2c3640;
          --wash: #1c232b; --warn: #f0b45e; --bar: #6fb1e0; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink);
       background: var(--paper); max-width: 66rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { margin: .3rem 0; }
.lead, .about, figcaption, caption { color: var(--faint); }
.figures { display: flex; flex-wrap: wrap; gap: .8rem 2.4rem; margin: 1.3rem 0 0; padding: 0; }
.figures div { min-width: 7rem; }
.figures dt { color: var(--faint); font-size: .85rem; }
.figures dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
figure { margin: 1.4rem 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
        gap: .8rem; }
.pair img { width: 100%; height: auto; display: block; border-radius: 4px;
            background: var(--wash); image-rendering: auto; }
figcaption { font-size: .9rem; margin-top: .4rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
         vertical-align: top; }
th { font-weight: 600; color: var(--faint); font-size: .85rem; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:last-child, th:last-child { padding-right: 0; }
td.size, th.size { white-space: nowrap; }
td small { color: var(--faint); display: block; font-family: ui-monospace, monospace;
           font-size: .72rem; }
td.text { text-align: left; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: .95rem; height: .95rem; border-radius: 3px;
          border: 1px solid var(--line); margin-right: .55rem; vertical-align: -.12rem; }
.bar { background: var(--wash); border-radius: 3px; height: .7rem; min-width: 6rem;
       margin-top: .4rem; }
.bar i { display: block; height: 100%; border-radius: 3px; background: var(--bar); }
ul.told { padding-left: 1.1rem; margin: .4rem 0; overflow-wrap: anywhere; }
.warning { color: var(--warn); }
code { background: var(--wash); padding: .12rem .35rem; border-radius: 4px; font-size: .88em;
       overflow-wrap: anywhere; }
pre { background: var(--wash); padding: .8rem 1rem; border-radius: 6px; white-space: pre-wrap;
      overflow-wrap: anywhere; font-size: .88rem; margin: .4rem 0; }
details summary { cursor: pointer; color: var(--faint); }
footer { margin-top: 3rem; color: var(--faint); font-size: .85rem; }
@media (max-width: 34rem) {
  body { padding: 1.2rem 1rem 3rem; } h1 { font-size: 1.35rem; }
  .wide { display: none; } th, td { padding: .34rem .4rem; } }
@media print { body { max-width: none; } details > * { display: block; } }
"""


def page(report: Report, work: Work) -> str:
    """Return the page of a run that is done, as HTML."""
    colors = {entry.name: entry.color for entry in work.spec.classes}
    title = f"Land cover: {PurePath(report.output).name}"
    body = [
        *_head(title, report),
        *map(_figure, work.meters.pictures),
        _more_pictures(len(work.targets), len(work.meters.pictures)),
        *_told(report),
        "<h2>Classes</h2>",
        _classes(report, colors),
        "<h2>Where the time went</h2>",
        _stages(report),
        _devices(report),
        "<h2>What was read</h2>",
        _files((file.path, file.size, "") for file in report.inputs),
        "<h2>What was written</h2>",
        _files((file.path, file.size, file.sha256 or "") for file in report.outputs),
        "<h2>How</h2>",
        _settings(report),
        f"<footer>flair-engine {escape(__version__)}, {_text(report.ended)}</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"{PAGE_MARK}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{PAGE_CSS}</style></head>\n<body>\n"
        + "\n".join(filter(None, body))
        + "\n</body></html>\n"
    )


def _text(value: object) -> str:
    """Return what a page can hold of a text: nothing of it is markup or turns a line round."""
    return escape(shown(str(value)))


def _head(title: str, report: Report) -> list[str]:
    hectares = sum(report.hectares_by_class.values())
    figures = {
        "Mapped": f"{hectares:,.2f} ha",
        "Time": _time(report.wall_s),
        "Speed": f"{report.mpx_per_s:.2f} Mpx/s",
        "Ground per hour": f"{report.km2_per_h:,.1f} km²",
        "Slowest stage": report.slowest_stage,
    }
    cells = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>"
        for name, value in figures.items()
    )
    return [
        f"<h1>{_text(title)}</h1>",
        f'<p class="about">{_text(report.output)}</p>',
        (
            f'<p class="lead">{_text(report.model)}, {_text(report.precision)}, '
            f"{_text(report.description)}</p>"
        ),
        f'<dl class="figures">{cells}</dl>',
    ]


def _figure(picture: MapPicture) -> str:
    height, width = picture.size_px
    images = "".join(
        f'<img alt="{alt}" width="{width}" height="{height}" '
        f'src="data:{kind};base64,{base64.b64encode(content).decode()}">'
        for alt, (kind, content) in (("image", picture.image), ("land cover", picture.drawn))
    )
    return (
        f'<figure><div class="pair">{images}</div>'
        f"<figcaption>{_text(picture.path.name)}: image and land cover</figcaption></figure>"
    )


def _more_pictures(maps: int, shown_maps: int) -> str:
    left = maps - shown_maps
    if left <= 0:
        return ""
    return f'<p class="about">and {left:,} map{"s"[: left != 1]} more, without a picture here</p>'


def _told(report: Report) -> list[str]:
    """Return what the user was told, and what was skipped, warnings first."""
    if not (report.warnings or report.notices):
        return ["<h2>Notices</h2>", '<p class="about">Nothing was skipped or assumed.</p>']
    warnings = "".join(f'<li class="warning">{_text(line)}</li>' for line in report.warnings)
    notices = "".join(f"<li>{_text(line)}</li>" for line in report.notices)
    return ["<h2>Notices</h2>", f'<ul class="told">{warnings}{notices}</ul>']


def _classes(report: Report, colors: Mapping[str, str]) -> str:
    labelled = sum(report.pixels_by_class.values())
    rows = []
    for name, pixels in sorted(report.pixels_by_class.items(), key=lambda found: -found[1]):
        share = pixels / labelled
        swatch = f'<span class="swatch" style="background:{escape(colors[name])}"></span>'
        bar = f'<div class="bar"><i style="width:{share:.2%}"></i></div>'
        cells = (escape(hectares_said(report.hectares_by_class[name])), escape(share_said(share)))
        rows.append(
            f"<tr><td>{swatch}{_text(name)}</td><td>{cells[0]}</td><td>{cells[1]}</td>"
            f'<td class="wide">{bar}</td></tr>'
        )
    total = sum(report.hectares_by_class.values())
    nodata = f"{report.nodata_pixels:,} px have no label"
    rows.append(f"<tr><th>all classes</th><th>{total:,.2f}</th><th></th></tr>")
    head = '<tr><th>class</th><th>hectares</th><th>share</th><th class="wide"></th></tr>'
    return f'{_table(head, rows)}<p class="about">{nodata}</p>'


def _stages(report: Report) -> str:
    longest = max(report.busy_s.values(), default=0.0) or 1.0
    rows = [
        f"<tr><td>{_text(stage)}</td><td>{seconds:,.1f} s</td>"
        f"<td>{seconds / report.wall_s:.0%}</td>"
        f'<td class="wide"><div class="bar"><i style="width:{seconds / longest:.2%}"></i></div>'
        "</td></tr>"
        for stage, seconds in report.busy_s.items()
    ]
    head = '<tr><th>stage</th><th>busy</th><th>of the run</th><th class="wide"></th></tr>'
    about = (
        f"{_time(report.wall_s)} from the first read to the published map, after "
        f"{report.start_up_s:.1f} s to start; stages overlap. "
        f"{report.pixels / 1e6:,.2f} Mpx, {report.share_said}."
    )
    return f'{_table(head, rows)}<p>{_text(report.advice)}</p><p class="about">{_text(about)}</p>'


def _devices(report: Report) -> str:
    """Return what each GPU has done, and when its first batches were in which stage."""
    if not report.devices:
        return ""
    rows = [
        f'<tr><td class="text">{_text(use.device)}, {_text(use.name)}</td><td>{use.batches:,}</td>'
        + "".join(f"<td>{seconds / report.wall_s:.0%}</td>" for seconds in use.busy_s.values())
        + f"<td>{_share(use.agreement_fp32)}</td><td>{_share(use.agreement_first)}</td></tr>"
        for use in report.devices
    ]
    stages = "".join(f"<th>{_text(stage)}</th>" for stage in report.devices[0].busy_s)
    head = f"<tr><th>GPU</th><th>batches</th>{stages}<th>as FP32</th><th>as the first</th></tr>"
    return _table(head, rows) + "".join(map(_timeline, report.devices))


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _timeline(use: DeviceUse) -> str:
    """Draw the first batches of a GPU: a line for each stage of each slot, time to the right."""
    if not use.timeline:
        return ""
    end_s = max(batch.copy_out[1] for batch in use.timeline)
    slots = 1 + max(batch.slot for batch in use.timeline)
    bars = "".join(
        f'<rect x="{1000 * begin / end_s:.2f}" y="{10 * (3 * batch.slot + line)}" '
        f'width="{max(1.0, 1000 * (end - begin) / end_s):.2f}" height="8"/>'
        for batch in use.timeline
        for line, (begin, end) in enumerate((batch.copy_in, batch.compute, batch.copy_out))
    )
    return (
        f'<figure><svg viewBox="0 0 1000 {30 * slots}" width="100%" style="fill:var(--bar)" '
        f'role="img" aria-label="timeline">{bars}</svg><figcaption>{_text(use.device)}: its first '
        f"{len(use.timeline)} batches in {1000 * end_s:,.1f} ms; for each slot copy-in, compute "
        "and copy-out from top to bottom</figcaption></figure>"
    )


def _files(files: Iterable[tuple[str, int | None, str]]) -> str:
    """Return a table of files with sizes and digests, folded up where it is long."""
    listed = list(files)
    rows = [
        f'<tr><td class="text">{_text(path)}{f"<small>{_text(digest)}</small>" if digest else ""}'
        f'</td><td class="size">{"" if size is None else _size(size)}</td></tr>'
        for path, size, digest in listed[:MOST_FILES]
    ]
    total = _size(sum(size or 0 for _, size, _ in listed))
    table = _table(f'<tr><th>file</th><th class="size">{total}</th></tr>', rows)
    left = len(listed) - MOST_FILES
    more = f'<p class="about">and {left:,} more</p>' if left > 0 else ""
    if len(listed) <= FEW_FILES:
        return table
    return f"<details><summary>{len(listed):,} files, {total}</summary>{table}{more}</details>"


def _settings(report: Report) -> str:
    facts = {
        "weights": report.weights_sha256,
        "tiles": f"{report.tile_px} px with margins of {report.margin_px} px, "
        f"{report.gsd_m:g} m per pixel",
        "batch": f"{report.batch}, {report.slots} in flight",
        "box": f"{report.width:,} x {report.height:,} px, {report.crs or 'no CRS'}",
        "labels": report.labels,
        "started": report.started,
        "ended": report.ended,
    }
    for kind, options in report.settings.items():
        for name, value in options.items():
            if value not in (None, False, [], ()) and f"{name}" not in facts:
                facts[f"{kind}: {name}"] = _said(value)
    rows = [
        f'<tr><td>{_text(name)}</td><td class="text">{_text(value)}</td></tr>'
        for name, value in facts.items()
    ]
    command = f"<pre>{_text(report.command)}</pre>" if report.command else ""
    return f"{command}{_table('', rows)}"


def _said(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        some = ", ".join(map(str, value[:MOST_FILES]))
        return f"{some} and {len(value) - MOST_FILES:,} more" if len(value) > MOST_FILES else some
    return "yes" if value is True else str(value)


def _table(head: str, rows: Sequence[str]) -> str:
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _size(size: int) -> str:
    return f"{size / MEBIBYTE:,.1f} MiB" if size >= MEBIBYTE else f"{size:,} B"


def _time(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds < 300 else duration(seconds)
