"""What `softprompt predict` writes for an input, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from softprompt.conditioning import Prompted
from softprompt.inference import Query, classify, predict_texts

__all__ = ["generated", "ranked"]


def ranked(model: Prompted, queries: Iterable[Query], **options: Any) -> Iterator[dict[str, Any]]:
    """The most probable candidate of each query, and the probability of each."""
    for choice in classify(model, queries, **options):
        yield {"output": choice.label, "probabilities": dict(choice.probabilities)}


def generated(model: Prompted, queries: Iterable[Query], **options: Any) -> Iterator[dict[str, Any]]:
    """A text for each query."""
    for text in predict_texts(model, queries, **options):
        yield {"output": text}
