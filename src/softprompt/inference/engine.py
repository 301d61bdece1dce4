"""One backbone that answers requests to any number of tasks, in mixed batches, while prompts come and go.

Requests of all threads go into one queue. A worker takes them from it: inputs whose candidates are to be ranked go
through the model in batches; texts are generated step by step, and where the model allows it a new one joins those that
run already.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted, generation
from softprompt.conditioning.decoding import JoiningDecoding, TurnDecoding
from softprompt.conditioning.splitting import start_cost
from softprompt.errors import (
    ConfigError,
    EngineClosedError,
    QueueFullError,
    SoftpromptError,
    UnknownPromptError,
)
from softprompt.inference.batching import BatchLimits, plan_batches
from softprompt.inference.generating import read_off
from softprompt.inference.lanes import Lane, Voice
from softprompt.inference.prompt_folder import Lease, PromptFolder
from softprompt.inference.queries import EncodedQuery, Query, encode_to_generate, encode_to_rank, names_of
from softprompt.inference.ranking import choose_among
from softprompt.inference.requests import Answer, Completion, Finish, Piece, Request, Ticket
from softprompt.inference.sampling import Chooser
from softprompt.inference.streaming import GrowingText
from softprompt.inference.together import Together, majority
from softprompt.tasks import TextFormat

__all__ = ["Engine", "EngineCounts"]

log = logging.getLogger(__name__)

_PLANNED = 256
"""How many waiting requests a batch is chosen from."""


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


@dataclass(eq=False, kw_only=True)
class _Job:
    """A request on its way."""

    request: Request
    ticket: Ticket
    encoded: EncodedQuery
    lease: Lease | None
    deadline: float | None
    tokens: int
    queue: deque[_Job]
    asked_at: float
    queued_at: float
    begun_at: float = 0.0
    voices: list[list[Voice]] = field(default_factory=list)
    """By answer, the texts that are generated for it: one, or that of each prompt that votes."""

    @property
    def open(self) -> bool:
        return not (self.ticket.done or self.ticket.cancelled)

    @property
    def rows(self) -> int:
        return len(self.encoded.names) * self.request.answers


@final
class Engine:
    """Answers requests to a backbone with any number of prompts. Threads may share it; close it, or use it in a `with`.

    Args:
        backbone: The frozen model.
        prompts: The folder of its prompts; None for the bare backbone alone.
        limits: How large a batch may be: rows and tokens that are generated at once, and those of a pass of ranking.
        queue_requests: Most requests that wait.
        queue_tokens: Most tokens that wait.
        cache_bytes: Most bytes of prompts in memory, as in `PromptFolder`.

    Raises:
        ArtefactError: If there is no such folder.
        ConfigError: If a bound is below 1.
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
        self._limits = limits or BatchLimits()
        self._queue_requests, self._queue_tokens = queue_requests, queue_tokens
        self._encoding = threading.Lock()
        self._condition = threading.Condition()
        self._ranking: deque[_Job] = deque()
        self._joining: deque[_Job] = deque()
        self._turning: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._lanes: dict[str, Lane] = {}
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
            LengthError: If the input is too long.
            DataError: If the input has no tokens, or lacks a column.
            QueueFullError: If too much waits already, or the request by itself is more than may wait.
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
                job.queue.append(job)
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
                running=sum(len(lane.voices) for lane in self._lanes.values()),
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
        if not self._worker.is_alive():
            return True
        with self._condition:
            left = [*self._ranking, *self._joining, *self._turning, *self._running]
            for job in left:
                job.ticket.finish(EngineClosedError("The engine was closed before the answer was complete."))
            self._condition.notify_all()
        self._worker.join()
        return not left

    def _check_open(self) -> None:
        if self._closing:
            raise EngineClosedError("The engine is closed and takes no further requests.")

    def _waiting(self) -> int:
        return len(self._ranking) + len(self._joining) + len(self._turning)

    def _lease(self, name: str | None) -> Lease | None:
        if name is None:
            return None
        if self.folder is None:
            raise UnknownPromptError(f"There is no prompt {name[:128]!r}: this engine has no folder of prompts.")
        return self.folder.acquire(name)

    def _job(
        self, request: Request, lease: Lease | None, start: float, listener: Callable[[Piece | None], None] | None
    ) -> _Job:
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
        with self._encoding, _by_name(lease):
            (encoded,) = encode(self._model, [query])
        deadline = None if request.deadline_s is None else start + request.deadline_s
        return _Job(
            request=request,
            ticket=Ticket(None if lease is None else lease.version, self._wake, listener),
            encoded=encoded,
            lease=lease,
            deadline=deadline,
            tokens=encoded.tokens * request.answers,
            queue=self._queue_of(request, encoded),
            asked_at=start,
            queued_at=time.monotonic(),
        )

    def _queue_of(self, request: Request, encoded: EncodedQuery) -> deque[_Job]:
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
                self._generate("joining", self._joining)
                self._generate("turning", self._turning)
            except Exception as error:  # of the engine itself: nobody may wait for ever
                log.exception("The engine failed; all requests that it has end in this error.")
                self._lanes.clear()
                with self._condition:
                    jobs = [*self._ranking, *self._joining, *self._turning, *self._running]
                for job in jobs:
                    job.ticket.finish(error)
                    self._settle(job)

    def _sweep(self) -> None:
        """End what nobody waits for any more, and what is too late."""
        now = time.monotonic()
        with self._condition:
            jobs = [*self._ranking, *self._joining, *self._turning, *self._running]
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
            some = list(self._ranking)[:_PLANNED]
        if not some:
            return
        rows = [job.encoded for job in some]
        start = start_cost(self.backbone.device)
        batches = plan_batches(rows, range(len(rows)), self._limits, start=start)
        batch = [some[index] for index in next(batch for batch in batches if 0 in batch)]
        self._ran(sum(len(job.encoded.names) for job in batch))
        for job in batch:
            job.begun_at = time.monotonic()
        for job, outcome in self._chosen(batch):
            job.ticket.finish(outcome)
            self._settle(job)

    def _chosen(self, batch: Sequence[_Job]) -> list[tuple[_Job, Answer | BaseException]]:
        """What is chosen for each; where a batch fails, each is tried alone, so that one does not fail the others."""
        try:
            rows = [job.encoded for job in batch]
            if not batch[0].request.candidates:  # what a batch has in common
                return [
                    (job, self._answer(job, completions=(_read(text),)))
                    for job, text in zip(batch, read_off(self._model, rows), strict=True)
                ]
            choices = choose_among(self._model, rows)
        except Exception as error:
            if len(batch) > 1:
                return [outcome for job in batch for outcome in self._chosen([job])]
            return [(batch[0], _named(error, batch[0].lease))]
        return [(job, self._answer(job, choice=choice)) for job, choice in zip(batch, choices, strict=True)]

    def _generate(self, name: str, waiting: deque[_Job]) -> None:
        """A step of a lane, with those that come in; a lane whose rows cannot join waits until it is empty."""
        lane = self._lanes.get(name)
        admitted = self._admitted(name, lane, waiting)
        if lane is None:
            if not admitted:
                return
            decoding = JoiningDecoding(self.backbone) if name == "joining" else TurnDecoding(self.backbone)
            lane = self._lanes[name] = Lane(self._model, decoding)
        if not (lane.voices or admitted):
            return
        new = [voice for job in admitted for voices in job.voices for voice in voices]
        self._ran(lane.rows + sum(len(voice.names) for voice in new))
        try:
            lane.turn(new)
        except Exception as error:
            log.exception("A step of generation failed.")
            del self._lanes[name]
            for job in [job for job in self._running if job.queue is waiting]:
                job.ticket.finish(_named(error, job.lease))
        for job in [job for job in self._running if job.ticket.done]:
            self._settle(job)

    def _admitted(self, name: str, lane: Lane | None, waiting: deque[_Job]) -> list[_Job]:
        """Requests that come in now, in their order: as many as the limits allow, at least one into an empty lane."""
        rows = 0 if lane is None else lane.rows
        if name == "turning" and rows:
            return []
        tokens = sum(job.tokens for job in self._running if job.queue is waiting)
        admitted: list[_Job] = []
        with self._condition:
            while waiting:
                job = waiting[0]
                fits = rows + job.rows <= self._limits.rows and tokens + job.tokens <= self._limits.tokens
                if not fits and (rows or admitted):
                    break
                waiting.popleft()
                self._waiting_tokens -= job.tokens
                self._running.append(job)
                admitted.append(job)
                rows, tokens = rows + job.rows, tokens + job.tokens
        for job in admitted:
            job.begun_at = time.monotonic()
            job.voices = self._voices(job)
        return admitted

    def _voices(self, job: _Job) -> list[list[Voice]]:
        """By answer, what is generated for it."""
        asked, sampling = job.encoded.prompt, job.request.sampling
        votes = isinstance(asked, Together) and asked.combine == "vote"
        groups = [(name,) for name in names_of(asked)] if votes else [names_of(asked)]
        tokenizer = self.backbone.need_tokenizer()
        ends = sorted(self._ends)
        seen = job.encoded.input.ids if self.backbone.spec.kind == "decoder-only" else []
        return [
            [
                Voice(
                    input=job.encoded.input,
                    names=names,
                    chooser=Chooser(sampling, seen, ends, number),
                    growing=GrowingText(tokenizer, sampling.stop),
                    ends=self._ends,
                    wanted=lambda job=job: job.open,  # type: ignore[misc]
                    report=functools.partial(self._report, job, number),
                    fail=lambda error, job=job: job.ticket.finish(_named(error, job.lease)),  # type: ignore[misc]
                )
                for names in groups
            ]
            for number in range(job.request.answers)
        ]

    def _report(self, job: _Job, number: int, voice: Voice, new: str, finish: Finish | None) -> None:
        """Tell who waits what is new; the last text that ends makes the answer."""
        voices = job.voices[number]
        if len(voices) == 1:
            job.ticket.add(Piece(number, new, (voice.tokens[-1],), finish))
        elif all(one.finish is not None for one in voices):
            said = _elected(voices)
            job.ticket.add(Piece(number, said.text, said.tokens, said.finish))
        if all(one.finish is not None for several in job.voices for one in several):
            job.ticket.finish(self._answer(job, completions=tuple(_elected(several) for several in job.voices)))

    def _answer(self, job: _Job, **outcome: object) -> Answer:
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

    def _settle(self, job: _Job) -> None:
        """Give back what a request that ended held."""
        with self._condition:
            if job in job.queue:
                job.queue.remove(job)
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
        with self._condition:
            self._passes += 1
            self._rows += rows


def _read(text: str) -> Completion:
    """What a head over tokens says."""
    return Completion(text=text, finish="stop", tokens=())


def _elected(voices: Sequence[Voice]) -> Completion:
    """The text that most prompts say; one's own text where there is but one."""
    texts = [voice.growing.text for voice in voices]
    return voices[texts.index(majority(texts))].completion()


def _named(error: Exception, lease: Lease | None) -> Exception:
    """An error that names the prompt as its request does, not as the model knows it."""
    if lease is None or not isinstance(error, SoftpromptError):
        return error
    keys = [name for name in names_of(lease.prompt) if name is not None]
    return type(error)(functools.reduce(lambda text, key: text.replace(key, lease.name), keys, str(error)))


@contextlib.contextmanager
def _by_name(lease: Lease | None) -> Iterator[None]:
    try:
        yield
    except SoftpromptError as error:
        raise _named(error, lease) from None
