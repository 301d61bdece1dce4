"""Who does the units of a study: this process, or several processes of this machine."""

from __future__ import annotations

import abc
import contextlib
import multiprocessing
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Literal, final

import torch

from softprompt.errors import SoftpromptError, TrainingInterrupted
from softprompt.loop.interrupts import Interrupts
from softprompt.studies.grid import Grid
from softprompt.studies.worker_process import Place, work
from softprompt.studies.workplace import Unit, Workplace

__all__ = ["MOST_DEATHS", "POLL_S", "Executor", "InTurn", "Say", "WorkerProcesses", "stopped"]

_CONTEXT = multiprocessing.get_context("spawn")  # a forked process cannot use the threads and devices of its parent
POLL_S = 0.2
"""How often a stop is looked for while units are done."""
MOST_DEATHS = 3
"""A unit during which as many workers died is given up."""

Say = Callable[[str], None]


def stopped(output_dir: str) -> str:
    """What a study says that was stopped."""
    return (
        f"Stopped; what was done is kept in {output_dir}. To go on, run the same command, or call run_grid with the"
        " same settings, again."
    )


class Executor(abc.ABC):
    """Takes units and gives what comes of them, as they end. Use it as a context manager."""

    @property
    @abc.abstractmethod
    def has_room(self) -> bool:
        """Whether further units would find somebody idle."""

    @abc.abstractmethod
    def submit(self, unit: Unit) -> None:
        """Take a unit."""

    @abc.abstractmethod
    def next(self) -> tuple[Unit, Any]:
        """Wait for a unit that was taken, and give what came of it."""

    @abc.abstractmethod
    def __enter__(self) -> Executor: ...

    @abc.abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@final
class InTurn(Executor):
    """Does one unit after the other in this process.

    Args:
        workplace: Where.
        say: Told what begins.
    """

    def __init__(self, workplace: Workplace, say: Say) -> None:
        self._workplace, self._say = workplace, say
        self._units: deque[Unit] = deque()

    @property
    def has_room(self) -> bool:
        """Whether nothing is left to do."""
        return not self._units

    def submit(self, unit: Unit) -> None:
        """Take a unit."""
        self._units.append(unit)

    def next(self) -> tuple[Unit, Any]:
        """Do the first unit that was taken."""
        unit = self._units.popleft()
        self._say(unit.title)
        return unit, unit.run(self._workplace)

    def __enter__(self) -> InTurn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


@final
@dataclass
class _Worker:
    number: int
    process: BaseProcess
    connection: Connection
    unit: Unit | None = None
    backbone: str | None = None


@final
class WorkerProcesses(Executor):
    """Does units in processes of this machine, each with a backbone of its own.

    A process that is killed is replaced, and its unit begun again, which for a session means: gone on with. After
    Ctrl-C or SIGTERM all stop at a checkpoint. None outlives this process, however it ends.

    Args:
        grid: What is compared.
        output_dir: The study's folder.
        device: Where each computes.
        count: How many.
        say: Told what begins, and what the processes say.
    """

    def __init__(self, grid: Grid, output_dir: str, device: str, count: int, say: Say) -> None:
        threads = max(1, torch.get_num_threads() // count)
        self._place = Place(grid, output_dir, device, threads)
        self._say = say
        self._units: deque[Unit] = deque()
        self._deaths: Counter[int] = Counter()
        self._interrupts = Interrupts()
        self._count = count
        self._workers: list[_Worker] = []

    @property
    def has_room(self) -> bool:
        """Whether a process is idle with nothing to do."""
        return len(self._units) + sum(worker.unit is not None for worker in self._workers) < self._count

    def submit(self, unit: Unit) -> None:
        """Take a unit."""
        self._units.append(unit)

    def next(self) -> tuple[Unit, Any]:
        """Wait for the first unit that ends.

        Raises:
            TrainingInterrupted: After Ctrl-C or SIGTERM.
            SoftpromptError: If the processes that did a unit were killed too often; or what a unit raised.
        """
        while True:
            self._hand_out()
            for worker in self._heard():
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    self._replace(worker)
                    continue
                unit = worker.unit
                if kind == "said":
                    self._say(f"[worker {worker.number}] {value}")
                elif kind == "failed":
                    worker.unit = None
                    raise value
                elif unit is not None:
                    worker.unit = None
                    return unit, value
            if self._interrupts.requested:
                raise TrainingInterrupted(stopped(self._place.output_dir))

    def __enter__(self) -> WorkerProcesses:
        self._interrupts.__enter__()
        self._workers = [self._start(number) for number in range(1, self._count + 1)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, KeyboardInterrupt):  # the second Ctrl-C waits for no checkpoint
                self._let_stop()
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.process.join()
                worker.connection.close()
            self._interrupts.__exit__(kind, error, trace)

    def _heard(self) -> list[_Worker]:
        ready = wait([worker.connection for worker in self._workers], timeout=POLL_S)
        return [worker for worker in self._workers if worker.connection in ready]

    def _hand_out(self) -> None:
        """Give idle processes units, those of the backbone that one has loaded first."""
        for worker in self._workers:
            if worker.unit is None and self._units:
                same = [unit for unit in self._units if unit.backbone == worker.backbone]
                unit = same[0] if same else self._units[0]
                self._units.remove(unit)
                worker.unit, worker.backbone = unit, unit.backbone
                self._say(f"[worker {worker.number}] {unit.title}")
                with contextlib.suppress(OSError):  # it was killed just now, which is noticed where it is listened to
                    worker.connection.send(unit)

    def _start(self, number: int) -> _Worker:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=work, args=(theirs, self._place), name=f"study-{number}")
        process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        return _Worker(number, process, ours)

    def _replace(self, worker: _Worker) -> None:
        """Put another process in the place of one that died, and have its unit begun again.

        Raises:
            SoftpromptError: If that happened to the unit too often.
        """
        worker.process.join()
        unit, code = worker.unit, worker.process.exitcode
        self._workers[self._workers.index(worker)] = self._start(worker.number)
        worker.connection.close()
        if unit is None:
            return
        self._deaths[id(unit)] += 1
        if self._deaths[id(unit)] == MOST_DEATHS:
            raise SoftpromptError(
                f"{unit.title}: the process that did it ended {MOST_DEATHS} times before it was done, at last with"
                f" exit code {code}. If memory ran out, take fewer workers or runs_per_session; a script of your own"
                f" calls this under if __name__ == '__main__'. What was done is kept in {self._place.output_dir}."
            )
        self._say(f"[worker {worker.number}] ended with exit code {code}; begun again: {unit.title}")
        self._units.appendleft(unit)

    def _let_stop(self) -> None:
        """Have sessions save a checkpoint and end."""
        busy = [worker for worker in self._workers if worker.unit is not None]
        for worker in busy:
            worker.process.terminate()
        for worker in busy:
            kind: Literal["said", "failed", "done"] = "said"
            while kind == "said":
                try:
                    kind, _ = worker.connection.recv()
                except (EOFError, OSError):
                    break
