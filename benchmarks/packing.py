"""What packing the runs of a study into sessions gains (`python -m benchmarks.packing`).

A study of 24 runs of prompt tuning is run with packed sessions, and with a session for each run; in turn, each time in
a fresh folder, in one process that loads the backbone once per study. Run by run with a command each, the runs would
load it 24 times: that is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.timing import alternate, ratios, spread
from softprompt.pretraining.card import machine
from softprompt.studies import Grid, run_grid

RATES, SEEDS = (0.03, 0.1, 0.3), 8
PACKED, ALONE = "packed", "one by one"


def study(backbone: str, steps: int, runs_per_session: int) -> Grid:
    """24 runs on data that come with softprompt."""
    return Grid(
        name="packing",
        backbones=[backbone],
        tasks={"subj": {"task": "subj", "input": "{text}\n\nThis is", "validation_rows": 32, "train_rows": 64}},
        methods={"rows": {"method": "prompt_tuning", "length": 20, "init": "vocab", "learning_rate": list(RATES)}},
        seeds=tuple(range(SEEDS)),
        run={
            "loss": "rank",
            "optimizer": "adamw",
            "steps": steps,
            "batch_size": 8,
            "evaluate_rows": 16,
            "truncate": True,
            "max_input_tokens": 64,
        },
        session={"progress": False},
        runs_per_session=runs_per_session,
        rows=16,
    )


def run_afresh(grid: Grid) -> int:
    """Run a study in a folder of its own; how many runs it had."""
    folder = Path(tempfile.mkdtemp(prefix="packing-"))
    try:
        return len(run_grid(grid, folder, say=lambda line: None))
    finally:
        shutil.rmtree(folder)


def measure(backbone: str, *, steps: int, runs_per_session: int, rounds: int) -> dict[str, object]:
    """Seconds of both ways in each round, runs per hour, and how many times as many the packed ones are."""
    grids = {
        PACKED: study(backbone, steps, runs_per_session),
        ALONE: study(backbone, steps, 1),
    }
    warm = dataclasses.replace(grids[PACKED], seeds=(0,))
    runs = len(grids[PACKED].cells())
    run_afresh(warm)
    seconds = alternate({name: (lambda grid=grid: run_afresh(grid)) for name, grid in grids.items()}, rounds)
    return {
        "backbone": backbone,
        "runs": runs,
        "runs_per_session": runs_per_session,
        "steps": steps,
        "machine": machine(torch.device("cpu")),
        "seconds": seconds,
        "runs_per_hour": {name: 3600 * runs / spread(several).median for name, several in seconds.items()},
        "factor": dataclasses.asdict(spread(ratios(seconds, ALONE, PACKED))),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print what came out as JSON, and write it where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.packing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backbone", default="bundled:gpt-mini")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs_per_session", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the results")
    given = parser.parse_args(arguments)
    found = measure(given.backbone, steps=given.steps, runs_per_session=given.runs_per_session, rounds=given.rounds)
    text = json.dumps(found, indent=2) + "\n"
    if given.json:
        given.json.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
