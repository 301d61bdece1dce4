"""What a run trains: a prompt beside the frozen backbone, or all weights of a copy of it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from softprompt.artefact import replace_folder
from softprompt.backbones import Backbone
from softprompt.errors import ArtefactError
from softprompt.prompts import SoftPrompt

__all__ = ["MODEL_TUNING", "Learned", "Learner", "ModelLearner", "ModelTuning", "PromptLearner", "save_model"]

Learned = SoftPrompt | Backbone
MODEL_TUNING = "model_tuning"
"""What `ModelTuning` is called among the names of methods."""


@final
@dataclass(frozen=True)
class ModelTuning:
    """Training of all weights, the baseline that prompts are measured against: a run's `method`.

    The run trains a copy of the backbone in float32, in evaluation mode (no dropout), on the same data in the same
    order as a prompt's run; the backbone itself stays as it is. It is the only run of its session.

    References:
        Lester et al. 2021, §3.1; Raffel et al. 2020, §3.5.2 (fine-tuning).
    """


@final
@dataclass(frozen=True)
class PromptLearner:
    """A prompt that is trained.

    Attributes:
        asked_as: The name by which the rows of its run ask for it.
        module: The prompt.
    """

    asked_as: str
    module: SoftPrompt

    def finish(self, values: Mapping[str, Tensor] | None, told: Mapping[str, Any]) -> SoftPrompt:
        """The prompt with its best values, any reparameterisation computed away; it knows what is told of its run.

        Args:
            values: The best state; None takes the present one.
            told: Task, format, run and metrics, as `SoftPrompt.with_info` takes them.
        """
        prompt = copy.deepcopy(self.module)
        if values is not None:
            prompt.load_state_dict(values)
        with torch.no_grad():
            return prompt.fold().with_info(**told)


@final
class ModelLearner:
    """All weights of a copy of a backbone.

    Attributes:
        asked_as: None: its rows ask for no prompt.
        backbone: The copy.

    Args:
        backbone: What is copied.
    """

    asked_as = None

    def __init__(self, backbone: Backbone) -> None:
        model = copy.deepcopy(backbone.model).float()
        self.backbone = Backbone.from_model(model, backbone.tokenizer, name=backbone.name)
        model.requires_grad_(True)

    @property
    def module(self) -> nn.Module:
        """The weights."""
        return self.backbone.model

    def finish(self, values: Mapping[str, Tensor] | None, told: Mapping[str, Any]) -> Backbone:
        """The copy with its best weights, frozen.

        Args:
            values: The best state; None takes the present one.
            told: What a prompt would know; a model keeps nothing of it, and `save_model` writes it beside the weights.
        """
        if values is not None:
            self.module.load_state_dict(values)
        return Backbone.from_model(self.backbone.model, self.backbone.tokenizer, name=f"{self.backbone.name}, tuned")


Learner = PromptLearner | ModelLearner


def save_model(backbone: Backbone, path: Path, told: Mapping[str, Any]) -> Path:
    """Write a tuned model as a folder that `Backbone.from_pretrained` loads, with `run.json`; whole or not at all.

    Raises:
        ArtefactError: If it cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        backbone.model.save_pretrained(draft)
        if backbone.tokenizer is not None:
            backbone.tokenizer.save_pretrained(draft)
        (draft / "run.json").write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        replace_folder(draft, path)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be written ({error}); free some space or choose another folder.") from error
    return path
