"""One backbone that answers requests to any number of tasks, in mixed batches, while prompts come and go.

Requests of all threads go into one queue. A worker takes them from it: inputs whose candidates are to be ranked go
through the model in batches; texts are generated step by step, and where the model allows it a new one joins those that
run already.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted, generation
from softprompt.errors import ConfigError, EngineClosedError
from softprompt.inference.backlog import Backlog, EngineCounts
from softprompt.inference.batching import BatchLimits
from softprompt.inference.generating_requests import RequestGenerator
from softprompt.inference.intake import encode_request, holding, make_job, named
from softprompt.inference.jobs import Job, Way
from softprompt.inference.prompt_cache import Lease
from softprompt.inference.prompt_folder import PromptFolder
from softprompt.inference.queries import EncodedQuery
from softprompt.inference.ranking_requests import RequestRanker
from softprompt.inference.requests import Answer, Piece, Request, Ticket

__all__ = ["Engine"]

log = logging.getLogger(__name__)


@final
class Engine:
    """Answers requests to a backbone with any number of prompts. Threads may share it; close it, or use it in a `with`.

    Args:
        backbone: The frozen model.
        prompts: The folder of its prompts; None for the bare backbone alone.
        limits: How large a batch may be: rows and tokens, padding included, that are generated at once, and those of a
            pass of ranking. A request of more tokens is refused.
        queue_requests: Most requests that wait.
        queue_tokens: Most tokens that wait.
        cache_bytes: Most bytes of prompts in memory, as in `PromptFolder`.

    Raises:
        ArtefactError: If there is no such folder.
        ConfigError: If a bound is below 1, or the folder is another backbone's.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: str | Path | PromptFolder | None = None,
        *,
        limits: BatchLimits | None = None,
        queue_requests: int = 1024,
        queue_tokens: int = 2**20,
        cache_bytes: int = 2**30,
    ) -> None:
        for name, value in (("queue_requests", queue_requests), ("queue_tokens", queue_tokens)):
            if value < 1:
                raise ConfigError(f"{name}={value}: expected at least 1.")
        self.backbone = backbone
        self.folder = (
            PromptFolder(backbone, prompts, cache_bytes=cache_bytes) if isinstance(prompts, str | Path) else prompts
        )
        self._model = Prompted(backbone) if self.folder is None else self.folder.model
        if self._model.backbone is not backbone:
            raise ConfigError(
                f"The folder of prompts is for {self._model.backbone.name}, but the engine for {backbone.name}; make "
                "both for one backbone that was loaded once."
            )
        self._limits = limits or BatchLimits()
        self._queue_tokens = queue_tokens
        self._encoding = threading.Lock()
        self._backlog = Backlog(self.folder, most_requests=queue_requests, most_tokens=queue_tokens)
        self._ranker = RequestRanker(self._backlog, self._model, self._limits)
        self._joining = RequestGenerator(self._backlog, "join", self._model, self._limits)
        self._turning = RequestGenerator(self._backlog, "turn", self._model, self._limits)
        self._ends = frozenset(generation.end_ids(backbone)) if backbone.spec.kind != "encoder-only" else frozenset()
        self._worker = threading.Thread(target=self._work, name="softprompt engine", daemon=True)
        self._worker.start()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether it takes requests."""
        return not self._backlog.closed and self._worker.is_alive()

    def is_reachable(self) -> bool:
        """Whether what computes the answers can be reached, which is in this process."""
        return True

    def check_number(self, requests: int) -> None:
        """Whether so many requests that belong together could ever be taken.

        Raises:
            ConfigError: If they are more than may wait at all.
        """
        self._backlog.check_number(requests)

    def submit(self, request: Request, listener: Callable[[Piece | None], None] | None = None) -> Ticket:
        """Take a request. Its prompt is loaded and its input tokenized here, in the caller's thread.

        Args:
            request: What is asked.
            listener: Called in the engine's thread, which it must not hold up, with each piece of text, and with None
                when the answer, or an error, is there.

        Returns:
            What its answer comes by.

        Raises:
            UnknownPromptError: If there is no prompt of its name.
            ArtefactError: If the prompt is damaged or was made for another backbone.
            ConfigError: If candidates are missing or doubled, or the backbone generates no text.
            LengthError: If the input is too long, or the whole request is more than a batch or the queue may be.
            DataError: If the input has no tokens, or lacks a column.
            ShapeError: If the input has no place for a part of its prompt.
            QueueFullError: If too much waits already.
            EngineClosedError: If the engine is closed.
        """
        start = time.monotonic()
        self._backlog.check_room()
        with holding(self.folder, request.prompt) as lease:
            job = self._job(request, lease, start, listener)
            self._backlog.add(job)
        return job.ticket

    def answer(self, request: Request, *, timeout: float | None = None) -> Answer:
        """Submit a request and wait for its answer; it is cancelled if that is not there in time.

        Raises:
            TimeoutError: If it is not.
        """
        ticket = self.submit(request)
        try:
            return ticket.result(timeout)
        except BaseException:
            ticket.cancel()
            raise

    def counts(self) -> EngineCounts:
        """What was done since the beginning, and what there is to do."""
        return self._backlog.counts()

    def close(self, timeout: float | None = None) -> bool:
        """Take no further requests, finish those that were taken, and end.

        Args:
            timeout: Seconds after which requests that are not answered yet end in an `EngineClosedError`; None waits.

        Returns:
            Whether all were answered.
        """
        self._backlog.close()
        self._worker.join(timeout)
        left = self._backlog.jobs()
        for job in left:
            job.ticket.finish(EngineClosedError("The engine was closed before the answer was complete."))
        self._backlog.wake()
        self._worker.join()
        return not left

    def _job(
        self, request: Request, lease: Lease | None, start: float, listener: Callable[[Piece | None], None] | None
    ) -> Job:
        with self._encoding, named(lease):
            encoded = encode_request(self._model, request, lease)
            way = self._way_of(request, encoded)
        return make_job(
            self._model,
            request,
            Ticket(None if lease is None else lease.version, self._backlog.wake, listener),
            encoded,
            lease,
            way=way,
            asked_at=start,
            most_tokens=min(self._limits.tokens, self._queue_tokens),
            ends=self._ends,
        )

    def _way_of(self, request: Request, encoded: EncodedQuery) -> Way:
        if request.candidates or self.backbone.spec.kind == "encoder-only":
            return "rank"
        return "join" if self._model.may_join(encoded.names) else "turn"

    def _work(self) -> None:
        while self._backlog.wait():
            try:
                self._backlog.sweep()
                self._ranker.step()
                self._joining.step()
                self._turning.step()
            except Exception as error:  # of the engine itself: nobody may wait for ever
                log.exception("The engine failed; all requests that it has end in this error.")
                self._joining.clear()
                self._turning.clear()
                for job in self._backlog.jobs():
                    job.fail(error)
                    self._backlog.settle(job)
