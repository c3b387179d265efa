"""The report of a run: its inputs and outputs, counts, times, rates, and where the time went."""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from flair_engine.advice import advice_of
from flair_engine.grid import bounds
from flair_engine.mapping.published import bbox_of, crs_text
from flair_engine.provenance import fingerprint
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from flair_engine.grid import Window
    from flair_engine.inference.base import BatchTimes, DeviceUse
    from flair_engine.mapping.published import OutputFile
    from flair_engine.reading.inputs import Sheet
    from flair_engine.tally import LandCover
    from flair_engine.work import Work

RECORD_SCHEMA = 2
"""Number of a report's fields and their meaning; CONTRIBUTING.md says when it goes up."""
HECTARES_DECIMALS = 8
"""A square centimetre, far less than any pixel: classes sum up to their whole."""
SECONDS_DECIMALS = 3
TIMELINE_DECIMALS = 6
RATE_DIGITS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """A file that was read."""

    path: str
    size: int | None
    """Bytes; None where it is no file on a disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The result of one run."""

    started: str
    """First start of the run, ISO 8601."""
    ended: str
    command: str | None
    """What was typed."""
    settings: Mapping[str, Mapping[str, Any]]
    """What the run was told, by `inputs`, `read`, `run` and `write`."""
    inputs: tuple[InputFile, ...]
    """Every file that was read, those inside VRTs too."""
    outputs: tuple[OutputFile, ...]
    """Every file that was written but for the report."""
    labels: str
    """Which values stand for what: `flair` or `zero-based`."""
    output: str
    model: str
    weights_sha256: str
    engine: str
    device: str
    description: str
    precision: str
    agreement_fp32: float | None
    """Share of labels equal on some tiles to those of the same file with FP32 in place of what the
    engine computes in; None where that is FP32, or nothing was compared."""
    measured_fp32: str | None
    """When that was measured, ISO 8601: in this run, or in an earlier one of the same model, engine
    and CPU; None where nothing was, and of a TensorRT plan."""
    lean_fp32: float | None
    """Share of the labels that differ there that are the lower class; None where none differs."""
    exported_agreement_fp32: float | None
    """Share of labels of an INT8 file equal to FP32's, as measured when it was exported."""
    batch: int
    slots: int
    tile_px: int
    margin_px: int
    gsd_m: float
    height: int
    width: int
    """Of the box around what was mapped, px; of the largest, where files that cover one another
    were mapped apart."""
    crs: str | None
    bbox: tuple[float, float, float, float] | None
    """Of that box, xmin, ymin, xmax, ymax in its CRS; None without one."""
    pixels: int
    """Of the areas that were read; what lies between files far apart is not among them."""
    inferred_pixels: int
    """Of them those that went through the network in this process; the others were resumed, not
    asked for, or nothing is known of them."""
    resumed_pixels: int
    """Of them those that were labelled before the run was resumed."""
    tiles: int
    """Cores of the area, inferred or not."""
    start_up_s: float
    """Opening the raster and the engine, which may load on beside the first reading."""
    wall_s: float
    """From the first read to the published map."""
    busy_s: Mapping[str, float]
    """By stage, of several GPUs the busiest; stages overlap, so the sum exceeds `wall_s`."""
    devices: tuple[DeviceUse, ...]
    """What each GPU has done; empty where none was used, or it cannot be told."""
    threads: int
    """CPU threads that decoded."""
    pixels_by_class: Mapping[str, int]
    """By class name, classes that occur."""
    hectares_by_class: Mapping[str, float]
    nodata_pixels: int
    blocks_requested: int
    """Blocks decoded, one decoded twice counted twice."""
    blocks: int
    """Blocks of the sources."""
    decode_factor: float | None
    """Blocks decoded by distinct ones: 1 where none was decoded twice, None where none was decoded
    at all."""
    skipped_blocks: int
    """Blocks that could not be decoded and became nodata on request."""
    missing_height_pixels: int
    notices: tuple[str, ...]
    """What the user was told."""
    warnings: tuple[str, ...]
    """What the user was told of that makes the map wrong, or less than it should be."""

    @property
    def mpx_per_s(self) -> float:
        """Megapixels that went through the network per second of `wall_s`."""
        return self.inferred_pixels / 1e6 / self.wall_s

    @property
    def km2_per_h(self) -> float:
        """Ground labelled per hour at the model's ground sampling distance."""
        return self.mpx_per_s * self.gsd_m**2 * 3600

    @property
    def slowest_stage(self) -> str:
        """The stage that was busy longest."""
        return max(self.busy_s, key=lambda stage: self.busy_s[stage])

    @property
    def advice(self) -> str:
        """Which stage the others waited for, and what to change, in one sentence."""
        return advice_of(
            self.wall_s, self.busy_s, batch=self.batch, slots=self.slots, threads=self.threads
        )

    @property
    def closing_line(self) -> str:
        """One line for people."""
        busy = self.busy_s[self.slowest_stage] / self.wall_s
        agreement, exported = "", self.exported_agreement_fp32
        if exported is not None:
            agreement = f"; INT8 gave {exported:.2%} the labels of FP32 at export"
        if self.agreement_fp32 is not None:
            other = "the same file in FP32" if agreement else "FP32"
            agreement += f"; {self.agreement_fp32:.2%} the labels of {other} {self._where_measured}"
        inferred = "" if self.inferred_pixels == self.pixels else f", {self.share_said},"
        return (
            f"{self.output}: {self.pixels / 1e6:.2f} Mpx{inferred} in {self.wall_s:.1f} s, "
            f"{self.mpx_per_s:.2f} Mpx/s, {self.km2_per_h:.1f} km²/h; "
            f"slowest stage: {self.slowest_stage} (busy {busy:.0%}){agreement}"
        )

    @property
    def _where_measured(self) -> str:
        """Which tiles were compared with FP32, and when."""
        measured = self.measured_fp32
        if measured is None or measured >= self.started:
            return "on the first tiles"
        return f"on tiles of {measured[:10]}"

    @property
    def share_said(self) -> str:
        """How much of the pixels was inferred, and how much resumed, in a few words."""
        resumed = f", {self.resumed_pixels / 1e6:.2f} resumed" if self.resumed_pixels else ""
        return f"{self.inferred_pixels / 1e6:.2f} of them inferred{resumed}"

    def to_json(self) -> str:
        """Return every field and rate as one JSON object, rounded to what can be meant."""
        found = {
            "schema": RECORD_SCHEMA,
            "version": __version__,
            **asdict(self),
            "start_up_s": round(self.start_up_s, SECONDS_DECIMALS),
            "wall_s": round(self.wall_s, SECONDS_DECIMALS),
            "busy_s": {name: round(s, SECONDS_DECIMALS) for name, s in self.busy_s.items()},
            "hectares_by_class": {
                name: round(ha, HECTARES_DECIMALS) for name, ha in self.hectares_by_class.items()
            },
            "mpx_per_s": float(f"{self.mpx_per_s:.{RATE_DIGITS}g}"),
            "km2_per_h": float(f"{self.km2_per_h:.{RATE_DIGITS}g}"),
            "slowest_stage": self.slowest_stage,
            "devices": [_use(device) for device in self.devices],
            "advice": self.advice,
        }
        return json.dumps(found, indent=2)


