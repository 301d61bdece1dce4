"""One token after the other, as transformers would draw them for a request alone."""

from __future__ import annotations

import pytest
import torch
from tests.models import END, tiny_backbone

from softprompt.errors import ConfigError
from softprompt.inference.sampling import Chooser, Sampling

IDS = [7, 9, 11, 8, 12]


def draw(sampling: Sampling, number: int = 0) -> list[int]:
    """Tokens chosen one by one, without cache and without batch."""
    model = tiny_backbone("decoder-only").model
    chooser, said = Chooser(sampling, IDS, [END], number), []
    with torch.no_grad():
        for _ in range(sampling.max_new_tokens):
            logits = model(input_ids=torch.tensor([[*IDS, *said]])).logits[0, -1]
            plain = chooser.is_plain
            chosen = chooser.take(int(logits.argmax())) if plain else chooser.choose(logits)
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
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    settings = {"temperature": 0.7, "top_k": 3, "repetition_penalty": 2.0, "seed": 1}
    chosen = Chooser(Sampling(logprobs=4, **settings), IDS, [END]).choose(logits)
    want = logits.log_softmax(-1)
    assert chosen.logprob == pytest.approx(want[chosen.token].item())
    assert [token for token, _ in chosen.top] == want.topk(4).indices.tolist()
    assert [value for _, value in chosen.top] == pytest.approx(want.topk(4).values.tolist())
    assert Chooser(Sampling(logprobs=0), IDS, [END]).choose(logits).top == ()
    assert Chooser(Sampling(), IDS, [END]).choose(logits).logprob is None


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 0}, {"min_new_tokens": 200}, {"temperature": -1.0}, {"temperature": float("inf")},
        {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"repetition_penalty": 0.0}, {"stop": ("a", "")},
        {"logprobs": 21}, {"temperature": float("nan")}, {"seed": 2**63},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{name}=.*: expected"):
        Sampling(**settings)
