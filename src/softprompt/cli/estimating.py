"""`softprompt train --dry_run`: what a training would take, and whether there is as much."""

from __future__ import annotations

from softprompt.cli.tables import print_table
from softprompt.training.estimate import Estimate

__all__ = ["print_estimate"]

_MIB = 2**20


def print_estimate(estimate: Estimate) -> None:
    """Print what takes how much, which way prompts go, and whether it fits."""
    parts = [
        ("its part of the weights" if estimate.gathered_bytes else "weights", estimate.weights_bytes),
        *([("gathered while a layer computes", estimate.gathered_bytes)] if estimate.gathered_bytes else []),
        ("the process besides", estimate.process_bytes),
        ("what is learned, and its copies", estimate.trained_bytes),
        ("optimizer", estimate.optimizer_bytes),
        *([("inputs that are kept", estimate.cached_bytes)] if estimate.cached_bytes else []),
        *((f"pass of rows up to {one.longest} long: {one.rows} rows, {one.tokens:,} tokens", one.peak_bytes)
          for one in estimate.passes),
        ("optimizer step", estimate.update_bytes),
        ("evaluation", estimate.evaluation_bytes),
        ("at the peak", estimate.total_bytes),
    ]  # fmt: skip
    which = f" of each of {estimate.processes} processes" if estimate.processes > 1 else ""
    print_table((f"memory{which} on {estimate.device}", "MiB"), [(name, size / _MIB) for name, size in parts])
    if estimate.offloaded_bytes:
        print(f"Besides, each process keeps its part of the weights in CPU memory: {_mib(estimate.offloaded_bytes)}.")
    for name, taken in estimate.taken.items():
        print(f"{name} takes the pass: {taken}.")
    print(_verdict(estimate))
    if estimate.device == "cpu":
        print(
            "glibc may hold up to twice of what passes take, as it keeps what is freed; not with"
            " MALLOC_MMAP_THRESHOLD_=65536 in the environment."
        )


def _verdict(estimate: Estimate) -> str:
    needed = f"A training takes {_mib(estimate.needed_bytes)} beside what is held now"
    if estimate.processes > 1:
        needed = f"Each of {estimate.processes} processes takes {_mib(estimate.needed_bytes)}"
    if estimate.free_bytes is None:
        return f"{needed}; how much is free is not known here."
    if estimate.fits:
        return f"{needed}, and {_mib(estimate.free_bytes)} are free: it fits."
    settings = " ".join(f"--{name} {str(value).lower()}" for name, value in estimate.remedy.items())
    helps = f"it would with {settings}" if settings else "smaller passes and recomputed layers do not help"
    return f"{needed}, but {_mib(estimate.free_bytes)} are free: it does not fit; {helps}."


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f} MiB"
