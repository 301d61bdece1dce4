"""What a worker process of a study does: the units that it is sent."""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, final

import torch

from softprompt.loop.allocator import keep_freed_memory
from softprompt.studies.grid import Grid
from softprompt.studies.workplace import Unit, Workplace

__all__ = ["Place", "work"]


@final
@dataclass(frozen=True)
class Place:
    """What a process needs to make a workplace of its own.

    Attributes:
        grid: What is compared.
        output_dir: The study's folder.
        device: Where to compute.
        threads: Of the CPU, for computing.
    """

    grid: Grid
    output_dir: str
    device: str
    threads: int


def work(connection: Connection, place: Place) -> None:
    """Do unit after unit, until the parent ends.

    Args:
        connection: Gives units, and takes `("done", what came of one)`, `("failed", the error)` and `("said", a line)`.
        place: Where.
    """
    os.setsid()  # Ctrl-C on a terminal is the parent's, who tells each once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sending = threading.Lock()

    def send(message: tuple[str, Any]) -> None:
        with sending:
            connection.send(message)

    sys.stderr = _Told(send)
    torch.set_num_threads(place.threads)
    keep_freed_memory()
    workplace = Workplace(place.grid, place.output_dir, place.device)
    while True:
        unit: Unit = connection.recv()
        try:
            send(("done", unit.run(workplace)))
        except Exception as error:
            send(("failed", error))


@final
@dataclass
class _Told(io.TextIOBase):
    """A stream whose whole lines are sent to the parent, so that those of several processes do not mix."""

    send: Callable[[tuple[str, Any]], None]
    begun: str = field(default="")

    def write(self, text: str) -> int:
        """Send the lines that are whole by now."""
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            if line.strip():
                self.send(("said", line))
        return len(text)

    def writable(self) -> bool:
        """Whether it can be written to."""
        return True


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
