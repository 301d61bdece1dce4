"""Nearest words, their clusters and repeats, and class labels."""

from __future__ import annotations

import copy
import itertools

import jaxtyping
import pytest
import torch
from tests.families import zoo
from tests.inspection.prompts import FAMILIES, made
from tests.models import tiny_backbone

from softprompt.errors import ConfigError
from softprompt.inspection import label_traces, nearest_words
from softprompt.inspection.words import nearest, stem
from softprompt.prompts import PromptTuning, SoftPrompt
from softprompt.prompts.parameters import DirectPrefix
from softprompt.tasks import TextFormat

FORM = TextFormat(input="{text}", target="{label}", label_words={"0": "bad", "1": "great"})


@pytest.mark.parametrize("by", ["cosine", "distance"])
def test_nearest_is_the_naive_search(by):
    generator = torch.Generator().manual_seed(0)
    rows, table = torch.randn(70, 6, generator=generator), torch.randn(40, 6, generator=generator)  # more than a chunk
    places, values = nearest(rows, table, 3, by)
    for row, found, near in zip(rows, places.tolist(), values.tolist(), strict=True):
        if by == "cosine":
            scores = [float(row @ word / row.norm() / word.norm()) for word in table]
            order = sorted(range(40), key=lambda i: -scores[i])
        else:
            scores = [float((row - word).norm()) for word in table]
            order = sorted(range(40), key=lambda i: scores[i])
        assert found == order[:3]
        assert near == pytest.approx([scores[i] for i in order[:3]], abs=1e-5)


def test_nearest_refuses_what_it_cannot_search(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    rows = torch.ones(1, 2)
    with pytest.raises(ConfigError, match="Unknown measure of nearness 'angle'"):
        nearest(rows, torch.ones(3, 2), 1, "angle")
    with pytest.raises(ConfigError, match="count=4: expected at least 1 and at most the 3 words"):
        nearest(rows, torch.ones(3, 2), 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_words_are_nearest_to_themselves(family):
    backbone, prompt = zoo.backbone(family), made(family, "rows")
    for by, value in (("cosine", 1.0), ("distance", 0.0)):
        (found,) = nearest_words(backbone, prompt, 2, by=by)
        embedded = backbone.embed(torch.tensor([row[0].token for row in found.rows]))
        assert torch.allclose(embedded, prompt().rows.detach(), atol=1e-6)
        assert [row[0].value for row in found.rows] == pytest.approx([value] * 5, abs=1e-5)
        assert found.repeats == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_of_a_words_activations_is_nearest_to_the_word_in_every_layer(family):
    backbone, prompt = zoo.backbone(family), made(family, "prefix")
    word = backbone.common_tokens(30)[17]
    ids = torch.tensor([[word]])
    recorded = backbone.record(backbone.embed(ids), torch.ones_like(ids, dtype=torch.bool))
    with torch.no_grad():
        found = {stack: value.clone() for stack, value in prompt().keys_values.items()}
        for (stack, layer), (keys, values) in recorded.items():
            if stack in found:
                found[stack][layer, :, :, 0] = torch.stack([keys[0, :, 0], values[0, :, 0]])
    layers = nearest_words(backbone, SoftPrompt(DirectPrefix(found), prompt.method, prompt.info), 2, common=30)
    assert {(one.stack, one.layer) for one in layers} == {tuple(site) for site in recorded if site.stack in found}
    assert {one.rows[0][0].token for one in layers} == {word}


def test_clusters_and_repeats():
    backbone = tiny_backbone("decoder-only")
    prompt = PromptTuning(length=3, init="text", text="film film book").build(backbone)
    (found,) = nearest_words(backbone, prompt, 3)
    assert [row[0].word for row in found.rows] == ["film", "film", "book"]
    assert found.repeats == {"film": 2}
    table = torch.nn.functional.normalize(backbone.embed(torch.arange(backbone.spec.vocab)), dim=-1)
    pairs = [float(table[a] @ table[b]) for a, b in itertools.combinations(range(len(table)), 2)]
    assert found.chance == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
    near = [float(table[a.token] @ table[b.token]) for row in found.rows for a, b in itertools.combinations(row, 2)]
    assert found.cohesion == pytest.approx(sum(near) / len(near), abs=1e-5)
    stems = [stem(a.word) == stem(b.word) for row in found.rows for a, b in itertools.combinations(row, 2)]
    assert found.alike == pytest.approx(sum(stems) / len(stems))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("Technology", "technological", True), ("film", "Film", True), ("film", "fill", False), (":", "?", False)],
)
def test_stems(one, other, same):
    assert (stem(one) == stem(other)) is same


def test_labels_are_found_at_their_start_and_lost_when_their_rows_move():
    backbone = tiny_backbone("encoder-decoder")
    prompt = PromptTuning(length=4, init="class_labels").build(backbone, FORM)
    (found,) = nearest_words(backbone, prompt, 3)
    bad, great = label_traces(backbone, found, FORM.labels, started_as_labels=True)
    assert (bad.own_rank, great.own_rank) == (0, 0)
    assert 0 in bad.rows
    assert 1 in great.rows
    assert bad.persists
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter[0] = backbone.embed(torch.tensor(backbone.tokenize("river")))[0]
    (found,) = nearest_words(backbone, prompt, 1)
    bad, great = label_traces(backbone, found, FORM.labels, started_as_labels=True)
    assert (bad.persists, bad.rows, bad.own_rank) == (False, (), None)
    assert great.persists


def test_a_common_word_restriction_and_no_tokenizer():
    backbone = zoo.backbone("gpt2")
    few = backbone.common_tokens(10)
    (found,) = nearest_words(backbone, made("gpt2", "rows"), 2, common=10)
    assert {word.token for row in found.rows for word in row} <= set(few)
    bare = copy.copy(backbone)
    bare.tokenizer = None
    (found,) = nearest_words(bare, made("gpt2", "rows"), 1)
    assert all(row[0].word == f"#{row[0].token}" for row in found.rows)
