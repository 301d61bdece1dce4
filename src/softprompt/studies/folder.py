"""The folder of a study.

results.jsonl   one row per run, only ever appended to
cases.jsonl     a few answers, wrong and right, of each run with the grid's first seed; there before the run's row is
study.yaml      the grid that was run last
states.json     by backbone and task, the digests of the model and the data that were met last
prompts/KEY/    what a run learned, if other cells need it; there before the run's row is
sessions/       those that are not finished, each with its cells and its checkpoints
lock            held by the one process that runs the study; the system lets go of it when that process ends
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

import yaml

from softprompt.config import plain_values
from softprompt.errors import ConfigError
from softprompt.studies.cells import digest
from softprompt.studies.grid import Grid
from softprompt.studies.states import State
from softprompt.studies.table import ResultsTable

__all__ = ["STUDY", "StudyFolder"]

STUDY = "study.yaml"
"""The file that holds the grid that was run last."""
_CELLS = "cells.json"
_STATES = "states.json"


@final
class StudyFolder:
    """Where a study keeps what it has.

    Args:
        path: The folder; it is made when something is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def results(self) -> Path:
        """The file of the results table."""
        return self.path / "results.jsonl"

    @property
    def cases(self) -> Path:
        """The file of answers."""
        return self.path / "cases.jsonl"

    def prompt(self, key: str) -> Path:
        """Where the prompt of the run with that key lies, if it is kept."""
        return self.path.resolve() / "prompts" / key  # a session that goes on names it as when it began

    def session(self, keys: Sequence[str]) -> Path:
        """Where the session of the runs with those keys lies, until they are in the table."""
        return self.path / "sessions" / digest(list(keys))

    def begin(self, keys: Sequence[str]) -> bool:
        """Make the folder of a session, and say whether it was begun before."""
        place = self.session(keys)
        place.mkdir(parents=True, exist_ok=True)
        begun = (place / _CELLS).is_file()
        _write(place / _CELLS, json.dumps(list(keys)))
        return begun

    def begun(self, done: Collection[str]) -> list[list[str]]:
        """The keys of each session that was begun; one of which nothing is left to do is removed.

        Args:
            done: Keys of which nothing is left to do.
        """
        found = []
        for marker in sorted((self.path / "sessions").glob(f"*/{_CELLS}")):
            keys = json.loads(marker.read_text(encoding="utf-8"))
            if all(key in done for key in keys):  # stopped between the last row and the folder's removal
                shutil.rmtree(marker.parent)
            else:
                found.append(keys)
        return found

    def end(self, keys: Sequence[str]) -> None:
        """Remove the folder of a session."""
        shutil.rmtree(self.session(keys), ignore_errors=True)

    def keep(self, grid: Grid) -> None:
        """Write the grid, so that what reads the table knows what was asked."""
        text = yaml.safe_dump(plain_values(vars(grid)), sort_keys=False, allow_unicode=True)
        _write(self.path / STUDY, text)

    def find_grid(self) -> Path:
        """The file of the grid that was run last.

        Raises:
            ConfigError: If none was run here.
        """
        if not (self.path / STUDY).is_file():
            raise ConfigError(f"{self.path} has no {STUDY} that would say what was run there; name the grid.")
        return self.path / STUDY

    def last_name(self) -> str | None:
        """The name of the grid that was run last, or of the last row's; None where nothing was run."""
        if (self.path / STUDY).is_file():
            return str(yaml.safe_load(self.find_grid().read_text(encoding="utf-8"))["name"])
        rows = list(ResultsTable(self.results))
        return rows[-1].get("study") if rows else None

    def last_tasks(self, name: str) -> tuple[str, ...] | None:
        """The labels of the tasks that were there when the grid of a name was run; None if it was not the last one."""
        if not (self.path / STUDY).is_file():
            return None
        last = yaml.safe_load(self.find_grid().read_text(encoding="utf-8"))
        return tuple(last["tasks"]) if last["name"] == name else None

    def states(self) -> dict[str, State]:
        """By place, as `place_of` names it, the state that a run met last; none of places that no run noted."""
        file = self.path / _STATES
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return {place: (backbone, task) for place, (backbone, task) in known.items()}

    def note_states(self, met: Mapping[str, State]) -> None:
        """Keep which state was met, for each place."""
        _write(self.path / _STATES, json.dumps({**self.states(), **met}, indent=0) + "\n")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from running a study here.

        Raises:
            ConfigError: If one does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"Another process runs a study in {self.path}; wait for its end, or choose another output_dir."
                ) from None
            yield


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
