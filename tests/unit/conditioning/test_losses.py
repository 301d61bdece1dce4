"""Losses in nats, of labelled positions."""

from __future__ import annotations

import math

import torch

from softprompt.conditioning.losses import candidate_scores, token_losses


def test_losses_of_uniform_logits_are_the_log_of_the_vocabulary():
    assert token_losses(torch.zeros(3, 8), torch.tensor([0, 5, 7])).allclose(torch.full((3,), math.log(8)))


def test_losses_are_computed_in_float32():
    logits = torch.tensor([[30.0, 30.125, 0.0]], dtype=torch.bfloat16)
    got = token_losses(logits, torch.tensor([0]))
    assert got.dtype == torch.float32
    assert got.allclose(token_losses(logits.float(), torch.tensor([0])))


def test_a_candidates_score_sums_over_its_real_tokens_and_may_share_places_with_another():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    at = torch.tensor([[0, 1, 2], [0, 3, 0]])
    targets = torch.tensor([[1, 2, 3], [4, 1, 0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    want = [
        sum(math.log(logits[at[i, j]].double().softmax(-1)[targets[i, j]]) for j in range(3) if mask[i, j])
        for i in range(2)
    ]
    assert candidate_scores(logits, at, targets, mask).allclose(torch.tensor(want, dtype=torch.float32))
