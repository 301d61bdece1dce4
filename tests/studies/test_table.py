"""The results table outlives kills and never holds a run twice."""

from __future__ import annotations

import json

import pytest

from softprompt.errors import DataError
from softprompt.studies import ResultsTable


def test_rows_come_back_in_order(tmp_path):
    table = ResultsTable(tmp_path / "new" / "results.jsonl")
    for key in "cab":
        table.append({"key": key, "score": 1.5})
    again = ResultsTable(table.path)
    assert [row["key"] for row in again] == ["c", "a", "b"]
    assert len(again) == 3
    assert "a" in again
    assert "d" not in again


def test_a_row_that_was_cut_short_is_taken_off(tmp_path):
    table = ResultsTable(tmp_path / "results.jsonl")
    table.append({"key": "a"})
    whole = table.path.read_bytes()
    table.path.write_bytes(whole + b'{"key": "b", "sco')
    again = ResultsTable(table.path)
    assert [row["key"] for row in again] == ["a"]
    again.append({"key": "b"})
    assert [json.loads(line)["key"] for line in table.path.read_text().splitlines()] == ["a", "b"]
    table.path.write_bytes(b'{"key": "a"')
    assert len(ResultsTable(table.path)) == 0
    assert table.path.read_bytes() == b'{"key": "a"', "another process may be writing it"


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"key": "a"}\n{"score": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        ResultsTable(path)


def test_no_run_is_recorded_twice(tmp_path):
    table = ResultsTable(tmp_path / "results.jsonl")
    table.append({"key": "a"})
    with pytest.raises(DataError, match="already"):
        table.append({"key": "a"})
    with pytest.raises(ValueError, match="JSON"):
        table.append({"key": "b", "score": float("nan")})
    assert len(ResultsTable(table.path)) == 1
