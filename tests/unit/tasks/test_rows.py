"""Rows of files: each format good and bad, with the file and the line of what is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import DataError
from softprompt.tasks import read_rows
from softprompt.tasks.rows import read_delimited

ODD = "a\u0085b\u2028c\u2029d\x0be\x0c \u00e9\U0001f600"
ROWS = [{"text": ODD, "label": "0"}, {"text": 'x, "y"', "label": "1"}]


def write(path, content: bytes):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(path) -> list[tuple[int, dict, str | None]]:
    """Line, columns and problem of each row."""
    return [(int(row.source.removeprefix(f"{path}:")), dict(row.columns), row.problem) for row in read_rows(path)]


def json_lines(rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def comma_separated(rows) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def tab_separated(rows) -> bytes:
    return "".join("\t".join(line) + "\n" for line in [list(rows[0]), *(row.values() for row in rows)]).encode()


@pytest.mark.parametrize(
    ("name", "encode", "first"),
    [("a.jsonl", json_lines, 1), ("a.csv", comma_separated, 2), ("A.TSV", tab_separated, 2)],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_comes_back_exactly(tmp_path, name, encode, first, ending, mark):
    path = write(tmp_path / (name + ending), mark + encode(ROWS))
    assert read(path) == [(first, ROWS[0], None), (first + 1, ROWS[1], None)]


def test_the_last_line_may_lack_its_end_and_blank_lines_are_passed_over(tmp_path):
    assert [line for line, *_ in read(write(tmp_path / "a.jsonl", b'{"a": 1}\n\n \n{"a": 2}'))] == [1, 4]
    assert [line for line, *_ in read(write(tmp_path / "a.csv", b"a,b\r\n1,2\r\n\r\n3,4"))] == [2, 4]
    assert [line for line, *_ in read(write(tmp_path / "a.tsv", b"a\tb\r\n1\t2\r\n\r\n3\t4"))] == [2, 4]


@given(rows=st.lists(st.fixed_dictionaries({"text": st.text(st.characters(exclude_categories=["Cs"]))}), min_size=1))
def test_json_lines_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    path.write_bytes(json_lines(rows))
    assert [columns for _, columns, _ in read(path)] == rows


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"a": "\xe9"}', "is not valid UTF-8"),
        (b'{"a": x}', "is not valid JSON at character 7 .*one object per line"),
        (b'{"a": 1} {"a": 2}', "is not valid JSON at character 10"),
        (b"[1, 2]", "holds a JSON list; write one object per line"),
        (b"null", "holds a JSON NoneType"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
    ],
)
def test_a_bad_json_line_is_named_and_reading_goes_on(tmp_path, line, problem):
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    rows = list(read_rows(path))
    assert [row.source for row in rows] == [f"{path}:{line}" for line in (1, 2, 3)]
    assert [row.columns for row in rows] == [{"a": 1}, {}, {"a": 3}]
    assert [row.problem is None for row in rows] == [True, False, True]
    assert re.search(problem, rows[1].problem)


def test_a_quoted_value_may_span_lines_and_the_next_row_has_its_true_line(tmp_path):
    path = write(tmp_path / "a.csv", b'a,b\n"1\r\nx",2\n3\n')
    assert read(path)[0] == (2, {"a": "1\r\nx", "b": "2"}, None)
    assert read(path)[1][0] == 4


def test_quotes_are_text_in_tsv(tmp_path):
    path = write(tmp_path / "a.tsv", b'a\tb\n"x\ty"\n')
    assert read(path) == [(2, {"a": '"x', "b": 'y"'}, None)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\xe9,1", "is not valid UTF-8"),
        (b"1", "has 1 columns, but 2 were named"),
        (b"1,2,3", "has 3 columns, but 2 were named"),
        (b'"1"x,2', "cannot be read .*mend its quotes and line ends"),
        (b"1\rx,2", "cannot be read"),
    ],
)
def test_a_bad_csv_line_is_named_and_reading_goes_on(tmp_path, line, problem):
    path = write(tmp_path / "a.csv", b"a,b\n1,2\n" + line + b"\n5,6\n")
    rows = list(read_rows(path))
    assert [row.source for row in rows] == [f"{path}:{line}" for line in (2, 3, 4)]
    assert [row.columns for row in rows] == [{"a": "1", "b": "2"}, {}, {"a": "5", "b": "6"}]
    assert re.search(problem, rows[1].problem)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_field_may_be_a_long_document(tmp_path, name):
    """Python's csv module stops at 131,072 characters, and the row was called bad."""
    text, delimiter = "x" * 200_000, "," if name == "a.csv" else "\t"
    path = write(tmp_path / name, f"a{delimiter}b\n{text}{delimiter}2\n".encode())
    assert read(path) == [(2, {"a": text, "b": "2"}, None)]


