"""What a run trains: a prompt beside the frozen backbone, or weights of a copy of it."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ADAPTER_CONFIG_NAME

from softprompt.artefact import replace_folder
from softprompt.backbones import Backbone
from softprompt.backbones.adapters import merge
from softprompt.backbones.loading import TOLD
from softprompt.backbones.offloading import is_offloaded
from softprompt.errors import ArtefactError, UnsupportedError
from softprompt.prompts import SoftPrompt
from softprompt.training.task_prompts import TaskPrompts
from softprompt.training.weights import WeightMethod

__all__ = ["Learned", "Learner", "PromptLearner", "WeightLearner", "on_cpu", "save_model"]

_TUNED = ", tuned"

Learned = SoftPrompt | TaskPrompts | Backbone
"""A prompt, prompts by their tasks' names, or a tuned model."""


@final
class PromptLearner:
    """A prompt that is trained, or one for each of several tasks, which share some of their values.

    Attributes:
        prompts: By the names by which rows ask for them.
        module: All of them.
        undoes_steps: A step that spoils the values is taken back, which takes a copy of them at each.

    Args:
        run: The name of the run, which the prompts are known by.
        prompts: By the task's name; a single one is every task's.
    """

    undoes_steps: ClassVar[bool] = True

    def __init__(self, run: str, prompts: Mapping[str, SoftPrompt]) -> None:
        self._names = {task: run if len(prompts) == 1 else f"{run}/{task}" for task in prompts}
        self.prompts = {self._names[task]: prompt for task, prompt in prompts.items()}
        several = list(self.prompts.values())
        self.module: nn.Module = several[0] if len(several) == 1 else nn.ModuleList(several)

    def asked_as(self, task: str) -> str:
        """The name by which rows of a task ask for its prompt."""
        return self._names[task] if len(self._names) > 1 else next(iter(self._names.values()))

    def penalty(self) -> Tensor | None:
        """What is added to the loss of a step, if anything."""
        found = [one for prompt in self.prompts.values() if (one := prompt.parametrization.penalty()) is not None]
        return torch.stack(found).sum() if found else None

    def values(self) -> dict[str, Tensor]:
        """A copy of all values, by name."""
        return copy.deepcopy(self.module.state_dict())

    def restore(self, values: Mapping[str, Tensor] | None) -> None:
        """Go back to what `values` gave; None changes nothing."""
        if values is not None:
            self.module.load_state_dict(values)

    def finish(self, values: Mapping[str, Tensor] | None, told: Mapping[str, Mapping[str, Any]]) -> Learned:
        """The prompts with their best values, any reparameterisation computed away; they know what is told of them.

        Args:
            values: The best state; None takes the present one.
            told: By the task's name: task, format, run and metrics, as `SoftPrompt.with_info` takes them.

        Returns:
            The prompt; of several tasks, the prompts by the tasks' names, with what they share.
        """
        module = copy.deepcopy(self.module)
        if values is not None:
            module.load_state_dict(values)
        prompts = _prompts(module)
        with torch.no_grad():
            done = {
                task: prompt.fold().with_info(**told[task]) for task, prompt in zip(self._names, prompts, strict=True)
            }
            if len(done) == 1:
                return next(iter(done.values()))
            shared = prompts[0].common()
            run = next(iter(told.values()))["run"]
            return TaskPrompts(done, None if shared is None else shared.fold().with_info(run=run))


def _prompts(module: nn.Module) -> list[SoftPrompt]:
    found = [module] if isinstance(module, SoftPrompt) else module.children()
    return [prompt for prompt in found if isinstance(prompt, SoftPrompt)]


