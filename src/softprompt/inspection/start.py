"""A prompt as it was before training, built again from what is stored with it."""

from __future__ import annotations

from collections.abc import Mapping

from softprompt.backbones import Backbone
from softprompt.errors import SoftpromptError, UnsupportedError
from softprompt.prompts import SoftPrompt
from softprompt.prompts.registry import SharingMethod
from softprompt.tasks import TextFormat

__all__ = ["prompt_at_start"]


def prompt_at_start(backbone: Backbone, prompt: SoftPrompt) -> SoftPrompt:
    """The untrained prompt that a training began with: the same method, seed and label words.

    Args:
        backbone: The model that it was trained on.
        prompt: The trained prompt.

    Raises:
        UnsupportedError: If what it began with is not stored; the message says what is missing.
    """
    run: Mapping[str, object] = prompt.info.run or {}
    seed = run.get("seed")
    if not isinstance(seed, int):
        raise UnsupportedError("The prompt says no seed of a training, so what it began with is not known.")
    if isinstance(prompt.method, SharingMethod) and "tasks" in run:
        raise UnsupportedError("The prompt shared rows with those of other tasks, which are not stored beside it.")
    form = None if prompt.info.format is None else TextFormat.from_mapping(prompt.info.format)
    try:
        return prompt.method.build(backbone, form, seed)
    except SoftpromptError as error:
        raise UnsupportedError(f"The prompt cannot be built again as it began: {error}") from error
