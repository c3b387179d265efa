"""One part of a territory, mapped: begun, continued or seen to be done, by any process."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from flair_engine.api import Model
from flair_engine.durable import write_whole
from flair_engine.errors import (
    REFUSED,
    BusyError,
    EngineError,
    FlairError,
    InferenceError,
    WriteError,
)
from flair_engine.mapping.journal import unfinished
from flair_engine.mapping.published import sha256_of
from flair_engine.mapping.standing import gdal_sidecars, style_of
from flair_engine.mapping.targets import journal_folder, output_path
from flair_engine.options import Job, Listener, MapOptions
from flair_engine.report import now
from flair_engine.run import run
from flair_engine.territory.claim import POLL_S, Claim
from flair_engine.territory.engine import check_engine
from flair_engine.territory.seeing import Sight
from flair_engine.territory.state import (
    PARTS,
    Failure,
    PartRecord,
    claim_of,
    failure_of,
    map_of,
    read_record,
    record_of,
    write_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from flair_engine.options import OnError
    from flair_engine.report import Report
    from flair_engine.territory.plan_file import JobPart, Plan

T = TypeVar("T")

PAUSES_S = (5.0, 30.0)
"""Seconds before the second and the third try: what other processes take, or a network drive,
comes back."""


class PartError(FlairError):
    """A part that failed in a way nobody has foreseen."""

    exit_code = 1


class Worker:
    """Maps parts of a plan with one model, which is loaded for the first of them.

    `on_error` and `device` are taken instead of the plan's. Use it in a `with`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        model: Model | None = None,
        on_error: OnError | None = None,
        device: str | None = None,
        listener: Listener | None = None,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self.plan = plan
        self.sight = Sight(plan)
        self._read = replace(plan.read, on_error=on_error or plan.read.on_error)
        self._run = replace(plan.run, device=device or plan.run.device)
        self._model, self._own = model, model is None
        self._listener = listener or Listener()
        self._pauses_s = pauses_s
        with suppress(FileExistsError):
            (plan.folder / PARTS).mkdir()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model, where it is the worker's own; the next part loads it again."""
        if self._own and self._model is not None:
            self._model.close()
            self._model = None

    def done(self, part: JobPart) -> PartRecord | None:
        """Return the record of a part that is done, None where it is not."""
        return read_record(self.plan, part, self.sight)

    def run(self, part: JobPart) -> PartRecord:
        """Map a part, or see that it is done; wait where another process is at work on it.

        Tries again after a failure on the way. Raises the FlairError that it ended with, which is
        noted beside the part.
        """
        while (found := _unless_busy(self.run_now, part)) is None:
            time.sleep(POLL_S)
        return found

    def run_now(self, part: JobPart) -> PartRecord:
        """Do as `run`, but raise BusyError where another process is at work on the part."""
        if record := self.done(part):
            return record
        self._loaded()  # what this machine lacks is no failure of the part
        with Claim(claim_of(self.plan, part)) as claim:
            if record := self.done(part):  # meanwhile
                return record
            for tries, pause_s in enumerate(self._pauses_s, 1):
                found = self._tried(part, claim, tries)
                if isinstance(found, PartRecord):
                    return found
                if found.exit_code == REFUSED:
                    raise found
                self._listener.notify(f"{part.id}: {found.what}; tried again in {pause_s:g} s")
                time.sleep(pause_s)
            found = self._tried(part, claim, len(self._pauses_s) + 1)
        if isinstance(found, FlairError):
            raise found
        return found

    def _tried(self, part: JobPart, claim: Claim, tries: int) -> PartRecord | FlairError:
        """Return the record of a part, or the error of this try, which is noted."""
        try:
            return self._attempt(part, claim)
        except (BusyError, EngineError):  # nothing is wrong with the part
            raise
        except Exception as error:  # noqa: BLE001  noted, whatever it is
            failed = unforeseen(error)
        if isinstance(failed, InferenceError):  # a runtime that has failed may do so for ever
            self.close()
        claim.check()
        failure = Failure(reason=str(failed), exit_code=failed.exit_code, tries=tries, at=now())
        write_record(failure_of(self.plan, part), failure)
        return failed

    def _loaded(self) -> Model:
        if self._model is None:
            self._model = Model(self.plan.model, self._run)
        return self._model

    def _attempt(self, part: JobPart, claim: Claim) -> PartRecord:
        plan, model = self.plan, self._loaded()
        self.sight.check(part)
        inputs, excerpt = self.sight.excerpt(part)
        write = MapOptions(
            labels=plan.write.labels,
            bbox=plan.write.bbox,
            aoi=plan.write.aoi,
            aoi_layer=plan.write.aoi_layer,
            resume=True,
        )
        job = Job(
            model=plan.model,
            inputs=inputs,
            output=map_of(plan, part),
            run=plan.run,
            read=self._read,
            write=write,
        )
        _clear(job, self.sight.key(part), model.spec.outputs)
        with model.in_turn() as backend:
            check_engine(plan, backend)
            report = run(job, self._heard(claim), excerpt=excerpt, backend=backend)
            identity = backend.identity
        claim.check()
        return self._publish(part, job, report, identity)

    def _heard(self, claim: Claim) -> Listener:
        """Return what a run tells: how far it is, and what makes the map wrong."""

        def progress(done: int, total: int) -> None:
            claim.check()
            self._listener.progress(done, total)

        return Listener(progress=progress, warn=self._listener.warn, status=self._listener.status)

    def _publish(self, part: JobPart, job: Job, report: Report, identity: str) -> PartRecord:
        """Put the record of a part beside its map, which counts from then on."""
        rasters = [output_path(job.output, name) for name in self._loaded().spec.outputs]
        empty = not report.pixels_by_class
        if empty:
            _remove(rasters)
        record = PartRecord(
            key=self.sight.key(part),
            plan=self.plan.digest,
            state="empty" if empty else "done",
            files={} if empty else {p.name: (p.stat().st_size, sha256_of(p)) for p in rasters},
            inputs={p: f for _, file in self.sight.files(part) for p, f in file.facts.items()},
            engine=identity,
            device=report.device,
            precision=report.precision,
            batch=report.batch,
            pixels_by_class=report.pixels_by_class,
            hectares_by_class=report.hectares_by_class,
            nodata_pixels=report.nodata_pixels,
            inferred_pixels=report.inferred_pixels,
            skipped_blocks=report.skipped_blocks,
            missing_height_pixels=report.missing_height_pixels,
            warnings=report.warnings,
            started=report.started,
            ended=report.ended,
            wall_s=report.wall_s,
        )
        write_record(record_of(self.plan, part), record)
        for note in (failure_of(self.plan, part), _key_note(job)):
            note.unlink(missing_ok=True)
        return record


