"""The memory that a training will need, found out beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from softprompt.backbones import Backbone
from softprompt.conditioning.collection import PassTaken
from softprompt.errors import UnsupportedError
from softprompt.loop.memory import free_memory, held_memory
from softprompt.training.rehearsal import Pass, Rehearsal
from softprompt.training.run import Run, TrainConfig
from softprompt.training.starting import check_runs

__all__ = ["Estimate", "estimate_memory"]

_SMALLEST = 256
"""Tokens below which smaller passes are not tried: what they save is little, and they are many."""
_UNKNOWN = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)


@final
@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The memory that a training will need, in bytes, on the backbone's device; on a CPU, in the process.

    Attributes:
        device: Where the backbone is.
        weights_bytes: The backbone.
        process_bytes: What the process holds besides, before the training: libraries and rows on a CPU, other tensors
            on an accelerator. Its driver's own is not among it.
        trained_bytes: What the runs learn, with the copies that are kept of it; of a run that trains weights, the model
            that it trains too.
        optimizer_bytes: What optimizers keep.
        cached_bytes: What comes to be kept of inputs that stand before their prompts, at most.
        update_bytes: The peak of an optimizer step: gradients, states, and what is computed of them.
        passes: The largest pass for each length of rows, shortest first.
        evaluation_bytes: The peak of an evaluation; 0 if there is none.
        taken: By prompt, which pass it takes.
        free_bytes: What the device, or the machine, has free now; None if that is unknown.
        remedy: If it does not fit, settings with which it would; empty if nothing helps, or it fits.
    """

    device: str
    weights_bytes: int
    process_bytes: int
    trained_bytes: int
    optimizer_bytes: int
    cached_bytes: int
    update_bytes: int
    passes: tuple[Pass, ...]
    evaluation_bytes: int
    taken: Mapping[str, PassTaken]
    free_bytes: int | None
    remedy: Mapping[str, int | bool] = field(default_factory=dict)

    @property
    def largest(self) -> Pass:
        """The pass that takes most."""
        return max(self.passes, key=lambda one: one.peak_bytes)

    @property
    def added_bytes(self) -> int:
        """What the training adds at its peak to what is held now."""
        passing = self.optimizer_bytes + max(self.largest.peak_bytes, self.evaluation_bytes)
        return self.trained_bytes + self.cached_bytes + max(passing, self.update_bytes)

    @property
    def total_bytes(self) -> int:
        """All of it, at the training's peak."""
        return self.weights_bytes + self.process_bytes + self.added_bytes

    @property
    def fits(self) -> bool | None:
        """Whether what is added is free; None if that is unknown."""
        return None if self.free_bytes is None else self.added_bytes <= self.free_bytes


def estimate_memory(backbone: Backbone, runs: Sequence[Run], config: TrainConfig | None = None) -> Estimate:
    """Estimate the memory that `train` will need with the same runs, before it takes it.

    The rows are tokenized and put into batches and passes as in training, and the largest passes, an optimizer step and
    an evaluation's largest batch are computed on tensors without values, whose bytes are counted. That takes seconds,
    and next to no memory. What a kernel takes for itself, and what an allocator does not give back, is not counted.

    Args:
        backbone: The frozen model, on one device.
        runs: What would be trained.
        config: What the runs share.

    Raises:
        ConfigError: As `train` does; what `output_dir` holds is not looked at.
        MissingDependencyError: As `train` does.
        UnsupportedError: If the backbone is sharded, quantised or on several devices, or what it computes depends on
            values (as experts that are chosen do); or as `train` does.
    """
    config = config or TrainConfig()
    check_runs(runs, config)
    weights = _weights_bytes(backbone.model)
    try:
        rehearsal = Rehearsal(backbone, runs, config)
        held = held_memory(backbone.device)
        estimate = Estimate(
            device=str(backbone.device),
            weights_bytes=weights,
            process_bytes=max(0, (held or weights) - weights),
            update_bytes=rehearsal.optimize(),
            trained_bytes=rehearsal.trained_bytes,
            optimizer_bytes=rehearsal.state_bytes,
            cached_bytes=rehearsal.cached_bytes,
            passes=tuple(rehearsal.passes()),
            evaluation_bytes=rehearsal.evaluation(),
            taken=rehearsal.passes_taken(),
            free_bytes=free_memory(backbone.device),
        )
        remedy = _remedy(rehearsal, estimate, config) if estimate.fits is False else {}
        return replace(estimate, remedy=remedy)
    except _UNKNOWN as error:
        raise UnsupportedError(
            f"{backbone.name} computes what depends on values, not on shapes alone ({error}), so it is not known"
            " beforehand what it takes; train a few steps, and look."
        ) from error


def _remedy(rehearsal: Rehearsal, estimate: Estimate, config: TrainConfig) -> dict[str, int | bool]:
    """Settings with which what does not fit would: smaller passes first, then recomputed layers, then both."""
    assert estimate.free_bytes is not None
    room = estimate.free_bytes - estimate.trained_bytes - estimate.optimizer_bytes - estimate.cached_bytes
    remedy: dict[str, int | bool] = {}
    tokens = config.evaluation_tokens
    while estimate.evaluation_bytes > room and rehearsal.evaluation(tokens) > room:
        tokens //= 2
        if tokens < _SMALLEST:
            return {}
        remedy["evaluation_tokens"] = tokens
    for checkpointing in (False, True):
        rehearsal.model.gradient_checkpointing = checkpointing or config.gradient_checkpointing
        for tokens in _halves(config.pass_tokens, estimate.largest.tokens):
            if max(estimate.update_bytes, *(one.peak_bytes for one in rehearsal.passes(tokens))) <= room:
                found = {"pass_tokens": tokens} if tokens < config.pass_tokens else {}
                recomputed = {"gradient_checkpointing": True} if checkpointing else {}
                return {**remedy, **found, **recomputed}
    return {}


def _halves(tokens: int, needed: int) -> Iterator[int]:
    """Sizes of passes to try: the given one, then halves of the largest that there is."""
    yield tokens
    while needed // 2 >= _SMALLEST:
        needed //= 2
        yield needed


def _weights_bytes(model: nn.Module) -> int:
    storages = {id(one): one for one in (tensor.untyped_storage() for tensor in model.state_dict().values())}
    return sum(one.nbytes() for one in storages.values())
