"""One task at a time: what a server must do that cannot mix prompts in a batch."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from typing import final

__all__ = ["Turns"]


@final
class Turns:
    """Lets requests of one task at a time go on.

    A task's turn are all of its requests that wait when it begins, and those that come while no other task waits. When
    the last of them is answered, the task whose request has waited longest is next. Within a task the first goes first.
    """

    def __init__(self) -> None:
        self.task: int | None = None
        self.running = 0
        self._waiting: OrderedDict[int, deque[asyncio.Future[None]]] = OrderedDict()
        """By task; a task is added when its first request has to wait, so the first one has waited longest."""

    @contextlib.asynccontextmanager
    async def turn(self, task: int) -> AsyncIterator[None]:
        """Wait until requests of this task may go on, and hold its turn for the block."""
        at_once = not self.running or (task == self.task and not self._waiting)
        if at_once:
            self.task = task
            self.running += 1
        else:
            admitted = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(task, deque()).append(admitted)
            await admitted
        try:
            if at_once:
                await asyncio.sleep(0)  # who was admitted a moment ago has not gone on yet
            yield
        finally:
            self.running -= 1
            if not self.running and self._waiting:
                self._switch()

    def _switch(self) -> None:
        self.task, waiting = self._waiting.popitem(last=False)
        self.running = len(waiting)
        for admitted in waiting:
            admitted.set_result(None)
