"""Batches of similar rows: bounded by rows and tokens, and made smaller when memory runs out."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, final

import torch
from accelerate.utils.memory import should_reduce_batch_size

from softprompt.errors import ConfigError
from softprompt.inference.dividing import divide
from softprompt.inference.queries import EncodedQuery, Query

__all__ = ["BatchLimits", "Progress", "by_windows", "plan_batches", "run_batches"]

R = TypeVar("R")

Progress = Callable[[int], object]
"""Called after each batch with its number of rows."""

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """How large a batch may be; a single row may be larger.

    Attributes:
        rows: Most rows; what several prompts answer together has one for each.
        tokens: Most tokens, padding included: those of the inputs and prompts, and those to generate or score.

    Raises:
        ConfigError: If a limit is below 1.
    """

    rows: int = 64
    tokens: int = 16384

    def __post_init__(self) -> None:
        for name, value in (("rows", self.rows), ("tokens", self.tokens)):
            if value < 1:
                raise ConfigError(f"A batch's limit of {name} is {value}; give at least 1.")


def plan_batches(
    rows: Sequence[EncodedQuery], waiting: Iterable[int], limits: BatchLimits, *, start: int
) -> list[list[int]]:
    """Put rows of one group and of similar length together, the longest first.

    Args:
        rows: All rows.
        waiting: Indices of the rows to plan for.
        limits: How large a batch may be.
        start: What a pass through the model costs beside its tokens, in tokens: how much padding is worth one less.

    Returns:
        Indices by batch: each of `waiting` once.
    """
    order = sorted(waiting, key=lambda index: (rows[index].group, -rows[index].tokens))
    batches: list[list[int]] = []
    for _, alike in itertools.groupby(order, key=lambda index: rows[index].group):
        some = list(alike)
        cost = start * rows[some[0]].passes
        most = max(1, limits.rows // len(rows[some[0]].names))
        sizes = divide([(rows[index].tokens, 0) for index in some], tokens=limits.tokens, rows=most, cost=cost)
        left = iter(some)
        batches += [list(itertools.islice(left, size)) for size in sizes]
    return batches


def run_batches(
    rows: Sequence[EncodedQuery],
    call: Callable[[Sequence[EncodedQuery]], Sequence[R]],
    *,
    limits: BatchLimits,
    start: int,
    progress: Progress | None = None,
    sharded: bool = False,
) -> list[R]:
    """Call a function batch by batch, and put its results in the rows' order.

    When memory runs out, this and all further batches get half the tokens; of a sharded backbone it is an error, as
    other processes wait in the middle of the batch that this one cannot compute.

    Args:
        rows: The rows.
        call: From a batch's rows to one result each.
        limits: How large a batch may be.
        start: As in `plan_batches`.
        progress: Called after each batch.
        sharded: Whether other processes compute the same batches at the same time.

    Raises:
        ConfigError: If memory runs out, and others wait for this process: it has to leave.
    """
    results: dict[int, R] = {}
    batches = deque(plan_batches(rows, range(len(rows)), limits, start=start))
    while batches:
        batch = batches.popleft()
        answers = _answers(call, [rows[index] for index in batch], limits, sharded=sharded)
        if answers is None:
            limits = replace(limits, tokens=max(1, rows[batch[0]].tokens * len(batch) // 2))
            log.warning("Out of memory with %d rows; going on with %d tokens a batch.", len(batch), limits.tokens)
            batches = deque(plan_batches(rows, itertools.chain(batch, *batches), limits, start=start))
            continue
        results.update(zip(batch, answers, strict=True))
        if progress is not None:
            progress(len(batch))
    return [results[index] for index in range(len(rows))]


def by_windows(
    queries: Iterable[Query],
    encode: Callable[[Sequence[Query]], Sequence[EncodedQuery]],
    call: Callable[[Sequence[EncodedQuery]], Sequence[R]],
    *,
    limits: BatchLimits | None,
    start: int,
    window: int | None,
    progress: Progress | None,
    sharded: bool = False,
) -> Iterator[R]:
    """Read queries window by window, and yield their results in order.

    Args:
        queries: The queries, read as they are needed.
        encode: Tokenizes a window's queries.
        call: As in `run_batches`, and so are the limits and the progress.
        limits: None takes the default ones.
        start: As in `plan_batches`.
        window: Queries in a window; None takes all.
        progress: Called after each batch.
        sharded: As in `run_batches`.

    Raises:
        ConfigError: If the window is below 1, and as of `run_batches`.
    """
    if window is not None and window < 1:
        raise ConfigError(f"window={window}: expected at least 1 query, or None for all.")
    waiting = iter(queries)
    while some := list(itertools.islice(waiting, window)):
        yield from run_batches(
            encode(some), call, limits=limits or BatchLimits(), start=start, progress=progress, sharded=sharded
        )


def _answers(
    call: Callable[[Sequence[EncodedQuery]], Sequence[R]],
    rows: Sequence[EncodedQuery],
    limits: BatchLimits,
    *,
    sharded: bool,
) -> Sequence[R] | None:
    """What the call gives; None if memory ran out and fewer rows may do."""
    try:
        return call(rows)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        if sharded:
            raise ConfigError(
                f"A batch of at most {limits.tokens} tokens does not fit into memory, and other processes wait for what"
                " this one gathers; set evaluation_tokens (tokens of BatchLimits) lower."
            ) from error
        if len(rows) == 1:
            raise
    torch.cuda.empty_cache()  # only now: the error held the tensors of the failed call
    return None
