"""Choosing among candidates, for many inputs."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.conditioning import Prompted
from softprompt.conditioning.splitting import start_cost
from softprompt.errors import ConfigError
from softprompt.inference.batching import BatchLimits, Progress, by_windows
from softprompt.inference.encoding import encode_to_rank
from softprompt.inference.finite import check_finite
from softprompt.inference.queries import EncodedQuery, Query, collate, prompts_of
from softprompt.inference.together import combine_probabilities

__all__ = ["Choice", "calibrated", "choice_of", "choose_among", "classify"]


@final
@dataclass(frozen=True)
class Choice:
    """What was chosen for an input.

    Attributes:
        label: The most probable candidate; the first of several that are equally so.
        probabilities: Of each candidate, in their order; they add up to 1. Of prompts that vote, shares of the votes.
        logprobs: Of each candidate as the text that follows the input, in nats, summed over its tokens; of an encoder
            as one of its classes. Of several prompts, the logarithm of the mean of their probabilities. None where
            the probabilities come from elsewhere.
    """

    label: str
    probabilities: Mapping[str, float]
    logprobs: Mapping[str, float] | None = None


def classify(
    model: Prompted,
    queries: Iterable[Query],
    *,
    limits: BatchLimits | None = None,
    window: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Choice]:
    """Choose the most probable candidate of each query.

    A model that generates text ranks candidates by their log-probabilities as targets, summed over tokens; their
    softmax gives the probabilities. An encoder-only model has its classes in its head: class i is candidate i.
    Prompts that answer together vote, or have the mean of their probabilities.

    Args:
        model: The backbone with its prompts.
        queries: Inputs with their prompts and candidates, in any mix.
        limits: How large a batch may be.
        window: As in `predict_texts`.
        progress: Called after each batch with its number of rows.

    Returns:
        The choices, in the queries' order.

    Raises:
        ConfigError: If a query has no candidates, or the head of an encoder-only model another number of classes.
        LengthError: If an input is too long and may not be cut.
        NonFiniteError: If a prompt leads to scores that are NaN.

    References:
        Brown et al. 2020, §2.4 (candidates by likelihood).
    """
    call = functools.partial(choose_among, model)
    encode = functools.partial(encode_to_rank, model)
    start = start_cost(model.backbone.device)
    sharded = model.backbone.sharded
    return by_windows(
        queries, encode, call, limits=limits, start=start, window=window, progress=progress, sharded=sharded
    )


def calibrated(choice: Choice, without_content: Sequence[Choice]) -> Choice:
    """A choice whose probabilities are divided by those that inputs without content give, and sum to 1 again.

    Args:
        choice: What was chosen for an input.
        without_content: What was chosen, among the same candidates, for inputs that say nothing.

    References:
        Zhao et al. 2021, "Calibrate Before Use", §5.
    """
    shares = {
        label: share / max(sum(one.probabilities[label] for one in without_content), sys.float_info.min)
        for label, share in choice.probabilities.items()
    }
    total = sum(shares.values())
    label = max(shares, key=shares.__getitem__)
    return Choice(label, {name: share / total for name, share in shares.items()})


def choose_among(model: Prompted, rows: Sequence[EncodedQuery]) -> list[Choice]:
    """What is chosen for each query of a batch.

    Raises:
        ConfigError: If the head of an encoder-only model has another number of classes than there are candidates.
        NonFiniteError: If a prompt leads to scores that are NaN.
    """
    one_pass = _class_scores if model.backbone.spec.kind == "encoder-only" else _candidate_scores
    scores = one_pass(model, rows)
    check_finite(model.backbone, prompts_of(rows), (~scores.isnan()).all(-1).tolist())
    if model.backbone.spec.kind == "encoder-only":
        scores = scores.log_softmax(-1)
    parts = scores.double().cpu().split([len(row.names) for row in rows])
    return [choice_of(row, part[:, : len(row.candidates)]) for row, part in zip(rows, parts, strict=True)]


def choice_of(row: EncodedQuery, logprobs: Float[Tensor, "members candidates"]) -> Choice:
    """What is chosen for a query.

    Args:
        row: The query.
        logprobs: What each of its prompts says of each candidate, in nats.
    """
    best, shares = combine_probabilities(logprobs.softmax(-1), row.combine)
    mean = logprobs.logsumexp(0) - math.log(len(logprobs))
    return Choice(
        row.candidates[best],
        dict(zip(row.candidates, shares.tolist(), strict=True)),
        dict(zip(row.candidates, mean.tolist(), strict=True)),
    )


@torch.no_grad()
def _candidate_scores(model: Prompted, rows: Sequence[EncodedQuery]) -> Float[Tensor, "batch candidates"]:
    ids, mask, marks = collate(model, rows)
    targets = [row.targets for row in rows for _ in row.names]
    return model.score_ids(ids, mask, targets, prompts=prompts_of(rows), marks=marks)


@torch.no_grad()
def _class_scores(model: Prompted, rows: Sequence[EncodedQuery]) -> Float[Tensor, "batch classes"]:
    ids, mask, marks = collate(model, rows)
    logits = model(ids, mask, prompts=prompts_of(rows), marks=marks).logits
    assert logits is not None
    known = (logits != -torch.inf).sum(-1).tolist()  # each row has the classes of its prompt's head
    for candidates, classes in zip([row.candidates for row in rows for _ in row.names], known, strict=True):
        if len(candidates) != classes:
            raise ConfigError(
                f"{model.backbone.name} has {classes} classes, but there are {len(candidates)} candidates "
                f"({', '.join(candidates)}); name as many, in the head's order, or train a prompt with head=True."
            )
    return logits.float()
