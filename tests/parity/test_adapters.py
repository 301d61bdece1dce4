"""Prompts on a backbone that carries a LoRA of peft's: put in, wrapped or merged, it is one model."""

from __future__ import annotations

import copy
import json

import peft
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from tests.training.sessions import calm_backbone, difference, sentiment, short_run

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import BackboneError, MismatchError
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.training import LoRA, TrainConfig, train

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft asks for it

KINDS = ("decoder-only", "encoder-decoder", "encoder-only")
METHODS = [PromptTuning(length=3, init="vocab"), PrefixTuning(length=3, init="vocab", hidden=None)]


def wrapped(kind: str) -> peft.PeftModel:
    """A tiny model with a LoRA that changes what it computes."""
    model = copy.deepcopy(calm_backbone(kind).model)
    model.set_attn_implementation("eager")
    torch.manual_seed(0)
    changed = get_peft_model(model, LoraConfig(r=2, lora_alpha=8, fan_in_fan_out=kind == "decoder-only"))
    for name, parameter in changed.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return changed.eval()


def taken(kind: str, model) -> Backbone:
    return Backbone.from_model(model, calm_backbone(kind).need_tokenizer(), name="changed")


def logits(backbone: Backbone, prompt) -> torch.Tensor:
    ids = torch.arange(3, 13).reshape(2, 5)
    decoder = {"decoder_input_ids": ids[:, :3]} if backbone.spec.kind == "encoder-decoder" else {}
    with torch.no_grad():
        return Prompted(backbone, {"a": prompt})(ids, prompts="a", **decoder).logits


@pytest.mark.parametrize("method", METHODS, ids=["rows", "keys"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_of_the_carrying_model_is_one_of_the_merged_model(kind, method):
    carrying = taken(kind, wrapped(kind))
    merged = taken(kind, wrapped(kind).merge_and_unload())
    assert carrying.spec == merged.spec
    assert carrying.fingerprint.matches(merged.fingerprint)
    prompt = method.build(carrying)
    assert difference(prompt, method.build(merged)) < 1e-5
    torch.testing.assert_close(logits(carrying, prompt), logits(merged, prompt), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_without_it_is_another(kind):
    """The digest of parameters held the adapter's beside unchanged weights, or not at all once merged."""
    carrying, bare = taken(kind, wrapped(kind)), calm_backbone(kind)
    assert not carrying.fingerprint.matches(bare.fingerprint)
    prompt = PromptTuning(length=2, init="vocab").build(bare)
    with pytest.raises(MismatchError, match="but the backbone is changed"):
        Prompted(carrying, {"a": prompt})
    model = wrapped(kind)
    with model.disable_adapter():
        assert taken(kind, model).fingerprint.matches(bare.fingerprint)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"target_modules": ["wte"]},
        {"target_modules": ["c_attn", "lm_head"], "ensure_weight_tying": False},
        {"modules_to_save": ["ln_f"]},
    ],
)
@pytest.mark.filterwarnings("ignore:.*tie:UserWarning", "ignore:fan_in_fan_out:UserWarning")
def test_what_merging_would_change_is_never_taken_for_the_same(settings):
    """A product of two matrices added to a dense layer of its own is merged exactly; of anything else nobody knows."""
    model = copy.deepcopy(calm_backbone("decoder-only").model)
    model.set_attn_implementation("eager")
    config = LoraConfig(r=2, **{"target_modules": ["c_attn"], "fan_in_fan_out": True, **settings})
    torch.manual_seed(0)
    changed = get_peft_model(model, config)
    for name, parameter in changed.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    carrying = taken("decoder-only", changed.eval())
    assert not carrying.fingerprint.matches(calm_backbone("decoder-only").fingerprint)
    merged = taken("decoder-only", changed.merge_and_unload())
    ids = torch.arange(3, 13).reshape(2, 5)
    assert carrying.fingerprint != merged.fingerprint
    assert not carrying.fingerprint.matches(merged.fingerprint)
    assert merged.model(ids).logits.shape == (2, 5, 48)


def test_training_leaves_the_adapter_as_it_is():
    backbone = taken("decoder-only", wrapped("decoder-only"))
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    result = train(backbone, [short_run(task=sentiment(), steps=3)], TrainConfig(progress=False))["a"]
    assert result.status == "finished"
    after = backbone.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_a_stored_adapter_is_loaded_into_its_model(tmp_path):
    """A trained LoRA is stored as peft stores it, with the name of its backbone."""
    calm = calm_backbone("decoder-only")
    calm.model.save_pretrained(tmp_path / "base")
    calm.need_tokenizer().save_pretrained(tmp_path / "base")
    backbone = Backbone.from_pretrained(tmp_path / "base", device="cpu")
    run = short_run(method=LoRA(rank=2, targets=["c_attn"]), task=sentiment(), learning_rate=0.1, steps=3)
    result = train(backbone, [run], TrainConfig(output_dir=tmp_path / "out", progress=False))["a"]
    assert json.loads((result.path / "adapter_config.json").read_text())["base_model_name_or_path"] == backbone.name
    loaded = Backbone.from_pretrained(result.path, device="cpu")
    assert loaded.fingerprint.matches(result.backbone.fingerprint)
    assert not loaded.fingerprint.matches(backbone.fingerprint)
    assert loaded.tokenizer is not None
    ids = torch.arange(3, 13).reshape(2, 5)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, result.backbone.model(ids).logits)


def test_what_is_no_adapter_is_refused(tmp_path):
    model = copy.deepcopy(calm_backbone("decoder-only").model)
    prompted = get_peft_model(model, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3))
    with pytest.raises(BackboneError, match=r"one of peft's own prompts; give the bare model"):
        Backbone.from_model(prompted)
    prompted.save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="holds a prompt and no model"):
        Backbone.from_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="but got Linear"):
        Backbone.from_model(torch.nn.Linear(2, 2))
