"""The batches of a pre-training, each decided by the seed and its step's number alone."""

from __future__ import annotations

from typing import final

import numpy as np

from softprompt.pretraining.corpus import PackedTokens
from softprompt.pretraining.objectives import Batch, Objective, SpecialIds

__all__ = ["Batches"]

# The kinds of randomness, so that the order of windows and the spans in them do not depend on each other.
_ORDER, _OBJECTIVE = 0, 1


@final
class Batches:
    """Windows of text in an order shuffled anew each epoch, turned into batches by an objective.

    No state is kept but the order of the current epoch, so a resumed run needs only the number of its step.

    Args:
        text: What is cut into windows.
        objective: What makes a batch of windows.
        special: Tokens that the objective inserts.
        window: Tokens per window.
        batch_size: Windows per batch.
        seed: Decides the order, and the spans or points of the objective.
    """

    def __init__(
        self,
        text: PackedTokens,
        objective: Objective,
        special: SpecialIds,
        *,
        window: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._text, self._objective, self._special = text, objective, special
        self._window, self._batch_size, self._seed = window, batch_size, seed
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def at(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        count = self._text.windows(self._window)
        places = np.arange(step * self._batch_size, (step + 1) * self._batch_size)  # [batch]
        numbers = np.empty_like(places)
        for epoch in np.unique(places // count).tolist():
            if self._epoch != epoch:
                self._epoch = epoch
                self._order = np.random.default_rng([self._seed, _ORDER, epoch]).permutation(count)
            here = places // count == epoch
            numbers[here] = self._order[places[here] % count]
        rng = np.random.default_rng([self._seed, _OBJECTIVE, step])
        return self._objective(self._text.window(numbers, self._window), self._special, rng)
