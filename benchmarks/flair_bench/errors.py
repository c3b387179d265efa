"""Errors of the benchmarks; each is a FlairError, so one line on stderr and an exit code."""

from __future__ import annotations

from flair_engine.errors import FAILED, FlairError


class DatasetError(FlairError):
    """Images and masks that cannot be scored."""


class ModelError(FlairError):
    """A model that does not fit the measurement."""


class ResultError(FlairError):
    """A result file that cannot be read, or belongs to another machine."""


class MarkerError(FlairError):
    """A text without the places that figures go to."""


class WrongAnswerError(FlairError):
    """Labels beyond tolerance: whatever the speed, the measurement fails."""

    exit_code = FAILED


class RunnerError(FlairError):
    """A measured process that ended badly."""

    exit_code = FAILED
