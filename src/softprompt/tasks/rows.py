"""Rows of files, each with its place, good or bad: JSON lines, CSV, TSV (also gzipped) and Parquet.

Text files are read as bytes and split at line feeds alone: other characters that Unicode calls line ends are text.
A bad row says what is wrong with it and reading goes on; a file that breaks off is an error.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from io import BufferedIOBase
from pathlib import Path
from typing import Any, final

from softprompt.errors import DataError, MissingFileError

__all__ = [
    "NOT_UTF8",
    "Row",
    "first_line",
    "json_rows",
    "not_empty",
    "numbered",
    "numbered_lines",
    "read_delimited",
    "read_rows",
    "row_format",
]

LINE_LIMIT_BYTES = 2**26  # a kilobyte that is packed may be a megabyte: what is read must not grow without end
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
csv.field_size_limit(2**31 - 1)  # a field may be a whole document; `_RowLines` bounds it
NOT_UTF8 = "is not valid UTF-8; save the file as UTF-8"


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One row of data.

    Args:
        source: Where it stands, e.g. `train.jsonl:12` (lines and Parquet rows count from 1) or `train:0`.
        columns: Values by column name; empty where the row could not be read.
        problem: Why the row cannot be used; `None` where nothing is known against it.
        always_skipped: Whether a row with a problem is skipped and counted even where bad rows are errors, as the data
            set is known to hold such rows.
    """

    source: str
    columns: Mapping[str, Any]
    problem: str | None = None
    always_skipped: bool = False


