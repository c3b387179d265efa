"""OpenVINO in bf16 that nobody has asked for: only where its labels are nearly those of FP32.

That is looked up where it is kept, else measured on tiles of the raster before the first of them
is labelled, once for a model and a CPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flair_engine.errors import DisagreementError, EngineError, InferenceError, ReadError
from flair_engine.inference import kept_agreement
from flair_engine.inference.fp32_check import COMPARED_PIXELS
from flair_engine.inference.open_vino import (
    OpenVinoBackend,
    agreement_key,
    check_bf16,
    import_openvino,
)
from flair_engine.inference.stream import stream
from flair_engine.tolerances import UNASKED_EQUAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from flair_engine.inference.base import Request
    from flair_engine.inference.kept_agreement import MeasuredAgreement

CANDIDATES = 4
"""Tiles that are looked at for each that is compared, as some are void."""


def open_judged_bf16(request: Request) -> OpenVinoBackend:
    """Load the model in bf16. Raises EngineError where the CPU has none or it cannot be judged.

    DisagreementError where it differs too much from FP32.
    """
    if request.samples is None:
        raise EngineError(
            "there is no image to compare bf16 with FP32 on", "ask for it with --precision bf16"
        )
    core = import_openvino().Core()
    check_bf16(core)
    request = replace(request, precision="bf16")
    known = kept_agreement.find(request.plan_cache, agreement_key(request, core))
    if known is not None:
        _check(known)
        return OpenVinoBackend(request)
    tiles = _tiles(request)  # before anything is compiled in vain
    backend = OpenVinoBackend(replace(request, wait=True))
    try:
        _check(_compared(backend, tiles, request))
    except (EngineError, InferenceError):
        backend.close()
        raise
    return backend


def _compared(
    backend: OpenVinoBackend, tiles: Sequence[np.ndarray], request: Request
) -> MeasuredAgreement:
    """Compare bf16 with FP32 on tiles of the raster, in the backend's own slots."""
    request.status(f"comparing bf16 with FP32 on {len(tiles)} tiles")
    for _ in stream(enumerate(tiles), backend.slots):
        pass  # the slots compare
    backend.forget_busy()
    assert backend.agreement is not None, "tiles that show something are compared"
    return backend.agreement


def _tiles(request: Request) -> Sequence[np.ndarray]:
    """Return as many tiles as are compared. Raises EngineError where there are hardly more."""
    assert request.samples is not None
    wanted = -(-COMPARED_PIXELS // request.spec.core_px**2)
    try:
        found = [tile for tile in request.samples(CANDIDATES * wanted) if tile.any()]
    except ReadError as error:  # the run will come to it, and keep what it has done by then
        raise EngineError(
            f"tiles to compare bf16 with FP32 on cannot be read ({error.what})",
            "ask for it with --precision bf16",
        ) from error
    if len(found) <= wanted:
        raise EngineError(
            "to compare bf16 with FP32 on images as small takes as long as FP32 throughout",
            "ask for it with --precision bf16",
        )
    return found[:: len(found) // wanted][:wanted]


def _check(agreement: MeasuredAgreement) -> None:
    """Raise DisagreementError where too few labels are those of FP32, or the others lean."""
    found = agreement.difference
    if found.share < UNASKED_EQUAL or found.leans:
        fault = found.fault or f"at least {UNASKED_EQUAL:.1%} must be"
        raise DisagreementError(
            f"{found.share:.2%} of its labels are FP32's ({agreement.measured[:10]}), {fault}",
            "ask for it with --precision bf16",
        )
