"""What is wanted, by case, setting and shape, and whether it was reached: in every round, in some, or in none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.cases import memory, tasks, training
from benchmarks.lines import BEST, DEFAULT, Line

__all__ = ["BEYOND_TOKEN_S", "OF_PREDICTED", "goal_of", "of_predicted", "over_products_goal", "verdict"]

OF_PREDICTED = 0.9
"""Of the ratio that counted work predicts, so much is to be reached."""
BEYOND_TOKEN_S = 0.020
"""A first token behind a prompt on disk may take so much longer than behind one that is ready."""

Goals = Mapping[str, float]
"""By shape."""


def _goals(small: float, larger: float) -> Goals:
    return {"small": small, "small-t5": small, "gpt2": larger, "t5-small": larger}


def _decoders(small: float, larger: float) -> Goals:
    return {"small": small, "gpt2": larger}


def _encoder_decoders(goal: float) -> Goals:
    return {"small-t5": goal, "t5-small": goal}


_STEPS = {**_decoders(8, 4.5), **_encoder_decoders(1.1)}
_GOALS: Sequence[tuple[str, str, str, Goals]] = [
    ("steps", "prompt tuning, length 100, sentences, batch 16", DEFAULT, _STEPS),
    ("steps", "prompt tuning, length 100, sentences, batch 32", DEFAULT, _STEPS),
    ("steps", "prompt tuning, length 100, qed", DEFAULT, _encoder_decoders(1.4)),
    ("steps", "prompt tuning", BEST, _encoder_decoders(1)),
    ("steps", "prompt tuning, length 100, long", DEFAULT, _decoders(1.4, 1.4)),
    ("steps", "prefix tuning, length 20, sentences", DEFAULT, _decoders(2, 1.5)),
    ("steps", "prefix tuning, length 100, sentences", DEFAULT, _decoders(2, 1.5)),
    ("scoring", "2 labels of 2 tokens, length 100, sentences, 32 rows", DEFAULT, _goals(15, 6)),
    ("generation", "16 tokens, length 100, sentences, batch 16", DEFAULT, _goals(1.7, 1.7)),
    ("runs", "8 runs of prompt tuning, length 100, sentences, batch 4", training.ALONE, _goals(1.1, 1.1)),
    ("runs", "8 runs of prompt tuning, length 8, sentences, batch 4", training.ALONE, _goals(1.5, 1.3)),
    ("tasks", "16 tasks", tasks.ALONE, _goals(5, 3)),
    ("memory", "a step of prompt tuning, length 100", DEFAULT, _decoders(3, 3)),
    ("memory", "a step of 8 runs", memory.PROCESSES, _goals(3, 3)),
]
"""Case, how the setting's words begin, the other way, and how many times as long (or as much memory) it should take."""
_OVER_PRODUCTS = _goals(1.7, 1.5)


def of_predicted(line: Line, ratio: float, predicted: float) -> float:
    """How much is reached of what counted work predicts.

    Args:
        line: What was compared.
        ratio: How many times as long as ours the other way takes.
        predicted: How many times as much counted work it has.
    """
    less_is_better = line.case == "evaluation"  # the other way is ours, too, with more to do
    return predicted / ratio if less_is_better else ratio / predicted


def goal_of(line: Line, way: str) -> float | None:
    """How many times as long as ours another way should take, or as much memory; None where nothing is wanted."""
    for case, begins, other, goals in _GOALS:
        if (line.case, way) == (case, other) and line.setting.startswith(begins) and line.shape in goals:
            return goals[line.shape]
    return None


def over_products_goal(line: Line) -> float | None:
    """How many times as long as its matrix products a training step may take; None where nothing is wanted."""
    return _OVER_PRODUCTS.get(line.shape) if line.case == "steps" else None


def verdict(reached: Sequence[bool]) -> str:
    """What to say of a goal that was reached in these rounds."""
    if all(reached):
        return "met"
    return f"**open**, reached in {sum(reached)} of {len(reached)} rounds" if any(reached) else "**missed**"