def report_of(
    work: Work,
    found: LandCover,
    *,
    started: str,
    skipped: Collection[object],
    start_up_s: float,
    wall_s: float,
) -> Report:
    """Return the report of work that is done, telling the user what is missing in the map.

    `skipped` are blocks that could not be decoded, of this run and of those it continues.
    """
    spec, backend, opened, meters = work.spec, work.backend, work.opened, work.meters
    difference = backend.difference_fp32
    _warn(work, found, skipped)
    classes = [entry for entry in spec.classes if found.pixels[entry.value]]
    sheet, largest = _largest_box(work)
    return Report(
        started=started,
        ended=now(),
        command=work.job.command,
        settings=_settings(work),
        inputs=tuple(_input_file(name) for name in work.opened.files),
        outputs=tuple(meters.written),
        labels=work.job.write.labels,
        output=str(work.job.output),
        model=spec.name,
        weights_sha256=spec.weights_sha256,
        engine=backend.engine,
        device=backend.device,
        description=backend.description,
        precision=backend.precision,
        agreement_fp32=difference.share if difference is not None else None,
        measured_fp32=backend.measured_fp32,
        lean_fp32=difference.lean if difference is not None else None,
        exported_agreement_fp32=spec.agreement_fp32,
        batch=backend.batch,
        slots=work.job.run.slots,
        tile_px=spec.tile_px,
        margin_px=spec.margin_px,
        gsd_m=spec.gsd_m,
        height=largest.height,
        width=largest.width,
        crs=crs_text(sheet.pixel_grid.crs),
        bbox=bbox_of(sheet.pixel_grid.of(largest)),
        pixels=work.pixels,
        inferred_pixels=meters.inferred_px,
        resumed_pixels=meters.resumed_px,
        tiles=sum(len(p.cores.rows) * len(p.cores.cols) for p in work.panels),
        start_up_s=start_up_s,
        wall_s=wall_s,
        busy_s={
            "read": meters.read.busy_s,
            **{name: s - meters.before_s.get(name, 0) for name, s in backend.busy_s.items()},
            "write": meters.write.busy_s,
            "assemble": meters.assembled_s,
        },
        devices=tuple(backend.devices),
        threads=work.threads,
        pixels_by_class={entry.name: int(found.pixels[entry.value]) for entry in classes},
        hectares_by_class={entry.name: float(found.hectares[entry.value]) for entry in classes},
        nodata_pixels=sum(p.shown.pixels for p in work.panels) - int(found.pixels[1:].sum()),
        blocks_requested=meters.reading.blocks,
        blocks=opened.blocks,
        decode_factor=meters.reading.decode_factor,
        skipped_blocks=len(skipped),
        missing_height_pixels=meters.reading.missing,
        notices=tuple(meters.notices),
        warnings=tuple(meters.warnings),
    )


