"""Files that a part sees: what is opened for it, and what its map depends on."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flair_engine import provenance
from flair_engine.errors import ManifestError, SourceError
from flair_engine.grid import Window
from flair_engine.model_file import model_sha256
from flair_engine.options import Inputs
from flair_engine.reading.frame import Excerpt
from flair_engine.reading.warp import WARP_PX
from flair_engine.territory.plan_file import edges, frame_fields
from flair_engine.window_index import WindowIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flair_engine.territory.plan_file import Facts, JobPart, Plan, PlannedFile

KERNEL_PX = 4
"""Pixels of a warped file, on each side of a pixel, that it may be interpolated from, and one."""


class Sight:
    """What the parts of a plan see."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        tile_px = plan.settings["geometry"][0]
        self._index = {p: WindowIndex(_reaching(files, tile_px)) for p, files in plan.files.items()}
        self._common = json.dumps(_common(plan), sort_keys=True)

    def numbers(self, part: JobPart) -> dict[str, tuple[int, ...]]:
        """Return the numbers of the files that the tiles of a part see, by product.

        Of a product that it sees nothing of the first file stands for all: it is none the less
        given.
        """
        return {p: tuple(index.meeting(part.window)) or (0,) for p, index in self._index.items()}

    def files(self, part: JobPart) -> Iterator[tuple[str, PlannedFile]]:
        """Yield product and file of what a part sees."""
        for product, numbers in self.numbers(part).items():
            for number in numbers:
                yield product, self._plan.files[product][number]

    def excerpt(self, part: JobPart) -> tuple[Inputs, Excerpt]:
        """Return the files that are opened for a part, and what they are read on."""
        names: defaultdict[str, list[str]] = defaultdict(list)
        for product, file in self.files(part):
            names[product].append(file.name)
        inputs = Inputs(**{product: tuple(found) for product, found in names.items()})
        numbers = self.numbers(part)
        return inputs, Excerpt(frame=self._plan.frame, window=part.window, numbers=numbers)

    def key(self, part: JobPart) -> str:
        """Return what changes with anything that the map of a part is made of."""
        seen = [
            [product, file.name, edges(file.window), file.facts]
            for product, file in self.files(part)
        ]
        own = json.dumps([edges(part.window), seen], sort_keys=True)
        return hashlib.sha256((self._common + own).encode()).hexdigest()

    def check(self, part: JobPart) -> None:
        """Raise SourceError where a file that a part sees is not what it was when it was planned.

        Raises ManifestError where the model is not.
        """
        plan = self._plan
        for facts in (*(file.facts for _, file in self.files(part)), plan.aoi_facts):
            _check_facts(facts)
        # Copied to another machine its time is another; its bytes are looked at then.
        if (
            provenance.fingerprint(str(plan.model))[1:] != plan.model_facts
            and _digest(plan) != plan.model_sha256
        ):
            raise ManifestError(
                f"{plan.model}: is not the model that the job was planned with",
                "put that back, or plan in another folder",
            )


def _reaching(files: Sequence[PlannedFile], tile_px: int) -> list[Window]:
    """Return where files can be seen from.

    A tile's width around a part is what tiles reach beyond a core, and what is mirrored; what is
    warped is warped in whole blocks.
    """
    warped = max(WARP_PX)
    reach = [tile_px + (warped + KERNEL_PX * f.warped_px if f.warped_px else 0) for f in files]
    return [
        Window(
            top=file.window.top - px,
            left=file.window.left - px,
            height=file.window.height + 2 * px,
            width=file.window.width + 2 * px,
        )
        for file, px in zip(files, reach, strict=True)
    ]


def _common(plan: Plan) -> dict[str, Any]:
    """Return what the maps of all parts depend on."""
    run = plan.run
    return {
        "version": plan.version,
        "model": plan.model_sha256,
        "geometry": plan.settings["geometry"][:2],
        "engine": asdict(plan.engine) if plan.engine else None,
        "run": [
            run.engine,
            run.device,
            run.precision,
            run.batch,
            run.threads,
            run.tactic_sources,
            run.plan_sha256,
        ],
        "reading": plan.settings["reading"],
        "writing": plan.settings["writing"],
        "aoi": [*plan.aoi_facts.values()],
        "frame": frame_fields(plan.frame),
    }


def _digest(plan: Plan) -> str | None:
    try:
        return model_sha256(plan.model)
    except OSError:
        return None


def _check_facts(facts: Facts) -> None:
    now: Mapping[str, list[int]] = provenance.sources(facts)
    for path, before in facts.items():
        if now.get(path) != before:
            found = "is gone" if path not in now or not now[path] else "has changed"
            raise SourceError(
                f"{path}: {found} since the job was planned",
                "put it back as it was, or plan in another folder",
            )
