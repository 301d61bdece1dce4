"""Grids of runs: every cell trained, packed into sessions, scored, and kept in one append-only table."""

from softprompt.studies.grid import Cell, Grid, load_grid, named_grids
from softprompt.studies.running import run_grid
from softprompt.studies.summary import Line, summarise
from softprompt.studies.table import ResultsTable

__all__ = ["Cell", "Grid", "Line", "ResultsTable", "load_grid", "named_grids", "run_grid", "summarise"]
