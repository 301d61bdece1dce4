"""One backbone that answers requests to any number of tasks, in mixed batches, while prompts come and go.

Requests of all threads go into one queue. A worker takes them from it: inputs whose candidates are to be ranked go
through the model in batches; texts are generated step by step, and where the model allows it a new one joins those that
run already.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted, generation
from softprompt.conditioning.decoding import Decoding, JoiningDecoding, TurnDecoding
from softprompt.conditioning.splitting import start_cost
from softprompt.errors import (
    ConfigError,
    EngineClosedError,
    LengthError,
    QueueFullError,
    SoftpromptError,
    UnknownPromptError,
)
from softprompt.inference.batching import BatchLimits, plan_batches
from softprompt.inference.generating import read_off
from softprompt.inference.jobs import Job, Queue, by_name, elected
from softprompt.inference.lanes import Lane
from softprompt.inference.prompt_folder import Lease, PromptFolder
from softprompt.inference.queries import EncodedQuery, Query, encode_to_generate, encode_to_rank
from softprompt.inference.ranking import choose_among
from softprompt.inference.requests import Answer, Completion, Piece, Request, Ticket
from softprompt.tasks import TextFormat

__all__ = ["Engine", "EngineCounts"]

log = logging.getLogger(__name__)

_PLANNED = 256
"""How many waiting requests a batch is chosen from."""
_TURNS, _PATIENCE = 4, 16
"""Where texts must begin together: how many batches run beside each other at most, and after how many steps of the
last one the next one begins; so that a short text does not wait for the end of a long one."""


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
        self._queue_requests, self._queue_tokens = queue_requests, queue_tokens
        self._encoding = threading.Lock()
        self._condition = threading.Condition()
        self._ranking = Queue(0)
        self._joining = Queue(1)
        self._turning = Queue(_TURNS)
        self._queues = (self._ranking, self._joining, self._turning)
        self._running: list[Job] = []
        self._ends = frozenset(generation.end_ids(backbone)) if backbone.spec.kind != "encoder-only" else frozenset()
        self._waiting_tokens = self._answered = self._failed = 0
        self._input_tokens = self._output_tokens = self._passes = self._rows = 0
        self._closing = False
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
        return not self._closing and self._worker.is_alive()

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
        with self._condition:
            self._check_open()
            if self._waiting() >= self._queue_requests:
                raise QueueFullError(f"{self._queue_requests} requests wait already; try again later.")
        lease = self._lease(request.prompt)
        try:
            job = self._job(request, lease, start, listener)
            with self._condition:
                self._check_open()
                if self._waiting() >= self._queue_requests or self._waiting_tokens + job.tokens > self._queue_tokens:
                    raise QueueFullError(
                        f"{self._waiting()} requests of {self._waiting_tokens} tokens wait already, and this one has "
                        f"{job.tokens}; try again later."
                    )
                job.queue.waiting.append(job)
                self._waiting_tokens += job.tokens
                self._condition.notify_all()
        except BaseException:
            if lease is not None and self.folder is not None:
                self.folder.release(lease)
            raise
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
        with self._condition:
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

    def close(self, timeout: float | None = None) -> bool:
        """Take no further requests, finish those that were taken, and end.

        Args:
            timeout: Seconds after which requests that are not answered yet end in an `EngineClosedError`; None waits.

        Returns:
            Whether all were answered.
        """
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._worker.join(timeout)
        with self._condition:
            left = self._all()
        for job in left:
            job.ticket.finish(EngineClosedError("The engine was closed before the answer was complete."))
        self._wake()
        self._worker.join()
        return not left

    def _check_open(self) -> None:
        if self._closing:
            raise EngineClosedError("The engine is closed and takes no further requests.")

    def _waiting(self) -> int:
        return sum(len(queue.waiting) for queue in self._queues)

    def _all(self) -> list[Job]:
        return [*(job for queue in self._queues for job in queue.waiting), *self._running]

    def _lease(self, name: str | None) -> Lease | None:
        if name is None:
            return None
        if self.folder is None:
            raise UnknownPromptError(f"There is no prompt {name[:128]!r}: this engine has no folder of prompts.")
        return self.folder.acquire(name)

    def _job(
        self, request: Request, lease: Lease | None, start: float, listener: Callable[[Piece | None], None] | None
    ) -> Job:
        stored = None if lease is None or request.raw else lease.info.format
        query = Query(
            input=request.input,
            prompt=None if lease is None else lease.prompt,
            form=None if stored is None else TextFormat.from_mapping(stored),
            candidates=request.candidates,
            max_new_tokens=request.sampling.max_new_tokens,
            max_input_tokens=request.max_input_tokens,
            truncate=request.truncate,
        )
        encode = encode_to_rank if request.candidates else encode_to_generate
        deadline = None if request.deadline_s is None else start + request.deadline_s
        with self._encoding, _named(lease):
            (encoded,) = encode(self._model, [query])
            queue = self._queue_of(request, encoded)
        job = Job(
            request=request,
            ticket=Ticket(None if lease is None else lease.version, self._wake, listener),
            encoded=encoded,
            lease=lease,
            deadline=deadline,
            queue=queue,
            asked_at=start,
            queued_at=time.monotonic(),
        )
        if job.tokens > (most := min(self._limits.tokens, self._queue_tokens)):
            raise LengthError(
                f"The request may take {job.tokens} tokens, but at most {most} fit here; shorten the input, or ask for "
                "fewer or shorter answers."
            )
        if queue is not self._ranking:
            job.prepare_voices(self._model, self._ends)
        return job

    def _queue_of(self, request: Request, encoded: EncodedQuery) -> Queue:
        if request.candidates or self.backbone.spec.kind == "encoder-only":
            return self._ranking
        return self._joining if self._model.may_join(encoded.names) else self._turning

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _work(self) -> None:
        while True:
            with self._condition:
                while not (self._waiting() or self._running or self._closing):
                    self._condition.wait()
                if self._closing and not (self._waiting() or self._running):
                    return
            try:
                self._sweep()
                self._rank()
                self._generate(self._joining)
                self._generate(self._turning)
            except Exception as error:  # of the engine itself: nobody may wait for ever
                log.exception("The engine failed; all requests that it has end in this error.")
                for queue in self._queues:
                    queue.lanes.clear()
                with self._condition:
                    jobs = self._all()
                for job in jobs:
                    job.fail(error)
                    self._settle(job)

    def _sweep(self) -> None:
        """End what nobody waits for any more, and what is too late."""
        now = time.monotonic()
        with self._condition:
            jobs = self._all()
        for job in jobs:
            if job.ticket.cancelled:
                job.ticket.abandoned()
            elif job.deadline is not None and now > job.deadline:
                job.ticket.expired()
        for job in [job for job in jobs if job.ticket.done]:
            self._settle(job)

    def _rank(self) -> None:
        """One batch of inputs whose candidates are ranked, the one that waits longest among them."""
        with self._condition:
            some = list(self._ranking.waiting)[:_PLANNED]
        if not some:
            return
        rows = [job.encoded for job in some]
        start = start_cost(self.backbone.device)
        batches = plan_batches(rows, range(len(rows)), self._limits, start=start)
        batch = [some[index] for index in next(batch for batch in batches if 0 in batch)]
        for job in batch:
            job.begun_at = time.monotonic()
        self._choose(batch)
        for job in batch:
            self._settle(job)

    def _choose(self, batch: Sequence[Job]) -> None:
        """Answer a batch; where it fails, its halves are tried, so that one does not fail the others."""
        self._ran(sum(len(job.encoded.names) for job in batch))
        problem = self._chosen(batch)
        if problem is None:
            return
        if len(batch) == 1:
            batch[0].fail(problem)
            return
        middle = len(batch) // 2
        self._choose(batch[:middle])
        self._choose(batch[middle:])

    def _chosen(self, batch: Sequence[Job]) -> Exception | None:
        """Answer a batch, or say what prevents it."""
        rows = [job.encoded for job in batch]
        try:
            if batch[0].request.candidates:  # what a batch has in common
                for job, choice in zip(batch, choose_among(self._model, rows), strict=True):
                    job.ticket.finish(self._answer(job, choice=choice))
            else:
                for job, text in zip(batch, read_off(self._model, rows), strict=True):
                    said = Completion(text=text, finish="stop", tokens=())
                    job.ticket.finish(self._answer(job, completions=(said,)))
        except Exception as error:
            return error.with_traceback(None)  # which would keep the batch's tensors
        return None

    def _generate(self, queue: Queue) -> None:
        """A step of each running batch, with those that come in, and a new batch where one may begin."""
        for lane in list(queue.lanes):
            self._turn(queue, lane, self._admitted(queue, lane) if queue is self._joining else [])
        last = queue.lanes[-1].steps if queue.lanes else _PATIENCE
        if len(queue.lanes) < queue.most_lanes and last >= _PATIENCE and queue.waiting:
            lane = Lane(self._model, self._begin_joining if queue is self._joining else self._begin_turning)
            if admitted := self._admitted(queue, lane):
                queue.lanes.append(lane)
                self._turn(queue, lane, admitted)

    def _begin_joining(self) -> Decoding:
        return JoiningDecoding(self.backbone)

    def _begin_turning(self) -> Decoding:
        return TurnDecoding(self.backbone)

    def _turn(self, queue: Queue, lane: Lane, admitted: Sequence[Job]) -> None:
        new = [voice for job in admitted for voices in job.voices for voice in voices]
        self._ran(lane.rows + sum(len(voice.names) for voice in new))
        for job in admitted:
            job.lane, job.begun_at = lane, time.monotonic()
        mine = [job for job in self._running if job.lane is lane]
        try:
            lane.turn(new)
        except Exception as error:
            queue.lanes.remove(lane)
            for job in mine:
                job.fail(error)
        for job in mine:
            if job.is_said and not job.ticket.done:
                said = tuple(elected(several) for several in job.voices)
                job.ticket.finish(self._answer(job, completions=said))
            if job.ticket.done:
                self._settle(job)
        if lane in queue.lanes and not lane.voices:
            queue.lanes.remove(lane)

    def _admitted(self, queue: Queue, lane: Lane) -> list[Job]:
        """Requests that come into a batch now, in their order: as many as the limits allow, or one if none runs."""
        rows, width = lane.rows, lane.width
        others = [one for one in queue.lanes if one is not lane]
        other_rows, other_tokens = sum(one.rows for one in others), sum(one.rows * one.width for one in others)
        admitted: list[Job] = []
        with self._condition:
            while queue.waiting:
                job = queue.waiting[0]
                more, wider = rows + job.rows, max(width, job.width)
                fits = other_rows + more <= self._limits.rows and other_tokens + more * wider <= self._limits.tokens
                if not fits and (rows or others):
                    break
                queue.waiting.popleft()
                self._waiting_tokens -= job.tokens
                self._running.append(job)
                admitted.append(job)
                rows, width = more, wider
        return admitted

    def _answer(self, job: Job, **outcome: object) -> Answer:
        names = job.encoded.names
        made = sum(len(one.tokens) * len(one.names) for several in job.voices for one in several)
        return Answer(
            version=job.ticket.version,
            input_tokens=len(job.encoded.input.ids),
            prompt_tokens=sum(0 if name is None else self._model.prompts[name].length for name in names),
            output_tokens=made + sum(map(len, job.encoded.targets)) * len(names),
            prepare_s=job.queued_at - job.asked_at,
            wait_s=job.begun_at - job.queued_at,
            run_s=time.monotonic() - job.begun_at,
            **outcome,  # type: ignore[arg-type]
        )

    def _settle(self, job: Job) -> None:
        """Give back what a request that ended held."""
        with self._condition:
            if job in job.queue.waiting:
                job.queue.waiting.remove(job)
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
        if job.lease is not None and self.folder is not None:
            self.folder.release(job.lease)

    def _ran(self, rows: int) -> None:
        if rows:
            with self._condition:
                self._passes += 1
                self._rows += rows


@contextlib.contextmanager
def _named(lease: Lease | None) -> Iterator[None]:
    try:
        yield
    except SoftpromptError as error:
        raise by_name(error, lease) from None
