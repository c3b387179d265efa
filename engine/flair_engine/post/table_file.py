"""Tables as CSV or Parquet."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from flair_engine.errors import WriteError
from flair_engine.post.extras import needed
from flair_engine.post.place import RUN_AGAIN
from flair_engine.post.vector_file import MARK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TABLE_SUFFIXES = (".csv", ".parquet")
DECIMALS = 10
"""Of hectares in CSV: a square millimetre, so that sums of many zones are those of the map."""
OUR_COLUMNS = ({"zone_ha", "mapped_ha", "nodata_ha"}, {"old_class", "new_class", "hectares"})
"""Columns that tell our tables from others."""


def write_table(path: Path, columns: Mapping[str, Sequence[Any]], tags: Mapping[str, str]) -> None:
    """Write columns of one length. Raises WriteError, and SourceError without pyarrow."""
    try:
        if path.suffix.lower() == ".parquet":
            arrow, parquet = needed("pyarrow"), needed("pyarrow.parquet")
            table = arrow.table({name: list(values) for name, values in columns.items()})
            parquet.write_table(table.replace_schema_metadata({MARK: json.dumps(dict(tags))}), path)
            return
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            for row in zip(*columns.values(), strict=True):
                writer.writerow([_text(value) for value in row])
    except OSError as error:
        raise WriteError(
            f"{path.name}: cannot be written ({error.strerror or error})", RUN_AGAIN
        ) from error


def is_our_table(path: Path) -> bool:
    """Return whether a table of flair-post stands at `path`."""
    try:
        if path.suffix.lower() == ".parquet":
            return MARK in (needed("pyarrow.parquet").read_metadata(path).metadata or {})
        with path.open(encoding="utf-8", newline="") as file:
            names = set(next(csv.reader(file), []))
    except Exception:  # noqa: BLE001  whatever libraries say of it
        return False
    return any(ours <= names for ours in OUR_COLUMNS)


def _text(value: Any) -> Any:
    return f"{value:.{DECIMALS}f}" if isinstance(value, float) else value
