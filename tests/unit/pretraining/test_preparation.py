"""What a pre-training that goes on from another model begins with."""

from __future__ import annotations

import io
from typing import Any

import pytest
from tokenizers import Tokenizer

from softprompt.backbones.catalogue import card
from softprompt.errors import ConfigError
from softprompt.loop.progress import Progress
from softprompt.pretraining.preparation import check_start, prepare_model, prepare_tokenizer
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.tokenizer import tokenizer_digest


def going_on(name: str, objective: str, **settings: Any) -> PretrainConfig:
    start = {"start_from": f"bundled:{name}", "preset": name, "objective": objective}
    return PretrainConfig(output_dir="out", train=["a.txt"], **start, **settings)


def test_a_bundled_backbone_brings_its_own_tokenizer() -> None:
    """`bundled:NAME` was once taken for a folder where the tokenizer was looked for."""
    config = going_on("t5-tiny", "prefix_lm")
    check_start(config)
    found = prepare_tokenizer(config, Progress(stream=io.StringIO()))
    assert tokenizer_digest(found) == card("t5-tiny")["tokenizer_sha256"]
    with pytest.raises(ConfigError, match=r"Unknown bundled backbone 't5-tinny'\. Did you mean 't5-tiny'"):
        check_start(PretrainConfig(output_dir="out", train=["a.txt"], start_from="bundled:t5-tinny"))


def test_a_t5_that_goes_on_says_that_its_head_is_its_own(tokenizer: Tokenizer) -> None:
    """Once, an adapted T5's configuration stated that its tables are tied."""
    model = prepare_model(going_on("t5-tiny", "prefix_lm"), tokenizer)
    assert model.config.tie_word_embeddings is False
    assert prepare_model(going_on("gpt-mini", "causal_lm"), tokenizer).config.tie_word_embeddings is True


def test_a_gpt_that_goes_on_with_another_window_states_its_positions(tokenizer: Tokenizer) -> None:
    model = prepare_model(going_on("gpt-mini", "causal_lm", window=64), tokenizer)
    assert model.config.max_position_embeddings == 128
