"""The documents of text files, streamed through `datasets`: nothing is kept on disk, and nothing asks a network."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from glob import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

from softprompt.errors import DataError, MissingDependencyError

__all__ = ["read_documents"]

_COMPRESSIONS = {".gz", ".xz", ".zst"}
_LINE_BREAK = re.compile(r"[ \t]*<br ?/?>[ \t]*")
_ROWS_PER_BATCH = 512
_BYTES_PER_READ = 1 << 16


def read_documents(path: str | Path) -> Iterator[str]:
    """Stream the documents of a file: the field `text` of each row, or a text file as a whole.

    Rows are the lines of a `.jsonl` file, or those of a `.csv` or `.parquet` file; every other file is text. All but
    `.parquet` may be compressed (`.gz`, `.xz`, `.zst`). HTML line breaks and entities, which web corpora leave behind,
    become what they stand for; empty documents are left out.

    Raises:
        DataError: If the file is missing, is cut off, is not UTF-8, or a row has no `text`.
        MissingDependencyError: If a `.zst` file is to be read without the package `zstandard`.
    """
    path, row = Path(path), 0
    if not path.is_file():
        raise DataError(f"No text file at {path}; correct the path.")
    if path.suffix == ".zst" and importlib.util.find_spec("zstandard") is None:
        raise MissingDependencyError(f"{path} needs zstandard: pip install zstandard")
    kind = path.with_suffix("").suffix if path.suffix in _COMPRESSIONS else path.suffix
    try:
        if path.suffix == ".zst":
            _check_whole(path)
        for value in _READERS.get(kind, _whole_text)(path):
            row += 1
            if not isinstance(value, str):
                raise DataError(f'{path}, row {row}: expected a string "text" (JSON: a mapping); mend the row.')
            if document := html.unescape(_LINE_BREAK.sub("\n", value)).strip():
                yield document
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, after row {row}: not UTF-8 ({error.reason}); convert the file.") from None
    except Exception as error:  # every format and compression has errors of its own, some of them bare
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}, after row {row}: cannot be read ({reason}); mend it or copy it again.") from None


def _check_whole(path: Path) -> None:
    """Read a `.zst` file to its end: its stream, unlike those of the other formats, ends silently where it is cut off.

    Raises:
        EOFError: If the last frame has no end.
    """
    import zstandard

    frame, open_frame = zstandard.ZstdDecompressor().decompressobj(), False
    with path.open("rb") as file:
        while data := file.read(_BYTES_PER_READ):
            while data:
                frame.decompress(data)
                data, open_frame = frame.unused_data, not frame.eof
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
    if open_frame:
        raise EOFError("cut off before its end")


def _whole_text(path: Path) -> Iterator[Any]:
    from datasets import IterableDataset

    return _column(IterableDataset.from_text, path, sample_by="document")


def _json_lines(path: Path) -> Iterator[Any]:
    from datasets import IterableDataset

    # Its reader of JSON gives each field the type of the first lines, and refuses the file where another field than
    # `text` is null at first and a number later: lines are taken from it as they are.
    for line in _column(IterableDataset.from_text, path, sample_by="line"):
        try:
            yield json.loads(line)["text"] if line.strip() else ""
        except (json.JSONDecodeError, TypeError, KeyError):
            yield None


def _csv_rows(path: Path) -> Iterator[Any]:
    from datasets import Features, IterableDataset, Value

    text = Features({"text": Value("string")})
    options = {"usecols": ["text"], "index_col": False, "keep_default_na": False}
    return _column(IterableDataset.from_csv, path, features=text, **options)


def _parquet_rows(path: Path) -> Iterator[Any]:
    from datasets import IterableDataset

    return _column(IterableDataset.from_parquet, path, columns=["text"])


_READERS: Mapping[str, Callable[[Path], Iterator[Any]]] = MappingProxyType(
    {".jsonl": _json_lines, ".csv": _csv_rows, ".parquet": _parquet_rows}
)


def _column(read: Callable[..., Any], path: Path, **options: Any) -> Iterator[Any]:
    """The column `text` of what one of the readers of `datasets` streams."""
    with tempfile.TemporaryDirectory() as locks:  # it leaves one in its cache for every file
        rows = read(escape(str(path)), cache_dir=locks, **options).with_format("arrow")
    for table in rows.iter(batch_size=_ROWS_PER_BATCH):
        yield from table["text"].to_pylist()
