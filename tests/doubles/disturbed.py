"""Small jobs of every kind, what they make undisturbed, and what is counted of those disturbed."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from doubles.faults import KILLED, Fault
from doubles.field import X, Y, read_map, write
from doubles.tiny_model import write_box_model, write_cross_model

if TYPE_CHECKING:
    from pathlib import Path

    from doubles.zygote import Ended, Zygote

SHARE = float(os.environ.get("FLAIR_SOAK", "0.01"))
"""Share of the cases of `make soak` that are tried; 1 there."""
KINDS = ("plain", "COG", "per-input", "probabilities", "box")
GPUS, GPUS_Z4 = "two GPUs", "two GPUs, Z4"
"""Kinds that run TensorRT on emulated GPUs, the second over real patches."""
COLUMNS = ("cases", "disturbed", "identical", "told", "tracebacks", "litter")
"""Of the table: cases, those that did not end well at once, those with the same bytes after one
--resume at most, those that told of what is made again, and what there must be none of."""


def share_of(cases: int, least: int = 1) -> int:
    """Return how many of the cases of the long form are tried now."""
    return max(least, round(SHARE * cases))


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbed:
    """A job that is run undisturbed once, and then as often as wanted in a place of its own."""

    zygote: Zygote
    kind: str
    folder: Path
    undisturbed: dict[str, bytes]
    calls: int
    """Calls that a fault can meet, about: threads share them out anew each time."""
    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    @property
    def place(self) -> Path:
        """The folder that the maps are put into."""
        return self.folder / "out"

    @property
    def work(self) -> Path:
        """The hidden folder of the run."""
        return self.place / (".flair-run" if self.kind == "per-input" else ".map.tif.flair-run")

    def arguments(self, *options: str) -> list[str]:
        """Return the command line."""
        return _arguments(self.kind, self.folder, self.place, *options)

    def clean(self) -> None:
        """Begin with an empty place."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()

    def run(self, *options: str, fault: Fault | None = None) -> Ended:
        """Run it once."""
        return self.zygote.run(self.arguments(*options), fault)

    def judge(self, name: str, disturbed: Ended) -> Ended:
        """Continue a run that was disturbed; note what is not as it should be.

        `name` says what was done to it.
        """
        resumed = self.run("--resume")
        found = contents(self.place)
        same = found == self.undisturbed
        litter = [each for each in found if each not in self.undisturbed]
        traceback = any("Traceback" in each.said for each in (disturbed, resumed))
        self.counts.update(
            cases=1,
            disturbed=int(disturbed.code != 0),
            identical=int(same and resumed.code == 0),
            told=int(any(line.endswith(" again") for line in resumed.notices)),
            tracebacks=int(traceback),
            litter=int(bool(litter)),
        )
        # Ended in order, or killed; then whole, or complete already.
        ended_well = disturbed.code in (0, -9) or (disturbed.code == 1 and disturbed.is_one_line)
        if not (same and ended_well and resumed.code == 0) or traceback or litter:
            differing = [each for each, made in self.undisturbed.items() if found.get(each) != made]
            self.bad.append(
                f"{name}: {disturbed.code} {disturbed.said.strip()!r}, then {resumed.code} "
                f"{resumed.said.strip()!r}; differing {differing}, left {litter}"
            )
        return resumed


def disturbed(zygote: Zygote, kind: str, folder: Path, rows: int, columns: int = 64) -> Disturbed:
    """Return a job of a kind over so many pixels, after its undisturbed run in another place."""
    sources = folder / "in"
    image = stripes(rows, columns)
    write(sources / "1.tif", image)
    if kind == GPUS:
        write_cross_model(folder).rename(folder / "box2.onnx")
        return prepared(zygote, kind, folder)
    if kind == "per-input":  # beside it, and the first once more at another date
        write(sources / "2.tif", image[:, ::-1], col=columns)
        write(sources / "3.tif", image[:, :, ::-1])
    outputs = ("labels",)
    if kind == "probabilities":
        outputs = ("labels", "confidence", "probabilities")
    write_box_model(folder, "one", "two", outputs=outputs)
    return prepared(zygote, kind, folder)


def prepared(zygote: Zygote, kind: str, folder: Path) -> Disturbed:
    """Return the job whose model and sources lie in a folder, after its undisturbed run."""
    whole = folder / "whole"
    whole.mkdir()
    ended = zygote.run(_arguments(kind, folder, whole), Fault(str(whole), 0, KILLED))
    assert ended.code == 0, ended.said
    for path in whole.glob("*.tif"):
        assert len(np.unique(read_map(path))) > 1, "a map that shows nothing proves nothing"
    made = contents(whole)
    return Disturbed(zygote=zygote, kind=kind, folder=folder, undisturbed=made, calls=ended.calls)


def stripes(rows: int, columns: int) -> np.ndarray:
    """Return uint8 [2, H, W] whose strips pack well and badly in turn."""
    image = np.random.default_rng(rows).integers(0, 256, (2, rows, columns)).astype(np.uint8)
    image[0, (np.arange(rows) // 48) % 2 == 1] = 9
    return image


def _arguments(kind: str, folder: Path, place: Path, *options: str) -> list[str]:
    named: dict[str, list[Any]] = {
        "COG": ["--cog"],
        "per-input": ["--per-input"],
        "box": ["--bbox", f"{X + 1},{Y - 1e4},{X + 9},{Y - 2}"],
    }
    source = folder / "in" if kind in ("per-input", GPUS_Z4) else folder / "in" / "1.tif"
    output = place if kind == "per-input" else place / "map.tif"
    given = ["-m", folder / "box2.onnx", source, output, *named.get(kind, []), *options]
    return [*map(str, given), "--batch", "8"]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder, by its path there; of a folder its mark."""
    return {
        str(path.relative_to(folder)): b"a folder" if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }
