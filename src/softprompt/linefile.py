"""Files of JSON lines that only grow: what was stopped goes on behind the last whole line.

What the lines were made with may stand beside a file, in `NAME.settings.json`; more is then added by the same alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, final

from softprompt.errors import ConfigError

__all__ = ["LineFile", "as_line", "as_read"]


def as_line(values: Mapping[str, Any]) -> str:
    """Values as a line of a file; what JSON does not know becomes text."""
    return json.dumps(values, ensure_ascii=False, default=str) + "\n"


def as_read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they come back from a line of a file."""
    read: dict[str, Any] = json.loads(as_line(values))
    return read


@final
class LineFile:
    """One JSON object per line, appended in the order in which they are made.

    A last line without its end was cut short by a kill, and is none.

    Args:
        path: The file, which need not exist. One that is no regular file, such as a pipe, is only written to.
        names: What every line has a value for.
    """

    def __init__(self, path: str | Path, *names: str) -> None:
        self.path = Path(path)
        self._names = set(names)
        self._beside = self.path.with_name(f"{self.path.name}.settings.json")

    @property
    def keeps(self) -> bool:
        """Whether what is written can be read again, as it cannot from a pipe or a device."""
        return not self.path.exists() or self.path.is_file()

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """The whole lines, numbered from 1; None where one is no object with all of the names."""
        for number, line in enumerate(self._whole(), 1):
            try:
                values = json.loads(line)
            except ValueError:
                values = None
            yield number, values if isinstance(values, dict) and values.keys() >= self._names else None

    def cut(self) -> None:
        """Take off a last line that was cut short."""
        whole_bytes = sum(map(len, self._whole()))
        if self._holds_more_than(whole_bytes):
            os.truncate(self.path, whole_bytes)

    def open(self) -> TextIO:
        """The file, to write lines behind its end."""
        return self.path.open("a", encoding="utf-8")

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Append lines, all at once; they are on disk when this returns."""
        with self.open() as file:
            file.write("".join(map(as_line, rows)))
            if self.keeps:
                file.flush()
                os.fsync(file.fileno())

    def made_with(self) -> dict[str, Any]:
        """The settings that the lines were made with; none where there are no lines and nothing says so.

        Raises:
            ConfigError: If the file holds something, but nothing beside it says what it was made with.
        """
        try:
            settings = json.loads(self._beside.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            settings = None
        if isinstance(settings, dict):
            return settings
        if self._holds_more_than(0):
            raise self.of_unknown_settings()
        return {}

    def keep_made_with(self, settings: Mapping[str, Any]) -> None:
        """Write what the lines are made with beside the file, atomically."""
        draft = self._beside.with_name(f"{self._beside.name}.draft")
        draft.write_text(json.dumps(settings, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
        draft.replace(self._beside)

    def check_made_with(self, before: Mapping[str, Any], now: Mapping[str, Any], lines: str) -> None:
        """Refuse to go on with other settings.

        Args:
            before: What the lines were made with.
            now: What the next ones are made with; settings that are not among them do not matter.
            lines: What the lines are, as the error says it, e.g. `answers`.

        Raises:
            ConfigError: If a setting differs.
        """
        if differing := [name for name, value in as_read(now).items() if before.get(name) != value]:
            raise self.refused(f" holds {lines} that were made with another {' and '.join(differing)}")

    def refused(self, reason: str) -> ConfigError:
        """The error that what is in the file is not gone on with.

        Args:
            reason: Why, to be said right behind the file's name, e.g. `:3 is no answer`.
        """
        return ConfigError(f"{self.path}{reason}; choose another output, or remove it.")

    def of_unknown_settings(self) -> ConfigError:
        """The error that the file holds lines, and nothing says what they were made with."""
        return self.refused(f" exists, but {self._beside.name} beside it does not say what it was made with")

    def _whole(self) -> Iterator[bytes]:
        if self.path.is_file():
            with self.path.open("rb") as file:
                yield from (line for line in file if line.endswith(b"\n"))

    def _holds_more_than(self, size_bytes: int) -> bool:
        return self.path.is_file() and self.path.stat().st_size > size_bytes
