"""Every rule of how a prompt starts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import ConfigError
from softprompt.prompts import initializers
from softprompt.prompts.initializers import Materials


def materials(length: int = 6, seed: int = 0, **given_: object) -> Materials:
    vocabulary = torch.arange(40.0).view(20, 2)
    generator = torch.Generator().manual_seed(seed)
    return Materials(**{"length": length, "dim": 2, "generator": generator, "vocabulary": vocabulary, **given_})


def test_random_rows_fill_their_range():
    rows = initializers.random(materials(length=4000))
    assert rows.shape == (4000, 2)
    assert -0.5 <= rows.min() < -0.49
    assert 0.49 < rows.max() <= 0.5
    assert abs(rows.mean()) < 0.02
    assert rows.var().allclose(torch.tensor(1 / 12), rtol=0.05)


@given(st.integers(1, 20), st.integers(0, 99))
def test_vocab_samples_without_replacement(length, seed):
    rows = initializers.vocab(materials(length, seed))
    tokens = (rows[:, 0] / 2).long().tolist()
    assert rows.equal(materials().vocabulary[tokens])
    assert len(set(tokens)) == length


def test_every_token_can_be_sampled():
    seen = {int(initializers.vocab(materials(1, seed))[0, 0] / 2) for seed in range(400)}
    assert seen == set(range(20))


def test_more_rows_than_tokens_are_refused():
    with pytest.raises(ConfigError, match="samples 21 of 20 common tokens without replacement; use a shorter"):
        initializers.vocab(materials(21))


def test_class_labels_take_a_row_each_and_the_rest_is_vocab():
    labels = (torch.tensor([[1.0, 2.0], [3.0, 6.0]]), torch.tensor([[7.0, 7.0]]))
    rows = initializers.class_labels(materials(labels=labels))
    assert rows[:2].tolist() == [[2.0, 4.0], [7.0, 7.0]]
    assert rows[2:].equal(initializers.vocab(materials())[2:])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((), "needs a task with label words; give one, or use init='vocab'"),
        ((torch.zeros(1, 2),) * 7, "a row for each of 7 labels or start words, but the prompt has 6"),
    ],
)
def test_labels_must_be_there_and_fit(labels, message):
    with pytest.raises(ConfigError, match=message):
        initializers.class_labels(materials(labels=labels))


@given(st.integers(1, 5), st.integers(1, 12))
def test_text_is_repeated_or_cut(tokens, length):
    text = torch.arange(2.0 * tokens).view(tokens, 2)
    rows = initializers.text(materials(length, text=text))
    assert rows.tolist() == [text[i % tokens].tolist() for i in range(length)]


def test_text_must_be_given():
    with pytest.raises(ConfigError, match=r"init='text' needs text=\.\.\."):
        initializers.text(materials())


def test_another_prompts_rows_are_repeated_or_cut():
    source = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    rows = initializers.previous(materials(5, sources=(source,)))
    assert rows[:, 0].tolist() == [1, 2, 1, 2, 1]
    rows.zero_()
    assert source.any()


def test_several_prompts_rows_are_averaged():
    sources = (torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([[5.0, 7.0]]))
    assert initializers.previous(materials(3, sources=sources)).tolist() == [[3, 4], [3.5, 4.5], [3, 4]]


def test_a_normal_start_has_the_mean_and_the_spread_of_the_vocabulary():
    vocabulary = torch.tensor([3.0, -1.0]) + torch.randn(500, 2) * torch.tensor([0.1, 2.0])
    rows = initializers.normal(materials(4000, vocabulary=vocabulary))
    assert rows.mean(dim=0).allclose(vocabulary.mean(dim=0), atol=0.1)
    assert rows.std(dim=0).allclose(vocabulary.std(dim=0), rtol=0.1)


@pytest.mark.parametrize(
    ("sources", "message"),
    [((), r"needs source=\.\.\."), ((torch.zeros(2, 3),), "expected rows of width 2, but the source's have 3")],
)
def test_another_prompt_must_be_given_and_fit(sources, message):
    with pytest.raises(ConfigError, match=message):
        initializers.previous(materials(sources=sources))


def test_what_is_drawn_depends_on_the_seed_alone():
    for initializer in (initializers.normal, initializers.random, initializers.vocab):
        assert initializer(materials(seed=1)).equal(initializer(materials(seed=1)))
        assert not initializer(materials(seed=1)).equal(initializer(materials(seed=2)))


def test_the_vocabulary_is_not_changed():
    made = materials()
    initializers.vocab(made).zero_()
    assert made.vocabulary.equal(materials().vocabulary)


def test_an_unknown_initializer_is_named():
    with pytest.raises(ConfigError, match=r"Unknown initializer 'vocabs'. Did you mean 'vocab'"):
        initializers.find("vocabs")


def test_an_initializer_can_be_added_once(monkeypatch):
    monkeypatch.setattr(initializers.ROWS, "_values", dict(initializers.ROWS._values))
    initializers.register("mine", initializers.random)
    assert initializers.find("mine") is initializers.random
    assert initializers.names() == ("class_labels", "mine", "normal", "prompt", "random", "text", "vocab")
    with pytest.raises(ConfigError, match="The initializer 'mine' is taken"):
        initializers.register("mine", initializers.vocab)
