"""Which rows of several tasks an epoch of their mixture has."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import final

import torch

from softprompt.tasks import Mixture

__all__ = ["MixedRows"]


@final
class MixedRows:
    """The rows of each epoch, as indices into the tasks' rows one behind the other: a function of seed and epoch.

    An epoch has as many rows as the tasks count with. Each task has its share of them, to less than one row over any
    number of epochs, and goes through its own rows in an order of its own: none comes again before all others came.
    In proportion without a limit, every row is in every epoch once.

    Args:
        mixture: How the tasks share an epoch.
        rows: Training rows by the tasks' names.
        seed: Of the orders.
    """

    def __init__(self, mixture: Mixture, rows: Mapping[str, int], *, seed: int) -> None:
        self._rows = {task.name: rows[task.name] for task in mixture.tasks}
        self._seed = seed
        total = sum(mixture.counted(self._rows).values())
        self._quotas = {name: share * total for name, share in mixture.shares(self._rows).items()}

    def __call__(self, epoch: int) -> list[int]:
        """The indices of an epoch's rows, ascending; a row that comes several times stands several times."""
        found: list[int] = []
        first = 0
        for name, count in self._rows.items():
            quota = self._quotas[name]
            places = range(math.floor(epoch * quota + 0.5), math.floor((epoch + 1) * quota + 0.5))
            found += sorted(first + index for index in self._at(name, places))
            first += count
        return found

    def _at(self, name: str, places: range) -> list[int]:
        """What stands at some places of a task's endless order."""
        count, indices = self._rows[name], []
        for turn in range(places.start // count, -(-places.stop // count)):
            order = self._order(name, turn)
            indices += order[max(0, places.start - turn * count) : places.stop - turn * count]
        return indices

    def _order(self, name: str, turn: int) -> list[int]:
        """All rows of a task, in the order of one turn through them."""
        digest = hashlib.blake2b(f"{self._seed} {turn} {name}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
        order: list[int] = torch.randperm(self._rows[name], generator=generator).tolist()
        return order