@final
class WeightLearner:
    """Weights of a copy of a backbone, into which an adapter that it carries is merged.

    A head that knows nothing is trained too, and stored with what the method trains.

    Attributes:
        prompts: None at all.
        backbone: The copy.
        undoes_steps: No copy of the values is kept at each step, which would cost as much as the model again: a run
            that fails goes back to its best values, or to its start.

    Args:
        backbone: What is copied.
        method: Which weights are trained.
        seed: Of everything random.

    Raises:
        UnsupportedError: If the backbone lacks what the method trains, or carries an adapter that cannot be merged.
    """

    prompts: Mapping[str, SoftPrompt] = MappingProxyType({})
    undoes_steps: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, method: WeightMethod, seed: int) -> None:
        self._start = functools.partial(_prepared, backbone, method, seed)
        self.backbone = Backbone.from_model(self._start(), backbone.tokenizer, name=backbone.name)
        for parameter in method.trained(self.module):
            parameter.requires_grad_(True)

    def asked_as(self, task: str) -> None:
        """Rows ask for no prompt."""

    def penalty(self) -> None:
        """Nothing is added to the loss of a step."""

    @property
    def module(self) -> nn.Module:
        """The model, of which some or all parameters require a gradient."""
        return self.backbone.model

    def values(self) -> dict[str, Tensor]:
        """A copy of the trained values, by name; on the CPU, as the model may leave no room for it beside itself."""
        trained = ((name, p) for name, p in self.module.named_parameters() if p.requires_grad)
        return {name: p.detach().to("cpu", copy=True) for name, p in trained}

    def restore(self, values: Mapping[str, Tensor] | None) -> None:
        """Go back to what `values` gave; None goes back to the start, which is made again."""
        self.module.load_state_dict(self._start().state_dict() if values is None else values, strict=False)

    def finish(self, values: Mapping[str, Tensor] | None, told: Mapping[str, Any]) -> Backbone:
        """The copy with its best weights, frozen.

        Args:
            values: The best state; None takes the present one.
            told: What a prompt would know; a model keeps nothing of it, and `save_model` writes it beside the weights.
        """
        if values is not None:
            self.restore(values)
        return Backbone.from_model(self.backbone.model, self.backbone.tokenizer, name=self.backbone.name + _TUNED)


def _prepared(backbone: Backbone, method: WeightMethod, seed: int) -> PreTrainedModel:
    """A copy of a backbone's model in float32, as a method begins to train it."""
    if backbone.quantized is not None:
        raise UnsupportedError(
            f"{backbone.name} keeps its weights in {backbone.quantized}, which cannot be trained; load it without"
            " quantize, or train a prompt."
        )
    if backbone.sharded:
        raise UnsupportedError(
            f"{backbone.name} is spread over processes, which hold no weights of their own to train; load it without"
            " sharded, or train a prompt."
        )
    if is_offloaded(backbone.model):
        raise UnsupportedError(
            f"{backbone.name} keeps weights in CPU memory or on disk (device_map), where they cannot be trained; load"
            " it without device_map, or train a prompt."
        )
    method.check(backbone.model)
    model = copy.deepcopy(backbone.model)
    values = (*model.parameters(), *model.buffers())
    if any(value.is_floating_point() and value.dtype != torch.float32 for value in values):
        model = model.float()
    merge(model)
    with torch.random.fork_rng(devices=[]):  # adapters draw from torch's own randomness, on the CPU
        torch.random.default_generator.manual_seed(seed)
        method.prepare(model, head=backbone.head.parts if backbone.has_untrained_head else ())
    return model


Learner = PromptLearner | WeightLearner


def on_cpu(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `values` gave, where every process can read it."""
    return {name: value.cpu() for name, value in values.items()}


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
        _name_base(draft / ADAPTER_CONFIG_NAME, backbone.name.removesuffix(_TUNED))
        (draft / TOLD).write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        replace_folder(draft, path)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be written ({error}); free some space or choose another folder.") from error
    return path


def _name_base(config: Path, name: str) -> None:
    """Let a stored adapter, if it is one, say which backbone it belongs to."""
    if config.is_file():
        settings = json.loads(config.read_text(encoding="utf-8"))
        config.write_text(json.dumps({**settings, "base_model_name_or_path": name}, indent=2) + "\n", encoding="utf-8")
