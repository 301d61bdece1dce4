"""`softprompt study`: a grid of runs, and what came of it."""

from __future__ import annotations

__all__ = ["run_study"]


def run_study(
    *,
    grid: str,
    output_dir: str,
    data_dir: str | None = None,
    backbones: list[str] | None = None,
    tasks: list[str] | None = None,
    methods: list[str] | None = None,
    seeds: list[int] | None = None,
    device: str = "auto",
    summary: bool = False,
    costs: bool = False,
) -> None:
    """Run every cell of a grid that was not run yet, and print one line per backbone, task and method.

    Runs that share a backbone are packed into sessions. Every run adds one line to results.jsonl in the output
    folder; stopped, the same command goes on.

    Args:
        grid: A YAML file, or the name of a grid that comes with softprompt: backbones, domain_shift, initialisation,
            low_data, methods, placement.
        output_dir: Folder of the results and of the sessions that are not finished.
        data_dir: Folder that stands for {data} in the grid's paths.
        backbones: Backbones instead of the grid's.
        tasks: Those of the grid's tasks to run, instead of all.
        methods: Those of the grid's methods to run, instead of all.
        seeds: Seeds instead of the grid's.
        device: Where to compute.
        summary: Whether to print what is there and run nothing.
        costs: Whether to print too what was trained and stored, the time of a run's step, and the memory that its
            session took at most.
    """
    from pathlib import Path

    from softprompt.cli.lines import print_lines
    from softprompt.studies import ResultsTable, load_grid, run_grid, summarise

    asked = load_grid(grid).narrowed(backbones=backbones, tasks=tasks, methods=methods, seeds=seeds)
    if summary:
        table = ResultsTable(Path(output_dir) / "results.jsonl")
    else:
        table = run_grid(asked.with_data(data_dir), output_dir, device=device)
    print_lines(summarise(asked, table), asked.tune, costs=costs)