def test_a_quoted_row_without_end_is_refused(tmp_path, monkeypatch):
    """A packed megabyte of lines behind a quote is gigabytes, and all of them were one value."""
    monkeypatch.setattr("softprompt.tasks.rows.LINE_LIMIT_BYTES", 2**12)
    path = write(tmp_path / "a.csv.gz", b'text,label\nfine,1\n"never closed\n' + b"x\n" * 2**16)
    seen = []
    with pytest.raises(DataError, match=r"a\.csv\.gz:3: the row is longer than 4,096 bytes; mend its quotes"):
        seen.extend(row.columns for row in read_rows(path))
    assert seen == [{"text": "fine", "label": "1"}]
    whole = write(tmp_path / "whole.csv", b"text,label\n" + b"fine,1\n" * 2**10)
    assert len(list(read_rows(whole))) == 2**10


def test_a_quote_that_is_never_closed_is_named_by_its_first_line(tmp_path):
    path = write(tmp_path / "a.csv", b'a,b\n1,2\n"3,4\n5,6\n')
    (line, _, problem) = read(path)[-1]
    assert line == 3
    assert "unexpected end of data" in problem


@pytest.mark.parametrize(
    ("header", "message"),
    [(b"a,a\n1,2\n", "a.csv:1: the first line names a column twice"), (b"\xff\xfea,b\n", "a.csv:1: .*valid UTF-8")],
)
def test_a_bad_header_is_an_error(tmp_path, header, message):
    path = write(tmp_path / "a.csv", header)
    with pytest.raises(DataError, match=message):
        list(read_rows(path))


def test_a_file_without_a_header_is_read_with_given_names(tmp_path):
    path = write(tmp_path / "a.tsv", b"x\t1\n")
    (row,) = read_delimited(path, delimiter="\t", quoted=False, header=("s", "y"))
    assert (row.source, row.columns) == (f"{path}:1", {"s": "x", "y": "1"})


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_a_truncated_or_foreign_gzip_file_is_an_error(tmp_path, name):
    whole = gzip.compress(b"".join(b'{"a": %d}\n' % number for number in range(5000)))
    for content in (whole[:-20], whole[: len(whole) // 2], b"plain", whole[:100] + b"xxxx" + whole[104:]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} cannot be read after line .*copy it again"):
            list(read_rows(tmp_path / name))


@pytest.mark.parametrize("name", ["a.json", "a.txt", "a", "a.gz", "a.parquet.gz"])
def test_an_unknown_format_is_an_error(tmp_path, name):
    path = write(tmp_path / name, b"")
    with pytest.raises(DataError, match=r"of no known format: name the file .jsonl"):
        list(read_rows(path))


def test_a_missing_file_is_an_error(tmp_path):
    for path in (tmp_path / "no.jsonl", tmp_path / "no.parquet"):
        with pytest.raises(DataError, match=r"There is no file .*check the path"):
            list(read_rows(path))


def test_parquet(tmp_path):
    path = tmp_path / "odd [1] name*.parquet"
    rows = [{"text": ODD, "n": index, "refs": ["a", "b"]} for index in range(2500)]
    datasets.Dataset.from_list(rows).to_parquet(path)
    assert read(path) == [(index + 1, row, None) for index, row in enumerate(rows)]


def test_a_parquet_row_that_is_not_utf8_is_named_and_reading_goes_on(tmp_path):
    path = tmp_path / "a.parquet"
    # Parquet does not check what it is told is text, and so short a text stands in the file as it is.
    datasets.Dataset.from_dict({"a": ["one", "tw\u00f6", "three"]}).to_parquet(path)
    content = path.read_bytes()
    assert "tw\u00f6".encode() in content
    path.write_bytes(content.replace("tw\u00f6".encode(), b"tw\xff\xff"))
    assert [(line, problem) for line, _, problem in read(path)] == [
        (1, None),
        (2, "is not valid UTF-8; save the file as UTF-8"),
        (3, None),
    ]


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing of the kind PAR1", b"plain"])
def test_a_foreign_parquet_file_is_an_error(tmp_path, content):
    path = write(tmp_path / "a.parquet", content)
    with pytest.raises(DataError, match=r"a.parquet breaks off after row 0 or is no Parquet file"):
        list(read_rows(path))


def test_a_truncated_parquet_file_is_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict({"a": list(range(1000))}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="no Parquet file"):
        list(read_rows(path))
