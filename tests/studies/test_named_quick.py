"""Every grid that comes with softprompt, run at quick size on small data in the published formats.

Nothing is learned here. What is proven is that each grid finds its files, trains and scores every cell, knows which are
done, and comes to a table, verdicts and a report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.studies.published import write_data
from tests.studies.tables import lasting

from softprompt.cli import main
from softprompt.evaluation import evaluate_many
from softprompt.studies import (
    Claim,
    Grid,
    Line,
    ResultsTable,
    judge,
    load_grid,
    named_grids,
    quickened,
    run_grid,
    summarise,
)
from softprompt.studies import sessions as sessions_module
from softprompt.studies.claims import PARAMETERS
from softprompt.studies.pairing import facts, pair_up

BACKBONES = {"infix": ["bundled:gpt-mini"]}
"""By grid; elsewhere the smallest there is, which is enough to prove a grid."""
SMALLEST = ["bundled:t5-tiny"]
ALL_TASKS = ("backbones", "domain_shift", "ensembles", "low_data", "transfer")
"""Whose tasks differ in kind, or need each other; of the others the first is enough."""
READ_AGAIN = ("domain_shift", "ensembles")
"""Asked for a second time, which takes as long again to load models and data."""
PACKING = {"session_runs"}  # what is known after a stop is packed anew, with other runs beside it

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `{data}` stands for."""
    return write_data(tmp_path_factory.mktemp("published"))


def narrower(name: str) -> dict[str, list[str]]:
    """What is run of a grid."""
    tasks = list(load_grid(name).tasks)
    return {"backbones": BACKBONES.get(name, SMALLEST), "tasks": tasks if name in ALL_TASKS else tasks[:1]}


def quick_grid(name: str, data: Path) -> Grid:
    """What `softprompt study --quick true` runs of a grid."""
    return quickened(load_grid(name).narrowed(**narrower(name))).with_data(data)


def study(*arguments: str) -> None:
    assert main(["study", *arguments, "--device", "cpu"]) == 0


def refuse(*_: object) -> None:
    raise AssertionError("A cell was run that has a row.")


@pytest.mark.parametrize("name", named_grids())
def test_a_named_grid_runs_at_quick_size(name, data, tmp_path, monkeypatch, capsys):
    folder, grid = tmp_path / "out", quick_grid(name, data)
    where = ("--data_dir", str(data), "--output_dir", str(folder))
    narrowed = [text for option, values in narrower(name).items() for text in (f"--{option}", str(values))]
    study("--grid", name, *where, "--quick", "true", *narrowed)
    printed = capsys.readouterr().out

    table = ResultsTable(folder / "results.jsonl")
    rows = {row["cell"]: row for row in table}
    assert {row["status"] for row in table} <= {"finished", "unsupported"}
    tuned = [cell for cell in grid.cells() if cell.seed in (grid.tune_seeds or grid.seeds)]
    assert all(cell.identity in rows for cell in tuned)
    lines = summarise(grid, table)
    assert [line.missing for line in lines] == [0] * len(lines)
    assert all(line.seeds == tuple(grid.seeds) or line.unsupported for line in lines)

    assert load_grid(folder / "study.yaml") == grid
    verdicts = judge(grid, lines)
    assert [verdict.claim.says for verdict in verdicts] == [claim["says"] for claim in grid.claims]
    for verdict in verdicts:
        assert (verdict.outcome != "not tested") == is_answered(verdict.claim, lines), verdict.reason
        assert all(math.isfinite(finding.effect) for finding in verdict.findings)
    assert all(claim["says"][1:] in printed for claim in grid.claims)

    if name in READ_AGAIN:
        before = (folder / "results.jsonl").read_bytes()
        monkeypatch.setattr(sessions_module.Session, "run", refuse)
        monkeypatch.setattr(sessions_module.Scoring, "run", refuse)
        study("--output_dir", str(folder))  # what study.yaml says
        assert capsys.readouterr().out == printed
        assert (folder / "results.jsonl").read_bytes() == before

    assert main(["report", str(folder)]) == 0
    page, markdown = ((folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    assert grid.question in markdown
    assert all(label in markdown for label in (*grid.tasks, *grid.methods))
    assert page.rstrip().endswith("</html>")


def is_answered(claim: Claim, lines: Sequence[Line]) -> bool:
    """Whether some pair has what a claim compares; of one backbone there is no trend with size."""

    axes = {name for line in lines for name in line.axes}

    def has(line: Line) -> bool:
        measured = [name for name in (claim.measure, claim.reference, claim.trend) if isinstance(name, str)]
        measured = [name for name in measured if name != PARAMETERS and name not in axes]
        scores = [line.elsewhere.get(label) for label in claim.others] if claim.others else [line.scores]
        return any(scores) and all(line.measured.get(name) for name in measured)

    told = [facts(line.backbone, line.task, line.method, line.axes) for line in lines]
    compared = [pair for pair in pair_up(claim, told) if all(has(lines[place]) for place in pair)]
    return bool(compared) and claim.trend != PARAMETERS


def stopped_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that Ctrl-C meets when it is called for the so manieth time."""
    calls = 0

    def stopping(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return function(*given, **named)

    return stopping


def test_a_named_grid_that_was_stopped_goes_on(data, tmp_path, monkeypatch):
    """Once when a session was trained and not scored, and once between two of its rows."""
    grid = quick_grid("ensembles", data)
    whole = lasting(run_grid(grid, tmp_path / "whole", device="cpu"), PACKING)
    folder, known = tmp_path / "cut", 0
    for owner, name, function, call in (
        (sessions_module, "evaluate_many", evaluate_many, 2),
        (ResultsTable, "append", ResultsTable.append, 2),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stopped_at(call, function))
            with pytest.raises(KeyboardInterrupt):
                run_grid(grid, folder, device="cpu")
        before, known = known, len(ResultsTable(folder / "results.jsonl"))
        assert before < known < len(whole)
        assert list((folder / "sessions").iterdir())
    assert lasting(run_grid(grid, folder, device="cpu"), PACKING) == whole
    assert not list((folder / "sessions").iterdir())
