"""Times of several ways to do the same, taken in turn, so that the machine's noise falls on all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Spread", "alternate", "ratios", "spread", "timed_s"]


@dataclass(frozen=True)
class Spread:
    """The middle of several measurements, and the lowest and highest of them."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median, lowest and highest."""
    return Spread(statistics.median(values), min(values), max(values))


def timed_s(work: Callable[[], object], *, times: int = 1) -> float:
    """Seconds until the device has done it so many times."""
    start_s = time.perf_counter()
    for _ in range(times):
        work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start_s


def alternate(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each in every round; every other round goes backwards. What has to warm up did so before."""
    gc.collect()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for index in range(rounds):
        for name, work in list(works.items())[:: 1 if index % 2 == 0 else -1]:
            seconds[name].append(timed_s(work))
    return seconds


def ratios(seconds: Mapping[str, Sequence[float]], other: str, base: str) -> list[float]:
    """How many times as long one took as another, round by round."""
    return [a / b for a, b in zip(seconds[other], seconds[base], strict=True)]
