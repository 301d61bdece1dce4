"""Prompts that were stored once are read to exactly the same values, and damaged ones are refused by name."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from softprompt.backbones import Backbone, Fingerprint
from softprompt.conditioning import Prompted
from softprompt.errors import ArtefactError, MismatchError
from softprompt.prompts import PrefixTuning, PromptInfo, PromptTuning, SoftPrompt

STORED = Path(__file__).parent / "prompts"
NAMES = ["prefix_tuning_1", "prompt_tuning_1"]


def eighths(first, last):
    """Every eighth from one value to another, written out here so that a change of the writer cannot hide."""
    return [value / 8 for value in range(int(first * 8), int(last * 8) + 1)]


def test_all_of_them_are_tested():
    assert sorted(path.name for path in STORED.iterdir()) == NAMES


def test_prompt_tuning():
    prompt = SoftPrompt.load(STORED / "prompt_tuning_1")
    assert prompt().rows.shape == (4, 6)
    assert prompt().rows.dtype == torch.float32
    assert prompt().rows.flatten().tolist() == eighths(-1.0, 1.875)
    assert not prompt().keys_values
    assert prompt.method == PromptTuning(length=4, init="class_labels", text=None, source=None, placement="append")
    assert prompt.num_parameters() == 24
    assert prompt.info == PromptInfo(
        backbone="bundled:tiny",
        fingerprint={"architecture": "00112233445566778899aabbccddeeff", "weights": "AD8AQIA/wD8="},
        kind="encoder-decoder",
        tokenizer="0123456789abcdef",
        task="sentence_polarity",
        format={"input": "Review: {text}", "target": "{label}", "label_words": {"0": "schlecht", "1": "großartig"}},
        run={"seed": 3, "optimizer": "adafactor", "learning_rate": 0.3, "steps": 200},
        metrics={"validation": {"accuracy": 0.8125}},
        lineage=("started from prompts/older", "trained on sentence_polarity"),
    )


def test_prefix_tuning():
    prompt = SoftPrompt.load(STORED / "prefix_tuning_1")
    values = {stack: value.flatten().tolist() for stack, value in prompt().keys_values.items()}
    assert values == {"encoder": eighths(0, 5.875), "cross": eighths(10, 12.875), "decoder": eighths(-10, -7.125)}
    shapes = {stack: tuple(value.shape) for stack, value in prompt().keys_values.items()}
    assert shapes == {"encoder": (2, 2, 2, 3, 2), "cross": (1, 2, 2, 3, 2), "decoder": (1, 2, 2, 3, 2)}
    assert prompt().rows is None
    assert prompt.method == PrefixTuning(
        length=3, hidden=16, init="random", text=None, source=None,
        encoder=True, cross=True, decoder=True, placement="prepend",
    )  # fmt: skip
    assert prompt.info == PromptInfo(backbone="someone/model", fingerprint={"architecture": "ff", "weights": "AAA="})


def test_a_stored_fingerprint_is_recognised():
    """Weights are kept as little-endian bfloat16; those stored are 0.5, 2, 1 and 1.5."""
    stored = Fingerprint.from_mapping(SoftPrompt.load(STORED / "prompt_tuning_1").info.fingerprint)
    bits = torch.tensor([0.5, 2.0, 1.0, 1.5], dtype=torch.bfloat16).view(torch.int16).numpy().astype("<i2")
    again = Fingerprint("00112233445566778899aabbccddeeff", base64.b64encode(bits.tobytes()).decode())
    assert stored.matches(again)
    assert stored.short == "00112233-b0622e11"


@pytest.mark.parametrize("name", NAMES)
def test_written_again_it_is_the_same(name, tmp_path):
    again = SoftPrompt.load(STORED / name).save(tmp_path / name)
    assert (again / "prompt.safetensors").read_bytes() == (STORED / name / "prompt.safetensors").read_bytes()
    found, stored = (json.loads((folder / "prompt.json").read_text()) for folder in (again, STORED / name))
    new = found["method"].keys() - stored["method"].keys()  # settings that came later
    defaults = type(SoftPrompt.load(STORED / name).method)()
    assert all(found["method"][key] == getattr(defaults, key) for key in new)
    method = {key: value for key, value in found["method"].items() if key not in new}
    assert {**found, "method": method} == stored


def test_whoever_may_open_the_folder_may_read_it(tmp_path):
    """safetensors made files that their owner alone could read, so that a server under another name could not."""
    again = SoftPrompt.load(STORED / NAMES[0]).save(tmp_path / "prompt")
    assert {file.stat().st_mode & 0o777 for file in again.iterdir()} == {0o644}


@pytest.fixture(params=NAMES)
def copy(request, tmp_path):
    """A stored prompt to damage."""
    return Path(shutil.copytree(STORED / request.param, tmp_path / "copy"))


def change(folder, **values):
    """Set keys of prompt.json; None removes one."""
    file = folder / "prompt.json"
    metadata = {**json.loads(file.read_text(encoding="utf-8")), **values}
    file.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))


@pytest.mark.parametrize("keep", [0, 4, 40, -1], ids=["nothing", "half a length", "half a header", "all but a byte"])
def test_truncated(copy, keep):
    file = copy / "prompt.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ArtefactError, match=r"copy/prompt.safetensors is truncated or not a safetensors file"):
        SoftPrompt.load(copy)


@pytest.mark.parametrize("content", [b"\x80\x04N.", b"PK\x03\x04 an archive", b"\x93NUMPY\x01\x00"])
def test_foreign(copy, content):
    (copy / "prompt.safetensors").write_bytes(content)
    with pytest.raises(ArtefactError, match="truncated or not a safetensors file"):
        SoftPrompt.load(copy)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"prompt_embeddings": torch.zeros(4, 6)},
        {"rows": torch.zeros(24)},
        {"keys_values.decoder": torch.zeros(2, 3, 2, 3, 2)},
        {"rows": torch.zeros(3, 6), "keys_values.decoder": torch.zeros(2, 2, 2, 3, 2)},
        {"keys_values.encoder": torch.zeros(2, 2, 2, 3, 2), "keys_values.decoder": torch.zeros(2, 2, 2, 4, 2)},
        {"rows": torch.zeros(3, 6), "head": torch.zeros(6)},
    ],
    ids=["none", "PEFT's", "one axis", "three of two", "both", "two lengths", "one more"],
)
def test_tensors_of_something_else(copy, tensors):
    save_file(tensors, copy / "prompt.safetensors")
    with pytest.raises(ArtefactError, match=r"expected 'rows' \[length, dim\] or 'keys_values.STACK' .* found \{"):
        SoftPrompt.load(copy)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_not_finite(copy, value):
    tensors = load_file(copy / "prompt.safetensors")
    name = min(tensors)
    tensors[name].view(-1)[5] = value
    save_file(tensors, copy / "prompt.safetensors")
    with pytest.raises(ArtefactError, match=f"NaN or infinite values in '{name}'"):
        SoftPrompt.load(copy)


@pytest.mark.parametrize(("version", "found"), [(2, "2"), ("1", "'1'"), (None, "None")])
def test_another_schema(copy, version, found):
    change(copy, schema_version=version)
    with pytest.raises(ArtefactError, match=f"has schema version {found}; this softprompt reads 1. Update softprompt"):
        SoftPrompt.load(copy)


def test_files_of_two_prompts(copy):
    method = json.loads((copy / "prompt.json").read_text())["method"]
    change(copy, method={**method, "length": 7})
    with pytest.raises(ArtefactError, match=r"holds [34] virtual tokens, but its prompt.json says 7"):
        SoftPrompt.load(copy)


@pytest.mark.parametrize("key", ["method", "backbone", "fingerprint"])
def test_incomplete(copy, key):
    change(copy, **{key: None})
    with pytest.raises(ArtefactError, match=f"prompt.json is incomplete .*{key}"):
        SoftPrompt.load(copy)


def test_a_method_of_a_package_that_is_not_here(copy):
    change(copy, method={"name": "hypertuning", "length": 3})
    with pytest.raises(ArtefactError, match="Unknown method 'hypertuning'"):
        SoftPrompt.load(copy)


@pytest.mark.parametrize(("content", "message"), [("{", "not valid JSON"), ("[]", "should hold a mapping")])
def test_broken_metadata(copy, content, message):
    (copy / "prompt.json").write_text(content)
    with pytest.raises(ArtefactError, match=message):
        SoftPrompt.load(copy)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("prompt.json", "is not a prompt folder: it has no prompt.json"),
        ("prompt.safetensors", "has no prompt.safetensors"),
    ],
)
def test_missing(copy, file, message):
    (copy / file).unlink()
    with pytest.raises(ArtefactError, match=message):
        SoftPrompt.load(copy)


def test_another_backbone_and_another_width(tmp_path):
    """The fingerprint is looked at first; where it is right and the width is wrong, the file was altered."""
    torch.manual_seed(0)
    config = GPT2Config(n_embd=8, n_layer=2, n_head=2, n_positions=32, vocab_size=40, bos_token_id=0, eos_token_id=1)
    backbone = Backbone.from_model(GPT2LMHeadModel(config), name="tiny")
    stored = SoftPrompt.load(STORED / "prompt_tuning_1")
    with pytest.raises(MismatchError, match=r"made for bundled:tiny \(00112233-\w+\), but the backbone is tiny"):
        Prompted(backbone, {"old": stored})
    altered = stored.with_info(fingerprint=backbone.fingerprint.to_mapping())
    with pytest.raises(MismatchError, match="'old' has rows of width 6, but tiny expects 8"):
        Prompted(backbone, {"old": altered})
    prefix = SoftPrompt.load(STORED / "prefix_tuning_1").with_info(fingerprint=backbone.fingerprint.to_mapping())
    with pytest.raises(MismatchError, match=r"gives the \w+ keys and values \[\d, 2, 2, 3, 2\], but tiny expects"):
        Prompted(backbone, {"old": prefix})
