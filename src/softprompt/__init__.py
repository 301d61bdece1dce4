"""Train, measure, inspect and serve soft prompts on frozen language models."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "ArtefactError": "errors",
    "Backbone": "backbones",
    "BackboneError": "errors",
    "BackboneSpec": "backbones",
    "ConfigError": "errors",
    "DataError": "errors",
    "DeadlineError": "errors",
    "Engine": "inference",
    "EngineClosedError": "errors",
    "Ensemble": "inference",
    "IA3": "training",
    "LengthError": "errors",
    "LoRA": "training",
    "LostProcessError": "errors",
    "MismatchError": "errors",
    "MissingDependencyError": "errors",
    "Mixture": "tasks",
    "ModelTuning": "training",
    "MultitaskPrompt": "prompts",
    "NonFiniteError": "errors",
    "PTuning": "prompts",
    "PTuningV2": "prompts",
    "PrefixTuning": "prompts",
    "PromptTuning": "prompts",
    "Prompted": "conditioning",
    "QueueFullError": "errors",
    "Request": "inference",
    "RequestCancelled": "errors",
    "Run": "training",
    "Sampling": "inference",
    "ServerError": "errors",
    "ShapeError": "errors",
    "SoftPrompt": "prompts",
    "SoftpromptError": "errors",
    "Study": "studies",
    "Task": "tasks",
    "TextFormat": "tasks",
    "TextPrompt": "evaluation",
    "TrainConfig": "training",
    "TrainingInterrupted": "errors",
    "UnknownPromptError": "errors",
    "UnreachableError": "errors",
    "UnsupportedError": "errors",
    "bind": "store",
    "estimate_memory": "training",
    "evaluate": "evaluation",
    "load_peft": "store",
    "load_task": "tasks",
    "save_peft": "store",
    "train": "training",
}
"""Each public name and the room that it lives in: a room is imported when one of its names is asked for."""

_ROOMS = ("inspection",)
"""Rooms that are public as a whole: `softprompt.inspection.nearest_words`."""

__all__ = sorted((*_HOMES, *_ROOMS))


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"softprompt.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'softprompt' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"softprompt.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
