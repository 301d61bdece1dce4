"""The folder of a study.

results.jsonl   one row per run, only ever appended to
study.yaml      the grid that was run last
prompts/KEY/    what a run learned, if other cells need it; there before the run's row is
sessions/       those that are not finished, each with its cells and its checkpoints
lock            held by the one process that runs the study; the system lets go of it when that process ends
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import final

import yaml

from softprompt.config import plain_values
from softprompt.errors import ConfigError
from softprompt.studies.cells import digest
from softprompt.studies.grid import Grid

__all__ = ["STUDY", "StudyFolder"]

STUDY = "study.yaml"
"""The file that holds the grid that was run last."""
_CELLS = "cells.json"


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
