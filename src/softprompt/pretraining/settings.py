"""What a pre-training is told."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from softprompt.backbones.catalogue import resolve
from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.loop.optimizers import optimizer_names
from softprompt.loop.schedules import schedule_names
from softprompt.pretraining.architectures import find_architecture

__all__ = ["PretrainConfig"]

_PRECISIONS = ("bf16", "fp32")


@final
@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """One pre-training of one small backbone; it checks itself.

    Raises:
        ConfigError: If a value is unknown, out of range, or contradicts another.
    """

    output_dir: str
    """Folder of the finished model; checkpoints lie in it until then."""
    train: Sequence[str]
    """Text files; see `softprompt.pretraining.documents.read_documents`."""
    held_out: Sequence[str] = ()
    """Text files to measure on; without any, every hundredth training document is held out."""
    cache_dir: str = ".cache/pretraining"
    """Where tokens and a tokenizer that is trained here are kept."""
    tokenizer: str | None = None
    """A tokenizer's file, a finished model's folder or `bundled:NAME`; that of `start_from`, or a new one, if None."""
    vocab_size: int = 8192
    """Entries of a tokenizer that is trained here."""
    preset: str = "t5-small"
    objective: str = "span_corruption"
    start_from: str | None = None
    """A model folder that pre-training wrote, or `bundled:NAME`, whose weights and tokenizer this one goes on with."""
    steps: int = 10_000
    batch_size: int = 16
    """Windows per step."""
    window: int = 256
    """Tokens per window."""
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    schedule: str = "cosine"
    warmup_steps: int = 200
    gradient_clip: float = 1.0
    """Largest norm of the whole gradient."""
    precision: str = "bf16"
    compile: bool = False
    """Whether torch compiles the step: most of a small model's time goes into many small operations."""
    threads: int | None = None
    """CPU threads; torch's own choice without a number."""
    seed: int = 0
    checkpoint_every_s: float = 180.0
    evaluate_every: int = 1000
    """Steps between two measurements on the held-out text."""
    held_out_windows: int = 256
    snapshots: Sequence[int] = ()
    """Steps after which the model of that moment is written to a folder of its own, as if it were finished."""
    licence: str = "unknown"
    """Of the text, for the card."""

    def __post_init__(self) -> None:
        architecture = find_architecture(self.preset)
        if self.objective not in architecture.objectives:
            raise choose(f"objective for {self.preset}", self.objective, architecture.objectives)
        for what, name, known in (
            ("optimizer", self.optimizer, optimizer_names()),
            ("schedule", self.schedule, schedule_names()),
            ("precision", self.precision, _PRECISIONS),
        ):
            if name not in known:
                raise choose(what, name, known)
        if isinstance(self.train, str) or isinstance(self.held_out, str):
            raise ConfigError("train and held_out are lists of files; put the single file into a list.")
        object.__setattr__(self, "train", tuple(self.train))
        object.__setattr__(self, "held_out", tuple(self.held_out))
        object.__setattr__(self, "snapshots", tuple(self.snapshots))
        if not self.train:
            raise ConfigError("train names no files; give at least one text file.")
        for name in ("steps", "batch_size", "learning_rate", "gradient_clip", "evaluate_every", "held_out_windows"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}.")
        if self.window < 8:
            raise ConfigError(f"window must be at least 8 tokens, not {self.window}.")
        if not 0 <= self.warmup_steps <= self.steps:
            raise ConfigError(f"warmup_steps must lie between 0 and steps ({self.steps}), not {self.warmup_steps}.")
        for name in ("weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, but is {getattr(self, name)}.")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be above 0, not {self.threads}; leave it out for torch's own choice.")
        if self.vocab_size > 2**16:
            raise ConfigError(f"vocab_size must fit 16 bits (65536), not {self.vocab_size}.")
        bounds = (0, *self.snapshots, self.steps)
        if any(first >= second for first, second in itertools.pairwise(bounds)):
            raise ConfigError(
                f"snapshots must be ascending steps between 1 and {self.steps - 1}, before the last, not"
                f" {list(self.snapshots)}."
            )
        if self.start_from is not None and self.tokenizer is not None:
            raise ConfigError("start_from brings its own tokenizer; leave tokenizer out.")

    @property
    def start(self) -> Path | None:
        """Folder of the model that it goes on from.

        Raises:
            ConfigError: If no bundled backbone has that name.
        """
        return None if self.start_from is None else Path(resolve(self.start_from))

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return Path(self.output_dir) / "checkpoints"

    def snapshot(self, step: int) -> Path:
        """Folder of a snapshot."""
        return Path(self.output_dir) / "snapshots" / f"step-{step}"
