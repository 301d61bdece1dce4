"""What is measured: by name, functions from a plan to lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from benchmarks.cases import estimate, evaluation, generation, loading, memory, reading, slopes, tasks, training
from benchmarks.lines import Line, Plan

__all__ = ["CASES"]

CASES: Mapping[str, Callable[[Plan], Iterator[Line]]] = {
    "steps": training.steps,
    "runs": training.runs,
    "scoring": reading.scoring,
    "classification": reading.classification,
    "generation": generation.generation,
    "tasks": tasks.mixed,
    "memory": memory.memory,
    "estimate": estimate.estimate,
    "loading": loading.loading,
    "evaluation": evaluation.evaluation,
    "slopes": slopes.slopes,
}
