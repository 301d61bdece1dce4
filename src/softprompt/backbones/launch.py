"""How this process was started: alone, or as one of several that torchrun or accelerate started together.

Cluster managers and other programs set some of the same variables for programs that they start alone, so only all of
them together say that there are others to meet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from softprompt.errors import ConfigError, LostProcessError

__all__ = ["LAUNCHED", "check_alone", "check_launch", "loading_together", "lost_one", "process_count"]

LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")
"""The variables that a launcher sets in each of its processes."""


def process_count() -> int:
    """How many processes were started together.

    Raises:
        ConfigError: If a launcher's variable is no number.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    if not all(os.environ.get(name) for name in LAUNCHED):
        return 1
    count = os.environ["WORLD_SIZE"]
    if not count.isdecimal():
        raise ConfigError(f"WORLD_SIZE={count!r} is no number of processes; start them by torchrun, or unset it.")
    return int(count)


def check_alone(what: str) -> None:
    """Refuse several processes for what each of them would do by itself, and write to the same places.

    Args:
        what: The name of it, as the user knows it.

    Raises:
        ConfigError: If there are several processes.
    """
    count = process_count()
    if count > 1:
        raise ConfigError(f"{count} processes share one training; run {what} in one process.")


def check_launch(*, sharded: bool, offload: bool, spread: bool) -> None:
    """Refuse settings that say nothing about this launch, or against it.

    Args:
        sharded: Whether each process is to hold a part of the model.
        offload: Whether in CPU memory.
        spread: Whether one process is to hold the model on all devices.

    Raises:
        ConfigError: If there is nothing to offload, several processes want all devices each, or accelerate was told to
            shard models itself.
    """
    if spread and not sharded and process_count() > 1:
        raise ConfigError(
            f"device_map spreads a model over the devices of one process, and {process_count()} would each take them"
            " all; say sharded=True instead, or start one process."
        )
    if offload and not (sharded and process_count() > 1):
        raise ConfigError(
            "offload=True keeps a process's part of sharded weights in CPU memory; say sharded=True, and start several"
            " processes (torchrun, accelerate launch). In one process, device_map spreads a model."
        )
    if offload and not torch.accelerator.is_available():
        raise ConfigError(
            "offload=True brings layers from CPU memory to a GPU, and there is none; drop it: all is in CPU memory."
        )
    if sharded and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise ConfigError(
            "accelerate launch was told to shard models (distributed_type: FSDP), which softprompt does itself; launch"
            " with distributed_type: MULTI_GPU, and keep sharded=True."
        )


def lost_one(error: BaseException) -> bool:
    """Whether an error says that another process does not answer any more: it died, or hangs."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


@contextmanager
def loading_together(name: str) -> Iterator[None]:
    """A block in which all processes load one model together.

    Args:
        name: The model's.

    Raises:
        LostProcessError: If another of them died or hangs.
    """
    try:
        yield
    except Exception as error:
        if not lost_one(error):
            raise
        raise LostProcessError(
            f"Another of {process_count()} processes died or hangs while they loaded {name}; see what it said, or its"
            " memory, and run the same command again."
        ) from error
