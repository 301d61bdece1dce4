"""The public face: one sorted list of names, loaded when they are asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import softprompt

PUBLIC = [
    "ArtefactError",
    "Backbone",
    "BackboneError",
    "BackboneSpec",
    "ConfigError",
    "DataError",
    "DeadlineError",
    "Engine",
    "EngineClosedError",
    "Ensemble",
    "IA3",
    "LengthError",
    "LoRA",
    "LostProcessError",
    "MismatchError",
    "MissingDependencyError",
    "Mixture",
    "ModelTuning",
    "MultitaskPrompt",
    "NonFiniteError",
    "PTuning",
    "PTuningV2",
    "PrefixTuning",
    "PromptTuning",
    "Prompted",
    "QueueFullError",
    "Request",
    "RequestCancelled",
    "Run",
    "Sampling",
    "ServerError",
    "ShapeError",
    "SoftPrompt",
    "SoftpromptError",
    "Study",
    "Task",
    "TextFormat",
    "TextPrompt",
    "TrainConfig",
    "TrainingInterrupted",
    "UnknownPromptError",
    "UnreachableError",
    "UnsupportedError",
    "bind",
    "estimate_memory",
    "evaluate",
    "inspection",
    "load_peft",
    "load_task",
    "save_peft",
    "train",
]

HEAVY = {"accelerate", "datasets", "huggingface_hub", "numpy", "peft", "sklearn", "tokenizers", "torch", "transformers"}


def test_the_list_is_sorted_and_pinned():
    assert sorted(PUBLIC) == PUBLIC
    assert list(getattr(softprompt, "__all__", [])) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_leads_to_something_documented(name):
    assert name in dir(softprompt)
    assert getattr(softprompt, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Promptd"):
        softprompt.Promptd  # noqa: B018


def test_import_is_light():
    program = "import json, sys, softprompt; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in json.loads(done.stdout)}
    assert "softprompt" in loaded
    assert not loaded & HEAVY
