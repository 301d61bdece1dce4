"""What a process that makes rows keeps: the tasks that it read, and the backbone that it loaded last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

from softprompt.backbones import Backbone
from softprompt.errors import DataError
from softprompt.studies.cells import digest
from softprompt.studies.folder import StudyFolder
from softprompt.studies.grid import Grid
from softprompt.studies.reading import Other, read_others, read_task
from softprompt.studies.rows import Order, Planned
from softprompt.tasks import Task

__all__ = ["Unit", "Workplace"]


@final
class Workplace:
    """Where units of a study are run; each process has its own.

    Args:
        grid: What is compared.
        output_dir: The study's folder.
        device: Where to compute.
        say: Told which optional tasks are left out.
    """

    def __init__(
        self, grid: Grid, output_dir: str | Path, device: str, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.grid = grid
        self.folder = StudyFolder(output_dir)
        self._device = device
        self.task = cache(lambda label: read_task(label, grid.tasks[label]))
        self.others = cache(lambda label: read_others(label, grid.tasks[label], grid.split, say=say))
        self.task_digest = cache(lambda label: _task_digest(self.task(label), self.others(label)))
        self._loaded: tuple[str, Backbone, str] | None = None

    def backbone(self, name: str) -> Backbone:
        """A backbone of the grid; the one before it is let go of."""
        return self._load(name)[0]

    def backbone_digest(self, name: str) -> str:
        """Digest of a backbone, and of how the grid has it loaded."""
        return self._load(name)[1]

    def planned(self, order: Order) -> Planned:
        """What was ordered, with what it meets here.

        Raises:
            DataError: If its task is another one here.
        """
        label = order.cell.task
        if self.task_digest(label) != order.task_digest:
            raise DataError(
                f"The rows of the task {label!r} changed while the study ran, or are others on this machine; run it"
                " again."
            )
        sources = tuple(str(self.folder.prompt(key)) for key in order.source_keys)
        return Planned(order, self.task(label), self.others(label), sources)

    def _load(self, name: str) -> tuple[Backbone, str]:
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            loading = self.grid.loading
            backbone = Backbone.from_pretrained(name, **{"device": self._device, "dtype": "float32", **loading})
            own = digest({**backbone.fingerprint.to_mapping(), **({"loading": loading} if loading else {})})
            self._loaded = name, backbone, own
        return self._loaded[1:]


@runtime_checkable
class Unit(Protocol):
    """A piece of a study that one process does by itself; plain values, so that it can be sent there."""

    @property
    def backbone(self) -> str:
        """The backbone that it is done on."""

    @property
    def title(self) -> str:
        """What messages call it."""

    def run(self, workplace: Workplace) -> Any:
        """Do it, and give what came of it."""


def _task_digest(task: Task, others: Mapping[str, Other]) -> str:
    """Digest of everything that a run reads of a task, and of the tasks that it is tested on besides."""
    besides = [[label, other.split, _task_digest(other.task, {})] for label, other in others.items()]
    rows: Iterable[Any] = ((split, [(one.input, one.targets) for one in task.examples(split)]) for split in task.splits)
    groups = [task.group_of(one) for split in task.splits for one in task.examples(split)] if task.group else ()
    return digest([task.metrics, task.format.to_mapping(), list(rows), *groups, *besides])
