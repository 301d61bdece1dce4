"""The part of an engine that answers requests in single passes: candidates are ranked, heads over tokens read off."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import final

from softprompt.conditioning import Prompted
from softprompt.conditioning.splitting import start_cost
from softprompt.inference.backlog import Backlog
from softprompt.inference.batching import BatchLimits, plan_batches
from softprompt.inference.generating import read_off
from softprompt.inference.jobs import Job
from softprompt.inference.ranking import choose_among
from softprompt.inference.requests import Completion

__all__ = ["RequestRanker"]

_PLANNED = 256
"""How many waiting requests a batch is chosen from."""


@final
class RequestRanker:
    """Answers requests that need no generation, batch by batch.

    Args:
        backlog: Where they wait.
        model: The backbone with its prompts.
        limits: How large a batch may be.
    """

    def __init__(self, backlog: Backlog, model: Prompted, limits: BatchLimits) -> None:
        self._backlog = backlog
        self._model = model
        self._limits = limits

    def step(self) -> None:
        """Answer one batch, the request that waits longest among it."""
        some = self._backlog.first("rank", _PLANNED)
        if not some:
            return
        rows = [job.encoded for job in some]
        start = start_cost(self._model.backbone.device)
        batches = plan_batches(rows, range(len(rows)), self._limits, start=start)
        batch = [some[index] for index in next(batch for batch in batches if 0 in batch)]
        for job in batch:
            job.begun_at = time.monotonic()
        self._answer(batch)
        self._backlog.sweep()  # a pass may have taken long

    def _answer(self, batch: Sequence[Job]) -> None:
        """Answer a batch; where it fails, its halves are tried, so that one does not fail the others."""
        self._backlog.ran(sum(len(job.encoded.names) for job in batch))
        problem = self._answered(batch)
        if problem is not None and len(batch) > 1:
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                self._backlog.sweep()
                if left := [job for job in half if not job.ticket.done]:
                    self._answer(left)
            return
        for job in batch:
            if problem is not None:
                job.fail(problem)
            self._backlog.settle(job)

    def _answered(self, batch: Sequence[Job]) -> Exception | None:
        """Answer a batch, or say what prevents it."""
        rows = [job.encoded for job in batch]
        try:
            if batch[0].request.candidates:  # what a batch has in common
                for job, choice in zip(batch, choose_among(self._model, rows), strict=True):
                    job.finish(self._model, choice=choice)
            else:
                for job, text in zip(batch, read_off(self._model, rows), strict=True):
                    job.finish(self._model, completions=(Completion(text=text, finish="stop", tokens=()),))
        except Exception as error:
            return error.with_traceback(None)  # which would keep the batch's tensors
        return None
