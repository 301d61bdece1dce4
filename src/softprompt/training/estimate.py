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
from softprompt.backbones.allocations import storages
from softprompt.backbones.parts import Parts, parts_of
from softprompt.conditioning.collection import PassTaken
from softprompt.errors import ConfigError, UnsupportedError
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

    Of several processes it is that of the one that needs most.

    Attributes:
        device: Where the backbone is.
        processes: How many share the training.
        weights_bytes: The backbone; of one that is sharded, the process's part.
        offloaded_bytes: What of it is kept in CPU memory instead, and counts nowhere else.
        gathered_bytes: What comes from other processes while a layer computes, and stands around the layers.
        gathering_bytes: The same before the first layer of a pass computes.
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
        free_bytes: What the device, or the machine, has free now; None if that is unknown. For several processes, what
            each would have if this one was not there: a device like this one, or its share of this machine's memory.
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
    processes: int = 1
    offloaded_bytes: int = 0
    gathered_bytes: int = 0
    gathering_bytes: int = 0
    remedy: Mapping[str, int | bool] = field(default_factory=dict)

    @property
    def largest(self) -> Pass:
        """The pass that takes most."""
        return max(self.passes, key=lambda one: one.peak_bytes)

    @property
    def added_bytes(self) -> int:
        """What the training adds at its peak to what is held before."""
        computing = self.gathered_bytes + max(self.largest.peak_bytes, self.evaluation_bytes)
        passing = self.optimizer_bytes + max(computing, self.gathering_bytes)
        return self.trained_bytes + self.cached_bytes + max(passing, self.update_bytes)

    @property
    def total_bytes(self) -> int:
        """All of it, at the training's peak."""
        return self.weights_bytes + self.process_bytes + self.added_bytes

    @property
    def fits(self) -> bool | None:
        """Whether what is needed is free; None if that is unknown."""
        return None if self.free_bytes is None else self.needed_bytes <= self.free_bytes

    @property
    def needed_bytes(self) -> int:
        """What has to be free: all that is added; for several processes, which hold nothing yet, all of it."""
        return self.added_bytes if self.processes == 1 else self.total_bytes


def estimate_memory(
    backbone: Backbone,
    runs: Sequence[Run],
    config: TrainConfig | None = None,
    *,
    processes: int = 1,
    sharded: bool = False,
    offload: bool = False,
) -> Estimate:
    """Estimate the memory that `train` will need with the same runs, before it takes it.

    The rows are tokenized and put into batches and passes as in training, and the largest passes, an optimizer step and
    an evaluation's largest batch are computed on tensors without values, whose bytes are counted. That takes seconds,
    and next to no memory. What a kernel takes for itself, and what an allocator does not give back, is not counted.

    Several processes are asked about before they are launched: rows are shared as they will share them, and what each
    will hold of sharded weights follows from the backbone's shapes. What NCCL keeps for messages is not counted.

    Args:
        backbone: The frozen model, whole, on one device, also if it is to be sharded; quantised or not.
        runs: What would be trained.
        config: What the runs share.
        processes: How many would share the training, each on a device like the backbone's.
        sharded: Whether each would hold a part of the backbone; of one process this says nothing.
        offload: Whether in CPU memory.

    Raises:
        ConfigError: As `train` does; what `output_dir` holds is not looked at. If there are no processes, or a part is
            to be kept in CPU memory of a backbone that is not sharded.
        MissingDependencyError: As `train` does.
        UnsupportedError: If the backbone is sharded already, on several devices, cannot be sharded, or what it computes
            depends on values (as experts that are chosen do); or as `train` does.
    """
    config = config or TrainConfig()
    check_runs(runs, config)
    spread = sharded and processes > 1
    _check_processes(processes, spread=spread, offload=offload)
    weights = _weights_bytes(backbone.model)
    parts = _parts(backbone, processes, offload=offload) if spread else None
    try:
        rehearsal = Rehearsal(backbone, runs, config, processes=processes, sharded=spread)
        held = held_memory(backbone.device) or weights
        estimate = Estimate(
            device=str(backbone.device),
            processes=processes,
            weights_bytes=weights if parts is None else parts.buffers + (0 if offload else parts.kept),
            offloaded_bytes=parts.kept if parts is not None and offload else 0,
            gathered_bytes=0 if parts is None else parts.gathered,
            gathering_bytes=0 if parts is None else parts.gathering,
            process_bytes=max(0, held - weights),
            update_bytes=rehearsal.optimize(),
            trained_bytes=rehearsal.trained_bytes,
            optimizer_bytes=rehearsal.state_bytes,
            cached_bytes=rehearsal.cached_bytes,
            passes=tuple(rehearsal.passes()),
            evaluation_bytes=rehearsal.evaluation(),
            taken=rehearsal.passes_taken(),
            free_bytes=_free_bytes(backbone, processes, held, offload=offload),
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
    before = estimate.needed_bytes - estimate.added_bytes + estimate.gathered_bytes
    room = estimate.free_bytes - before - estimate.trained_bytes - estimate.optimizer_bytes - estimate.cached_bytes
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


def _check_processes(processes: int, *, spread: bool, offload: bool) -> None:
    if processes < 1:
        raise ConfigError(f"processes={processes}: expected at least 1.")
    if offload and not spread:
        raise ConfigError(
            "offload=True keeps a process's part of sharded weights in CPU memory; say sharded=True, and how many"
            " processes there will be."
        )


def _parts(backbone: Backbone, processes: int, *, offload: bool) -> Parts:
    """What a process would hold of a sharded backbone; what cannot be loaded so is refused as loading would."""
    if backbone.quantized or backbone.spec.kind == "encoder-only":
        raise UnsupportedError(
            f"{backbone.name} is quantised, or an encoder, which cannot be sharded; say sharded=False, or load a model"
            " that generates text, unquantised."
        )
    return parts_of(backbone.model, processes, offload=offload, gloo=backbone.device.type == "cpu")


def _free_bytes(backbone: Backbone, processes: int, held: int, *, offload: bool) -> int | None:
    """What is free for the training; for several processes, for each of them, once this one has ended."""
    free = free_memory(backbone.device)
    if free is None or processes == 1:
        return free
    if backbone.device.type != "cpu":
        return free + held
    return None if offload else (free + held) // processes  # layers come to a device that is not here


def _weights_bytes(model: nn.Module) -> int:
    kept = {id(one): one for tensor in model.state_dict().values() for one in storages(tensor)}
    return sum(one.nbytes() for one in kept.values())
