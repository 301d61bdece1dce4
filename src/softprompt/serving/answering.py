"""Between a server's event loop and its engine's thread: requests go in, pieces of text and answers come out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar, final

import anyio
from anyio import CapacityLimiter, to_thread

from softprompt.inference import Answer, Piece, Request, Ticket
from softprompt.serving.engines import AnsweringEngine
from softprompt.serving.failures import Failure, FailureError
from softprompt.serving.metrics import Metrics

__all__ = ["Answering", "Asked", "while_connected"]

_THREADS = 4
"""That load prompts and tokenize; the work is mostly done under the engine's own lock, so more would only wait."""

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
        self._limiter: CapacityLimiter | None = None

    @contextlib.asynccontextmanager
    async def asking(self, requests: Sequence[Request], *, growing: bool = True) -> AsyncIterator[Asked]:
        """Requests to the engine; what is not answered when the block is left is cancelled.

        Args:
            requests: What is asked.
            growing: Whether pieces are wanted, or the ends alone, so that the loop is woken once for each request.
        """
        asked = Asked()
        loop = asyncio.get_running_loop()

        def listen(number: int, piece: Piece | None) -> None:
            if piece is not None and not growing:
                return
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(asked.events.put_nowait, (number, piece))

        def submit() -> None:
            for number, request in enumerate(requests):
                if not asked.add(self.engine.submit(request, functools.partial(listen, number))):
                    return

        try:
            await self.in_thread(submit)
            yield asked
        finally:
            asked.cancel()

    async def all(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers to several requests, which may share batches; where one fails, all do."""
        async with self.asking(requests, growing=False) as asked:
            async for _ in asked.pieces():
                pass
        self.count(answers := asked.answers())
        return answers

    def count(self, answers: Sequence[Answer]) -> None:
        """Note in the metrics where answers' time went."""
        for answer in answers:
            self._metrics.answered(answer)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what blocks beside the event loop."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(_THREADS)
        return await to_thread.run_sync(work, limiter=self._limiter)


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
