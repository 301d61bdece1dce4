"""Baselines on a backbone that carries an adapter, which is merged into the copy that they train."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from tests.training.sessions import calm_backbone, sentiment, short_run
from torch import nn
from transformers.pytorch_utils import Conv1D

from softprompt.backbones import Backbone
from softprompt.errors import BackboneError, MismatchError, UnsupportedError
from softprompt.training import IA3, LoRA, ModelTuning, TrainConfig, train

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft asks for it

KINDS = ("decoder-only", "encoder-decoder", "encoder-only")
METHODS = (ModelTuning(), LoRA(rank=2), IA3())
CARRIED = {"lora": LoraConfig(r=2, lora_alpha=8), "ia3": IA3Config()}


def changed(kind: str, adapter: str = "lora", **settings):
    """A tiny model with an adapter around it that changes what it computes."""
    model = copy.deepcopy(calm_backbone(kind).model)
    model.set_attn_implementation("eager")
    config = copy.deepcopy(CARRIED[adapter])
    config.fan_in_fan_out = kind == "decoder-only"
    for name, value in settings.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    wrapped = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name or "ia3_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return wrapped.eval()


def in_folder(kind: str, path, adapter: str = "lora") -> Backbone:
    """The same, as an adapter's folder beside its model's."""
    backbone = calm_backbone(kind)
    backbone.model.save_pretrained(path / "base")
    backbone.need_tokenizer().save_pretrained(path / "base")
    wrapped = changed(kind, adapter)
    wrapped.peft_config["default"].base_model_name_or_path = str(path / "base")
    wrapped.save_pretrained(path / "carried")
    return Backbone.from_pretrained(path / "carried", device="cpu")


def wrapped_in_memory(kind: str, path, adapter: str = "lora") -> Backbone:
    return Backbone.from_model(changed(kind, adapter), calm_backbone(kind).need_tokenizer(), name="changed")


def logits(backbone: Backbone) -> torch.Tensor:
    ids = torch.arange(3, 13).reshape(2, 5)
    decoder = {"decoder_input_ids": ids[:, :3]} if backbone.spec.kind == "encoder-decoder" else {}
    with torch.no_grad():
        return backbone.model(ids, **decoder).logits


def tuned(backbone: Backbone, method, path, **settings):
    settings = {"learning_rate": 0.03, "optimizer": "adamw", **settings}
    run = short_run(method=method, task=sentiment(), **settings)
    return train(backbone, [run], TrainConfig(output_dir=path / "out", progress=False))["a"]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("carrying", [in_folder, wrapped_in_memory])
def test_training_starts_from_what_the_backbone_computes(kind, carrying, method, tmp_path):
    """A LoRA on a wrapped model took the carried adapter's name, and reset it without a word."""
    backbone = carrying(kind, tmp_path)
    before = logits(backbone)
    held = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    result = tuned(backbone, method, tmp_path, steps=1, learning_rate=1e-12)
    torch.testing.assert_close(logits(result.backbone), before, rtol=1e-4, atol=1e-4)
    after = backbone.model.state_dict()
    assert all(value.equal(after[name]) for name, value in held.items())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", ["lora", pytest.param("ia3", marks=pytest.mark.slow)])
def test_what_is_stored_is_what_was_trained(kind, adapter, method, tmp_path):
    """Of a tuned model, only the carried adapter was stored; a second adapter could not be loaded behind the first."""
    backbone = in_folder(kind, tmp_path, adapter)
    result = tuned(backbone, method, tmp_path)
    assert not torch.allclose(logits(result.backbone), logits(backbone), atol=1e-2)
    loaded = Backbone.from_pretrained(result.path, device="cpu")
    torch.testing.assert_close(logits(loaded), logits(result.backbone), rtol=1e-4, atol=1e-5)
    assert loaded.fingerprint.matches(result.backbone.fingerprint)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_was_wrapped_in_memory_is_stored_whole(kind, tmp_path):
    """Its weights were stored by the names that peft gave its layers."""
    result = tuned(wrapped_in_memory(kind, tmp_path), ModelTuning(), tmp_path)
    loaded = Backbone.from_pretrained(result.path, device="cpu")
    torch.testing.assert_close(logits(loaded), logits(result.backbone), rtol=1e-4, atol=1e-5)


