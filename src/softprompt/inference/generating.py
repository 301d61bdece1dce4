"""Text for many inputs: generated, or read off them by a head over tokens."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from softprompt.conditioning import Prompted, generation
from softprompt.conditioning.splitting import start_cost
from softprompt.errors import ConfigError
from softprompt.inference.batching import BatchLimits, Progress, by_windows
from softprompt.inference.encoding import encode_to_generate
from softprompt.inference.finite import check_finite
from softprompt.inference.queries import EncodedQuery, Query, collate, prompts_of
from softprompt.inference.together import MeanOfMembers, Together, majority

__all__ = ["predict_texts", "read_off"]


def predict_texts(
    model: Prompted,
    queries: Iterable[Query],
    *,
    limits: BatchLimits | None = None,
    window: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Iterator[str]:
    """Generate a text for each query.

    Greedy unless the options say otherwise, whatever the model's own settings. A query's text does not depend on
    which others stand in its batch. Prompts that answer together vote on the text, or choose each token by the mean of
    their probabilities. An encoder generates none: a prompt's head over tokens says the tags of the input's words, with
    blanks between them, or the words of its context that are the answer.

    Args:
        model: The backbone with its prompts.
        queries: Inputs with their prompts, in any mix.
        limits: How large a batch may be.
        window: How many queries are read, sorted by length and answered before the first text comes: fewer come
            earlier, more waste less padding. None reads all.
        progress: Called after each batch with its number of rows.
        **options: What `Prompted.generate` takes besides, such as `num_beams`.

    Returns:
        The texts, in the queries' order.

    Raises:
        ConfigError: If the backbone is an encoder and a prompt has no head over tokens, or several texts per input are
            asked for.
        LengthError: If an input is too long and may not be cut.
        NonFiniteError: If a prompt leads to logits of tokens that are NaN.
    """
    if options.get("num_return_sequences", 1) != 1:
        raise ConfigError("num_return_sequences gives several texts per input; one text per input is predicted here.")
    reads = model.backbone.spec.kind == "encoder-only"
    settings = {"do_sample": False, "num_beams": 1, **options}
    if settings["do_sample"]:
        queries = map(_with_one_prompt, queries)
    call = functools.partial(read_off, model) if reads else functools.partial(_generate, model, settings)
    encode = functools.partial(encode_to_generate, model)
    start = start_cost(model.backbone.device)
    sharded = model.backbone.sharded
    return by_windows(
        queries, encode, call, limits=limits, start=start, window=window, progress=progress, sharded=sharded
    )


def _generate(model: Prompted, options: dict[str, Any], rows: Sequence[EncodedQuery]) -> list[str]:
    ids, mask, marks = collate(model, rows)
    if rows[0].combine == "mean":  # rows of a batch have this in common
        group = torch.arange(len(rows), device=model.backbone.device).repeat_interleave(len(rows[0].names))
        options = {**options, "logits_processor": [*(options.get("logits_processor") or ()), MeanOfMembers(group)]}
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        prompts=prompts_of(rows),
        marks=marks,
        max_new_tokens=rows[0].room,
        **options,
    )
    decoded = generation.decode(model.backbone, made, ids.shape[1])
    if len(decoded) != len(ids):
        raise ConfigError("num_return_sequences gives several texts per input; one text per input is predicted here.")
    texts = iter(decoded)
    return [majority(list(itertools.islice(texts, len(row.names)))) for row in rows]


def _with_one_prompt(query: Query) -> Query:
    if isinstance(query.prompt, Together):
        raise ConfigError(
            "do_sample draws another text for each prompt of an ensemble; leave it out, or ask one prompt."
        )
    return query


@torch.no_grad()
def read_off(model: Prompted, rows: Sequence[EncodedQuery]) -> list[str]:
    """What heads over tokens say of each query of a batch.

    Raises:
        NonFiniteError: If a prompt leads to logits that are NaN.
    """
    ids, mask, marks = collate(model, rows)
    logits = model(ids, mask, prompts=prompts_of(rows), marks=marks).logits  # [batch, seq, outputs]
    assert logits is not None
    check_finite(model.backbone, prompts_of(rows), (~logits.isnan()).flatten(1).all(1).tolist())
    said = []
    for row, own in zip(rows, logits.float().cpu().split([len(row.names) for row in rows]), strict=True):
        assert row.places is not None
        said.append(majority([row.places.text_of(one) for one in own]))
    return said
