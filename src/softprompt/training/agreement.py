"""Processes that share a training have to train the same: what each was given is compared before the first step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from softprompt.errors import ConfigError
from softprompt.loop.processes import Processes

__all__ = ["check_agreement"]


def check_agreement(processes: Processes, given: Mapping[str, Any]) -> None:
    """Refuse to train together what is not the same everywhere: gradients of different runs would be added.

    Args:
        processes: Those that share the training, each of which calls this.
        given: By what they are of, as the user knows it, plain values that have to be the same.

    Raises:
        ConfigError: In every process, if one of them was given something else.
    """
    if processes.count == 1:
        return
    digests = {name: hashlib.sha256(json.dumps(one).encode()).hexdigest() for name, one in given.items()}
    told = processes.gather(digests)
    names = sorted({name for each in told for name in each})
    differing = [name for name in names if len({each.get(name) for each in told}) > 1]
    if differing:
        raise ConfigError(
            f"{processes.count} processes share a training, but were not given the same: {', '.join(differing)}. Start"
            " all with the same settings and files, and draw nothing at random without a seed."
        )
