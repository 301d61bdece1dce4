"""`python -m benchmarks`: softprompt against PEFT, against itself one by one, and against its matrix products alone.

Every case does the same work in several ways, from the same weights, prompts and rows, in turn, so that the machine's
noise falls on all; what counts is the ratio of a round's times. Rows have the lengths of real ones. PEFT's default use
is a plain loop over shuffled batches, padded to their longest row; its best one has softprompt's batches of like
lengths, and no logits but those it needs (`logits_to_keep`). What counted work predicts are the operations of all
matrix products; "over its products" is the time against that of products of the same layouts by themselves. The same
work is the same to rounding, as is tried before, but for PEFT's rows that are padded on the left (its best use, and
generation): behind a prompt their padding shifts what they see, so only rows of one length are held against ours.

`python -m benchmarks pretraining` measures the making of backbones, `python -m benchmarks lengths` counts the rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import transformers

from benchmarks import pretraining, rows
from benchmarks.cases import CASES
from benchmarks.lines import LIMIT, Line, Plan, read_lines, write_lines
from benchmarks.page import plot_slopes, render_case, render_slopes
from benchmarks.peers import peft_is_installed
from benchmarks.shapes import SHAPES
from benchmarks.timing import spread
from softprompt.pretraining.card import machine


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure cases, keep their lines, and write the page of all that were measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="what to measure")
    parser.add_argument("--quick", action="store_true", help="few cases of the small shapes, under three minutes")
    parser.add_argument("--rounds", type=int, help="how often each way is timed (3; quick: 2)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES), help="of which backbones")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), help="folder for lines, page and plots")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module=r"(peft|transformers)\.")
    plan = Plan(
        rounds=given.rounds or (2 if given.quick else 3),
        quick=given.quick,
        peers=peft_is_installed(),
        only=given.shapes,
    )
    if not plan.peers:
        print("PEFT is not installed (pip install 'softprompt[bench]'): its columns are left out.")
    where = f"{machine(torch.device('cpu'))}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{where}\n")
    for case in given.cases:
        told = {"machine": where, "options": _options(given)}
        _measure(case, plan, given.output / f"{case}.jsonl", told)
    write_page(given.output)
    print(f"\nThe page: {given.output / 'benchmarks.md'}")


def _options(given: argparse.Namespace) -> str:
    """Those that change what a case measures, as they were given."""
    named = {"threads": given.threads, "rounds": given.rounds}
    return "".join([" --quick" * given.quick, *(f" --{name} {value}" for name, value in named.items() if value)])


def _measure(case: str, plan: Plan, file: Path, told: Mapping[str, str]) -> None:
    start_s = time.perf_counter()
    lines = []
    for line in CASES[case](plan):
        lines.append(line)
        print(f"{case}: {line.shape}, {line.setting}\n    {_brief(line)}", flush=True)
        write_lines(file, lines)  # what was measured stays, if the rest is stopped
        file.with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(f"{case} took {time.perf_counter() - start_s:.0f} s\n", flush=True)


def _brief(line: Line) -> str:
    parts = [f"{way} {1000 * spread(seconds).median:,.1f} ms" for way, seconds in line.seconds.items()]
    parts += [f"{way} x{line.ratio(way).median:.2f}" for way in line.seconds if way not in (line.base, LIMIT)]
    if line.over_limit:
        parts.append(f"over its products x{line.over_limit.median:.2f}")
    parts += [f"{way} {held / 2**20:,.0f} MiB" for way, held in line.memory.items()]
    return ", ".join(parts)


def write_page(folder: Path) -> None:
    """Write `benchmarks.md` and the plots of every case whose lines lie in a folder."""
    parts = []
    for case in CASES:
        file = folder / f"{case}.jsonl"
        if not file.exists():
            continue
        lines, told = read_lines(file), json.loads(file.with_suffix(".json").read_text())
        command = f"python -m benchmarks --cases {case}{told['options']}"
        parts.append(f"## {case.capitalize()}\n\n`{command}`, {told['machine']}.")
        if case == "slopes":
            parts.append(render_slopes(lines))
            parts += [f"![{plot.stem}]({plot.name})" for plot in plot_slopes(lines, folder)]
        else:
            parts.append(render_case(lines))
    (folder / "benchmarks.md").write_text("# What was measured\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")


def count_lengths(arguments: Sequence[str]) -> None:
    """Count the rows' lengths again."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks lengths", description=rows.__doc__)
    parser.add_argument("--data_dir", type=Path, required=True, help="where the folder qed_nq lies")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="documents, for the vocabulary")
    given = parser.parse_args(arguments)
    counted = rows.count_lengths(given.data_dir, given.text)
    rows.FILE.write_text(json.dumps(counted) + "\n", encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:2]:
        case ["pretraining"]:
            pretraining.main(sys.argv[2:])
        case ["lengths"]:
            count_lengths(sys.argv[2:])
        case _:
            main()
