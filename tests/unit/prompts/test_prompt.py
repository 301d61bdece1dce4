"""Prompts are kept: folders that hold all of it, and errors for those that do not."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.prompts.hosts import SMALL, TRANSLATOR

from softprompt.errors import ArtefactError
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt

DIRECT = PromptTuning(length=3, init="vocab", placement="middle").build(SMALL)


def edited(path, **changes) -> None:
    metadata = json.loads((path / "prompt.json").read_text())
    (path / "prompt.json").write_text(json.dumps({**metadata, **changes}))


def test_a_folder_holds_all_of_it(tmp_path):
    info = {
        "task": "films", "format": {"input": "{text}"}, "run": {"steps": 3}, "metrics": {"test": {"accuracy": 0.5}},
        "lineage": ("first", "second"),
    }  # fmt: skip
    prompt = DIRECT.with_info(**info)
    folder = prompt.save(tmp_path / "films")
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "prompt.json", "prompt.safetensors"]
    loaded = SoftPrompt.load(folder)
    assert loaded().rows.equal(prompt().rows)
    assert (loaded.method, loaded.info) == (prompt.method, prompt.info)
    assert json.loads((folder / "prompt.json").read_text())["parameters"] == 12


def test_information_is_changed_in_a_copy_of_the_same_parameters():
    other = DIRECT.with_info(task="films")
    assert (DIRECT.info.task, other.info.task) == (None, "films")
    assert other.parametrization is DIRECT.parametrization


def test_a_digest_is_of_method_and_values(tmp_path):
    method = PrefixTuning(length=4, hidden=6)
    one, other = method.build(TRANSLATOR, seed=0), method.build(TRANSLATOR, seed=1)
    loaded = SoftPrompt.load(one.with_info(task="films").save(tmp_path / "p"))
    assert {prompt.digest() for prompt in (method.build(TRANSLATOR, seed=0), one.fold(), loaded)} == {one.digest()}
    assert other.digest() != one.digest()
    moved = PromptTuning(length=3, init="vocab", placement="append").build(SMALL)
    assert moved().rows.equal(DIRECT().rows)
    assert moved.digest() != DIRECT.digest()


@pytest.mark.parametrize("init", [{}, {"init": "text", "text": "bad"}])
def test_a_reparameterisation_is_folded_exactly(tmp_path, init):
    prompt = PrefixTuning(length=4, hidden=6, **init).build(TRANSLATOR)
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.add_(0.3)
    folded, loaded = prompt.fold(), SoftPrompt.load(prompt.save(tmp_path / "p"))
    for stack, values in prompt().keys_values.items():
        assert folded().keys_values[stack].equal(values)
        assert loaded().keys_values[stack].equal(values)
    assert prompt.num_parameters() == folded.num_trainable() == loaded.num_trainable() < prompt.num_trainable()


def test_a_prompt_that_is_not_finite_is_not_stored(tmp_path):
    prompt = PromptTuning(length=3, init="vocab").build(SMALL)
    with torch.no_grad():
        prompt.parametrization.rows[1, 1] = float("inf")
    with pytest.raises(ArtefactError, match="The prompt's rows holds NaN or infinite values; it is not saved"):
        prompt.save(tmp_path / "p")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("version", [2, None, "1"])
def test_another_schema_is_refused(tmp_path, version):
    path = DIRECT.save(tmp_path / "p")
    edited(path, schema_version=version)
    with pytest.raises(ArtefactError, match=f"schema version {version!r}; this softprompt reads 1. Update softprompt"):
        SoftPrompt.load(path)


@pytest.mark.parametrize(
    "changes", [{"method": None}, {"method": {"length": 3}}, {"lineage": 3}, {"method": ["prompt_tuning"]}]
)
def test_incomplete_information_is_refused(tmp_path, changes):
    path = DIRECT.save(tmp_path / "p")
    edited(path, **changes)
    with pytest.raises(ArtefactError, match=r"prompt\.json is incomplete .*; copy the folder again"):
        SoftPrompt.load(path)


def test_missing_information_is_refused(tmp_path):
    path = DIRECT.save(tmp_path / "p")
    metadata = json.loads((path / "prompt.json").read_text())
    del metadata["backbone"]
    (path / "prompt.json").write_text(json.dumps(metadata))
    with pytest.raises(ArtefactError, match=r"incomplete .*backbone"):
        SoftPrompt.load(path)


def test_an_unknown_method_is_named(tmp_path):
    path = DIRECT.save(tmp_path / "p")
    edited(path, method={"name": "lora", "length": 3})
    with pytest.raises(ArtefactError, match="Unknown method 'lora'"):
        SoftPrompt.load(path)


def test_files_of_two_prompts_are_refused(tmp_path):
    path = DIRECT.save(tmp_path / "p")
    longer = PromptTuning(length=4, init="vocab").build(SMALL).save(tmp_path / "q")
    (path / "prompt.safetensors").write_bytes((longer / "prompt.safetensors").read_bytes())
    with pytest.raises(ArtefactError, match=r"holds 4 virtual tokens, but its prompt\.json says 3; the two files"):
        SoftPrompt.load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": torch.zeros(3, 4)},
        {"rows": torch.zeros(3)},
        {"keys_values.decoder": torch.zeros(3, 1, 2, 3, 5)},
        {"rows": torch.zeros(3, 4), "keys_values.decoder": torch.zeros(3, 2, 2, 3, 5)},
        {},
    ],
)
def test_foreign_tensors_are_refused(tmp_path, tensors):
    path = DIRECT.save(tmp_path / "p")
    save_file(tensors, path / "prompt.safetensors")
    with pytest.raises(ArtefactError, match=r"expected 'rows' \[length, dim\] or 'keys_values.STACK'"):
        SoftPrompt.load(path)


def test_what_is_stored_is_float32(tmp_path):
    stored = load_file(DIRECT.save(tmp_path / "p") / "prompt.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32}
