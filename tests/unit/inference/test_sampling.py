"""One token after the other, as transformers would draw them for a request alone."""

from __future__ import annotations

import warnings

import pytest
import torch
from tests.models import END, tiny_backbone
from tests.unit.inference.test_generating import TEXTS

from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError
from softprompt.inference import Engine, Query, Request, predict_texts
from softprompt.inference.sampling import Chooser, Sampling

IDS = [7, 9, 11, 8, 12]


def draw(sampling: Sampling, number: int = 0) -> list[int]:
    """Tokens chosen one by one, without cache and without batch."""
    backbone = tiny_backbone("decoder-only")
    model = backbone.model
    chooser, said = Chooser(backbone, sampling, IDS, number), []
    with torch.no_grad():
        for _ in range(sampling.max_new_tokens):
            logits = model(input_ids=torch.tensor([[*IDS, *said]])).logits[0, -1]
            plain = chooser.is_plain
            chosen = chooser.take(int(logits.argmax())) if plain else chooser.choose(logits[None])
            said.append(chosen.token)
            if chosen.token == END:
                break
    return said


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({}, {"do_sample": False}),
        ({"repetition_penalty": 1.7}, {"do_sample": False, "repetition_penalty": 1.7}),
        ({"min_new_tokens": 8}, {"do_sample": False, "min_new_tokens": 8}),
        ({"temperature": 1.0, "seed": 3}, {"do_sample": True, "top_k": 0}),
        ({"temperature": 2.5, "seed": 3}, {"do_sample": True, "top_k": 0, "temperature": 2.5}),
        (
            {"temperature": 1.5, "seed": 3, "top_k": 9, "top_p": 0.8, "repetition_penalty": 1.2},
            {"do_sample": True, "temperature": 1.5, "top_k": 9, "top_p": 0.8, "repetition_penalty": 1.2},
        ),
    ],
)
def test_tokens_are_what_transformers_draws_with_the_same_seed(settings, theirs):
    torch.manual_seed(3)
    made = tiny_backbone("decoder-only").model.generate(
        input_ids=torch.tensor([IDS]), max_new_tokens=8, pad_token_id=0, eos_token_id=END, **theirs
    )
    assert draw(Sampling(max_new_tokens=8, **settings)) == made[0, len(IDS) :].tolist()


def test_answers_to_one_request_differ_and_a_seed_repeats_them():
    sampling = Sampling(max_new_tokens=8, temperature=3.0, seed=11)
    several = [draw(sampling, number) for number in range(4)]
    assert several == [draw(sampling, number) for number in range(4)]
    assert len({tuple(one) for one in several}) == 4
    free = Sampling(max_new_tokens=8, temperature=3.0)
    assert len({tuple(draw(free)) for _ in range(4)}) == 4


def test_log_probabilities_are_the_models_own():
    backbone = tiny_backbone("decoder-only")
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    settings = {"temperature": 0.7, "top_k": 3, "repetition_penalty": 2.0, "seed": 1}
    chosen = Chooser(backbone, Sampling(logprobs=4, **settings), IDS).choose(logits[None])
    want = logits.log_softmax(-1)
    assert chosen.logprob == pytest.approx(want[chosen.token].item())
    assert [token for token, _ in chosen.top] == want.topk(4).indices.tolist()
    assert [value for _, value in chosen.top] == pytest.approx(want.topk(4).values.tolist())
    assert Chooser(backbone, Sampling(logprobs=0), IDS).choose(logits[None]).top == ()
    assert Chooser(backbone, Sampling(), IDS).choose(logits[None]).logprob is None


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 0}, {"min_new_tokens": 200}, {"temperature": -1.0}, {"temperature": float("inf")},
        {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"repetition_penalty": 0.0}, {"stop": ("a", "")},
        {"logprobs": 21}, {"temperature": float("nan")}, {"seed": 2**63}, {"temperature": 1e-40},
        {"repetition_penalty": 1e-40},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{name}=.*: expected"):
        Sampling(**settings)


@pytest.mark.parametrize("name", ["logprobs", "max_new_tokens", "temperature", "seed"])
def test_settings_that_are_no_numbers_are_refused(name):
    """They came through to the batch, and ended the texts of others with their error."""
    with pytest.raises(ConfigError, match=f"{name}=True: expected a number"):
        Sampling(**{name: True})


def test_whole_numbers_are_numbers_too():
    assert Sampling(temperature=2, repetition_penalty=2, top_p=1) == Sampling(temperature=2.0, repetition_penalty=2.0)
    assert isinstance(Sampling(temperature=2).temperature, float)


def test_the_coldest_draw_is_the_likeliest_token():
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)) * 1e4
    backbone = tiny_backbone("decoder-only")
    cold = Sampling(temperature=1e-6, top_p=0.5)
    assert Chooser(backbone, cold, IDS).choose(logits).token == int(logits.argmax())


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
@pytest.mark.parametrize(
    "own",
    [
        {"forced_bos_token_id": 17}, {"forced_eos_token_id": END}, {"no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.6}, {"suppress_tokens": [9, 11, 12]}, {"bad_words_ids": [[9], [11, 12]]},
        {"min_length": 12}, {"begin_suppress_tokens": [8, 9]}, {"encoder_no_repeat_ngram_size": 2},
        {"exponential_decay_length_penalty": (2, 1.5)},
    ],
)  # fmt: skip
def test_the_models_own_settings_count(kind, own, monkeypatch):
    """The engine left them out, and said something else than the library."""
    backbone = tiny_backbone(kind)
    for name, value in own.items():
        monkeypatch.setattr(backbone.model.generation_config, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what an encoder-decoder cannot read of its input
        asked = [Query(input=text, prompt=None, max_new_tokens=9) for text in TEXTS]
        want = [text for query in asked for text in predict_texts(Prompted(backbone), [query])]
        with Engine(backbone) as engine:
            got = [engine.submit(Request(input=text, sampling=Sampling(max_new_tokens=9))) for text in TEXTS]
            assert [ticket.result(60).completions[0].text for ticket in got] == want
