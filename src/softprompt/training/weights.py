"""Baselines that train weights instead of a prompt: all of the model's, its last layers, or an adapter's.

Adapters are peft's own. A run of any of them trains a copy of the backbone, into which an adapter that the backbone
carries is merged, and is alone in its session.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, final

from torch import nn
from transformers import PreTrainedModel

from softprompt.backbones.adapters import check_merges
from softprompt.config import check_lists, check_types
from softprompt.errors import ConfigError, UnsupportedError
from softprompt.training.adapter_layers import (
    ALL_DENSE,
    added_values,
    as_names,
    check_targets,
    inject,
    is_turned,
    name_dense,
)

__all__ = ["IA3", "WEIGHT_METHODS", "LoRA", "ModelTuning", "WeightMethod"]


@final
@dataclass(frozen=True, kw_only=True)
class ModelTuning:
    """Training of the model's own weights, the baseline that prompts are measured against: a run's `method`.

    The run trains a copy of the backbone in float32, in evaluation mode (no dropout), on the same data in the same
    order as a prompt's run; the backbone itself stays as it is.

    Attributes:
        layers: Train only the last so many layers of each stack, and what stands behind them; 0 trains the head alone.
            None trains everything.

    Raises:
        ConfigError: If `layers` is negative, or no number.

    References:
        Lester et al. 2021, §3.1; Raffel et al. 2020, §3.5.1 (fine-tuning); Li and Liang 2021, §5.2 (top layers).
    """

    name: ClassVar[str] = "model_tuning"
    layers: int | None = None

    def __post_init__(self) -> None:
        check_types(type(self), vars(self))
        if self.layers is not None and self.layers < 0:
            raise ConfigError(f"layers={self.layers}: expected at least 0, or None for all.")

    def check(self, model: PreTrainedModel) -> None:
        """Refuse a model that has not what is to be trained, or carries an adapter that cannot be merged.

        Raises:
            UnsupportedError: If the head alone is to be trained, and it is the table of embeddings; or as of
                `check_merges`.
        """
        check_merges(model)
        self.trained(model)

    def prepare(self, model: PreTrainedModel, *, head: Sequence[str] = ()) -> None:
        """Change nothing: the weights are there, those of a head too."""

    def trained(self, model: PreTrainedModel) -> Iterator[nn.Parameter]:
        """The weights that are trained.

        Raises:
            UnsupportedError: If the head alone is to be trained, and it is the table of embeddings.
        """
        if self.layers is None:
            return model.parameters()
        return iter(_last(model, self.layers) if self.layers else _head(model))


@final
@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank changes of weight matrices, by peft: a run's `method`.

    Attributes:
        rank: Rank of a change.
        alpha: A change is scaled by `alpha / rank`.
        targets: Names of the layers that are changed, or one name; `all-linear` are all but the head; peft's choice for
            the family if None.

    Raises:
        ConfigError: If the rank is none, or a setting of another type.

    References:
        Hu et al. 2022, §4.
    """

    name: ClassVar[str] = "lora"
    rank: int = 8
    alpha: float = 16.0
    targets: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_types(type(self), vars(self))
        check_lists(type(self), vars(self))
        object.__setattr__(self, "targets", as_names("targets", self.targets))
        if self.rank < 1:
            raise ConfigError(f"rank={self.rank}: expected at least 1.")

    def check(self, model: PreTrainedModel) -> None:
        """Refuse a model without the layers to change, or with an adapter that cannot be merged.

        Raises:
            UnsupportedError: If no layers are named and peft knows none of the family, the model has none of those
                names; or as of `check_merges`.
        """
        check_merges(model)
        check_targets(model, self.targets, "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING")

    def prepare(self, model: PreTrainedModel, *, head: Sequence[str] = ()) -> None:
        """Put the changes, which begin as none, into the model; their random half from torch's own randomness.

        Args:
            model: A model without adapter.
            head: Parts of it that know nothing yet, and are trained and stored whole.

        Raises:
            ConfigError: If peft takes the settings for no such model.
            MissingDependencyError: If peft is not installed.
        """
        inject(
            model,
            "LoraConfig",
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=name_dense(model) if self.targets == ALL_DENSE else self.targets,
            modules_to_save=list(head) or None,
            fan_in_fan_out=is_turned(model),
        )

    def trained(self, model: PreTrainedModel) -> Iterator[nn.Parameter]:
        """The values of the changes, and of a head that knew nothing."""
        return added_values(model, ".lora_")


