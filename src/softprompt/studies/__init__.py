"""Grids of runs, kept in one append-only table; and settings, recommended by rules or by a search."""

from softprompt.studies.claims import Claim
from softprompt.studies.folder import StudyFolder
from softprompt.studies.grid import Cell, Grid
from softprompt.studies.quick import is_quick, quickened
from softprompt.studies.reading import load_grid, named_grids
from softprompt.studies.recommending import Advice, Recommendation, recommend
from softprompt.studies.running import run_grid
from softprompt.studies.searching import search_settings
from softprompt.studies.study import Study
from softprompt.studies.summary import Line, summarise
from softprompt.studies.table import ResultsTable
from softprompt.studies.verdicts import Finding, Verdict, judge

__all__ = [
    "Advice",
    "Cell",
    "Claim",
    "Finding",
    "Grid",
    "Line",
    "Recommendation",
    "ResultsTable",
    "Study",
    "StudyFolder",
    "Verdict",
    "is_quick",
    "judge",
    "load_grid",
    "named_grids",
    "quickened",
    "recommend",
    "run_grid",
    "search_settings",
    "summarise",
]
