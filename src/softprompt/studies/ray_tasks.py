"""Who does the units of a study: tasks of a Ray cluster."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, final
from uuid import uuid4

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from softprompt.errors import ConfigError, SoftpromptError, TrainingInterrupted
from softprompt.loop.interrupts import Interrupts
from softprompt.loop.ray_cluster import join_ray
from softprompt.studies.folder import StudyFolder
from softprompt.studies.grid import Grid
from softprompt.studies.worker_process import Place
from softprompt.studies.workers import MOST_DEATHS, POLL_S, Executor, Say, stopped
from softprompt.studies.workplace import Unit, Workplace

__all__ = ["RayTasks", "Seats", "seats"]

_SEEN_S = 10.0
"""Within which a file that was written on one machine is seen on the others."""


@final
class RayTasks(Executor):
    """Does units as tasks of a Ray cluster, each with a backbone that its worker keeps for the next.

    On GPUs a worker does one unit alone: the next may be given another GPU, which a process cannot change to. All
    machines see the study's folder, and the files that the grid names, where this one does. A unit whose worker dies
    or is told to stop is begun again, wherever there is room, which for a session means: gone on with. After Ctrl-C or
    SIGTERM all stop at a checkpoint.

    Args:
        grid: What is compared.
        output_dir: The study's folder.
        device: Where each computes.
        address: Of the cluster, as `ray.init` takes it; `"local"` starts one on this machine. A program that has
            called `ray.init` itself keeps its cluster.
        count: How many units at a time; None for one on each GPU, or else on each machine.
        say: Told how many there are at a time, what begins, and whose worker was lost.
    """

    def __init__(self, grid: Grid, output_dir: str, device: str, address: str, count: int | None, say: Say) -> None:
        self._grid, self._output_dir, self._device = grid, output_dir, device
        self._address, self._count, self._say = address, count, say
        self._waiting: deque[Unit] = deque()
        self._units: dict[Any, Unit] = {}  # that Ray has, by their references
        self._deaths: Counter[int] = Counter()
        self._interrupts = Interrupts()
        self._is_ours = False

    @property
    def has_room(self) -> bool:
        """Whether the cluster could do further units at this moment."""
        return len(self._units) + len(self._waiting) < self._seats.count

    def submit(self, unit: Unit) -> None:
        """Take a unit."""
        self._waiting.append(unit)

    def next(self) -> tuple[Unit, Any]:
        """Wait for the first unit that ends.

        Raises:
            TrainingInterrupted: After Ctrl-C or SIGTERM.
            SoftpromptError: If the workers that did a unit died too often; or what a unit raised.
        """
        while True:
            self._hand_out()
            ended, _ = ray.wait(list(self._units), timeout=POLL_S)
            for reference in ended:
                unit = self._units.pop(reference)
                try:
                    return unit, ray.get(reference)
                except RayTaskError as error:
                    if not isinstance(error.cause, TrainingInterrupted):
                        raise error.cause from None
                    self._again(unit, error)
                except RayError as error:
                    self._again(unit, error)
            if self._interrupts.requested:
                raise TrainingInterrupted(stopped(self._output_dir))

    def __enter__(self) -> RayTasks:
        if not ray.is_initialized():
            join_ray(self._address, logging_level="warning")
            self._is_ours = True
        self._interrupts.__enter__()  # behind Ray, which has a handler of its own for SIGTERM
        try:
            self._seats = seats(ray.nodes(), self._device, self._count)
            threads = self._seats.cpus if self._seats.gpus == 0 else max(1, torch.get_num_threads())
            device = self._device if self._seats.gpus == 0 else "cuda"  # a worker sees its own GPU alone
            place = Place(self._grid, self._output_dir, device, threads)
            alone = {"max_calls": 1} if self._seats.gpus else {}
            self._task = ray.remote(num_cpus=self._seats.cpus, num_gpus=self._seats.gpus, max_retries=0, **alone)(_do)
            self._order = ray.put(_Order(uuid4().hex, os.getcwd(), place, _grid_text(self._output_dir)))
            self._say(self._seats.told)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._units and not isinstance(error, KeyboardInterrupt):  # the second Ctrl-C waits for no checkpoint
                self._let_stop()
        finally:
            for reference in self._units:
                ray.cancel(reference, force=True)
            if self._is_ours:
                ray.shutdown()
            self._interrupts.__exit__(kind, error, trace)

    def _hand_out(self) -> None:
        """Give Ray as many units as there are to be at a time; it would take more where there is room for more."""
        while self._waiting and len(self._units) < self._seats.count:
            unit = self._waiting.popleft()
            self._say(unit.title)
            self._units[self._task.options(name=unit.title).remote(self._order, unit)] = unit

    def _again(self, unit: Unit, error: Exception) -> None:
        """Have a unit begun again whose worker was lost, or told to stop by others than this process.

        Raises:
            SoftpromptError: If that happened to the unit too often.
        """
        if self._interrupts.requested:  # by the signal that this process has got, too
            raise TrainingInterrupted(stopped(self._output_dir)) from None
        self._deaths[id(unit)] += 1
        if self._deaths[id(unit)] == MOST_DEATHS:
            raise SoftpromptError(
                f"{unit.title}: the workers that did it were lost {MOST_DEATHS} times before it was done, at last by"
                f" {type(error).__name__}. If memory ran out, take fewer workers or runs_per_session. What was done is"
                f" kept in {self._output_dir}."
            ) from error
        self._say(f"{unit.title}: its worker was lost ({type(error).__name__}); begun again.")
        self._waiting.appendleft(unit)

    def _let_stop(self) -> None:
        """Have sessions save a checkpoint and end."""
        for reference in self._units:
            ray.cancel(reference)  # the worker's first Ctrl-C
        while left := list(self._units):
            ended, _ = ray.wait(left, timeout=POLL_S)
            for reference in ended:
                del self._units[reference]


@final
@dataclass(frozen=True)
class Seats:
    """How units are spread over a cluster.

    Attributes:
        count: Units at a time.
        cpus: For each.
        gpus: For each.
        machines: That take part.
    """

    count: int
    cpus: int
    gpus: int
    machines: int

    @property
    def told(self) -> str:
        """What messages say of it."""
        cpus = f"{self.cpus} CPU{'s' * (self.cpus > 1)}"
        gpu = " and a GPU" if self.gpus else ""
        return f"Ray: {self.count} at a time, each with {cpus}{gpu}; machines: {self.machines}."


def seats(nodes: Iterable[Mapping[str, Any]], device: str, count: int | None) -> Seats:
    """Spread units over the machines of a cluster, evenly.

    Args:
        nodes: As `ray.nodes()` tells of them.
        device: Where each computes; `"auto"` takes GPUs where there are any.
        count: How many at a time; None for one on each GPU, or else on each machine.

    Raises:
        ConfigError: If GPUs are asked for and there are none.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    with_gpus = [machine for machine in machines if machine.get("GPU", 0) >= 1]
    if device.startswith("cuda") and not with_gpus:
        raise ConfigError(f"device={device}: the Ray cluster has no machine with a GPU and a CPU; take device=cpu.")
    if with_gpus and device != "cpu":
        gpus = sum(int(machine["GPU"]) for machine in with_gpus)
        cpus = min(int(machine["CPU"] // machine["GPU"]) for machine in with_gpus)
        return Seats(min(gpus, count or gpus), max(1, cpus), 1, len(with_gpus))
    if not machines:
        raise ConfigError("The Ray cluster has no machine with a CPU for tasks; add one with: ray start.")
    count = count or len(machines)
    each = -(-count // len(machines))
    return Seats(count, max(1, min(int(machine["CPU"] // each) for machine in machines)), 0, len(machines))


@final
@dataclass(frozen=True)
class _Order:
    """What a worker needs to know of a study.

    Attributes:
        study: Names this run of it.
        directory: Where it was called, which relative paths start from.
        place: For a workplace.
        grid: The text of the grid's file.
    """

    study: str
    directory: str
    place: Place
    grid: str


_workplaces: dict[str, Workplace] = {}
"""Of this worker: at most one, by the run of a study."""


def _do(order: _Order, unit: Unit) -> Any:
    if order.study not in _workplaces:
        _workplaces.clear()
        _workplaces[order.study] = _workplace(order)
    return unit.run(_workplaces[order.study])


def _workplace(order: _Order) -> Workplace:
    """Where this worker does the units of a study.

    Raises:
        ConfigError: If this machine does not see its files.
    """
    place = order.place
    if not Path(order.directory).is_dir():
        raise ConfigError(_elsewhere(order.directory))
    os.chdir(order.directory)
    deadline = time.monotonic() + _SEEN_S
    while _grid_text(place.output_dir) != order.grid:
        if time.monotonic() > deadline:
            raise ConfigError(_elsewhere(place.output_dir))
        time.sleep(POLL_S)
    torch.set_num_threads(place.threads)
    return Workplace(place.grid, place.output_dir, place.device)


def _elsewhere(path: str) -> str:
    return (
        f"{path} on {os.uname().nodename}, a machine of the Ray cluster, is not that of the machine that began the"
        " study; run it in a directory, and into a folder, that all machines share."
    )


def _grid_text(output_dir: str) -> str:
    try:
        return StudyFolder(output_dir).find_grid().read_text(encoding="utf-8")
    except (ConfigError, OSError):
        return ""
