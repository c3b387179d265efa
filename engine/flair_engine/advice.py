"""The sentence of a report that says which stage is the wall, and what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WALL = 0.85
"""Share of a run that a stage has to be busy for to be what all others wait for. The first batch
waits for the first strip, and the last rows of the map for the last batch."""

READING_SLOW = (
    "use more --threads where CPUs are idle, or files that decode faster: tiled GeoTIFF with ZSTD "
    "or LZW instead of JPEG 2000"
)
WRITING = "use a faster disk, fewer outputs, or a lighter compression with --co"


def advice_of(
    wall_s: float, busy_s: Mapping[str, float], *, batch: int, slots: int, threads: int | None
) -> str:
    """Return which stage the others waited for, and what to change, in one sentence.

    `busy_s` is by stage, of several GPUs that of the busiest.
    """
    stage = max(busy_s, key=lambda name: busy_s[name])
    share = busy_s[stage] / wall_s
    if share < WALL:
        return (
            f"No stage is the wall: {stage} was busy longest, {share:.0%} of the run, and they "
            f"waited for one another: try --slots {slots + 1}, a larger --memory, or expect it of "
            "a run that short."
        )
    remedies = {
        "read": f"{READING_SLOW} (now {threads or 'every CPU'})",
        "copy-in": "use a GPU with a faster link",
        "compute": f"try --batch {2 * batch}, or more GPUs with --device cuda:all",
        "copy-out": "leave out outputs that nobody needs, or use a GPU with a faster link",
        "infer": "use a GPU, or on a CPU --precision bf16 or an INT8 file",
        "compare": "the comparison with FP32 is kept for the next run",
        "write": WRITING,
        "assemble": WRITING,
    }
    return (
        f"{STAGES_SAID[stage]} is the wall, busy {share:.0%} of the run"
        f"{_others(wall_s, busy_s, stage)}: {remedies[stage]}."
    )


STAGES_SAID = {
    "read": "Reading",
    "copy-in": "Copying to the GPU",
    "compute": "The GPU",
    "copy-out": "Copying from the GPU",
    "infer": "Inference on the CPU",
    "compare": "Comparing with FP32",
    "write": "Storing strips",
    "assemble": "Writing maps",
}
"""Of stages, for people."""


def _others(wall_s: float, busy_s: Mapping[str, float], stage: str) -> str:
    """Say how busy reading and the network were, where they are not the wall."""
    shown = [name for name in ("read", "compute", "infer") if name in busy_s and name != stage]
    said = ", ".join(f"{STAGES_SAID[name]} {busy_s[name] / wall_s:.0%}" for name in shown)
    return f" ({said})" if said else ""