@final
@dataclass(frozen=True, kw_only=True)
class IA3:
    """Factors on keys, values and inner activations, by peft: a run's `method`.

    Attributes:
        targets: Names of the layers that are scaled, or one name; peft's choice for the family if None.
        feedforward: Those among them whose inputs are scaled instead of their outputs; peft's choice if None.

    Raises:
        ConfigError: If names are no texts, or `all-linear`, which says nothing of which inputs are scaled.

    References:
        Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning …", §3.3 ((IA)³).
    """

    name: ClassVar[str] = "ia3"
    targets: str | Sequence[str] | None = None
    feedforward: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_lists(type(self), vars(self))
        for setting in ("targets", "feedforward"):
            object.__setattr__(self, setting, as_names(setting, getattr(self, setting)))
        if ALL_DENSE in (self.targets, self.feedforward):
            raise ConfigError("'all-linear' is for LoRA; name the layers that IA3 scales, as in targets=['k', 'v'].")

    def check(self, model: PreTrainedModel) -> None:
        """Refuse a model without the layers to scale, or with an adapter that cannot be merged.

        Raises:
            UnsupportedError: If no layers are named and peft knows none of the family, the model has none of those
                names; or as of `check_merges`.
        """
        check_merges(model)
        check_targets(model, self.targets, "TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING")

    def prepare(self, model: PreTrainedModel, *, head: Sequence[str] = ()) -> None:
        """Put the factors, which begin as one, into the model.

        Args:
            model: A model without adapter.
            head: Parts of it that know nothing yet, and are trained and stored whole.

        Raises:
            ConfigError: If peft takes the settings for no such model.
            MissingDependencyError: If peft is not installed.
        """
        inject(
            model,
            "IA3Config",
            target_modules=self.targets,
            feedforward_modules=self.feedforward,
            modules_to_save=list(head) or None,
            fan_in_fan_out=is_turned(model),
        )

    def trained(self, model: PreTrainedModel) -> Iterator[nn.Parameter]:
        """The factors, and the values of a head that knew nothing."""
        return added_values(model, ".ia3_")


WeightMethod = ModelTuning | LoRA | IA3

WEIGHT_METHODS: Mapping[str, type[WeightMethod]] = MappingProxyType(
    {method.name: method for method in (ModelTuning, LoRA, IA3)}
)
"""The baselines by the names that configurations call them."""


def _tables(model: PreTrainedModel) -> set[int]:
    """Identities of the values of embedding tables."""
    return {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}


def _head(model: PreTrainedModel) -> list[nn.Parameter]:
    """Weights of the output head: over the vocabulary, or over classes.

    Raises:
        UnsupportedError: If it is the table of embeddings.
    """
    over_words = model.get_output_embeddings()
    inner = {id(parameter) for parameter in model.base_model.parameters()}
    found = over_words.parameters() if over_words is not None else (p for p in model.parameters() if id(p) not in inner)
    head = [parameter for parameter in found if id(parameter) not in _tables(model)]
    if not head:
        raise UnsupportedError(
            f"{type(model).__name__} has no head of its own to train: it is the table of embeddings. Use layers=1."
        )
    return head


def _last(model: PreTrainedModel, layers: int) -> Iterator[nn.Parameter]:
    """Weights of the last layers of each stack, and those behind the layers: final norms and a head of its own.

    A stack is an outermost list of modules. What is registered before the first of them, or embeds something, is not
    trained.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    stacks = {name: len(found) for name, found in lists.items() if not any(name.startswith(f"{o}.") for o in lists)}
    tables = _tables(model)
    begun = False
    for name, parameter in model.named_parameters():
        stack = next((stack for stack in stacks if name.startswith(f"{stack}.")), None)
        begun = begun or stack is not None
        if stack is None:
            is_last = begun and "embed" not in name
        else:
            is_last = int(name[len(stack) + 1 :].partition(".")[0]) >= stacks[stack] - layers
        if is_last and id(parameter) not in tables:
            yield parameter
