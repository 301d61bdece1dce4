"""The backbones that come with softprompt: what their cards say is so, and they know the language."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest
import torch
import yaml

import softprompt
from softprompt.backbones import Backbone
from softprompt.backbones.catalogue import bundled_names, card, resolve
from softprompt.conditioning import Prompted
from softprompt.config import from_mapping, to_mapping
from softprompt.pretraining import PretrainConfig
from softprompt.pretraining.card import SETTINGS

NAMES = ("gpt-mini", "gpt-small", "t5-mini", "t5-small", "t5-tiny")
MEGABYTE = 10**6
SENTENCES = (
    "The village is located in the north of the country, near the border with the United States.",
    "The film was directed by a young man who had never made one before, and it won several awards.",
    "He was born in London and moved to New York with his family when he was a child.",
)


@pytest.fixture(scope="module", params=NAMES)
def named(request: pytest.FixtureRequest) -> tuple[str, Backbone]:
    return request.param, Backbone.from_pretrained(f"bundled:{request.param}", dtype="float32")


def test_the_family_is_bundled_and_small():
    assert tuple(bundled_names()) == NAMES
    package = Path(softprompt.__file__).parent
    assert sum(file.stat().st_size for file in package.rglob("*") if file.suffix != ".pyc") < 50 * MEGABYTE


def test_a_card_says_what_the_model_is(named):
    name, backbone = named
    facts = card(name)
    assert (facts["name"], facts["kind"]) == (name, backbone.spec.kind)
    assert facts["parameters"] == sum(parameter.numel() for parameter in backbone.model.parameters())
    assert facts["parameters"] <= 9e6
    stated = json.loads((Path(resolve(f"bundled:{name}")) / "config.json").read_text(encoding="utf-8"))
    head, table = backbone.model.get_output_embeddings(), backbone.model.get_input_embeddings()
    assert stated["tie_word_embeddings"] == (head.weight is table.weight)
    assert all(source["sha256"] for source in facts["corpus"])
    assert "CC BY-SA" in facts["licence"]


def test_a_larger_t5_predicts_better():
    """Lester et al. 2021 build on it; all three saw the same kinds of text."""
    facts = [card(name) for name in ("t5-tiny", "t5-mini", "t5-small")]
    for smaller, larger in itertools.pairwise(facts):
        assert smaller["parameters"] * 3 < larger["parameters"]
        assert smaller["held_out_bits_per_byte"] > larger["held_out_bits_per_byte"] + 0.05


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_are_those_of_the_card(name):
    file = Path(resolve(f"bundled:{name}")) / SETTINGS
    config = from_mapping(PretrainConfig, yaml.safe_load(file.read_text(encoding="utf-8")))
    assert to_mapping(config) == card(name)["settings"]
    assert config.steps == card(name)["steps"]


def test_its_tokenizer_loses_nothing(named):
    tokenizer = named[1].need_tokenizer()
    for text in (*SENTENCES, "naïve ☃ 東京 {braces}\tand tabs"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert len(tokenizer) == 8192
    assert tokenizer.convert_tokens_to_ids("<extra_id_99>") != tokenizer.unk_token_id


def test_it_knows_the_language(named):
    """The second half of a sentence is likelier behind its first half than with its words in another order."""
    _, backbone = named
    model = Prompted(backbone)
    for sentence in SENTENCES:
        words = sentence.split()
        half = len(words) // 2
        ending = words[half:]
        shuffled = random.Random(0).sample(ending, len(ending))
        scores = model.score([" ".join(words[:half])], [" ".join(ending), " ".join(shuffled)], prompts=[None], raw=True)
        assert torch.isfinite(scores).all()
        assert scores[0, 0] > scores[0, 1] + 5
