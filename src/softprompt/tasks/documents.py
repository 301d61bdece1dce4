"""Files that are one document: JSON, read whole, and XML, read one element at a time and with limits.

XML that declares a document type is refused: no entity is ever expanded, and no other file or address is opened.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from softprompt.errors import DataError
from softprompt.tasks.rows import BYTE_ORDER_MARK, NOT_UTF8, existing, open_bytes

__all__ = ["read_elements", "read_json"]

CHUNK_BYTES = 2**16
JSON_LIMIT_BYTES = 2**28
XML_LIMIT_BYTES = 2**28
ELEMENT_LIMIT_BYTES = 2**20
DEPTH_LIMIT = 32


def read_json(path: Path) -> Any:
    """The value of a JSON file, unpacked if its name ends in .gz.

    Raises:
        DataError: If the file is missing or cannot be unpacked, holds more than 256 MiB, is not UTF-8, or no JSON; the
            message has the line.
    """
    try:
        with open_bytes(existing(path)) as file:
            content = file.read(JSON_LIMIT_BYTES + 1).removeprefix(BYTE_ORDER_MARK)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); copy it again.") from None
    if len(content) > JSON_LIMIT_BYTES:
        raise DataError(
            f"{path} holds more than {JSON_LIMIT_BYTES:,} bytes (unpacked), but a JSON document is read up to that; "
            "divide it, or write one object per line."
        )
    try:
        return json.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: {NOT_UTF8}.") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: is not valid JSON at character {error.colno} ({error.msg}); copy the file again."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); copy the file again.") from None


def read_elements(path: Path, name: str) -> Iterator[tuple[int, Element]]:
    """The elements of one name in an XML file, each with the line where it begins; what is around them is not kept.

    Args:
        path: The file.
        name: The elements' name. One inside another of that name is part of it.

    Raises:
        DataError: If the file is missing, larger than 256 MiB or not well-formed, declares a document type, nests
            elements more than 32 deep, or has an element of that name or a tag that is larger than 1 MiB.
    """
    size = existing(path).stat().st_size
    if size > XML_LIMIT_BYTES:
        raise DataError(f"{path} holds {size:,} bytes, but XML is read up to {XML_LIMIT_BYTES:,}; divide the file.")
    collector = _Collector(path, name)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield from collector.feed(chunk, last=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); copy it again.") from None
    yield from collector.feed(b"", last=True)


@final
class _Collector:
    """Builds the elements of one name while a file is parsed."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._depth, self._fed_bytes = 0, 0
        self._builder: TreeBuilder | None = None
        self._built_depth, self._first_line, self._first_byte = 0, 0, 0
        self._built: list[tuple[int, Element]] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_type
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def feed(self, content: bytes, *, last: bool) -> list[tuple[int, Element]]:
        """Parse some more of the file; the elements that end in it."""
        try:
            self._parser.Parse(content, last)
        except DataError:
            raise
        except expat.ExpatError as error:
            raise DataError(
                f"{self._path}:{error.lineno}: is not well-formed XML ({expat.ErrorString(error.code)}); copy the file"
                " again."
            ) from None
        except (LookupError, ValueError) as error:
            raise DataError(
                f"{self._path} is in an encoding that cannot be read ({error}); save it as UTF-8."
            ) from None
        # A tag that does not end is parsed anew with every chunk: without a limit, the time grows with its square.
        self._fed_bytes += len(content)
        if self._fed_bytes - self._parser.CurrentByteIndex > ELEMENT_LIMIT_BYTES:
            raise self._refusal(f"a tag or comment is longer than {ELEMENT_LIMIT_BYTES:,} bytes; mend its end")
        built, self._built = self._built, []
        return built

    def _refuse_type(self, *_: object) -> None:
        raise self._refusal("declares a document type, which may hold entities; remove the declaration")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise self._refusal(f"nests elements more than {DEPTH_LIMIT} deep; it is no file of this kind")
        if self._builder is None and name == self._name:
            self._builder, self._built_depth = TreeBuilder(), self._depth
            self._first_line, self._first_byte = self._parser.CurrentLineNumber, self._parser.CurrentByteIndex
        if self._builder is not None:
            self._check_size()
            self._builder.start(name, attributes)

    def _end(self, name: str) -> None:
        if self._builder is not None:
            self._builder.end(name)
            if self._depth == self._built_depth:
                self._built.append((self._first_line, self._builder.close()))
                self._builder = None
        self._depth -= 1

    def _text(self, text: str) -> None:
        if self._builder is not None:
            self._check_size()
            self._builder.data(text)

    def _check_size(self) -> None:
        if self._parser.CurrentByteIndex - self._first_byte > ELEMENT_LIMIT_BYTES:
            raise self._refusal(
                f"<{self._name}> of line {self._first_line} is longer than {ELEMENT_LIMIT_BYTES:,} bytes; mend its end"
            )

    def _refusal(self, problem: str) -> DataError:
        return DataError(f"{self._path}:{self._parser.CurrentLineNumber}: {problem}.")
