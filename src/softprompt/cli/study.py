"""`softprompt study`: a grid of runs, and what came of it."""

from __future__ import annotations

__all__ = ["run_study"]


def run_study(
    *,
    output_dir: str,
    grid: str | None = None,
    data_dir: str | None = None,
    backbones: list[str] | None = None,
    tasks: list[str] | None = None,
    methods: list[str] | None = None,
    seeds: list[int] | None = None,
    workers: int | None = None,
    ray: str | None = None,
    quick: bool = False,
    device: str = "auto",
    summary: bool = False,
    costs: bool = False,
) -> None:
    """Run every cell of a grid that was not run yet, and print one line per backbone, task and method.

    Below, what became of the grid's claims: whether they are supported, with the effect and its 95 % interval.

    Runs that share a backbone are packed into sessions. Every run adds one line to results.jsonl in the output
    folder; stopped, the same command goes on.

    Args:
        output_dir: Folder of the results, of the grid, and of the sessions that are not finished.
        grid: A YAML file, or the name of a grid that comes with softprompt (needs no option): adaptation, backbones,
            domain_shift, ensembles, infix, initialisation, inspection, length, low_data, methods, placement,
            prefix_length, settings, transfer.
        data_dir: Folder that stands for {data} in the grid's paths.
        backbones: Backbones instead of the grid's.
        tasks: Those of the grid's tasks to run, instead of all.
        methods: Those of the grid's methods to run, instead of all.
        seeds: Seeds instead of the grid's.
        workers: Sessions at a time, each in a process of its own: 1; with Ray, one on each GPU, or else on each
            machine.
        ray: Address of a Ray cluster whose workers run the sessions, for example auto; local starts one on this
            machine. All machines have to share the output folder and the files that the grid names.
        quick: Whether to run a small version of the grid that proves its machinery in a minute: the smallest bundled
            backbones, few values, seeds, steps and rows. It is a study of its own; give it another folder.
        device: Where to compute.
        summary: Whether to print what is there and run nothing.
        costs: Whether to print too what was trained and stored, the time of a run's step, and the memory that its
            session took at most.
    """
    import sys

    from softprompt.cli.lines import print_lines
    from softprompt.cli.verdicts import print_verdicts
    from softprompt.studies import Study, StudyFolder, is_quick, judge, load_grid, quickened
    from softprompt.studies.quick import STAND_IN, unmade

    asked = load_grid(grid or StudyFolder(output_dir).find_grid())
    asked = asked.narrowed(backbones=backbones, tasks=tasks, methods=methods, seeds=seeds)
    if quick and not is_quick(asked):
        if absent := unmade(asked):
            print(
                f"{STAND_IN} stands in for {', '.join(absent)}, not there: `softprompt backbones make` makes them.",
                file=sys.stderr,
            )
        asked = quickened(asked)
    study = Study(asked, output_dir, data_dir)
    if not summary:
        study.run(workers, device=device, ray=ray)
    compared, lines = study.grid, study.lines
    if summary and (without := [task for task in asked.tasks if task not in compared.tasks]):
        print(f"Left out, as their files were not there: {', '.join(without)}.", file=sys.stderr)
    print_lines(lines, compared.tune, costs=costs)
    print_verdicts(judge(compared, lines))
    if is_quick(compared):
        print("At quick size, which proves that the grid runs; the scores mean nothing.")
