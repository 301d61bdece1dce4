"""`python -m benchmarks`: softprompt against PEFT, against itself one by one, and against its matrix products alone.

Every case does the same work in several ways, from the same weights, prompts and rows, in turn, so that the machine's
noise falls on all; what counts is the ratio of a round's times. Rows have the lengths of real ones. PEFT's default use
is a plain loop over shuffled batches, padded to their longest row; its best one has softprompt's batches of like
lengths, and no logits but those it needs (`logits_to_keep`). What counted work predicts are the operations of all
matrix products; "over its products" is the time against that of products of the same layouts by themselves: those that
softprompt itself makes. The same work is the same to rounding, as is tried before, but for PEFT's rows that are padded
on the left (its best use, and generation): behind a prompt their padding shifts what they see, so only rows of one
length are held against ours.

Runs into one folder make one page: a line takes the place of the same line of an earlier run. `python -m benchmarks
merge FOLDER … --output FOLDER` joins the lines of several folders. `python -m benchmarks profile` tells where the time
goes, `python -m benchmarks pretraining` measures the making of backbones, `python -m benchmarks lengths` counts the
rows.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from benchmarks import pretraining, rows
from benchmarks.cases import CASES
from benchmarks.folder import begin, end, keep, merge_folders, write_page
from benchmarks.lines import LIMIT, Line, Plan
from benchmarks.page import render_profiles
from benchmarks.peers import peft_is_installed
from benchmarks.shapes import DEFAULT_SHAPES, SHAPES, Weights
from benchmarks.timing import spread
from softprompt.loop.allocator import keep_freed_memory
from softprompt.pretraining.card import machine


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure cases, keep their lines, and write the page of all that were measured."""
    parser = _parser("python -m benchmarks")
    parser.add_argument("--rounds", type=int, help="how often each way is timed (3; quick: 2)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), help="folder for lines, page and plots")
    given = parser.parse_args(arguments)
    plan = _plan(given, rounds=given.rounds or (2 if given.quick else 3))
    where = f"{machine(torch.device(given.device))}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{where}\n")
    found = [
        _measure(case, plan, given.output, run=f"`python -m benchmarks --cases {case}{_options(given)}`, {where}")
        for case in given.cases
    ]
    if not any(found):
        raise SystemExit(
            "Nothing was measured: none of these cases has such settings of these shapes (--quick has few)."
        )
    write_page(given.output)
    print(f"\nThe page: {given.output / 'benchmarks.md'}")


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="what to measure")
    parser.add_argument("--quick", action="store_true", help="few cases of the small shapes, under three minutes")
    parser.add_argument(
        "--shapes", nargs="+", choices=list(SHAPES), help=f"of which backbones ({' '.join(DEFAULT_SHAPES)})"
    )
    parser.add_argument("--settings", default="", metavar="WORDS", help="only settings that hold these words")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="where to compute (cpu)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the weights")
    parser.add_argument("--quantize", choices=["int8", "nf4"], help="keep the layers' weights in fewer bits")
    return parser


def _plan(given: argparse.Namespace, *, rounds: int, profiled: bool = False) -> Plan:
    if given.threads:
        torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module=r"(peft|transformers)\.")
    peers = peft_is_installed()
    if not peers:
        print("PEFT is not installed (pip install 'softprompt[bench]'): its columns are left out.")
    return Plan(
        rounds=rounds,
        quick=given.quick,
        peers=peers,
        only=given.shapes,
        words=given.settings,
        weights=Weights(device=given.device, dtype=given.dtype, quantize=given.quantize),
        profiled=profiled,
    )


def _options(given: argparse.Namespace) -> str:
    """Those that change what a case measures, as they were given."""
    said = [" --quick"] if given.quick else []
    for name in ("threads", "rounds", "shapes", "settings", "quantize"):
        value = getattr(given, name)
        if value:
            said.append(f" --{name} {shlex.join(map(str, value)) if name == 'shapes' else shlex.quote(str(value))}")
    unlike = {"device": "cpu", "dtype": "float32"}
    said += [f" --{name} {getattr(given, name)}" for name, usual in unlike.items() if getattr(given, name) != usual]
    return "".join(said)


def _measure(case: str, plan: Plan, folder: Path, *, run: str) -> int:
    """Measure a case, and keep each line at once; how many there were."""
    start_s = time.perf_counter()
    count = 0
    begin(folder, case, run)
    for line in CASES[case](plan):
        count += 1
        print(f"{case}: {line.shape}, {line.setting}\n    {_brief(line)}", flush=True)
        keep(folder, case, replace(line, run=run, setting=line.setting + plan.weights.described))
    end(folder, case, run)
    print(
        f"{case} took {time.perf_counter() - start_s:.0f} s\n" if count else f"{case}: nothing to measure\n", flush=True
    )
    return count


def _brief(line: Line) -> str:
    parts = [f"{way} {1000 * spread(seconds).median:,.1f} ms" for way, seconds in line.seconds.items()]
    parts += [f"{way} x{line.ratio(way).median:.2f}" for way in line.seconds if way not in (line.base, LIMIT)]
    if line.over_limit:
        parts.append(f"over its products x{line.over_limit.median:.2f}")
    parts += [f"{way} {held / 2**20:,.0f} MiB" for way, held in line.memory.items()]
    return ", ".join(parts)


def profile(arguments: Sequence[str]) -> None:
    """Print where the time of each way goes, once, in the cases that are timed beside their products."""
    given = _parser("python -m benchmarks profile").parse_args(arguments)
    plan = _plan(given, rounds=1, profiled=True)
    print(render_profiles([line for case in given.cases for line in CASES[case](plan) if line.profiles]))


def merge(arguments: Sequence[str]) -> None:
    """Join the lines of folders, and write their page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks merge", description=merge.__doc__)
    parser.add_argument("folders", type=Path, nargs="*", help="of the same line the last one stays")
    parser.add_argument("--output", type=Path, required=True, help="folder to add them to")
    given = parser.parse_args(arguments)
    merge_folders(given.folders, given.output)


def count_lengths(arguments: Sequence[str]) -> None:
    """Count the rows' lengths again."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks lengths", description=rows.__doc__)
    parser.add_argument("--data_dir", type=Path, required=True, help="where the folder qed_nq lies")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="documents, for the vocabulary")
    given = parser.parse_args(arguments)
    counted = rows.count_lengths(given.data_dir, given.text)
    rows.FILE.write_text(json.dumps(counted) + "\n", encoding="utf-8")


if __name__ == "__main__":
    keep_freed_memory()  # as commands do, for PEFT's work too
    match sys.argv[1:2]:
        case ["pretraining"]:
            pretraining.main(sys.argv[2:])
        case ["lengths"]:
            count_lengths(sys.argv[2:])
        case ["profile"]:
            profile(sys.argv[2:])
        case ["merge"]:
            merge(sys.argv[2:])
        case _:
            main()
