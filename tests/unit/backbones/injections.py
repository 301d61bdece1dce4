"""An injection of nothing but its columns, which is all that masks look at."""

from __future__ import annotations

import torch

from softprompt.backbones.carrying import Injection


def injection(columns: torch.Tensor, starts: list[int], *, causal: bool = True) -> Injection:
    return Injection(
        keys={}, values={}, rows=torch.zeros(len(columns), dtype=torch.long), columns=columns, hidden={},
        starts=torch.tensor(starts), causal=causal, sites={},
    )  # fmt: skip
