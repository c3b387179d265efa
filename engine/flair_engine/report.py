"""The report of a run: counts, times, rates, and where the time went."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flair_engine.grid import bounds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flair_engine.grid import Window
    from flair_engine.tally import LandCover
    from flair_engine.work import Work


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The result of one run."""

    started: str
    """First start of the run, ISO 8601."""
    output: str
    model: str
    weights_sha256: str
    engine: str
    device: str
    description: str
    precision: str
    agreement_fp32: float | None
    """Share of labels equal on the first tiles to those of the same file with FP32 in place of what
    the engine was told to compute in; None where that is FP32."""
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
    pixels: int
    """Of the areas that were read; what lies between files far apart is not among them."""
    tiles: int
    """Cores of the area, inferred or not."""
    start_up_s: float
    """Loading the model and opening the raster."""
    wall_s: float
    """From the first read to the published map."""
    busy_s: Mapping[str, float]
    """By stage; stages overlap, so the sum exceeds `wall_s`."""
    pixels_by_class: Mapping[str, int]
    """By class name, classes that occur."""
    hectares_by_class: Mapping[str, float]
    nodata_pixels: int
    blocks_requested: int
    """Blocks decoded, one decoded twice counted twice."""
    blocks: int
    """Blocks of the sources."""
    skipped_blocks: int
    """Blocks that could not be decoded and became nodata on request."""
    missing_height_pixels: int
    notices: tuple[str, ...]
    """What the user was told."""

    @property
    def mpx_per_s(self) -> float:
        """Megapixels of the area per second of `wall_s`."""
        return self.pixels / 1e6 / self.wall_s

    @property
    def km2_per_h(self) -> float:
        """Ground covered per hour at the model's ground sampling distance."""
        return self.mpx_per_s * self.gsd_m**2 * 3600

    @property
    def slowest_stage(self) -> str:
        """The stage that was busy longest."""
        return max(self.busy_s, key=lambda stage: self.busy_s[stage])

    @property
    def closing_line(self) -> str:
        """One line for people."""
        busy = self.busy_s[self.slowest_stage] / self.wall_s
        agreement, exported = "", self.exported_agreement_fp32
        if exported is not None:
            agreement = f"; INT8 gave {exported:.2%} the labels of FP32 at export"
        if self.agreement_fp32 is not None:
            other = "the same file in FP32" if agreement else "FP32"
            agreement += f"; {self.agreement_fp32:.2%} the labels of {other} on the first tiles"
        return (
            f"{self.output}: {self.pixels / 1e6:.2f} Mpx in {self.wall_s:.1f} s, "
            f"{self.mpx_per_s:.2f} Mpx/s, {self.km2_per_h:.1f} km²/h; "
            f"slowest stage: {self.slowest_stage} (busy {busy:.0%}){agreement}"
        )

    def to_json(self) -> str:
        """Return every field and rate as one JSON object."""
        rates = {
            "mpx_per_s": self.mpx_per_s,
            "km2_per_h": self.km2_per_h,
            "slowest_stage": self.slowest_stage,
        }
        return json.dumps({**asdict(self), **rates}, indent=2)


def report_of(
    work: Work,
    found: LandCover,
    *,
    started: str,
    skipped_before: int,
    start_up_s: float,
    wall_s: float,
) -> Report:
    """Return the report of work that is done, telling the user what is missing in the map.

    `skipped_before` are blocks that could not be decoded before the run was resumed.
    """
    skipped = skipped_before + work.opened.skipped_blocks
    difference = work.backend.difference_fp32
    spec, backend, opened, meters = work.spec, work.backend, work.opened, work.meters
    if meters.reading.missing:
        work.listener.notify(f"height is missing on {meters.reading.missing:,} px: counted as 0")
    if difference is not None and difference.leans:
        work.listener.notify(
            f"{difference.fault} beside FP32's on the first tiles, and so may the map: "
            "--precision fp32 makes it exact"
        )
    if skipped:
        work.listener.notify(f"{skipped} unreadable blocks skipped: nodata there")
    if not found.pixels[1:].any():
        work.listener.notify("no pixel of the images is valid: the map holds nodata alone")
    classes = [entry for entry in spec.classes if found.pixels[entry.value]]
    largest = _largest_box(work)
    return Report(
        started=started,
        output=str(work.job.output),
        model=spec.name,
        weights_sha256=spec.weights_sha256,
        engine=backend.engine,
        device=backend.device,
        description=backend.description,
        precision=backend.precision,
        agreement_fp32=difference.share if difference is not None else None,
        lean_fp32=difference.lean if difference is not None else None,
        exported_agreement_fp32=spec.agreement_fp32,
        batch=backend.batch,
        slots=len(backend.slots),
        tile_px=spec.tile_px,
        margin_px=spec.margin_px,
        gsd_m=spec.gsd_m,
        height=largest.height,
        width=largest.width,
        pixels=work.pixels,
        tiles=sum(len(p.cores.rows) * len(p.cores.cols) for p in work.panels),
        start_up_s=start_up_s,
        wall_s=wall_s,
        busy_s={
            "read": meters.read.busy_s,
            **backend.busy_s,
            "write": meters.write.busy_s,
            "assemble": meters.assembled_s,
        },
        pixels_by_class={entry.name: int(found.pixels[entry.value]) for entry in classes},
        hectares_by_class={entry.name: float(found.hectares[entry.value]) for entry in classes},
        nodata_pixels=int(found.pixels[0]),
        blocks_requested=meters.reading.blocks,
        blocks=opened.blocks,
        skipped_blocks=skipped,
        missing_height_pixels=meters.reading.missing,
        notices=tuple(meters.notices),
    )


def _largest_box(work: Work) -> Window:
    """Return the largest of the boxes around what was mapped of each sheet."""
    windows: defaultdict[int, list[Window]] = defaultdict(list)
    for panel in work.panels:
        windows[id(panel.sheet)].append(panel.cores.window)
    return max(map(bounds, windows.values()), key=lambda box: box.pixels)
