"""All that the steps of a pre-training change, and the checkpoints that keep it.

What a step sees depends on the seed and the step's number alone, so a state needs no random states. Processes hold
the same state, so another number of them can go on with it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from softprompt.config import to_mapping
from softprompt.errors import ConfigError
from softprompt.loop.checkpoints import latest_checkpoint, load_checkpoint, prune, save_checkpoint
from softprompt.pretraining.card import read_card
from softprompt.pretraining.corpus import Corpus
from softprompt.pretraining.measure import HeldOut
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.tokenizer import tokenizer_digest

__all__ = ["Counts", "State", "decisive", "decisive_settings"]

# Settings that may differ between a run and its resumption: apart from rounding, which threads and compilation
# change, they do not decide what is computed. Of files only the content counts, which is compared by digest.
_PLACES = {"output_dir", "cache_dir", "train", "held_out", "tokenizer"}
_FREE = _PLACES | {"checkpoint_every_s", "threads", "compile", "snapshots"}
# Schedules that do not look at the number of steps: such a run may be ended early or prolonged.
_ENDLESS = {"constant", "inverse_sqrt"}
_TIMED_STEPS = 1000


@final
@dataclass
class Counts:
    """What a run has done so far."""

    step: int = 0
    tokens: int = 0
    """Tokens of text, each counted once whether it became input or target."""
    flops: int = 0
    seconds: float = 0.0
    """Of training, with its measurements and checkpoints."""
    step_seconds: list[float] = field(default_factory=list)
    """Of the last steps alone."""

    def add(self, *, tokens: int, flops: int, seconds: float) -> None:
        """Count a step."""
        self.step += 1
        self.tokens += tokens
        self.flops += flops
        self.step_seconds.append(seconds)
        del self.step_seconds[:-_TIMED_STEPS]

    @property
    def tokens_per_second(self) -> float:
        """Of the median step, which neither compilation nor a measurement slows."""
        return self.tokens / self.step / statistics.median(self.step_seconds)


@final
@dataclass(kw_only=True)
class State:
    """A run between two steps."""

    model: PreTrainedModel
    optimizer: Optimizer
    schedule: LRScheduler
    counts: Counts = field(default_factory=Counts)
    losses: list[float] = field(default_factory=list)
    """Of the steps since the last measurement, in nats per target token."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Of each measurement: step, tokens, loss in training since the one before, held-out loss, bits per byte."""

    def record(self, held_out: HeldOut) -> None:
        """Note a measurement, once per step."""
        if not self.losses:
            return
        self.history.append(
            {
                "step": self.counts.step,
                "tokens": self.counts.tokens,
                "training_loss": statistics.fmean(self.losses),
                "loss": held_out.loss,
                "bits_per_byte": held_out.bits_per_byte,
            }
        )
        self.losses.clear()

    def save(self, config: PretrainConfig, made_with: Mapping[str, Any]) -> None:
        """Write a checkpoint; of older ones the last stays."""
        state = {
            "made_with": made_with,
            "counts": asdict(self.counts),
            "losses": np.array(self.losses),
            "history": self.history,
            "parameters": dict(self.model.named_parameters()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        save_checkpoint(config.checkpoints, self.counts.step, state)
        prune(config.checkpoints, keep=2)

    def resume(self, config: PretrainConfig, made_with: Mapping[str, Any]) -> Path | None:
        """Become the state of the newest checkpoint, which is returned; None if there is none.

        Raises:
            ConfigError: If the checkpoint was made with other settings, or comes after a snapshot that is missing.
        """
        path = latest_checkpoint(config.checkpoints)
        if path is None:
            return None
        state = load_checkpoint(path)
        for name, value in made_with.items():
            if (found := state["made_with"].get(name)) != value:
                raise ConfigError(
                    f"{path} was made with {name} = {found!r}, not {value!r}; use the same settings to go on, or"
                    " another output_dir to start anew."
                )
        counts = Counts(**state["counts"])
        for step in config.snapshots:
            if step <= counts.step and read_card(config.snapshot(step)) is None:
                raise ConfigError(
                    f"{path} comes after step {step}, of which no snapshot was asked for then; leave it out, or use"
                    " another output_dir to start anew."
                )
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.counts, self.losses, self.history = counts, state["losses"].tolist(), state["history"]
        return path


def decisive(config: PretrainConfig, corpus: Corpus, tokenizer: Tokenizer) -> dict[str, Any]:
    """What decides what a run computes: settings, and the content of the files they name."""
    settings = decisive_settings(config)
    if config.schedule in _ENDLESS:
        del settings["steps"]
    sources = [[source["use"], source["sha256"]] for source in corpus.sources]
    return {**settings, "tokenizer": tokenizer_digest(tokenizer), "sources": sources}


def decisive_settings(config: PretrainConfig) -> dict[str, Any]:
    """The settings that decide what a run computes: all but where files are, and what changes rounding alone."""
    return {name: value for name, value in to_mapping(config).items() if name not in _FREE}
