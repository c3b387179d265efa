"""One model on several GPUs, whose slots are fed from one reader.

Where the GPUs are of one model and compute the same, a plan of the same bytes, the map is that of
one of them. Otherwise it depends on which computes what, so labels are compared on some tiles.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from flair_engine.agreement import TILES, LabelDifference, difference_of, noise_tiles
from flair_engine.inference.stream import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from flair_engine.inference.base import Backend, DeviceUse, Request, Slot


class SeveralBackend:
    """Backends of one model on several GPUs, as one; `differences` are from the first's labels.

    A slot is one of any of them; those of one GPU take turns with those of the others.
    """

    def __init__(
        self, backends: Sequence[Backend], differences: Sequence[LabelDifference | None]
    ) -> None:
        first = backends[0]
        self._backends = backends
        self._differences = differences
        self.engine = first.engine
        self.device = ",".join(backend.device for backend in backends)
        self.spec = first.spec
        self.precision = first.precision
        self.batch = first.batch
        self.identity = "; ".join(dict.fromkeys(backend.identity for backend in backends))
        self.description = "; ".join(backend.description for backend in backends)
        self.measured_fp32 = first.measured_fp32

    @property
    def slots(self) -> Sequence[Slot]:
        """Those of all GPUs, in turn; see Backend."""
        in_turn = zip_longest(*(backend.slots for backend in self._backends))
        return [slot for slot in chain(*in_turn) if slot is not None]

    @property
    def busy_s(self) -> Mapping[str, float]:
        """Seconds of each stage on the GPU that spent most of them on it."""
        each = [backend.busy_s for backend in self._backends]
        return {stage: max(busy_s[stage] for busy_s in each) for stage in each[0]}

    @property
    def difference_fp32(self) -> LabelDifference | None:
        """Labels that differ from FP32's, of the GPU of which most do."""
        found = [b.difference_fp32 for b in self._backends if b.difference_fp32 is not None]
        return min(found, key=lambda difference: difference.share, default=None)

    @property
    def devices(self) -> Sequence[DeviceUse]:
        """What each GPU has done so far."""
        return [
            replace(use, agreement_first=difference.share if difference is not None else None)
            for backend, difference in zip(self._backends, self._differences, strict=True)
            for use in backend.devices
        ]

    def forget_busy(self) -> None:
        """Count the busy seconds from here."""
        for backend in self._backends:
            backend.forget_busy()

    def close(self) -> None:
        """Wait for work in flight and free everything; see Backend."""
        _close(self._backends)


def open_several(
    open_one: Callable[[Request], Backend], request: Request, devices: Sequence[str]
) -> Backend:
    """Load the model on each of some devices, by one name as `open_one` does.

    Raises EngineError, where one of them cannot be used too.
    """
    backends: list[Backend] = []
    try:
        for device in devices:
            backends.append(open_one(replace(request, device=device)))  # noqa: PERF401  closed below
        if len(backends) == 1:
            return backends[0]
        return SeveralBackend(backends, _differences(backends, request))
    except BaseException:
        _close(backends)
        raise


def _close(backends: Sequence[Backend]) -> None:
    """Close all, those too that come after one that fails at it."""
    with ExitStack() as stack:
        for backend in backends:
            stack.callback(backend.close)


def _differences(backends: Sequence[Backend], request: Request) -> Sequence[LabelDifference | None]:
    """Compare the labels of each with those of the first where they may differ, and tell."""
    first = backends[0]
    if all(backend.identity == first.identity for backend in backends):
        return [None] * len(backends)
    tiles = (request.samples(TILES) if request.samples else ()) or noise_tiles(request.spec)
    reference = _labels(first, tiles)
    found: list[LabelDifference | None] = []
    for backend in backends:
        if backend.identity == first.identity:
            found.append(None)
            continue
        difference = sum(map(difference_of, reference, _labels(backend, tiles)), LabelDifference())
        found.append(difference)
        request.notify(
            f"{backend.device} gives {difference.share:.2%} the labels of {first.device} on "
            f"{len(tiles)} tiles: the map depends on which of them computes what"
        )
    return found


def _labels(backend: Backend, tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the labels of each tile, uint8 [C, C]."""
    found = [outputs["labels"].copy() for _, outputs in stream(enumerate(tiles), backend.slots)]
    backend.forget_busy()
    return found
