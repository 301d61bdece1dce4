"""P-tuning: rows at the input embedding, produced by a small network while they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from softprompt.errors import ConfigError
from softprompt.prompts import initializers, registry
from softprompt.prompts.host import Host, LabelledTask
from softprompt.prompts.methods.building import describe, gather, place
from softprompt.prompts.methods.rows import RowsMethod
from softprompt.prompts.parameters import ReparameterizedRows
from softprompt.prompts.prompt import SoftPrompt

__all__ = ["PTuning"]


@dataclass(frozen=True, kw_only=True)
class PTuning(RowsMethod):
    """Rows at the input embedding that a prompt encoder produces from trainable inputs (Liu et al. 2021).

    The encoder is trained with its inputs and computed away when the prompt is stored, which then holds rows like
    those of prompt tuning. The paper places them by a template, between the input's fields and anchor words:
    `placement="template"` with an input such as `{soft:3} {premise} {soft:3} {hypothesis} answer: {soft:3}`.

    Attributes, besides those of `RowsMethod`:
        encoder: `lstm`, a bidirectional LSTM of two layers and an MLP; or `mlp`, an MLP of three linear layers.
        hidden: Width inside the encoder; the backbone's own if None.
        init: `random`, where the encoder's output is the start, or the name of an initializer of rows, to which the
            encoder then adds what it learns, from zero.

    Raises:
        ConfigError: If a setting is unknown or out of range; `init` is looked up when a prompt is built.

    References:
        Liu et al. 2021, "GPT Understands, Too", §3.
    """

    length: int = 20
    encoder: Literal["lstm", "mlp"] = "lstm"
    hidden: int | None = None
    init: str = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoder not in ("lstm", "mlp"):
            raise ConfigError(f"encoder={self.encoder!r}: expected 'lstm' or 'mlp'.")
        if self.hidden is not None and self.hidden < 1:
            raise ConfigError(f"hidden={self.hidden}: expected a positive width, or None for the backbone's.")

    def build(self, backbone: Host, task: LabelledTask | None = None, seed: int = 0) -> SoftPrompt:
        """Make an untrained prompt.

        Args:
            backbone: The frozen model that it is for.
            task: A task, whose label words `init="class_labels"` starts from.
            seed: Of everything random.

        Raises:
            ConfigError: If the initializer is unknown or lacks what it starts from, or the task's template divides
                another number of rows.
        """
        method = place(self, task)
        generator = torch.Generator().manual_seed(seed)
        start = None
        if self.init != "random":
            start = initializers.find(self.init)(gather(method, backbone, task, generator))
        rows = ReparameterizedRows(
            start,
            length=self.length,
            dim=backbone.spec.dim,
            encoder=self.encoder,
            hidden=self.hidden or backbone.spec.dim,
            generator=generator,
        )
        return SoftPrompt(rows, method, describe(self, backbone))


registry.register("p_tuning", PTuning)
