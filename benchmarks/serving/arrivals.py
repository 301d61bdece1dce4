"""Who asks what, and when: Poisson arrivals over Zipf-distributed tasks, and what is reported of their latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Arrival", "burst", "draw_arrivals", "hit_rate", "quantile", "zipf"]


@dataclass(frozen=True)
class Arrival:
    """A request that is to come.

    Attributes:
        at_s: When, in seconds from the load's beginning.
        task: Whose prompt it asks, by its rank: task 0 is asked most.
        input: Number of the text that it asks about.
    """

    at_s: float
    task: int
    input: int


def zipf(tasks: int, exponent: float = 1.0) -> np.ndarray:
    """The share of each task, `[tasks]`: that of rank r is proportional to `r ** -exponent`, r from 1."""
    weights = np.arange(1, tasks + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def draw_arrivals(*, rate: float, count: int, tasks: int, inputs: int, seed: Sequence[int]) -> list[Arrival]:
    """Draw requests that come independently of each other and of their answers.

    Times and inputs depend on the seed and the rate alone, so loads of fewer or more tasks are otherwise the same.

    Args:
        rate: Requests a second, in the mean.
        count: Requests.
        tasks: Tasks that they are spread over.
        inputs: Texts to choose from.
        seed: Numbers that name the load.
    """
    times, ranks, texts = (np.random.default_rng([*seed, stream]) for stream in range(3))
    at_s = times.exponential(1 / rate, count).cumsum()
    chosen = zipf(tasks).cumsum().searchsorted(ranks.random(count), side="right").clip(max=tasks - 1)
    asked = texts.integers(inputs, size=count)
    return [
        Arrival(float(at), int(task), int(one)) for at, task, one in zip(at_s - at_s[0], chosen, asked, strict=True)
    ]


def burst(count: int, *, tasks: int, inputs: int) -> list[Arrival]:
    """Requests that all come at once, to each task in turn."""
    return [Arrival(0.0, number % tasks, number % inputs) for number in range(count)]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    return float(np.quantile(values, share, method="inverted_cdf"))


def hit_rate(asked: Sequence[int], *, room: int) -> float:
    """The share of requests whose task is among the `room` ones used last, beginning with none."""
    held: dict[int, None] = {}
    hits = 0
    for task in asked:
        hits += task in held
        held.pop(task, None)
        held[task] = None
        if len(held) > room:
            del held[next(iter(held))]
    return hits / len(asked)
