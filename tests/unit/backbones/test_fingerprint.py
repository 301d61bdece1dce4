"""A fingerprint tells models apart, and knows a model again in another dtype."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.families import zoo

from softprompt.backbones import Fingerprint
from softprompt.backbones.fingerprint import fingerprint
from softprompt.errors import ArtefactError

MODEL = zoo.stock("gpt2")
MINE = fingerprint(MODEL)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_is_known_in_every_dtype(dtype):
    assert fingerprint(copy.deepcopy(MODEL).to(dtype)).matches(MINE)


@pytest.mark.parametrize("name", [name for name, _ in MODEL.named_parameters()])
def test_a_small_change_of_any_parameter_is_seen(name):
    """As fine-tuning changes weights: by a few percent, everywhere in one tensor."""
    changed = copy.deepcopy(MODEL)
    with torch.no_grad():
        changed.get_parameter(name).mul_(1.05)
    other = fingerprint(changed)
    assert not other.matches(MINE)
    assert other.short != MINE.short


@pytest.mark.parametrize(("setting", "value"), [("n_head", 2), ("model_type", "imagegpt")])
def test_what_the_weights_do_not_show_of_the_architecture_is_seen(setting, value):
    changed = copy.deepcopy(MODEL)
    setattr(changed.config, setting, value)
    assert getattr(MODEL.config, setting) != value
    assert not fingerprint(changed).matches(MINE)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("pad_token_id", 5),
        ("eos_token_id", [1, 7]),
        ("output_attentions", True),
        ("use_cache", False),
        ("problem_type", "regression"),
        ("_name_or_path", "elsewhere"),
        ("id2label", {0: "no", 1: "yes"}),
        ("a_key_of_a_later_release", 1.0),
    ],
)
def test_a_change_of_the_configuration_is_not(setting, value):
    """All of it was digested: `config.pad_token_id = tokenizer.eos_token_id` made prompts unreadable on their model."""
    changed = copy.deepcopy(MODEL)
    changed.set_attn_implementation("eager")
    setattr(changed.config, setting, value)
    assert fingerprint(changed) == MINE


def test_it_is_a_few_kilobytes_of_text():
    again = Fingerprint.from_mapping(MINE.to_mapping())
    assert again == MINE
    assert len(MINE.weights) < 16 * len(list(MODEL.parameters()))
    assert len(MINE.short) == 17


@pytest.mark.parametrize("values", [{}, {"architecture": "a"}, {"weights": "a"}])
def test_a_damaged_one_is_refused(values):
    with pytest.raises(ArtefactError, match="needs 'architecture' and 'weights'; the artefact is damaged"):
        Fingerprint.from_mapping(values)


def test_another_number_of_parameters_is_another_model():
    assert not MINE.matches(Fingerprint(MINE.architecture, ""))
    assert Fingerprint(MINE.architecture, "").matches(Fingerprint(MINE.architecture, ""))
