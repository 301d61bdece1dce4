"""What a task by name is: its format, metrics and data, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

from softprompt.errors import ConfigError, DataError, MissingFileError
from softprompt.tasks.examples import OnBadRow
from softprompt.tasks.format import TextFormat
from softprompt.tasks.hub import HubSource
from softprompt.tasks.rows import Row
from softprompt.tasks.task import Task

__all__ = ["TaskDefinition"]


@final
@dataclass(frozen=True, kw_only=True)
class TaskDefinition:
    """A task that can be loaded by name.

    Args:
        name: The name.
        summary: One or two sentences: what goes in, what comes out, where the splits come from.
        format: How a row becomes text.
        metrics: Names of metrics, the one that chooses the best checkpoint first.
        splits: Names of the splits, train first.
        read: From a folder to rows by split.
        source: Where the data were published.
        licence: Its terms.
        citation: The paper, in one line.
        group: Column that rows have in common which are scored together, such as a question with several answers.
        folder: The data, where they come along with the package; `None` where they do not.
        hub: Where they are loaded from if users bring no folder of their own; `None` if nowhere.
        layout: What a folder of users must hold.
        start_words: As of `Task`.
    """

    name: str
    summary: str
    format: TextFormat
    metrics: tuple[str, ...]
    splits: tuple[str, ...]
    read: Callable[[Path], Mapping[str, Iterable[Row]]]
    source: str
    licence: str
    citation: str
    group: str | None = None
    folder: Path | None = None
    hub: HubSource | None = None
    layout: str = ""
    start_words: tuple[str, ...] = ()

    @property
    def card(self) -> str:
        """All of it as lines for people; no data are read."""
        words = self.format.label_words
        lines = {
            "Input": self.format.input,
            "Target": self.format.target,
            "Tagged words": self.format.words or "",
            "Targets stand in": self.format.context or "",
            "Label words": ", ".join(f"{key} = {word}" for key, word in words.items()) if words else "",
            "Metrics": ", ".join(self.metrics),
            "Scored together": f"rows with the same {self.group}" if self.group else "",
            "Splits": ", ".join(self.splits),
            "Data": self._origin,
            "Source": self.source,
            "Licence": self.licence,
            "Citation": self.citation,
        }
        return "\n".join([self.name, "", self.summary, "", *(f"{key}: {text}" for key, text in lines.items() if text)])

    @property
    def data(self) -> Literal["bundled", "hub", "files"]:
        """Where the data come from: the package, the hub (or a folder of the user's), or such a folder alone."""
        if self.folder:
            return "bundled"
        return "hub" if self.hub else "files"

    @property
    def _origin(self) -> str:
        if self.folder:
            return "bundled"
        own = f"a folder of yours (data_dir): {self.layout}"
        return f"from the hub ({self.hub}), or {own}" if self.hub else own

    def load(self, data_dir: str | Path | None = None, *, on_bad_row: OnBadRow = "error") -> Task:
        """Read the data.

        Args:
            data_dir: The user's folder, where the data do not come along; without one they are loaded from the hub,
                if they are there.
            on_bad_row: `error` stops at the first bad row, `skip` counts them in the task's report.

        Raises:
            ConfigError: If a folder is needed and none is given, or the other way round.
            DataError: If the folder or a file in it is missing, the hub cannot be reached, or a row is bad.
        """
        task = Task.from_splits(
            self._rows(data_dir),
            self.format,
            name=self.name,
            metrics=self.metrics,
            on_bad_row=on_bad_row,
            group=self.group,
            card=self.card,
        )
        return replace(task, start_words=self.start_words)

    def _rows(self, data_dir: str | Path | None) -> Mapping[str, Iterable[Row]]:
        if data_dir is not None and self.folder is not None:
            raise ConfigError(f"The task {self.name!r} brings its own data; leave data_dir out.")
        folder = self.folder if data_dir is None else Path(data_dir)
        if folder is not None:
            if not folder.is_dir():
                raise MissingFileError(
                    f"The data_dir {folder} of the task {self.name!r} is no folder. Expected: {self.layout}"
                )
            return self.read(folder)
        if self.hub is None:
            raise ConfigError(f"The task {self.name!r} needs a data_dir: {self.layout}")
        try:
            return self.hub.rows()
        except DataError as problem:
            raise DataError(f"{problem} If you have a copy, give it as data_dir: {self.layout}") from None
