"""Unfinished and finished runs taken up again: what of them still holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_engine.contents import SeenFiles, is_other
from flair_engine.errors import CompleteError, OutputError, ReadError
from flair_engine.mapping.journal import clear_finished
from flair_engine.mapping.standing import RUN_TAG, map_tags, stands
from flair_engine.mapping.targets import journal_folder, output_path, wanted_beside
from flair_engine.provenance import fingerprint, run_id, sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flair_engine.mapping.journal import Journal
    from flair_engine.work import Work


def check_complete(work: Work) -> None:
    """Raise CompleteError where every map of the work is there, and nothing newer to make it of.

    Raises OutputError where a map is there that is not of this work.
    """
    maps = [
        output_path(each.target.path, name) for each in work.targets for name in work.spec.outputs
    ]
    there = [path for path in maps if stands(path)]
    wanted = run_id(work)
    for path in there:
        if map_tags(path).get(RUN_TAG) != wanted:
            raise OutputError(
                f"{path}: exists already, of a run with other settings, inputs or engine",
                "use --overwrite, or another name",
            )
        if newer := _newer(work, path.stat().st_mtime_ns):
            raise OutputError(
                f"{path}: exists already, and {newer} has changed since", "use --overwrite"
            )
    if there == maps:
        for each in work.targets:
            if lacking := [p for p in wanted_beside(each.target.path, work.job) if not stands(p)]:
                raise OutputError(
                    f"{lacking[0]}: is not there, though its map is complete", "use --overwrite"
                )
        clear_finished(journal_folder(work.job), work.listener.notify)
        raise CompleteError(f"{work.job.output}: is complete", "nothing is left to do")


def _newer(work: Work, made_ns: int) -> str | None:
    """Return a file that was changed after a time."""
    for name, facts in sources(work.opened.files).items():
        if facts and facts[1] > made_ns:
            return name
    return None


def drop_stale(work: Work, journal: Journal) -> None:
    """Take back the finished strips that were made of files that have changed since.

    Tells of them, and of what was spoilt on disk.
    """
    if journal.spoilt:
        work.listener.notify(
            "the journal of the unfinished run was spoilt in part: "
            f"{len(journal.finished(work.spec.outputs))} finished strips are kept, what else there "
            "was is made again"
        )
    if not journal.changed:
        return
    others = []
    for name in journal.changed:
        work.listener.status(f"comparing {name} with what it was")
        others += [name] if is_other(name, journal) else []
    if others:
        finished = journal.finished(work.spec.outputs)
        stale = _seen_by(work, finished, set(others))
        journal.drop(stale)
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        work.listener.notify(
            f"{others[0]}{more}: changed since the run began, "
            f"{len(stale)} of {len(finished)} finished strips are made again"
        )
    journal.renew(others)


def _seen_by(
    work: Work, strips: Iterable[tuple[int, int]], changed: set[str]
) -> list[tuple[int, int]]:
    """Return the strips, by (panel, i), whose tiles reach a file that has changed."""
    files = [file for file in work.opened.places if fingerprint(file)[0] in changed]
    seen = SeenFiles(work, files)
    return [(panel, i) for panel, i in strips if seen.of(work.panels[panel], i)]


def check_unchanged(work: Work, before: Mapping[str, object]) -> None:
    """Raise ReadError where a file is not what it was when the run began."""
    now = sources(work.opened.files)
    if changed := [name for name, facts in before.items() if now.get(name) != facts]:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ReadError(
            f"{changed[0]}{more}: changed while it was read",
            "continue with --resume, which makes again what was made of it",
        )
