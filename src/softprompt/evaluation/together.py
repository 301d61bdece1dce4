"""An evaluation that several processes share: each asks about rows of its own, and all have the same answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from softprompt.errors import NonFiniteError, SoftpromptError
from softprompt.evaluation.recording import Said
from softprompt.loop.processes import Processes
from softprompt.tasks import Example

__all__ = ["answer_together", "share_of"]

Key = TypeVar("Key")
Row = TypeVar("Row")


def answer_together(
    processes: Processes,
    answer: Callable[[Mapping[Key, Sequence[Example]]], dict[Key, list[Said]]],
    examples: Mapping[Key, Sequence[Example]],
    *,
    sharded: bool,
) -> dict[Key, list[Said]]:
    """What is said of all rows; an error in one process is one in all.

    With sharded weights, an answer that is NaN is one in all, as all computed it. Any other error ends this process at
    once: others may wait in the middle of a pass, and would never hear of it.

    Args:
        processes: Those that share the rows, each of which calls this.
        answer: Says something of rows.
        examples: All rows.
        sharded: Whether processes gather the backbone's weights from each other: they take every pass together then,
            so all of them ask about every row, and the first one is believed.

    Raises:
        SoftpromptError: The first that a process met.
    """
    if sharded:
        return _unless_error(processes.from_first(_attempted(answer, examples, NonFiniteError)))
    count = processes.count
    own = {name: share_of(several, count, processes.index) for name, several in examples.items()}
    parts = [_unless_error(part) for part in processes.gather(_attempted(answer, own, SoftpromptError))]
    return {
        name: [parts[row % count][name][row // count] for row in range(len(several))]
        for name, several in examples.items()
    }


def share_of(rows: Sequence[Row], count: int, index: int) -> Sequence[Row]:
    """The rows that one of several processes asks about."""
    return rows[index::count]


def _attempted(
    answer: Callable[[Mapping[Key, Sequence[Example]]], dict[Key, list[Said]]],
    examples: Mapping[Key, Sequence[Example]],
    caught: type[SoftpromptError],
) -> dict[Key, list[Said]] | SoftpromptError:
    try:
        return answer(examples)
    except caught as error:
        return error


def _unless_error(made: dict[Key, list[Said]] | SoftpromptError) -> dict[Key, list[Said]]:
    if isinstance(made, SoftpromptError):
        raise made
    return made
