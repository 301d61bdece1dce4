"""What an engine has to do: the requests that wait for it and those that run, and how much it has done."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final, get_args

from softprompt.errors import ConfigError, EngineClosedError, QueueFullError
from softprompt.inference.jobs import Job, Way
from softprompt.inference.lanes import Voice
from softprompt.inference.prompt_folder import PromptFolder

__all__ = ["Backlog", "EngineCounts"]


@final
@dataclass(frozen=True, kw_only=True)
class EngineCounts:
    """What an engine has done and has to do.

    Attributes:
        waiting: Requests that wait.
        waiting_tokens: Tokens that these take up, with the longest texts they may get.
        running: Texts that are being generated.
        answered: Requests that were answered.
        failed: Requests that ended in an error, were cancelled or came too late.
        input_tokens: Of all answered requests.
        output_tokens: Likewise, generated or scored.
        passes: Steps of generation and batches of ranked inputs.
        rows: Rows in these, together.
    """

    waiting: int
    waiting_tokens: int
    running: int
    answered: int
    failed: int
    input_tokens: int
    output_tokens: int
    passes: int
    rows: int


@final
class Backlog:
    """Requests in the order in which they came, and those that run. Threads add; one worker takes and settles.

    Args:
        folder: Takes prompts back of requests that ended; None for the bare backbone alone.
        most_requests: Most requests that wait.
        most_tokens: Most tokens that wait.
    """

    def __init__(self, folder: PromptFolder | None, *, most_requests: int, most_tokens: int) -> None:
        self._folder = folder
        self._most_requests, self._most_tokens = most_requests, most_tokens
        self._changed = threading.Condition()
        self._queues: dict[Way, deque[Job]] = {way: deque() for way in get_args(Way)}
        self._running: list[Job] = []
        self._waiting_tokens = self._answered = self._failed = 0
        self._input_tokens = self._output_tokens = self._passes = self._rows = 0
        self.closed = False

    def check_room(self) -> None:
        """Whether one more request may wait.

        Raises:
            QueueFullError: If too many wait already.
            EngineClosedError: If none is taken any more.
        """
        with self._changed:
            self._check_open()
            if self._waiting() >= self._most_requests:
                raise QueueFullError(f"{self._most_requests} requests wait already; try again later.")

    def check_number(self, requests: int) -> None:
        """Whether so many requests that belong together could ever wait.

        Raises:
            ConfigError: If they are more than may wait at all.
        """
        if requests > self._most_requests:
            raise ConfigError(
                f"{requests} texts at once are more than the {self._most_requests} requests that may wait here; send "
                "several requests of fewer texts."
            )

    def add(self, job: Job) -> None:
        """Let a request wait.

        Raises:
            QueueFullError: If too much waits already.
            EngineClosedError: If none is taken any more.
        """
        with self._changed:
            self._check_open()
            if self._waiting() >= self._most_requests or self._waiting_tokens + job.tokens > self._most_tokens:
                raise QueueFullError(
                    f"{self._waiting()} requests of {self._waiting_tokens} tokens wait already, and this one has "
                    f"{job.tokens}; try again later."
                )
            self._queues[job.way].append(job)
            self._waiting_tokens += job.tokens
            self._changed.notify_all()

    def close(self) -> None:
        """Take no further requests."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Let the worker look again."""
        with self._changed:
            self._changed.notify_all()

    def wait(self) -> bool:
        """Wait until there is something to do; False if there never will be."""
        with self._changed:
            while not (self._waiting() or self._running or self.closed):
                self._changed.wait()
            return bool(self._waiting() or self._running)

    def jobs(self) -> list[Job]:
        """All requests that have not ended."""
        with self._changed:
            return [*itertools.chain(*self._queues.values()), *self._running]

    def running_with(self, voices: Iterable[Voice]) -> list[Job]:
        """The running requests of some texts."""
        some = set(voices)
        with self._changed:
            return [job for job in self._running if not some.isdisjoint(itertools.chain(*job.voices))]

    def first(self, way: Way, most: int) -> list[Job]:
        """The requests that wait longest to be answered in a way; they go on waiting."""
        with self._changed:
            return list(itertools.islice(self._queues[way], most))

    def take(self, way: Way, fits: Callable[[Job], bool]) -> Job | None:
        """The request that waits longest, which runs from now on; None if there is none, or it does not fit."""
        with self._changed:
            waiting = self._queues[way]
            if not waiting or not fits(waiting[0]):
                return None
            job = waiting.popleft()
            self._waiting_tokens -= job.tokens
            self._running.append(job)
            return job

    def sweep(self) -> None:
        """End what nobody waits for any more, and what is too late."""
        now = time.monotonic()
        jobs = self.jobs()
        for job in jobs:
            if job.ticket.cancelled:
                job.ticket.abandoned()
            elif job.deadline is not None and now > job.deadline:
                job.ticket.expired()
        for job in [job for job in jobs if job.ticket.done]:
            self.settle(job)

    def settle(self, job: Job) -> None:
        """Give back what a request that ended held."""
        with self._changed:
            if job in self._queues[job.way]:
                self._queues[job.way].remove(job)
                self._waiting_tokens -= job.tokens
            if job in self._running:
                self._running.remove(job)
            answer = None if job.ticket.failed else job.ticket.result()
            if answer is None:
                self._failed += 1
            else:
                self._answered += 1
                self._input_tokens += answer.input_tokens
                self._output_tokens += answer.output_tokens
        if job.lease is not None and self._folder is not None:
            self._folder.release(job.lease)

    def ran(self, rows: int) -> None:
        """Count a pass of so many rows through the model."""
        if rows:
            with self._changed:
                self._passes += 1
                self._rows += rows

    def counts(self) -> EngineCounts:
        """What was done since the beginning, and what there is to do."""
        with self._changed:
            return EngineCounts(
                waiting=self._waiting(),
                waiting_tokens=self._waiting_tokens,
                running=sum(len(several) for job in self._running for several in job.voices),
                answered=self._answered,
                failed=self._failed,
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
                passes=self._passes,
                rows=self._rows,
            )

    def _check_open(self) -> None:
        if self.closed:
            raise EngineClosedError("The engine is closed and takes no further requests.")

    def _waiting(self) -> int:
        return sum(map(len, self._queues.values()))