def run_part(plan: Plan, name: str, *, model: Model | None = None) -> PartRecord:
    """Map one part of a plan, by its id, or see that it is done.

    A `model` that is loaded is used as it is. Raises a FlairError: with exit_code 2 where it would
    be of no use to try again.
    """
    with Worker(plan, model=model) as worker:
        return worker.run(plan.part(name))


def run_parts(
    worker: Worker, parts: Sequence[JobPart]
) -> Iterator[tuple[JobPart, PartRecord | FlairError]]:
    """Map parts in their order; yield each with its record, or with the error it ended with.

    Those that other processes are at work on come last, after those whose process has died: if it
    is the part that ends processes, the others are done by then. One that fails does not stop the
    others.
    """
    busy = []
    for part in sorted(parts, key=lambda part: claim_of(worker.plan, part).exists()):
        found = _or_error(lambda part: _unless_busy(worker.run_now, part), part)
        if found is None:
            busy.append(part)
        else:
            yield part, found
    for part in busy:
        yield part, _or_error(worker.run, part)


def _unless_busy(run_one: Callable[[JobPart], PartRecord], part: JobPart) -> PartRecord | None:
    """Return what a part came to, None where another process is at work on it."""
    try:
        return run_one(part)
    except BusyError:
        return None


def _or_error(run_one: Callable[[JobPart], T], part: JobPart) -> T | FlairError:
    """Return what a part came to, or the error it ended with. Raises EngineError."""
    try:
        return run_one(part)
    except EngineError:
        raise
    except FlairError as error:
        return error


def unforeseen(error: BaseException) -> FlairError:
    """Return an error as it is noted of a part: of one that nobody has foreseen what it says."""
    if isinstance(error, FlairError):
        return error
    said = " ".join(str(error).split())[:500]
    return PartError(f"failed with {type(error).__name__}: {said}", "see where with --debug")


def _key_note(job: Job) -> Path:
    """Return where it stands, while a part is made, what its strips depend on."""
    return job.output.with_name(f".{job.output.name}.key")


def _clear(job: Job, key: str, outputs: Sequence[str]) -> None:
    """Remove what was made of a part of another key, or lost its journal before its record."""
    folder = journal_folder(job)
    note = _key_note(job)
    rasters = [output_path(job.output, name) for name in outputs]
    try:
        same = note.exists() and note.read_text("utf-8") == key
        if not same:
            shutil.rmtree(folder, ignore_errors=True)
            write_whole(note, key.encode())
        if not (same and unfinished(folder)):
            _remove(rasters)
    except OSError as error:
        raise WriteError(
            f"{job.output.parent}: cannot be cleared ({error.strerror})", "check the job's folder"
        ) from error


def _remove(rasters: Sequence[Path]) -> None:
    """Delete rasters with all that stands beside them."""
    for raster in rasters:
        for path in (raster, *gdal_sidecars(raster), style_of(raster)):
            path.unlink(missing_ok=True)