def test_an_adapter_is_not_put_into_a_model_that_lacks_the_one_it_was_trained_behind(tmp_path):
    """The adapter of a wrapped model names the folder of the bare one, which would be another model in silence."""
    in_folder("decoder-only", tmp_path)
    wrapped = changed("decoder-only")
    name = str(tmp_path / "base")
    backbone = Backbone.from_model(wrapped, calm_backbone("decoder-only").need_tokenizer(), name=name)
    result = tuned(backbone, LoRA(rank=2), tmp_path)
    short = re.escape(backbone.fingerprint.short)
    with pytest.raises(
        MismatchError, match=f"of the fingerprint {short}, but '{name}', which it names, is .*; load th"
    ):
        Backbone.from_pretrained(result.path, device="cpu")
    (result.path / "run.json").write_text("{")
    with pytest.raises(BackboneError, match=r"run.json is damaged \(Expecting .*remove that file to load it"):
        Backbone.from_pretrained(result.path, device="cpu")
    merged = wrapped.merge_and_unload()
    merged.load_adapter(str(result.path))
    again = Backbone.from_model(merged, backbone.tokenizer, name="again")
    torch.testing.assert_close(logits(again), logits(result.backbone), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*tie:UserWarning", "ignore:fan_in_fan_out:UserWarning")
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize(
    "settings", [{"use_dora": True}, {"target_modules": ["wte"]}, {"modules_to_save": ["lm_head"]}], ids=str
)
def test_what_cannot_be_merged_exactly_is_refused_by_name(settings, method):
    model = changed("decoder-only", **{"target_modules": ["c_attn"], **settings})
    backbone = Backbone.from_model(model, calm_backbone("decoder-only").need_tokenizer(), name="changed")
    with pytest.raises(
        UnsupportedError, match=r"carries an adapter whose \w+ at \S+ cannot be merged exactly; weights"
    ):
        method.check(backbone.model)
    with pytest.raises(UnsupportedError, match="cannot be merged exactly"):
        train(backbone, [short_run(method=method)], TrainConfig(progress=False))


def test_a_whole_module_that_an_adapter_trained_is_kept(tmp_path):
    model = changed("encoder-only", modules_to_save=["classifier"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(0.3)
    backbone = Backbone.from_model(model, calm_backbone("encoder-only").need_tokenizer(), name="changed")
    result = tuned(backbone, ModelTuning(), tmp_path, steps=1, learning_rate=1e-12)
    torch.testing.assert_close(logits(result.backbone), logits(backbone), rtol=1e-4, atol=1e-4)


def test_names_of_layers_that_a_model_lacks_are_answered_with_those_that_it_has():
    """Whatever peft refused was answered with the advice to name layers, also where some were named."""
    model = calm_backbone("decoder-only").model
    for method in (LoRA(targets=["q_proj", "v"]), IA3(targets=["q_proj", "v"])):
        with pytest.raises(
            UnsupportedError, match=r"has no layers called q_proj, v; name some .*: c_attn, c_fc, c_proj"
        ):
            method.check(model)
    LoRA(targets=["attn.c_attn"]).check(model)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_named_by_one_text_or_all_at_once(kind):
    """A text was taken apart into its letters; peft's name for all layers was answered with the advice to name some."""
    model = copy.deepcopy(calm_backbone(kind).model)
    dense = {name for name, part in model.named_modules() if isinstance(part, nn.Linear | Conv1D)}
    head = {"lm_head", "classifier"}
    name = sorted(dense - head)[0].rpartition(".")[2]
    with pytest.raises(UnsupportedError, match=rf"has no layers called none; .* {name}"):
        LoRA(targets="none").check(model)
    for targets in name, "all-linear":
        tuning = copy.deepcopy(model)
        method = LoRA(rank=1, targets=targets)
        assert method == LoRA(rank=1, targets=[targets])
        method.check(tuning)
        method.prepare(tuning)
        found = {one.partition(".lora_")[0] for one, _ in tuning.named_parameters() if ".lora_A" in one}
        wanted = dense - head if targets == "all-linear" else {one for one in dense if f".{one}".endswith(f".{name}")}
        assert found == wanted
