"""What was seen of prompts, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import final

from softprompt.inspection.attention import AttentionBand, LayerAttention
from softprompt.inspection.attribution import Attribution
from softprompt.inspection.importance import Importance
from softprompt.inspection.similarity import PromptMap
from softprompt.inspection.whole import Inspection
from softprompt.inspection.words import Neighbour

__all__ = ["Table", "inspection_tables", "map_table"]


@final
@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: What it shows, in a line.
        columns: Its headings.
        rows: A cell for each heading; None is empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def inspection_tables(seen: Inspection) -> list[Table]:
    """Everything that is there, in the order of `Inspection`."""
    found = [*_words(seen), *_norms(seen), *_similarity(seen), *_attention(seen.attention)]
    if seen.importance is not None:
        found.append(_importance(seen.importance))
    return found + [table for one in seen.attribution for table in _attribution(one)]


def map_table(found: PromptMap) -> Table:
    """A map: each prompt's place, and the prompt that it is most like."""
    count = len(found.names)
    mean = [[fmean(layer[a][b] for layer in found.best_match.values()) for b in range(count)] for a in range(count)]
    rows = []
    for place, name in enumerate(found.names):
        nearest = max((other for other in range(count) if other != place), key=mean[place].__getitem__)
        rows.append((name, *found.places[place], found.names[nearest], mean[place][nearest]))
    return Table("Prompts by their similarity", ("prompt", "x", "y", "most like", "cosine"), tuple(rows))


def _words(seen: Inspection) -> Iterator[Table]:
    summary = [
        (time, found.stack, found.layer, found.alike, found.cohesion, found.chance, _repeats(found.repeats))
        for time, layers in seen.words.items()
        for found in layers
    ]
    first = {time: found[0] for time, found in seen.words.items() if found[0].stack is None}
    if first:
        lengths = range(len(next(iter(first.values())).rows))
        rows = [(row, *(_near(found.rows[row]) for found in first.values())) for row in lengths]
        yield Table("Nearest words of each row", ("row", *first), tuple(rows))
    if summary:
        columns = ("nearest by", "stack", "layer", "one stem", "cosine among them", "of any two words", "repeats")
        yield Table("Nearest words together", columns, tuple(summary))
    yield from _labels(seen)


def _labels(seen: Inspection) -> Iterator[Table]:
    labels = [
        (time, trace.label, "yes" if trace.persists else "no", " ".join(map(str, trace.rows)), trace.own_rank)
        for time, traces in seen.labels.items()
        for trace in traces
    ]
    if labels:
        columns = ("time", "label", "near a row", "rows", "rank at its own row")
        yield Table("Class labels among the nearest words", columns, tuple(labels))


def _near(words: Sequence[Neighbour]) -> str:
    return ", ".join(word.word for word in words)


def _repeats(repeats: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {times}x" for word, times in list(repeats.items())[:5])


def _norms(seen: Inspection) -> Iterator[Table]:
    rows = [
        (time, one.stack, one.layer, one.of, min(one.prompt), fmean(one.prompt), max(one.prompt),
         *(one.words[share] for share in ("0.05", "0.5", "0.95")), 100 * fmean(one.below))
        for time, several in seen.norms.items()
        for one in several
    ]  # fmt: skip
    if rows:
        columns = (
            *("time", "stack", "layer", "of", "least", "mean", "most"),
            *("words 5 %", "words 50 %", "words 95 %", "% of words below"),
        )
        yield Table("Norms", columns, tuple(rows))


def _similarity(seen: Inspection) -> Iterator[Table]:
    rows = [(time, one.stack, one.layer, one.mean) for time, several in seen.similarity.items() for one in several]
    if rows:
        yield Table("Cosine between different rows", ("time", "stack", "layer", "mean"), tuple(rows))


def _attention(layers: Sequence[LayerAttention]) -> Iterator[Table]:
    if not layers:
        return
    rows = []
    for one in layers:
        spreads = [spread for spread in one.spread if spread is not None]
        most = max(range(len(one.mass)), key=one.mass.__getitem__)
        rows.append(
            (one.stack, one.layer, one.looker, one.tokens, 100 * one.mean_mass, 100 * one.even, most,
             100 * one.mass[most], fmean(spreads) if spreads else None,
             None if one.text_distance is None else fmean(one.text_distance))
        )  # fmt: skip
    columns = (
        *("stack", "layer", "who looks", "tokens", "% on prompt", "% if even", "most in head", "% there"),
        *("spread", "tokens away"),
    )
    yield Table("Attention onto the prompt", columns, tuple(rows))
    yield from _bands(layers)


def _bands(layers: Sequence[LayerAttention]) -> Iterator[Table]:
    bands = [
        (stack, looker, *_band(several))
        for (stack, looker), group in groupby(sorted(layers, key=_whose), key=_whose)
        for several in _by_least(group).values()
    ]
    if bands:
        columns = ("stack", "who looks", "tokens from it", "tokens", "% on prompt", "% if even")
        yield Table("Attention by distance from the prompt, the mean over layers", columns, tuple(bands))


def _whose(one: LayerAttention) -> tuple[str, str]:
    return one.stack, one.looker


def _by_least(layers: Iterator[LayerAttention]) -> dict[int, list[AttentionBand]]:
    found: dict[int, list[AttentionBand]] = {}
    for layer in layers:
        for band in layer.bands:
            found.setdefault(band.least, []).append(band)
    return dict(sorted(found.items()))


def _band(several: Sequence[AttentionBand]) -> tuple[object, ...]:
    first = several[0]
    return first.least, first.tokens, 100 * fmean(one.mass for one in several), 100 * first.even


def _importance(found: Importance) -> Table:
    whole = (
        "whole prompt",
        None,
        None,
        None,
        found.loss,
        None,
        *(x for name in found.metrics for x in (found.metrics[name], None)),
    )
    rows = [
        (
            "" if one.row is None else f"row {one.row}", one.stack, one.layer, one.head, one.loss,
            f"{one.loss_change:+.4f}",
            *(x for name in found.metrics for x in (one.metrics[name], one.metric_changes[name])),
        )
        for one in sorted(found.left_out, key=lambda one: -one.loss_change)
    ]  # fmt: skip
    scores = (heading for name in found.metrics for heading in (name, "change"))
    columns = ("left out", "stack", "layer", "head", "nats per token", "change", *scores)
    return Table(f"What {found.samples} rows lose without it", columns, (whole, *rows))


def _attribution(found: Attribution) -> Iterator[Table]:
    rows: list[tuple[object, ...]] = [("row", place, None, f"{share:+.4f}") for place, share in enumerate(found.rows)]
    shares = zip(found.words, found.tokens, strict=True)
    rows += [("token", place, word, f"{share:+.4f}") for place, (word, share) in enumerate(shares)]
    gap = "" if found.gap is None else f"; the shares miss {found.gap:.3g}"
    title = (
        f"Where {found.said!r} comes from, {found.way.replace('_', ' ')}: {found.log_probability:.3f} nats,"
        f" {found.baseline:.3f} without words{gap}"
    )
    yield Table(title, ("what", "place", "word", "nats"), tuple(rows))
    if found.layers:
        layers = tuple((layer, f"{share:+.4f}") for layer, share in found.layers.items())
        yield Table(f"The prompt's shares by layer, {found.way.replace('_', ' ')}", ("layer", "nats"), layers)
