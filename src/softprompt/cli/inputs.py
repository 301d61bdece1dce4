"""What `softprompt predict` reads: lines of text, or rows of a file, each with its place."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from softprompt.errors import ConfigError
from softprompt.prompts import Members, SoftPrompt
from softprompt.tasks.rows import NOT_UTF8, existing, json_rows, numbered_lines, read_rows, row_format

__all__ = ["STANDARD_INPUT", "Input", "check_template", "count_inputs", "read_inputs"]

STANDARD_INPUT = "-"

Format = Literal["text", "rows"]


@final
@dataclass(frozen=True, slots=True)
class Input:
    """One input.

    Attributes:
        source: Where it stands, e.g. `reviews.txt:12`.
        value: A text, or columns by name.
        problem: Why it cannot be answered; None where nothing is known against it.
    """

    source: str
    value: str | Mapping[str, Any]
    problem: str | None = None


def read_inputs(place: str, format: Format | None) -> Iterator[Input]:
    """The inputs of a file, or of standard input, in order.

    Args:
        place: The file; `-` for standard input.
        format: `text` takes each line as an input, `rows` reads what `Task.from_files` reads (standard input as JSON
            lines); None takes rows where the file's name says so.

    Raises:
        DataError: If the file is missing, breaks off, or holds no rows.
    """
    if format == "text" or (format is None and row_format(Path(place)) is None):
        return (_text(f"{place}:{number}", line) for number, line in _lines(place))
    rows = json_rows(_lines(place), place) if place == STANDARD_INPUT else read_rows(place)
    return (Input(row.source, row.columns, row.problem) for row in rows)


def count_inputs(place: str) -> int | None:
    """How many inputs a file of lines has; None for standard input, and for files that are no plain lines."""
    if place == STANDARD_INPUT or row_format(Path(place)) not in (None, ".jsonl"):
        return None
    return sum(1 for _ in _lines(place))


def _text(source: str, line: bytes) -> Input:
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        value = text.decode()
    except UnicodeDecodeError:
        return Input(source, text.decode(errors="replace"), NOT_UTF8)
    return Input(source, value, None if value.strip() else "the input is empty; give it a text")


def _lines(place: str) -> Iterable[tuple[int, bytes]]:
    return enumerate(sys.stdin.buffer, 1) if place == STANDARD_INPUT else numbered_lines(existing(Path(place)))


def check_template(prompt: SoftPrompt | Members) -> None:
    """Refuse to guess how inputs become text, where a prompt learned tasks that differ in it.

    Raises:
        ConfigError: If it is of several tasks, and no template is stored with it.
    """
    tasks = (prompt.info.run or {}).get("tasks")
    if tasks and prompt.info.format is None:
        raise ConfigError(
            f"The prompt learned {', '.join(one['task'] for one in tasks)}, and no template of them all is stored with"
            " it; write the inputs as one of them did, and give --raw true."
        )
