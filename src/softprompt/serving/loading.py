"""Prompts are read beside a server's event loop and its engine, once for all who wait for one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, final

from softprompt.errors import SoftpromptError
from softprompt.inference import Lease, PromptFolder

__all__ = ["Loading"]

_THREADS = 4
"""That read, check and compute prompts, no two of them the same."""

T = TypeVar("T")


@dataclass(eq=False)
class _Read:
    """One prompt that is being read, and how many wait for it; the last of them gives the first lease back."""

    lease: asyncio.Future[Lease]
    waiting: int = 0
    given_back: bool = False


@final
class Loading:
    """A folder of prompts for coroutines of one event loop.

    Args:
        folder: The prompts.
    """

    def __init__(self, folder: PromptFolder) -> None:
        self.folder = folder
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="softprompt loading")
        self._reads: dict[str, _Read] = {}

    @contextlib.asynccontextmanager
    async def holding(self, name: str) -> AsyncIterator[Lease]:
        """Hold a prompt for a block; whoever is cancelled while it is read leaves nothing behind.

        Raises:
            SoftpromptError: As of `PromptFolder.acquire`.
        """
        lease = self.folder.find(name) or await self._loaded(name)
        try:
            yield lease
        finally:
            self.folder.release(lease)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what takes as long as loading a prompt, in one of the threads that do that."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _loaded(self, name: str) -> Lease:
        if (earlier := self._reads.get(name)) is not None:
            # it may have begun before what is there now was put in its place
            with contextlib.suppress(SoftpromptError):
                async with self._end_of(earlier):
                    if (found := self.folder.find(name)) is not None:
                        return found
        async with self._end_of(self._reads.get(name) or self._begin(name)) as lease:
            return self.folder.share(lease)

    def _begin(self, name: str) -> _Read:
        read = _Read(asyncio.get_running_loop().run_in_executor(self._threads, self.folder.acquire, name))
        self._reads[name] = read

        def ended(_: asyncio.Future[Lease]) -> None:
            del self._reads[name]
            self._give_back(read)

        read.lease.add_done_callback(ended)
        return read

    @contextlib.asynccontextmanager
    async def _end_of(self, read: _Read) -> AsyncIterator[Lease]:
        """The lease of a read once it is there; it is held until nobody is in this block any more."""
        read.waiting += 1
        try:
            yield await asyncio.shield(read.lease)
        finally:
            read.waiting -= 1
            self._give_back(read)

    def _give_back(self, read: _Read) -> None:
        if read.waiting or read.given_back or not read.lease.done():
            return
        read.given_back = True
        if read.lease.exception() is None:
            self.folder.release(read.lease.result())
