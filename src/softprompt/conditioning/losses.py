"""Losses at labelled positions only."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

__all__ = ["IGNORED", "Output", "candidate_scores", "token_losses"]

IGNORED = -100
"""The label of a position without loss, as in transformers."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a call of a prompted model gives.

    Attributes:
        loss: Mean negative log-likelihood over labelled tokens, in nats; None without labels.
        logits: `[batch, seq, vocab]` (the target's length in an encoder-decoder): what predicts the token *after*
            each real token, never a virtual one; zero at padding. In an encoder-only model `[batch, classes]`, or with
            heads over tokens `[batch, seq, outputs]`. None with labels, unless asked for, and if rows have both.
        losses: Negative log-likelihood of each labelled token (or class, in an encoder-only model), `[labelled]`.
        rows: Which row of the batch each of `losses` belongs to, `[labelled]`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    losses: Float[Tensor, " labelled"] | None = None
    rows: Int[Tensor, " labelled"] | None = None


def token_losses(
    logits: Float[Tensor, "labelled vocab"], targets: Int[Tensor, " labelled"]
) -> Float[Tensor, " labelled"]:
    """Negative log-likelihoods, in nats, computed in float32."""
    return nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def candidate_scores(
    logits: Float[Tensor, "places vocab"],
    at: Int[Tensor, "candidates seq"],
    targets: Int[Tensor, "candidates seq"],
    mask: Bool[Tensor, "candidates seq"],
) -> Float[Tensor, " candidates"]:
    """Log-probability of each candidate: the sum over its real tokens, in nats.

    Args:
        logits: What the model says, wherever a token of a candidate is predicted.
        at: At which of these places each token is; candidates that begin alike share one.
        targets: Token ids.
        mask: True where a token is real.
    """
    logits = logits.float()
    chosen = logits[at, targets] - logits.logsumexp(-1)[at]
    return chosen.masked_fill(~mask, 0).sum(-1)
