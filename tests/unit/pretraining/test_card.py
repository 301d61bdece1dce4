"""The finished folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from softprompt.pretraining.architectures import build_model
from softprompt.pretraining.card import CARD, machine, read_card, write_model
from softprompt.pretraining.tokenizer import transformers_tokenizer


def test_weights_are_rounded_to_bfloat16_and_the_card_is_kept(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = build_model("gpt-tiny", vocab=700, max_length=32, seed=0)
    expected = {name: value.detach().to(torch.bfloat16).clone() for name, value in model.named_parameters()}
    dressed = transformers_tokenizer(tokenizer, append_eos=False, max_length=32)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    write_model(tmp_path, model, dressed, {"name": "é", "parameters": 3})
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert read_card(tmp_path) == {"name": "é", "parameters": 3}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    for name, value in loaded.named_parameters():
        assert torch.equal(value, expected[name])


def test_a_card_is_written_last(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A folder without its card is no finished model: a write that fails half-way must leave none."""
    model = build_model("gpt-tiny", vocab=700, max_length=32, seed=0)
    dressed = transformers_tokenizer(tokenizer, append_eos=False, max_length=32)
    with pytest.raises(ValueError, match="Out of range float values"):
        write_model(tmp_path, model, dressed, {"loss": float("nan")})
    assert (tmp_path / "model.safetensors").is_file()
    assert not (tmp_path / CARD).exists()
    assert read_card(tmp_path) is None


def test_the_machine_is_named() -> None:
    assert machine(torch.device("cpu")).endswith(f", {torch.get_num_threads()} threads")
    assert len(machine(torch.device("cpu"))) > len(", 1 threads")
