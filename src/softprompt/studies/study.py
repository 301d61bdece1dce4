"""A study: a grid, the folder of its results, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import final

from softprompt.studies.folder import StudyFolder
from softprompt.studies.grid import Grid
from softprompt.studies.reading import load_grid
from softprompt.studies.running import run_grid
from softprompt.studies.summary import Line, summarise
from softprompt.studies.table import ResultsTable

__all__ = ["Study"]


@final
class Study:
    """A grid of runs, and the folder that holds what came of them.

    Args:
        grid: A grid, the name of one that comes with softprompt, or a YAML file.
        output_dir: Holds the results table, the grid, and sessions that are not finished.
        data_dir: Folder that stands for `{data}` in the grid's paths; needed to run one that says it.

    Attributes:
        grid: What is compared.

    Raises:
        ConfigError: If there is no such grid, or a setting is unknown.
    """

    def __init__(self, grid: Grid | str | Path, output_dir: str | Path, data_dir: str | Path | None = None) -> None:
        self.grid = grid if isinstance(grid, Grid) else load_grid(grid)
        self._folder = StudyFolder(output_dir)
        self._data_dir = data_dir

    def run(self, workers: int = 1, *, device: str = "auto") -> Study:
        """Run every cell that has no row yet; the same call goes on with what was stopped.

        Args:
            workers: Processes that run sessions; with 1 it is this one. A script has to call it under
                `if __name__ == "__main__"` for more.
            device: Where to compute.

        Returns:
            Itself.

        Raises:
            ConfigError: If the grid names something unknown, or another process runs a study in the folder.
            TrainingInterrupted: After Ctrl-C or SIGTERM.
        """
        run_grid(self.grid.with_data(self._data_dir), self._folder.path, device=device, workers=workers)
        return self

    @property
    def table(self) -> ResultsTable:
        """The rows that there are, those of other grids in the same folder included."""
        return ResultsTable(self._folder.results)

    @property
    def lines(self) -> list[Line]:
        """What they come to: a line for each backbone, task, method and axis that is not tuned."""
        return summarise(self.grid, self.table)
