"""JSON that others wrote, read within bounds: what is too large, too deep or no number is refused.

Python's own reader takes NaN and Infinity, numbers of any length and names that occur twice, and
deep nesting ends it with RecursionError.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

JSON_BYTES = 64 << 20
"""Well above what a run over 100,000 files notes of them."""
JSON_LEVELS = 32
LONGEST_NUMBER = 100
"""Digits, signs and points; no number that is written with `repr` has half of them."""


def load(path: Path, *, largest_bytes: int = JSON_BYTES) -> Any:
    """Return the value of a JSON file, of which no more than `largest_bytes` are read.

    Raises OSError, and ValueError as `parse`.
    """
    with path.open("rb") as file:
        return parse(file.read(largest_bytes + 1), largest_bytes=largest_bytes)


def parse(text: bytes | str, *, largest_bytes: int = JSON_BYTES) -> Any:
    r"""Return the value of a JSON text, of bytes in UTF-8.

    Raises ValueError with a few words where it is no JSON, or over a bound. Surrogates that the
    text spells out (`\udcff`, as names of files that are not UTF-8 have them) are kept.
    """
    if len(text) > largest_bytes:
        raise ValueError(f"longer than {largest_bytes:,} bytes")
    try:
        value = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_real,
            parse_constant=_no_number,
        )
    except RecursionError as error:
        raise _too_deep() from error
    _check_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _whole(digits: str) -> int:
    _check_length(digits)
    return int(digits)


def _real(digits: str) -> float:
    _check_length(digits)
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is too large a number")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_length(digits: str) -> None:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits):,} digits")


def _check_depth(value: Any) -> None:
    """Raise ValueError where lists and objects lie in one another too deep."""
    level = [value]
    for _ in range(JSON_LEVELS):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"nested deeper than {JSON_LEVELS} levels")
