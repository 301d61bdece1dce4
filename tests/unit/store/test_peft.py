"""PEFT's folders: what is read, what is refused, and what is written. Parity with PEFT is under tests/parity."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.store import tiny
from transformers import PegasusConfig, PegasusForConditionalGeneration

from softprompt.backbones import Backbone
from softprompt.errors import ArtefactError, MismatchError, UnsupportedError
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.store import load_peft, save_peft

ROWS = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 3, "token_dim": 8,
        "base_model_name_or_path": "someone/model"}  # fmt: skip
PREFIX = {"peft_type": "PREFIX_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 3, "token_dim": 8,
          "num_layers": 2, "num_attention_heads": 2}  # fmt: skip


def write(folder, config, tensors=None):
    """A checkpoint folder; the tensor is counted up, so that every value says where it stood."""
    folder.mkdir(exist_ok=True)
    width = config.get("num_layers", 0) * 2 * 8 or 8
    tensors = tensors or {"prompt_embeddings": torch.arange(3.0 * width).view(3, width)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_rows_are_read(tmp_path):
    prompt = load_peft(write(tmp_path / "ckpt", ROWS))
    assert torch.equal(prompt().rows, torch.arange(24.0).view(3, 8))
    assert prompt.method == PromptTuning(length=3, init="random")
    assert prompt.info.backbone == "someone/model"
    assert prompt.info.kind == "decoder-only"
    assert prompt.info.fingerprint == {}
    assert prompt.info.lineage == ("imported from the PEFT checkpoint ckpt",)


def test_slots_of_a_prefix_are_keys_and_values_of_layers(tmp_path):
    """Slot 2i holds the keys of layer i, slot 2i + 1 its values, each [heads, head_dim] of a token."""
    keys_values = load_peft(write(tmp_path, PREFIX))().keys_values["decoder"]
    assert keys_values.shape == (2, 2, 2, 3, 4)
    for layer in range(2):
        for slot in range(2):
            for head in range(2):
                for token in range(3):
                    first = token * 32 + (2 * layer + slot) * 8 + head * 4
                    assert keys_values[layer, slot, head, token].tolist() == [first, first + 1, first + 2, first + 3]


@pytest.mark.parametrize("submodules", [None, 2])
def test_an_encoder_decoder_reads_its_first_half(tmp_path, submodules):
    config = {**ROWS, "task_type": "SEQ_2_SEQ_LM", "num_transformer_submodules": submodules}
    stored = torch.arange(48.0).view(6, 8)
    prompt = load_peft(write(tmp_path, config, {"prompt_embeddings": stored}), tiny.two_sided())
    assert torch.equal(prompt().rows, stored[:3])
    assert prompt.info.kind == "encoder-decoder"


def test_half_precision_becomes_float32(tmp_path):
    prompt = load_peft(write(tmp_path, ROWS, {"prompt_embeddings": torch.full((3, 8), 0.5, dtype=torch.bfloat16)}))
    assert torch.equal(prompt().rows, torch.full((3, 8), 0.5))


def test_a_backbone_binds_it(tmp_path):
    info = load_peft(write(tmp_path, PREFIX), tiny.causal()).info
    assert info.backbone == "tiny-causal"
    assert info.fingerprint == tiny.causal().fingerprint.to_mapping()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"peft_type": "LORA"},
            "holds 'LORA', expected PROMPT_TUNING, .*: it changes the model's weights",
        ),
        ({"peft_type": "CPT"}, "tied to token ids"),
        ({"peft_type": "CARTRIDGE"}, "a compressed cache"),
        ({"peft_type": None}, "holds None"),
        (
            {"task_type": "SEQ_CLS"},
            "task type 'SEQ_CLS', expected CAUSAL_LM or SEQ_2_SEQ_LM: .* which an encoder's head reads",
        ),
        ({"task_type": "TOKEN_CLS"}, "head for tokens"),
        ({"task_type": "QUESTION_ANS"}, "a trained head for spans"),
        ({"task_type": "FEATURE_EXTRACTION"}, "hidden states, not text"),
        ({"task_type": None}, "task type None.*without a task type it is not known how PEFT applied it"),
        ({"modules_to_save": ["lm_head"]}, r"trained modules of its model \(lm_head\)"),
        ({"num_transformer_submodules": 2}, "2 rows per virtual token of a causal model"),
        (
            {"peft_type": "PREFIX_TUNING", "task_type": "SEQ_2_SEQ_LM"},
            "to its decoder alone, half of it to no layer at all, and counts it as earlier positions .* Train it anew",
        ),
    ],
)
def test_what_cannot_be_exact_is_refused(tmp_path, change, message):
    with pytest.raises(UnsupportedError, match=message):
        load_peft(write(tmp_path, {**ROWS, **change}))


class Trap:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_never_opened(tmp_path):
    folder = write(tmp_path / "ckpt", ROWS)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    with pytest.raises(UnsupportedError, match=r"adapter_model.bin, a pickle.*safe_serialization=True"):
        load_peft(folder)
    assert not (tmp_path / "opened").exists()


def test_a_pickle_under_a_safe_name_is_never_opened(tmp_path):
    folder = write(tmp_path / "ckpt", ROWS)
    (folder / "adapter_model.safetensors").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    with pytest.raises(ArtefactError, match="truncated or not a safetensors file"):
        load_peft(folder)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(
    ("change", "tensors", "message"),
    [
        ({}, {"other": torch.zeros(3, 8)}, r"expected floating-point 'prompt_embeddings' of 2 axes, found \{'other'"),
        ({}, {"prompt_embeddings": torch.zeros(24)}, r"2 axes, found \{'prompt_embeddings': \[24\]\}"),
        ({}, {"prompt_embeddings": torch.zeros(3, 8, dtype=torch.long)}, "2 axes, found"),
        ({}, {"prompt_embeddings": torch.zeros(3, 8), "head": torch.zeros(1)}, "found .*'head'"),
        ({}, {"prompt_embeddings": torch.zeros(4, 8)}, r"holds prompt_embeddings \[4, 8\], but .* says \[3, 8\]"),
        ({}, {"prompt_embeddings": torch.full((3, 8), torch.nan)}, "NaN or infinite values in 'prompt_embeddings'"),
        ({"num_virtual_tokens": None}, None, "expected a positive number as num_virtual_tokens, found None"),
        ({"token_dim": 0}, None, "expected a positive number as token_dim, found 0"),
        ({**PREFIX, "num_layers": 5}, {"prompt_embeddings": torch.zeros(3, 32)}, r"\[3, 32\], but .* says \[3, 80\]"),
        ({**PREFIX, "num_attention_heads": 3}, None, "token_dim 8 is no multiple of num_attention_heads 3"),
    ],
)
def test_damaged_checkpoints(tmp_path, change, tensors, message):
    with pytest.raises(ArtefactError, match=message):
        load_peft(write(tmp_path, {**ROWS, **change}, tensors))


def test_truncated_weights(tmp_path):
    file = write(tmp_path, ROWS) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ArtefactError, match="truncated"):
        load_peft(tmp_path)


def test_missing_weights(tmp_path):
    (write(tmp_path, ROWS) / "adapter_model.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"has no adapter_model.safetensors"):
        load_peft(tmp_path)


def test_broken_configuration(tmp_path):
    (write(tmp_path, ROWS) / "adapter_config.json").write_text("{")
    with pytest.raises(ArtefactError, match="not valid JSON"):
        load_peft(tmp_path)


def test_no_checkpoint(tmp_path):
    with pytest.raises(ArtefactError, match=r"nowhere is not a PEFT checkpoint: it has no adapter_config.json"):
        load_peft(tmp_path / "nowhere")


def test_a_checkpoint_of_another_width(tmp_path):
    with pytest.raises(MismatchError, match="width 8, but tiny-causal expects 12"):
        load_peft(write(tmp_path, ROWS), tiny.causal(dim=12))


def test_a_checkpoint_of_another_kind(tmp_path):
    with pytest.raises(MismatchError, match="kind decoder-only"):
        load_peft(write(tmp_path, ROWS), tiny.two_sided())


def test_inputs_that_peft_leaves_unscaled(tmp_path):
    config = PegasusConfig(
        d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=8, decoder_ffn_dim=8, scale_embedding=True, decoder_start_token_id=0, **tiny.IDS,
    )  # fmt: skip
    backbone = Backbone.from_model(PegasusForConditionalGeneration(config), name="scaled")
    folder = write(tmp_path, {**ROWS, "task_type": "SEQ_2_SEQ_LM", "num_transformer_submodules": 1})
    with pytest.raises(
        UnsupportedError, match="scaled scales its embeddings outside their table, which PEFT leaves out"
    ):
        load_peft(folder, backbone)


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        (PromptTuning(length=3, init="random", placement="append"), {}, "placement='append'"),
        (PrefixTuning(length=3, hidden=None, placement="middle"), {}, "placement='middle'"),
        (PromptTuning(length=3, init="random"), {"kind": None}, r"does not say what kind .* bind\(prompt, backbone\)"),
        (
            PromptTuning(length=3, init="random"),
            {"kind": "encoder-only"},
            "cannot be applied by PEFT as it was trained",
        ),
    ],
)
def test_what_peft_would_apply_differently_is_not_written(tmp_path, method, change, message):
    prompt = method.build(tiny.causal()).with_info(**change)
    with pytest.raises(UnsupportedError, match=message):
        save_peft(prompt, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_prefix_of_an_encoder_decoder_is_not_written(tmp_path):
    prompt = PrefixTuning(length=3, hidden=None, encoder=False, cross=False).build(tiny.two_sided())
    with pytest.raises(UnsupportedError, match="cannot be exported: PEFT gives the prefix of an encoder-decoder"):
        save_peft(prompt, tmp_path / "out")


def test_values_that_are_not_finite_are_not_written(tmp_path):
    prompt = PromptTuning(length=3, init="random").build(tiny.causal())
    prompt.parametrization.rows.data[1, 2] = torch.inf
    with pytest.raises(ArtefactError, match="rows holds NaN or infinite values"):
        save_peft(prompt, tmp_path / "out")


def test_a_reparameterisation_is_computed_away(tmp_path):
    prompt = PrefixTuning(length=3, hidden=5).build(tiny.causal())
    folder = save_peft(prompt, tmp_path / "out")
    stored = load_file(folder / "adapter_model.safetensors")["prompt_embeddings"]
    keys_values = prompt().keys_values["decoder"]
    assert torch.equal(stored.view(3, 2, 2, 2, 4)[2, 1, 0], keys_values[1, 0, :, 2])


def test_an_older_checkpoint_is_replaced(tmp_path):
    folder = save_peft(PromptTuning(length=5, init="random").build(tiny.causal()), tmp_path / "out")
    newer = PromptTuning(length=2, init="random").build(tiny.causal())
    assert tiny.same(load_peft(save_peft(newer, folder)), newer)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    folder = write(tmp_path / "run", {"peft_type": "LORA"})
    (folder / "checkpoint-500").mkdir()
    with pytest.raises(ArtefactError, match="run holds checkpoint-500, which would be lost"):
        save_peft(PromptTuning(length=2, init="random").build(tiny.causal()), folder)
    assert (folder / "checkpoint-500").is_dir()


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ArtefactError, match="exists and is not"):
        save_peft(PromptTuning(length=2, init="random").build(tiny.causal()), tmp_path / "out")
