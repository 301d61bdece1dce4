"""A study: a grid, the folder of its results, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import final

from softprompt.studies.folder import StudyFolder
from softprompt.studies.grid import Grid
from softprompt.studies.reading import left_out, load_grid
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

    Raises:
        ConfigError: If there is no such grid, or a setting is unknown.
    """

    def __init__(self, grid: Grid | str | Path, output_dir: str | Path, data_dir: str | Path | None = None) -> None:
        self._asked = grid if isinstance(grid, Grid) else load_grid(grid)
        self._folder = StudyFolder(output_dir)
        self._data_dir = data_dir

    def run(self, workers: int | None = None, *, device: str = "auto", ray: str | None = None) -> Study:
        """Run every cell that has no row yet; the same call goes on with what was stopped.

        Args:
            workers: Sessions at a time. Without Ray: 1, which this process runs, or else one in each of as many
                processes of this machine; a script has to call it under `if __name__ == "__main__"` then. With Ray:
                one on each GPU, or else on each machine.
            device: Where to compute.
            ray: Address of a Ray cluster whose workers run the sessions; `"local"` starts one on this machine.

        Returns:
            Itself.

        Raises:
            ConfigError: If the grid names something unknown, or another process runs a study in the folder.
            TrainingInterrupted: After Ctrl-C or SIGTERM.
            MissingDependencyError: If Ray is asked for and not installed.
        """
        grid = self._asked.with_data(self._data_dir)
        run_grid(grid, self._folder.path, device=device, workers=workers, ray=ray)
        return self

    @property
    def grid(self) -> Grid:
        """What is compared, without the optional tasks whose files were not there when it was run."""
        return self._compared(self.table)

    @property
    def table(self) -> ResultsTable:
        """The rows that there are, those of other grids in the same folder included."""
        return ResultsTable(self._folder.results)

    @property
    def lines(self) -> list[Line]:
        """What they come to: a line for each backbone, task, method and axis that is not tuned."""
        table = self.table
        return summarise(self._compared(table), table, self._folder.states())

    def _compared(self, table: ResultsTable) -> Grid:
        absent = left_out(self._asked, self._folder.last_tasks(self._asked.name), table)
        return self._asked.narrowed(tasks=[label for label in self._asked.tasks if label not in absent])
