"""Text for many inputs."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from softprompt.conditioning import Prompted, generation
from softprompt.errors import ConfigError
from softprompt.inference.batching import BatchLimits, Progress, by_windows
from softprompt.inference.queries import EncodedQuery, Query, collate, encode_to_generate

__all__ = ["predict_texts"]


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
    which others stand in its batch.

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
        ConfigError: If the backbone is encoder-only, or several texts per input are asked for.
        LengthError: If an input is too long and may not be cut.
    """
    backbone = model.backbone
    if backbone.spec.kind == "encoder-only":
        raise ConfigError(f"{backbone.name} is encoder-only and generates no text; rank its classes instead.")
    if options.get("num_return_sequences", 1) != 1:
        raise ConfigError("num_return_sequences gives several texts per input; one text per input is predicted here.")
    call = functools.partial(_generate, model, {"do_sample": False, "num_beams": 1, **options})
    encode = functools.partial(encode_to_generate, model)
    return by_windows(queries, encode, call, limits=limits, window=window, progress=progress)


def _generate(model: Prompted, options: dict[str, Any], rows: Sequence[EncodedQuery]) -> list[str]:
    ids, mask, marks = collate(model, rows)
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        prompts=[row.prompt for row in rows],
        marks=marks,
        max_new_tokens=rows[0].room,
        **options,
    )
    return generation.decode(model.backbone, made, ids.shape[1])
