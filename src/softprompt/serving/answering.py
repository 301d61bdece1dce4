"""Between a server's event loop and its engine's thread: requests go in, pieces of text and answers come out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, final

import anyio

from softprompt.errors import DeadlineError
from softprompt.inference import Answer, Piece, Request, Ticket
from softprompt.serving.engines import AnsweringEngine
from softprompt.serving.failures import Failure, FailureError
from softprompt.serving.metrics import Metrics

__all__ = ["Answering", "Asked", "while_connected", "within"]

_THREADS = 4
"""That tokenize and look; the work is mostly done under the engine's own lock, so more would only wait."""

T = TypeVar("T")


@final
class Asked:
    """Requests that the engine has taken."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []
        self.events: asyncio.Queue[tuple[int, Piece | None]] = asyncio.Queue()
        self._lock = threading.Lock()
        self._gone = False

    def add(self, ticket: Ticket) -> bool:
        """A request was taken; False if nobody waits any more, and no further one should be."""
        with self._lock:
            self.tickets.append(ticket)
            if self._gone:
                ticket.cancel()
            return not self._gone

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Parts of texts as they grow, each with the number of its request.

        Raises:
            SoftpromptError: What a request ended in.
        """
        left = len(self.tickets)
        while left:
            number, piece = await self.events.get()
            if piece is not None:
                yield number, piece
                continue
            left -= 1
            self.tickets[number].result()

    def answers(self) -> list[Answer]:
        """The whole answers, once all pieces have come."""
        return [ticket.result() for ticket in self.tickets]

    def cancel(self) -> None:
        """Nobody waits for them any more, nor for those still to come; those that are answered stay so."""
        with self._lock:
            self._gone = True
            tickets = list(self.tickets)
        for ticket in tickets:
            ticket.cancel()


@final
class Answering:
    """An engine for coroutines.

    Args:
        engine: Answers.
        metrics: Where answers are counted.
    """

    def __init__(self, engine: AnsweringEngine, metrics: Metrics) -> None:
        self.engine = engine
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="softprompt answering")

    @contextlib.asynccontextmanager
    async def asking(self, requests: Sequence[Request], until: float, *, growing: bool = True) -> AsyncIterator[Asked]:
        """Requests to the engine; what is not answered when the block is left is cancelled.

        Args:
            requests: What is asked.
            until: When the answers have to be there, by the monotonic clock.
            growing: Whether pieces are wanted, or the ends alone, so that the loop is woken once for each request.

        Raises:
            DeadlineError: If that has passed before they are taken.
            ConfigError: If they are more than may wait at all; further errors as of `Engine.submit`.
        """
        self.engine.check_number(len(requests))
        asked = Asked()
        loop = asyncio.get_running_loop()

        def listen(number: int, piece: Piece | None) -> None:
            if piece is not None and not growing:
                return
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(asked.events.put_nowait, (number, piece))

        def submit() -> None:
            for number, request in enumerate(requests):
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise _late()
                hurried = dataclasses.replace(request, deadline_s=left_s)
                if not asked.add(self.engine.submit(hurried, functools.partial(listen, number))):
                    return

        try:
            async with within(until):
                await self.in_thread(submit)
            yield asked
        finally:
            asked.cancel()

    async def all(self, requests: Sequence[Request], until: float) -> list[Answer]:
        """The answers to several requests, which may share batches; where one fails, all do. As in `asking`."""
        async with self.asking(requests, until, growing=False) as asked:
            async for _ in asked.pieces():
                pass
        self.count(answers := asked.answers())
        return answers

    def count(self, answers: Sequence[Answer]) -> None:
        """Note in the metrics where answers' time went."""
        for answer in answers:
            self._metrics.answered(answer)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what blocks beside the event loop; if nobody waits any more before it has begun, it is not done."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


@contextlib.asynccontextmanager
async def within(until: float) -> AsyncIterator[None]:
    """A block that has to end by a time of the monotonic clock.

    Raises:
        DeadlineError: If it does not.
    """
    try:
        async with asyncio.timeout(until - time.monotonic()) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise _late() from None


def _late() -> DeadlineError:
    return DeadlineError(
        "The request's deadline passed before it was begun, because its prompt was not read or others came first; ask "
        "again."
    )


async def while_connected(receive: Callable[[], Awaitable[Any]], work: Awaitable[T]) -> T:
    """Work for a client, unless it leaves before it is done.

    Raises:
        FailureError: If it does.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    leaving, working = asyncio.ensure_future(gone()), asyncio.ensure_future(work)
    try:
        await asyncio.wait({leaving, working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise FailureError(Failure(status=499, message="The client has gone.", code="cancelled"))
    finally:
        for task in (leaving, working):
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(leaving, working, return_exceptions=True)
