"""What a run trains: a prompt beside the frozen backbone, or weights of a copy of it."""

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
from softprompt.training.weights import WeightMethod

__all__ = ["Learned", "Learner", "PromptLearner", "WeightLearner", "save_model"]

Learned = SoftPrompt | Backbone


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

    def penalty(self) -> Tensor | None:
        """What is added to the loss of a step, if anything."""
        return self.module.parametrization.penalty()

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
class WeightLearner:
    """Weights of a copy of a backbone.

    Attributes:
        asked_as: None: its rows ask for no prompt.
        backbone: The copy.

    Args:
        backbone: What is copied.
        method: Which weights are trained.
    """

    asked_as = None

    def __init__(self, backbone: Backbone, method: WeightMethod) -> None:
        model = copy.deepcopy(backbone.model).float()
        method.prepare(model)
        self.backbone = Backbone.from_model(model, backbone.tokenizer, name=backbone.name)
        for parameter in method.trained(model):
            parameter.requires_grad_(True)

    def penalty(self) -> None:
        """Nothing is added to the loss of a step."""

    @property
    def module(self) -> nn.Module:
        """The model, of which some or all parameters require a gradient."""
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


Learner = PromptLearner | WeightLearner


def save_model(backbone: Backbone, path: Path, told: Mapping[str, Any]) -> Path:
    """Write a tuned model as a folder, with `run.json`; whole or not at all.

    It holds the whole model, which `Backbone.from_pretrained` loads, or the adapter alone, as peft stores it.

    Raises:
        ArtefactError: If it cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        backbone.model.save_pretrained(draft)  # of a model with an adapter, transformers writes the adapter alone
        if backbone.tokenizer is not None:
            backbone.tokenizer.save_pretrained(draft)
        (draft / "run.json").write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        replace_folder(draft, path)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be written ({error}); free some space or choose another folder.") from error
    return path
