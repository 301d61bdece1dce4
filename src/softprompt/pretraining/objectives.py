"""What a small backbone is pre-trained to do: spans, continuations, or the next token.

Every objective turns windows of packed text into a batch of equally long rows, so no position is padding. All are
plain functions with one signature, seeded by the generator that they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np

from softprompt.errors import ConfigError

__all__ = [
    "OBJECTIVES",
    "Batch",
    "SpecialIds",
    "causal_lm",
    "prefix_lm",
    "span_corruption",
    "span_lengths",
]


# Raffel et al. 2020, §3.3.4: the share of tokens that is masked, and the mean length of a span in tokens.
_DENSITY, _MEAN_SPAN = 0.15, 3.0


@final
@dataclass(frozen=True, kw_only=True)
class SpecialIds:
    """Tokens that objectives insert."""

    eos: int
    sentinels: tuple[int, ...]
    """In order of use: `<extra_id_0>` first."""


@final
@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a model is given, without padding."""

    inputs: np.ndarray
    """`[batch, seq]`, int64."""
    targets: np.ndarray
    """`[batch, target]`, int64. For a decoder-only model the token that follows each input token."""


Objective = Callable[[np.ndarray, SpecialIds, np.random.Generator], Batch]


def span_corruption(windows: np.ndarray, special: SpecialIds, rng: np.random.Generator) -> Batch:
    """Replace random spans by sentinels; the targets are the sentinels, each with its span.

    Of the tokens 15 % are masked, in spans of three on average. Every row loses the same number of tokens in the same
    number of spans, so all rows stay equally long. Both rows end with `</s>`.

    Args:
        windows: Text, `[batch, seq]`.
        special: Sentinels and `</s>`.
        rng: Decides the spans.

    Returns:
        Inputs `[batch, seq - noise + spans + 1]` and targets `[batch, noise + spans + 1]`.

    Raises:
        ConfigError: If a window is too short to keep and lose a token, or needs more spans than there are sentinels.

    References:
        Raffel et al. 2020, §3.1.4 and §3.3.4.
    """
    rows, length = windows.shape
    noise, spans = span_lengths(length)
    if spans > len(special.sentinels):
        raise ConfigError(
            f"Windows of {length} tokens take {spans} spans, but there are {len(special.sentinels)} sentinels;"
            " use shorter windows."
        )
    kept_lengths = _segments(rng, rows, length - noise, spans)  # [batch, spans]
    lost_lengths = _segments(rng, rows, noise, spans)  # [batch, spans]
    lengths = np.stack([kept_lengths, lost_lengths], axis=2).reshape(rows, 2 * spans)
    ends = lengths.cumsum(axis=1)  # [batch, 2*spans]
    positions = np.arange(length)
    segment = (positions[None, :, None] >= ends[:, None, :]).sum(axis=2)  # [batch, seq]: odd = lost
    starts = np.zeros((rows, length), dtype=bool)
    np.put_along_axis(starts, ends[:, :-1], True, axis=1)
    sentinels = np.asarray(special.sentinels)[segment // 2]  # [batch, seq]
    lost = segment % 2 == 1
    return Batch(
        inputs=_collapse(windows, sentinels, lost, starts & lost, special.eos),
        targets=_collapse(windows, sentinels, ~lost, starts & lost, special.eos),
    )


def span_lengths(length: int) -> tuple[int, int]:
    """Tokens masked and spans masked in a window of `length` tokens.

    Raises:
        ConfigError: If the window is shorter than two tokens.
    """
    if length < 2:
        raise ConfigError(f"Span corruption needs windows of at least 2 tokens, not {length}.")
    noise = min(max(round(length * _DENSITY), 1), length - 1)
    spans = min(max(round(noise / _MEAN_SPAN), 1), noise, length - noise)
    return noise, spans


def prefix_lm(windows: np.ndarray, special: SpecialIds, rng: np.random.Generator) -> Batch:
    """Split text at a random point: the input is what comes before, the target its continuation.

    One point is drawn per batch, from a quarter to three quarters of the window, so that rows stay equally long.
    The input ends with `</s>`, as the tokenizer ends every input; the target does not, since its text goes on.

    Args:
        windows: Text, `[batch, seq]`.
        special: `</s>`.
        rng: Decides the point.

    Returns:
        Inputs `[batch, point + 1]` and targets `[batch, seq - point]`.

    Raises:
        ConfigError: If a window is shorter than four tokens.

    References:
        Lester et al. 2021, §3.2; Raffel et al. 2020, §3.2.3.
    """
    length = windows.shape[1]
    if length < 4:
        raise ConfigError(f"Prefix LM needs windows of at least 4 tokens, not {length}.")
    point = int(rng.integers(length // 4, length - length // 4 + 1))
    return Batch(inputs=_append(windows[:, :point], special.eos), targets=windows[:, point:])


def causal_lm(windows: np.ndarray, special: SpecialIds, rng: np.random.Generator) -> Batch:
    """Every next token: inputs `[batch, seq - 1]` and targets `[batch, seq - 1]`, one token apart."""
    return Batch(inputs=windows[:, :-1], targets=windows[:, 1:])


OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {"span_corruption": span_corruption, "prefix_lm": prefix_lm, "causal_lm": causal_lm}
)


def _segments(rng: np.random.Generator, rows: int, total: int, parts: int) -> np.ndarray:
    """Split `total` into `parts` positive lengths, uniformly among all ways: `[rows, parts]`."""
    cuts = np.argsort(rng.random((rows, total - 1)), axis=1)[:, : parts - 1] + 1
    edges = np.concatenate([np.zeros((rows, 1), int), np.sort(cuts, axis=1), np.full((rows, 1), total)], axis=1)
    return np.diff(edges, axis=1)


def _collapse(
    windows: np.ndarray, sentinels: np.ndarray, hidden: np.ndarray, span_starts: np.ndarray, eos: int
) -> np.ndarray:
    """Drop what is hidden and put each span's sentinel where the span starts."""
    rows = len(windows)
    pairs = np.stack([sentinels, windows], axis=2)  # [batch, seq, 2]: a sentinel would stand before its token
    shown = np.stack([span_starts, ~hidden], axis=2)  # [batch, seq, 2]
    return _append(pairs[shown].reshape(rows, -1), eos)


def _append(tokens: np.ndarray, token: int) -> np.ndarray:
    return np.concatenate([tokens, np.full((len(tokens), 1), token, dtype=tokens.dtype)], axis=1)
