"""Models and tokenizers from folders."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from tests.families import zoo
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertModel,
    GPT2ForTokenClassification,
    LlamaModel,
)

from softprompt.backbones import Backbone, loading
from softprompt.backbones.loading import pick_device
from softprompt.errors import BackboneError, ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    def store(name: str) -> str:
        path = tmp_path_factory.mktemp(name)
        zoo.stock(name).save_pretrained(path)
        zoo.tokenizer(zoo.BY_NAME[name].kind).save_pretrained(path)
        return str(path)

    return store


@pytest.mark.parametrize("name", ["llama", "t5-v1.1", "bert"])
def test_a_folder_is_loaded(folder, name):
    path = folder(name)
    backbone = Backbone.from_pretrained(path, device="cpu")
    assert backbone.name == path
    assert backbone.fingerprint.matches(zoo.backbone(name).fingerprint)
    assert backbone.spec == zoo.backbone(name).spec
    assert backbone.tokenize("good film") == zoo.backbone(name).tokenize("good film")


def test_a_t5_with_a_head_of_its_own_is_loaded_without_a_warning(caplog):
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        Backbone.from_pretrained("bundled:t5-tiny")
    finally:
        logger.removeHandler(caplog.handler)
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("dtype", "want"), [("bfloat16", torch.bfloat16), (torch.float16, torch.float16), ("auto", torch.float32)]
)
def test_a_dtype_can_be_chosen(folder, dtype, want):
    backbone = Backbone.from_pretrained(folder("gpt2"), dtype=dtype, device="cpu")
    assert backbone.dtype == want
    assert backbone.device.type == "cpu"
    assert backbone.fingerprint.matches(zoo.backbone("gpt2").fingerprint)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_a_kernel_can_be_chosen(folder, kernel):
    backbone = Backbone.from_pretrained(folder("gpt2"), attention=kernel, device="cpu")
    assert backbone.model.config._attn_implementation == f"softprompt_{kernel}"


def test_a_tokenizer_is_not_needed(tmp_path):
    zoo.stock("gpt2").save_pretrained(tmp_path)
    assert Backbone.from_pretrained(str(tmp_path), device="cpu").tokenizer is None


@pytest.mark.parametrize("dtype", ["int8", "float31", "nn"])
def test_an_unknown_dtype_is_refused(folder, dtype):
    with pytest.raises(ConfigError, match=f"dtype='{dtype}': expected 'auto', 'float32'"):
        Backbone.from_pretrained(folder("gpt2"), dtype=dtype)


def test_an_unknown_device_is_refused():
    with pytest.raises(ConfigError, match="device='gpu': "):
        pick_device("gpu")


def test_a_gpu_of_its_own_is_for_each_of_several_processes(monkeypatch):
    """Other programs set LOCAL_RANK too, some of them to nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": "3", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    for count, local, wanted in (("4", "3", "cuda:1"), ("1", "3", "cuda"), ("4", "", "cuda")):
        monkeypatch.setenv("WORLD_SIZE", count)
        monkeypatch.setenv("LOCAL_RANK", local)
        assert str(pick_device("auto")) == wanted


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(BackboneError, match=f"Cannot load '{tmp_path}/none' as a backbone: "):
        Backbone.from_pretrained(f"{tmp_path}/none")


def test_a_truncated_model_is_named(folder):
    path = folder("gpt2")
    with open(f"{path}/model.safetensors", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(BackboneError, match="as a backbone"):
        Backbone.from_pretrained(path)


def test_a_model_without_trained_head_is_refused(tmp_path):
    GPT2ForTokenClassification(zoo.stock("gpt2").config).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="holds GPT2ForTokenClassification; expected a model that generates text"):
        Backbone.from_pretrained(str(tmp_path))


def test_a_model_without_a_head_is_refused(tmp_path):
    """transformers makes a random head, another one at each load, and prompts were trained on that."""
    LlamaModel(zoo.stock("llama").config).save_pretrained(tmp_path)
    missing = "lm_head.weight of LlamaForCausalLM"
    with pytest.raises(BackboneError, match=rf"holds no weights for {missing}, which would be random; load a check"):
        Backbone.from_pretrained(str(tmp_path))


@pytest.mark.parametrize("stored", [BertModel, BertForMaskedLM, BertForQuestionAnswering])
def test_an_encoder_is_loaded_without_its_head(stored, tmp_path):
    """Prompts bring theirs; what the checkpoint has for it would be random, or is for something else."""
    stored(BertConfig(**zoo.BERT)).save_pretrained(tmp_path)
    one, two = (Backbone.from_pretrained(str(tmp_path), device="cpu") for _ in range(2))
    assert one.spec.kind == "encoder-only"
    assert one.has_untrained_head
    assert one.fingerprint == two.fingerprint


def test_an_encoder_that_lacks_weights_is_refused(tmp_path):
    model = BertModel(BertConfig(**zoo.BERT))
    kept = {name: value for name, value in model.state_dict().items() if "layer.1.output" not in name}
    model.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(BackboneError, match=r"holds no weights for bert.encoder.layer.1.*which are none of its head's"):
        Backbone.from_pretrained(str(tmp_path))


def test_a_classification_head_that_was_not_trained_is_refused(tmp_path):
    zoo.stock("bert").base_model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"holds no weights for .*classifier.weight of BertForSequenceClassif"):
        Backbone.from_pretrained(str(tmp_path))


@pytest.mark.parametrize("damage", ["a truncated file", "a missing file", "a missing library"])
def test_a_tokenizer_that_cannot_be_loaded_is_not_passed_over(folder, damage, monkeypatch):
    """It was taken for a model without tokenizer, and prompts started from special tokens."""
    path, error = folder("gpt2"), "JSONDecodeError"
    if damage == "a truncated file":
        with open(f"{path}/tokenizer.json", "r+b") as file:
            file.truncate(100)
    elif damage == "a missing file":
        Path(path, "tokenizer.json").unlink()
        error = "ValueError"
    else:
        error = "ImportError: tiktoken"
        monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", _needs_a_library)
    with pytest.raises(
        BackboneError, match=rf"The tokenizer of '{path}' cannot be loaded: {error}(.|\n)*from_model\(model, "
    ):
        Backbone.from_pretrained(path)


def _needs_a_library(*_, **__):
    raise ImportError("tiktoken is required")


def test_no_bundled_backbone_of_that_name():
    with pytest.raises(ConfigError, match="Unknown bundled backbone 'gpt-9'"):
        Backbone.from_pretrained("bundled:gpt-9")


def test_a_folders_own_code_does_not_run(tmp_path):
    zoo.stock("gpt2").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.update(model_type="mine", auto_map={"AutoConfig": "code.Mine", "AutoModelForCausalLM": "code.Model"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text("raise SystemExit('the code ran')")
    with pytest.raises(BackboneError, match="trust_remote_code"):
        Backbone.from_pretrained(str(tmp_path))