def _use(use: DeviceUse) -> dict[str, Any]:
    """Return what a GPU has done, as JSON holds it: times of a batch as begin and end."""
    busy_s = {name: round(seconds, SECONDS_DECIMALS) for name, seconds in use.busy_s.items()}
    timeline = [_times(batch) for batch in use.timeline]
    return {**asdict(use), "busy_s": busy_s, "timeline": timeline}


def _times(batch: BatchTimes) -> dict[str, Any]:
    return {
        name: value if name == "slot" else [round(s, TIMELINE_DECIMALS) for s in value]
        for name, value in asdict(batch).items()
    }


def _warn(work: Work, found: LandCover, skipped: Collection[object]) -> None:
    """Tell what is missing or uncertain in the map."""
    missing, difference = work.meters.reading.missing, work.backend.difference_fp32
    if missing:
        work.listener.warn(f"height is missing on {missing:,} px: counted as 0")
    if difference is not None and difference.leans:
        work.listener.warn(
            f"{difference.fault} beside FP32's where both were computed, and so may the map: "
            "--precision fp32 makes it exact"
        )
    if skipped:
        work.listener.warn(f"{len(skipped)} unreadable blocks skipped: nodata there")
    if not found.pixels[1:].any():
        work.listener.warn("no pixel of the images is valid: the map holds nodata alone")


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")


def _settings(work: Work) -> dict[str, dict[str, Any]]:
    """Return what a run was told, as JSON holds it."""
    job = work.job
    found: dict[str, dict[str, Any]] = {
        "inputs": {"model": str(job.model), **job.inputs.given},
        "read": asdict(job.read),
        "run": asdict(job.run),
        "write": asdict(job.write),
    }
    for options in found.values():
        for name, value in options.items():
            options[name] = str(value) if isinstance(value, PurePath) else value
    return found


def _input_file(name: str) -> InputFile:
    path, *facts = fingerprint(name)
    return InputFile(path=path, size=facts[0] if facts else None)


def _largest_box(work: Work) -> tuple[Sheet, Window]:
    """Return the largest of the boxes around what was mapped of each sheet, and that sheet."""
    windows: defaultdict[int, list[Window]] = defaultdict(list)
    sheets: dict[int, Sheet] = {}
    for panel in work.panels:
        windows[id(panel.sheet)].append(panel.shown)
        sheets[id(panel.sheet)] = panel.sheet
    boxes = [(sheets[key], bounds(found)) for key, found in windows.items()]
    return max(boxes, key=lambda found: found[1].pixels)
