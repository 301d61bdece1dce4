"""`softprompt study`: a grid of runs, and what came of it."""

from __future__ import annotations

from softprompt.cli.tables import print_table

__all__ = ["run_study"]


def run_study(
    *,
    grid: str,
    output_dir: str,
    data_dir: str | None = None,
    backbones: list[str] | None = None,
    tasks: list[str] | None = None,
    seeds: list[int] | None = None,
    device: str = "auto",
    summary: bool = False,
) -> None:
    """Run every cell of a grid that was not run yet, and print one line per backbone, task and method.

    Runs that share a backbone are packed into sessions. Every run adds one line to results.jsonl in the output
    folder; stopped, the same command goes on.

    Args:
        grid: A YAML file, or the name of a grid that comes with softprompt: backbones.
        output_dir: Folder of the results and of the sessions that are not finished.
        data_dir: Folder that stands for {data} in the grid's paths.
        backbones: Backbones instead of the grid's.
        tasks: Those of the grid's tasks to run, instead of all.
        seeds: Seeds instead of the grid's.
        device: Where to compute.
        summary: Whether to print what is there and run nothing.
    """
    from pathlib import Path

    from softprompt.studies import ResultsTable, load_grid, run_grid, summarise

    asked = load_grid(grid).narrowed(backbones=backbones, tasks=tasks, seeds=seeds)
    if summary:
        table = ResultsTable(Path(output_dir) / "results.jsonl")
    else:
        table = run_grid(asked.with_data(data_dir), output_dir, device=device)
    lines = summarise(asked, table)
    axes = list(dict.fromkeys(name for line in lines for name in line.axes))
    tuned = list(asked.tune)
    print_table(
        (
            "backbone", "parameters", "task", "method", *axes, *tuned, "learned", "metric", "mean", "sd", "seeds",
            "most frequent", "failed", "missing",
        ),
        [
            (
                line.backbone, line.backbone_parameters, line.task, line.method,
                *(str(line.axes.get(name, "")) for name in axes), *(str(line.chosen.get(name, "")) for name in tuned),
                line.parameters, line.metric, line.mean, line.deviation, len(line.scores), line.majority, line.failed,
                line.missing,
            )
            for line in lines
        ],
    )  # fmt: skip
