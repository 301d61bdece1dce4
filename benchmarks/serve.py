"""`python -m benchmarks.serve`: real server processes under Poisson arrivals over Zipf-distributed tasks.

`tasks` measures throughput and latency at several numbers of tasks, beside the same server asked for one task at a
time and `transformers serve` of the bare backbone. `many` asks a server with thousands of prompts on disk and room for
a hundred of them. `engines` holds the engine, in process, against transformers' continuous batching. Arrivals are the
same for all that is compared, and come whether or not earlier requests are answered; latencies count from the moment at
which a request was to come. The client is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.serving.engines import EnginePlan, measure_engines, render_engines
from benchmarks.serving.many import ManyPlan, growth, measure_many, render_many
from benchmarks.serving.tasks import PEERS, TaskPlan, measure_tasks, render_tasks
from softprompt.pretraining.card import machine

__all__ = ["main"]

_SEED = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table for each part, and write what was found, a JSON object a line."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"transformers\.")
    where = f"{machine(torch.device('cpu'))}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{where}\n")
    for part in given.parts or _PARTS:
        table = _PARTS[part](given)
        settings = {name: value for name, value in vars(given).items() if name not in ("parts", "output")}
        told = {"machine": where, "seed": _SEED, **settings}
        (given.output / f"{part}.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        (given.output / f"{part}.md").write_text(f"{where}\n\n{table}\n", encoding="utf-8")
        print(f"\n{table}\n", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*_PARTS, []], help="what to measure; all if not given")
    parser.add_argument("--backbone", default="bundled:gpt-mini", help="bundled:NAME, a folder or a hub id")
    parser.add_argument("--quick", action="store_true", help="everything in under two minutes")
    parser.add_argument("--seconds", type=float, help="of arrivals; tasks: of each load (8), many: of all (300)")
    parser.add_argument("--rate", type=float, help="requests a second; tasks: of the steady load, many: 10")
    parser.add_argument("--rounds", type=int, help="how often each way is measured (3; quick: 1)")
    parser.add_argument(
        "--tasks", type=int, nargs="+", help="numbers of tasks, compared with the first (1 4 16 64; quick: 1 16)"
    )
    parser.add_argument(
        "--mixed-only", action="store_true", help="tasks: mixed batches alone, not what they are held against"
    )
    parser.add_argument("--prompts", type=int, help="many: on disk (10000; quick: 1000)")
    parser.add_argument("--room", type=int, default=100, help="many: prompts that fit into memory")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a server")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/serve"), help="folder for what was found")
    return parser


def _tasks(given: argparse.Namespace) -> str:
    plan = TaskPlan(
        backbone=given.backbone,
        tasks=given.tasks or ((1, 16) if given.quick else (1, 4, 16, 64)),
        seconds=given.seconds or (1.5 if given.quick else 8.0),
        rounds=given.rounds or (1 if given.quick else 3),
        rate=given.rate,
        peers=list(PEERS)[1:] if given.quick else list(PEERS),
        mixed_only=given.mixed_only,
        threads=given.threads,
        seed=_SEED,
    )
    runs = []
    for run in measure_tasks(plan, partial(print, flush=True)):
        runs.append(run)
        _write(given.output / "tasks.jsonl", [asdict(one) for one in runs])
    return render_tasks(runs)


def _many(given: argparse.Namespace) -> str:
    plan = ManyPlan(
        backbone=given.backbone,
        prompts=given.prompts or (1000 if given.quick else 10_000),
        room=given.room,
        seconds=given.seconds or (10.0 if given.quick else 300.0),
        rate=given.rate or 10.0,
        every_s=1.0 if given.quick else 5.0,
        threads=given.threads,
        seed=_SEED,
    )
    result = measure_many(plan, partial(print, flush=True))
    _write(given.output / "many.jsonl", [{"growth_bytes_per_s": growth(result.looks), **asdict(result)}])
    return render_many(plan, result)


def _engines(given: argparse.Namespace) -> str:
    plan = EnginePlan(
        backbone=given.backbone,
        attention=("sdpa",) if given.quick else ("sdpa", "eager"),
        rounds=given.rounds or (1 if given.quick else 3),
        seed=_SEED,
    )
    races = measure_engines(plan)
    _write(given.output / "engines.jsonl", [asdict(race) for race in races])
    return render_engines(races)


def _write(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


_PARTS: Mapping[str, Callable[[argparse.Namespace], str]] = {"tasks": _tasks, "many": _many, "engines": _engines}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers and folders go before us
    main()