def numbered(split: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Rows in memory, with their split and index from 0 as their place."""
    return (Row(f"{split}:{index}", columns) for index, columns in enumerate(rows))


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file, in order; its name says the format: .jsonl, .csv, .tsv (each also with .gz), .parquet.

    CSV is read as RFC 4180 has it. In TSV quotes are text (IANA's text/tab-separated-values). The first line of both
    names the columns. Blank lines are passed over.

    Raises:
        DataError: If the format is unknown, the file is missing, breaks off, or is no file of that format.
    """
    path = Path(path)
    form = row_format(path)
    if form is None:
        raise DataError(
            f"{path} is of no known format: name the file .jsonl, .csv or .tsv (each also with .gz) or .parquet, and "
            "write one row per line, no JSON array."
        )
    yield from READERS[form](existing(path))


def not_empty(path: Path, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows of a file that must have some, good or bad.

    Raises:
        DataError: If there is none.
    """
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError(f"{path} holds no row; copy it again.")


def row_format(path: Path) -> str | None:
    """The ending of a file's name that says how its rows are written, without `.gz`; None if it says nothing."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    form = "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:]).removesuffix(".gz")
    return None if form not in READERS or suffixes[-2:] == [".parquet", ".gz"] else form


def read_delimited(path: Path, *, delimiter: str, quoted: bool, header: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a file of delimited columns.

    Args:
        path: The file.
        delimiter: What stands between two columns.
        quoted: Whether `"` encloses a value that holds delimiters or line ends; else it is text.
        header: Names of the columns, where the file has no first line that names them.

    Raises:
        DataError: If the file is missing or breaks off, its first line names a column twice or not in UTF-8, or a row
            is longer than 64 MiB.
    """
    lines = _RowLines(path)
    reader = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True
    )
    names = list(header) if header is not None else None
    while True:
        source = f"{path}:{reader.line_num + 1}"
        lines.begin(source)
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(source, {}, f"cannot be read ({error}); mend its quotes and line ends")
            continue
        if not values:
            continue
        readable = all(is_utf8(value) for value in values)
        if names is None:
            if not readable or len(set(values)) < len(values):
                problem = "names a column twice; give each its own name" if readable else NOT_UTF8
                raise DataError(f"{source}: the first line {problem}.")
            names = values
        elif not readable:
            yield Row(source, {}, NOT_UTF8)
        elif len(values) != len(names):
            yield Row(source, {}, f"has {len(values)} columns, but {len(names)} were named; mend the row")
        else:
            yield Row(source, dict(zip(names, values, strict=True)))


@final
class _RowLines(Iterator[str]):
    """The lines of a file for a parser whose rows may have several: a quote that stays open may not take them all.

    Bytes that are not UTF-8 pass the parser as lone surrogates, so the row that holds them can be named.
    """

    def __init__(self, path: Path) -> None:
        self._lines = numbered_lines(existing(path))
        self.begin(str(path))

    def begin(self, source: str) -> None:
        """A row begins at this place."""
        self._source, self._bytes = source, 0

    def __next__(self) -> str:
        _, line = next(self._lines)
        self._bytes += len(line)
        if self._bytes > LINE_LIMIT_BYTES:
            raise DataError(f"{self._source}: the row is longer than {LINE_LIMIT_BYTES:,} bytes; mend its quotes.")
        return line.decode(errors="surrogateescape")


def json_rows(lines: Iterable[tuple[int, bytes]], place: str) -> Iterator[Row]:
    """The rows of numbered lines with one JSON object each."""
    for number, line in lines:
        if line.isspace():
            continue
        columns: Mapping[str, Any] = {}
        problem = None
        try:
            columns = json.loads(line.decode())
        except UnicodeDecodeError:
            problem = NOT_UTF8
        except json.JSONDecodeError as error:
            problem = f"is not valid JSON at character {error.pos + 1} ({error.msg}); write one object per line"
        except (ValueError, RecursionError) as error:
            problem = f"is not valid JSON ({error}); write one object per line"
        if not isinstance(columns, dict):
            problem = f"holds a JSON {type(columns).__name__}; write one object per line, with a value for each column"
            columns = {}
        yield Row(f"{place}:{number}", columns, problem)


def read_parquet(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file, read in batches."""
    from datasets import load_dataset

    number = 0
    try:
        rows = load_dataset("parquet", data_files=escape(str(path)), split="train", streaming=True).with_format("arrow")
        for batch in rows.iter(batch_size=1000):
            for index in range(batch.num_rows):
                number += 1
                try:
                    yield Row(f"{path}:{number}", batch.slice(index, 1).to_pylist()[0])
                except UnicodeDecodeError:
                    yield Row(f"{path}:{number}", {}, NOT_UTF8)
    except (OSError, ValueError) as error:  # Arrow's own errors are both
        raise DataError(
            f"{path} breaks off after row {number} or is no Parquet file ({error}); copy it again."
        ) from None


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": lambda path: json_rows(numbered_lines(path), str(path)),
    ".csv": lambda path: read_delimited(path, delimiter=",", quoted=True),
    ".tsv": lambda path: read_delimited(path, delimiter="\t", quoted=False),
    ".parquet": read_parquet,
}


def existing(path: Path) -> Path:
    """The path, if a file is there.

    Raises:
        MissingFileError: If none is.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}; check the path.")
    return path


def first_line(path: Path) -> bytes:
    """The first line without its end or a byte order mark; empty where there is no file (reading it says so)."""
    if not path.is_file():
        return b""
    return next((line.rstrip(b"\r\n") for _, line in numbered_lines(path)), b"")


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, unpacked if it is gzipped, with their numbers from 1; a byte order mark is left out.

    Raises:
        DataError: If the file cannot be opened, its packing is damaged, or a line is longer than 64 MiB.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            while line := file.readline(LINE_LIMIT_BYTES + 1):
                number += 1
                if len(line) > LINE_LIMIT_BYTES:
                    raise DataError(f"{path}:{number}: the line is longer than {LINE_LIMIT_BYTES:,} bytes; divide it.")
                yield number, line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read after line {number} ({error}); copy it again.") from None


def open_bytes(path: Path) -> BufferedIOBase:
    """The file's bytes, unpacked if its name ends in .gz."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb")


def is_utf8(text: str) -> bool:
    """False where bytes that were no UTF-8 are kept as lone surrogates."""
    return text.isascii() or not any("\udc80" <= character <= "\udcff" for character in text)
