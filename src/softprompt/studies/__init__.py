"""Grids of runs, kept in one append-only table; and settings, recommended by rules or by a search."""

from softprompt.studies.grid import Cell, Grid
from softprompt.studies.reading import load_grid, named_grids
from softprompt.studies.recommending import Advice, Recommendation, recommend
from softprompt.studies.running import run_grid
from softprompt.studies.searching import search_settings
from softprompt.studies.summary import Line, summarise
from softprompt.studies.table import ResultsTable

__all__ = [
    "Advice",
    "Cell",
    "Grid",
    "Line",
    "Recommendation",
    "ResultsTable",
    "load_grid",
    "named_grids",
    "recommend",
    "run_grid",
    "search_settings",
    "summarise",
]
