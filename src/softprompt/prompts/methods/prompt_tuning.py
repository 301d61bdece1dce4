"""Prompt tuning: trainable rows at the input embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from softprompt.errors import ConfigError
from softprompt.prompts import initializers, registry
from softprompt.prompts.host import Host, LabelledTask
from softprompt.prompts.methods.building import (
    describe,
    embed_text,
    gather,
    place,
    with_head,
)
from softprompt.prompts.methods.rows import RowsMethod
from softprompt.prompts.parameters import DirectRows, Parameters
from softprompt.prompts.prompt import SoftPrompt

__all__ = ["PromptTuning"]

_TOWARDS_WEIGHT = 0.01


@dataclass(frozen=True, kw_only=True)
class PromptTuning(RowsMethod):
    """Trainable rows at the input embedding (Lester et al. 2021; in an encoder-decoder, the encoder's).

    Attributes, besides those of `RowsMethod`:
        towards: A text whose embeddings the rows are kept near to in training, so that they can be read ("prompt
            waywardness", Khashabi et al. 2022, §3); repeated or cut to the prompt's length.
        towards_weight: Weight of the squared distance per row that is then added to the loss; none without `towards`.
        head: Whether an encoder-only model's head is trained anew and stored with the prompt: over the task's classes,
            over the tags of its words, or over first and last token of an answer.

    Raises:
        ConfigError: If a setting is unknown or out of range. `init` is looked up when a prompt is built: a trained one
            is read without the package that started it.
    """

    init: str = "class_labels"
    towards: str | None = None
    towards_weight: float = _TOWARDS_WEIGHT
    head: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.towards_weight < math.inf:
            raise ConfigError(f"towards_weight={self.towards_weight}: expected a number of at least 0.")

    def build(self, backbone: Host, task: LabelledTask | None = None, seed: int = 0) -> SoftPrompt:
        """Make an untrained prompt.

        Args:
            backbone: The frozen model that it is for.
            task: A task, whose label words `init="class_labels"` starts from.
            seed: Of everything random.

        Raises:
            ConfigError: If the initializer is unknown or lacks what it starts from, the task's template divides another
                number of rows, or a weight was given without the text that rows are kept near to.
            UnsupportedError: If a head is to be trained and the model is no encoder, or has no head for classes.
        """
        if self.towards is None and self.towards_weight != _TOWARDS_WEIGHT:  # not before: stored prompts may say it
            raise ConfigError(
                f"towards_weight={self.towards_weight} is used with towards= only; give the text, or drop it."
            )
        method = place(self, task)
        generator = torch.Generator().manual_seed(seed)
        materials = gather(method, backbone, task, generator)
        rows = initializers.find(self.init)(materials)
        anchor = embed_text(backbone, self.towards, self.length) if self.towards is not None else None
        parameters: Parameters = DirectRows(rows, anchor=anchor, weight=self.towards_weight)
        if self.head:
            parameters = with_head(parameters, backbone, task, generator)
        return SoftPrompt(parameters, method, describe(self, backbone))


registry.register("prompt_tuning", PromptTuning)
