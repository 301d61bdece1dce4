"""The layers that an adapter of peft changes: their names, and how it is put into a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from softprompt.config import plain_values
from softprompt.errors import ConfigError, MissingDependencyError, UnsupportedError

__all__ = ["ALL_DENSE", "added_values", "as_names", "check_targets", "inject", "is_turned", "name_dense"]

ALL_DENSE = ("all-linear",)
"""What stands for the names of all dense layers but the head, as peft calls it."""


def as_names(setting: str, given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of layers as a setting keeps them: one text is one name.

    Args:
        setting: Its name.
        given: What it was given.

    Raises:
        ConfigError: If there are none.
    """
    if given is None:
        return None
    names = (given,) if isinstance(given, str) else tuple(given)
    if not all(names) or not names:
        raise ConfigError(f"{setting}={given!r}: expected names of layers, as in {setting}=['q_proj', 'v_proj'].")
    return names


def name_dense(model: PreTrainedModel) -> list[str]:
    """Full names of the dense layers, but for the head's."""
    inner = {id(module) for module in model.base_model.modules()} - {id(model.get_output_embeddings())}
    return [name for name, module in _dense(model) if id(module) in inner]


def is_turned(model: PreTrainedModel) -> bool:
    """Whether its matrices are kept transposed, as GPT-2's are."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def check_targets(model: PreTrainedModel, targets: str | Sequence[str] | None, table: str) -> None:
    """Refuse a model without the layers to change.

    Args:
        model: The model.
        targets: Names of the layers; None for peft's choice.
        table: The name of peft's table of its choices.

    Raises:
        UnsupportedError: If peft knows none of the family, or the model has none of those names.
        MissingDependencyError: If peft is not installed.
    """
    if targets is None:
        if model.config.model_type not in getattr(_peft().utils.constants, table):
            raise UnsupportedError(
                f"peft knows no layers of {type(model).__name__} to change; name them, as in targets=['q_proj',"
                " 'v_proj']."
            )
        return
    names = [name for name, _ in model.named_modules()]
    if targets != ALL_DENSE and not any(f".{name}".endswith(f".{target}") for name in names for target in targets):
        dense = {name.rpartition(".")[2] for name, _ in _dense(model)}
        raise UnsupportedError(
            f"{type(model).__name__} has no layers called {', '.join(targets)}; name some that it has in targets:"
            f" {', '.join(sorted(dense))}."
        )


def inject(model: PreTrainedModel, kind: str, **settings: Any) -> None:
    """Put an adapter into a model; several of a setting are lists there.

    Args:
        model: A model without adapter.
        kind: The name of peft's class of its settings.
        settings: These.

    Raises:
        ConfigError: If peft takes the settings for no such model.
        MissingDependencyError: If peft is not installed.
    """
    try:
        model.add_adapter(getattr(_peft(), kind)(**plain_values(settings)))
    except ValueError as error:
        raise ConfigError(f"peft makes no {kind} for {type(model).__name__}: {error}") from None


def added_values(model: PreTrainedModel, mark: str) -> Iterator[nn.Parameter]:
    """The values of an adapter, and of a head that knew nothing.

    Args:
        model: That it was put into.
        mark: What stands in the names of its values.
    """
    return (p for name, p in model.named_parameters() if mark in name or ".modules_to_save." in name)


def _dense(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    return ((name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear | Conv1D))


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingDependencyError("LoRA and IA3 need peft: pip install peft") from error
    return peft
