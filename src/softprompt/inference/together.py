"""Several prompts that answer an input together: each has a row of the batch, and one forward pass serves them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.prompts import Combine

__all__ = ["MeanOfMembers", "Together", "combine_probabilities", "majority"]


@final
@dataclass(frozen=True)
class Together:
    """Prompts that answer together.

    Attributes:
        names: The members' names.
        combine: How, as in `Members`.

    Raises:
        ConfigError: If there is no member, one twice, or no such way to combine them.
    """

    names: tuple[str, ...]
    combine: Combine = "vote"

    def __post_init__(self) -> None:
        if self.combine not in get_args(Combine):
            raise choose("way to combine prompts", self.combine, get_args(Combine))
        if not self.names or len(set(self.names)) < len(self.names):
            raise ConfigError(f"An ensemble needs prompts of different names, but got {list(self.names)}.")


def majority(said: Sequence[str]) -> str:
    """What most members say; of texts that are said as often, the one that is said first."""
    return Counter(said).most_common(1)[0][0]


def combine_probabilities(
    members: Float[Tensor, "members candidates"], combine: Combine
) -> tuple[int, Float[Tensor, " candidates"]]:
    """Which candidate an ensemble chooses, and its probabilities: their mean, or each candidate's share of the votes.

    Of candidates with as many votes the more probable one by the mean is chosen.
    """
    mean = members.mean(0)
    if combine == "mean" or len(members) == 1:
        return int(mean.argmax()), mean
    votes = torch.bincount(members.argmax(-1), minlength=members.shape[1]).to(mean)
    return int(mean.masked_fill(votes < votes.max(), -1).argmax()), votes / len(members)


@final
class MeanOfMembers(LogitsProcessor):
    """At each step of generation, every member's next token has the mean of the members' probabilities.

    Args:
        group: Which input each row of the batch belongs to; beams repeat rows.
    """

    def __init__(self, group: Int[Tensor, " batch"]) -> None:
        self._group = group

    def __call__(
        self, input_ids: Int[Tensor, "rows seq"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """Log-probabilities of the mean, the same for all members of an input."""
        shares = scores.float().softmax(-1).view(len(self._group), -1, scores.shape[-1])  # [batch, beams, vocab]
        counts = torch.bincount(self._group)
        summed = shares.new_zeros(len(counts), *shares.shape[1:]).index_add_(0, self._group, shares)
        mean: Tensor = (summed / counts[:, None, None]).log()[self._group]
        return mean.view_as(scores)
