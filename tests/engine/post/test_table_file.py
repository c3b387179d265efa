import csv

import pyarrow.parquet
import pytest

from flair_engine.errors import WriteError
from flair_engine.post.table_file import is_our_table, write_table

COLUMNS = {
    "old_class": ["a,b", "é"],
    "new_class": ["x", "y"],
    "hectares": [1.0, 0.000000014],
    "pixels": [3, 4],
}


def test_csv_is_read_by_spreadsheets(tmp_path):
    path = tmp_path / "a.csv"
    write_table(path, COLUMNS, {"FLAIR_MODEL": "tiny"})
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == {"old_class": "a,b", "new_class": "x", "hectares": "1.0000000000",
                       "pixels": "3"}  # fmt: skip
    assert rows[1]["old_class"] == "é"
    assert float(rows[1]["hectares"]) == 1.4e-8
    assert is_our_table(path)


def test_parquet_holds_numbers_whole(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, COLUMNS, {"FLAIR_MODEL": "tiny"})
    assert pyarrow.parquet.read_table(path).to_pydict() == COLUMNS
    assert is_our_table(path)


def test_others_are_not_ours(tmp_path):
    (tmp_path / "a.csv").write_text("insee,hectares\n")
    (tmp_path / "a.parquet").write_bytes(b"x")
    assert not is_our_table(tmp_path / "a.csv")
    assert not is_our_table(tmp_path / "a.parquet")
    assert not is_our_table(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_place_that_cannot_be_written(tmp_path, name):
    with pytest.raises(WriteError, match=r"a.\w+: cannot be written .*: check the free space"):
        write_table(tmp_path / "nowhere" / name, COLUMNS, {})
