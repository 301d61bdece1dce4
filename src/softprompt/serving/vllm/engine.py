"""An engine whose model is a vLLM server's: prompts, templates and tokens are here, the passes there.

A request's whole input goes there as embeddings, the prompt's rows among those of its tokens; there is nothing else to
agree on, such as chat templates. What comes back are token ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted, generation
from softprompt.errors import ConfigError, EngineClosedError, QueueFullError, UnreachableError
from softprompt.inference import Lease, Piece, PromptFolder, Request, Ticket
from softprompt.inference.backlog import Backlog, EngineCounts
from softprompt.inference.intake import encode_request, holding, make_job, named
from softprompt.inference.jobs import Job, elected
from softprompt.inference.ranking import choice_of
from softprompt.serving.vllm.asking import ask_for_candidates, ask_for_texts
from softprompt.serving.vllm.beginnings import Beginnings, beginnings, summed, tokens_sent
from softprompt.serving.vllm.bodies import generating_body, ranking_body, written
from softprompt.serving.vllm.checking import Behind, look_behind
from softprompt.serving.vllm.client import VllmClient, VllmServer
from softprompt.serving.vllm.fitting import check_backbone, check_settings, unfit
from softprompt.serving.vllm.inputs import WholeInput, input_tokens

__all__ = ["VllmEngine"]

_CHECK_S = 60.0
"""Within which the server has to have answered for the first time."""


@final
class VllmEngine:
    """Answers requests by a vLLM server. Threads may share it; close it, or use it in a `with`.

    Args:
        backbone: What the server has, too. Once this is made, `drop_layers` may follow: its embedding table is enough.
            Its sequences become no longer than the server's.
        prompts: The folder of its prompts; None for the bare backbone alone.
        server: Where the vLLM server is.
        most_requests: Most requests on their way.
        most_tokens: Most tokens that these may take up together; candidates count the input once for each beginning
            that is sent for them.
        cache_bytes: Most bytes of prompts in memory.

    Raises:
        ArtefactError: If there is no such folder.
        ConfigError: If a bound is below 1.
        UnsupportedError: If the backbone is not decoder-only.
        MismatchError: If the server has another model.
        ServerError: If it fails, or cannot be reached (then an `UnreachableError`).
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: str | Path | None,
        server: VllmServer,
        *,
        most_requests: int = 1024,
        most_tokens: int = 2**20,
        cache_bytes: int = 2**30,
    ) -> None:
        for name, value in (("most_requests", most_requests), ("most_tokens", most_tokens)):
            if value < 1:
                raise ConfigError(f"{name}={value}: expected at least 1.")
        check_backbone(backbone)
        self.backbone = backbone
        self.folder: PromptFolder | None = None
        if prompts is not None:
            self.folder = PromptFolder(
                backbone,
                prompts,
                cache_bytes=cache_bytes,
                conditioning="concatenation",
                unfit=functools.partial(unfit, dtype=backbone.dtype),
            )
        self._model = Prompted(backbone) if self.folder is None else self.folder.model
        self._most_requests, self._most_tokens = most_requests, most_tokens
        self._backlog = Backlog(self.folder, most_requests=most_requests, most_tokens=most_tokens)
        self._ends = frozenset(generation.end_ids(backbone))
        self._encoding, self._admission = threading.Lock(), threading.Lock()
        self._tasks: dict[Job, asyncio.Task[None]] = {}  # of the loop's thread
        self._client = VllmClient(server)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="softprompt vllm", daemon=True)
        self._thread.start()
        try:
            self._behind = self._there(self._look(server.model))
        except BaseException:
            self._end()
            raise
        limits = [most for most in (self._behind.max_tokens, backbone.spec.max_positions) if most is not None]
        backbone.spec = dataclasses.replace(backbone.spec, max_positions=min(limits, default=None))

    def __enter__(self) -> VllmEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether it takes requests."""
        return not self._backlog.closed

    def is_reachable(self) -> bool:
        """Whether the vLLM server says that it is well, within 2 seconds."""
        return bool(self._there(self._client.is_up()))

    def check_number(self, requests: int) -> None:
        """Whether so many requests that belong together could ever be taken.

        Raises:
            ConfigError: If they are more than may be on their way at all.
        """
        self._backlog.check_number(requests)

    def submit(self, request: Request, listener: Callable[[Piece | None], None] | None = None) -> Ticket:
        """Take a request. Its prompt is loaded and its input tokenized here, in the caller's thread.

        Args:
            request: What is asked.
            listener: As in `Engine.submit`.

        Returns:
            What its answer comes by. It may end in what an `Engine` knows, in a `NonFiniteError` if its embeddings are
            not finite in every dtype that the server may have, and in a `ServerError` (an `UnreachableError`, if
            nothing answers there) or `QueueFullError` of the server's.

        Raises:
            UnknownPromptError: If there is no prompt of its name.
            ArtefactError: If the prompt is damaged or was made for another backbone.
            NonFiniteError: If it is NaN or infinite in the backbone's dtype.
            UnsupportedError: If the server cannot compute the prompt, or a setting, as the library does.
            ConfigError: If candidates are missing or doubled.
            LengthError: If the input is too long, or the whole request is more than may be on its way.
            DataError: If the input has no tokens, or lacks a column.
            QueueFullError: If too much is on its way already.
            EngineClosedError: If the engine is closed.
        """
        start = time.monotonic()
        self._check_room(0)
        with holding(self.folder, request.prompt) as lease:
            job = self._job(request, lease, start, listener)
            with self._admission:
                self._check_room(job.tokens)
                self._backlog.add(job)
                self._backlog.take(job.way, lambda _: True)
                self._loop.call_soon_threadsafe(self._start, job)
        return job.ticket

    def counts(self) -> EngineCounts:
        """What was done since the beginning, and what there is to do; passes are the server's, and not counted."""
        return self._backlog.counts()

    def close(self, timeout: float | None = None) -> bool:
        """Take no further requests, finish those that were taken, and end.

        Args:
            timeout: Seconds after which requests that are not answered yet end in an `EngineClosedError`; None waits.

        Returns:
            Whether all were answered.
        """
        with self._admission:  # whatever was taken before has begun
            self._backlog.close()
        if not self._thread.is_alive():
            return True
        complete: bool = self._there(self._finished(timeout))
        self._end()
        return complete

    def _job(
        self, request: Request, lease: Lease | None, start: float, listener: Callable[[Piece | None], None] | None
    ) -> Job:
        with self._encoding, named(lease):
            encoded = encode_request(self._model, request, lease)
            if request.candidates:
                sent = tokens_sent(encoded.targets, input_tokens(self._model, encoded))
                encoded = dataclasses.replace(encoded, tokens=sent)
            else:
                check_settings(self.backbone, request.sampling, encoded.input.ids)
        return make_job(
            self._model,
            request,
            Ticket(None if lease is None else lease.version, self._wake, listener),
            encoded,
            lease,
            way="rank" if request.candidates else "join",
            asked_at=start,
            most_tokens=self._most_tokens,
            ends=self._ends,
        )

    def _check_room(self, tokens: int) -> None:
        self._backlog.check_room()
        jobs = [job for job in self._backlog.jobs() if not job.ticket.done]  # an answer is given before it is settled
        if len(jobs) >= self._most_requests or sum(job.tokens for job in jobs) + tokens > self._most_tokens:
            raise QueueFullError(f"{len(jobs)} requests are on their way already; try again later.")

    def _start(self, job: Job) -> None:
        task = self._loop.create_task(self._answered(job))
        self._tasks[job] = task
        task.add_done_callback(functools.partial(self._settle, job))

    def _settle(self, job: Job, task: asyncio.Task[None]) -> None:
        del self._tasks[job]
        if not job.ticket.done:
            job.ticket.abandoned()
        self._backlog.settle(job)

    async def _answered(self, job: Job) -> None:
        """Answer a request, or end it in what prevents that."""
        job.begun_at = time.monotonic()
        try:
            async with asyncio.timeout(None if job.deadline is None else job.deadline - job.begun_at):
                await (self._rank(job) if job.way == "rank" else self._say(job))
        except TimeoutError:
            job.ticket.expired()
        except ExceptionGroup as several:
            job.fail(several.exceptions[0])
        except Exception as error:
            job.fail(error)

    async def _say(self, job: Job) -> None:
        sampling = job.request.sampling
        whole = await asyncio.to_thread(WholeInput, self._model, job)
        given = await asyncio.to_thread(whole.before, [()])

        def body(number: int) -> bytes:
            return written(generating_body(self._behind.model, given, sampling, self._ends, number))

        voices = [voice for (voice,) in job.voices]
        vocab = self.backbone.spec.vocab
        await ask_for_texts(self._client, voices, body, vocab=vocab, logprobs=sampling.logprobs)
        job.finish(self._model, completions=tuple(elected(several) for several in job.voices))

    async def _rank(self, job: Job) -> None:
        targets = job.encoded.targets
        whole = await asyncio.to_thread(WholeInput, self._model, job)
        parts = await asyncio.to_thread(beginnings, targets, input_tokens(self._model, job.encoded))

        def body(part: Beginnings) -> bytes:
            return written(ranking_body(self._behind.model, whole.before(part.ids), part.tokens))

        known = await ask_for_candidates(self._client, parts, body)
        scores = await asyncio.to_thread(summed, targets, known)
        job.finish(self._model, choice=choice_of(job.encoded, scores))

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it all requests
            self._loop.call_soon_threadsafe(self._sweep)

    def _sweep(self) -> None:
        for job, task in self._tasks.items():
            if job.ticket.cancelled:
                task.cancel()

    async def _look(self, model: str | None) -> Behind:
        try:
            async with asyncio.timeout(_CHECK_S):
                return await look_behind(self._client, self.backbone, model)
        except TimeoutError:
            raise UnreachableError(
                f"The vLLM server did not answer within {_CHECK_S:g} seconds; wait until it is ready, then start again."
            ) from None

    async def _finished(self, timeout: float | None) -> bool:
        tasks = dict(self._tasks)
        if tasks:
            await asyncio.wait(tasks.values(), timeout=timeout)
        left = [(job, task) for job, task in tasks.items() if not task.done()]
        for job, task in left:
            job.ticket.finish(EngineClosedError("The engine was closed before the answer was complete."))
            task.cancel()
        if left:
            await asyncio.wait([task for _, task in left])
        return not left

    def _there(self, work: Any) -> Any:
        """Do something in the loop's thread, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._there(self._client.close())
        self._there(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
