"""The words that prompt rows stand near: nearest vocabulary entries, their clusters and repeats, and class labels.

References:
    Lester et al. 2021, §7.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Site
from softprompt.config import choose
from softprompt.errors import ConfigError
from softprompt.inspection.activations import prefix_layers, word_activations
from softprompt.prompts import SoftPrompt

__all__ = [
    "LabelTrace",
    "Measure",
    "NearestWords",
    "Neighbour",
    "label_traces",
    "nearest",
    "nearest_words",
    "stem",
    "stem_chance",
]

Measure = Literal["cosine", "distance"]

_CHUNK = 64
_EXACT = "donot_use_mm_for_euclid_dist"
_STEM_LETTERS = 5
_LEAST_LETTERS = 3
_PREFIX_WORDS = 1000


@final
@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """One vocabulary entry near a row.

    Attributes:
        token: Its id.
        word: Its text; `#id` without tokenizer.
        value: Its cosine with the row, or its Euclidean distance.
    """

    token: int
    word: str
    value: float


@final
@dataclass(frozen=True, kw_only=True)
class NearestWords:
    """The words nearest to each row of a prompt, or of one layer of a prefix.

    Attributes:
        by: `cosine` or `distance`.
        rows: For each row its nearest words, the nearest first.
        stack: Of a prefix, the stack; None for rows at the input embedding.
        layer: Of a prefix, the layer.
        alike: Share of pairs among a row's nearest words that have one stem: cut to five letters, their case ignored.
        cohesion: Mean cosine between a row's nearest words.
        chance: Mean cosine between two different entries of the vocabulary that was searched.
        repeats: Words that are nearest to several rows, and to how many.
    """

    by: Measure
    rows: tuple[tuple[Neighbour, ...], ...]
    stack: str | None = None
    layer: int | None = None
    alike: float | None
    cohesion: float | None
    chance: float | None
    repeats: Mapping[str, int]


@final
@dataclass(frozen=True, kw_only=True)
class LabelTrace:
    """Whether a class label is among the words that rows stand near.

    Attributes:
        label: The label.
        rows: Rows among whose nearest words one of the label's pieces is.
        own_rank: Of the row that started as the label: which of its nearest words is the first that is one of the
            label's pieces, from 0. None if none is, or no row started so.
    """

    label: str
    rows: tuple[int, ...]
    own_rank: int | None = None

    @property
    def persists(self) -> bool:
        """Whether any row stands near it."""
        return bool(self.rows)


def nearest(
    rows: Float[Tensor, "rows dim"], table: Float[Tensor, "words dim"], count: int, by: Measure = "cosine"
) -> tuple[Int[Tensor, "rows count"], Float[Tensor, "rows count"]]:
    """The entries of a table that are nearest to each row, the nearest first.

    Args:
        rows: The rows.
        table: The entries.
        count: How many.
        by: The largest `cosine`, or the smallest Euclidean `distance`.

    Returns:
        Their places in the table, and their cosines or distances.

    Raises:
        ConfigError: If there is no such measure, or the table has fewer entries.
    """
    if by not in ("cosine", "distance"):
        raise choose("measure of nearness", by, ("cosine", "distance"))
    if not 1 <= count <= len(table):
        raise ConfigError(f"count={count}: expected at least 1 and at most the {len(table)} words that are searched.")
    places, values = [], []
    for some in rows.float().split(_CHUNK):
        scores = _cosines(some, table) if by == "cosine" else -torch.cdist(some, table.float(), compute_mode=_EXACT)
        found = scores.topk(count, dim=-1)
        places.append(found.indices)
        values.append(found.values if by == "cosine" else -found.values)
    return torch.cat(places), torch.cat(values)


def _cosines(rows: Tensor, table: Tensor) -> Float[Tensor, "rows words"]:
    return nn.functional.normalize(rows.float(), dim=-1) @ nn.functional.normalize(table.float(), dim=-1).T


@torch.no_grad()
def nearest_words(
    backbone: Backbone, prompt: SoftPrompt, count: int = 5, *, by: Measure = "cosine", common: int | None = None
) -> tuple[NearestWords, ...]:
    """The vocabulary entries nearest to a prompt.

    Rows are held against the embedding table, as the model embeds it. A prefix is held, in each layer, against the keys
    and values that the layer makes of single words.

    Args:
        backbone: The frozen model.
        prompt: The prompt.
        count: How many for each row.
        by: `cosine` or `distance`.
        common: Search the tokenizer's so many most common entries alone; None searches all, of a prefix 1,000.

    Returns:
        One result for rows; one for each layer of a prefix.

    Raises:
        ConfigError: If there is no such measure, or fewer words than asked for.
        UnsupportedError: If it is a prefix, and the model's layers cannot be given keys and values.
    """
    rows = prompt().rows
    if rows is not None:
        tokens = torch.arange(backbone.spec.vocab) if common is None else torch.tensor(backbone.common_tokens(common))
        table = backbone.embed(tokens.to(backbone.device)).float().cpu()
        return (_found(backbone, rows.float().cpu(), table, tokens, count, by),)
    layers = prefix_layers(backbone, prompt)
    tokens = torch.tensor(backbone.common_tokens(_PREFIX_WORDS if common is None else common))
    words = word_activations(backbone, tokens.tolist(), tuple(layers))
    return tuple(
        _found(backbone, given.flatten(1), words[site].flatten(1), tokens, count, by, site)
        for site, given in layers.items()
    )


def _found(
    backbone: Backbone, rows: Tensor, table: Tensor, tokens: Tensor, count: int, by: Measure, site: Site | None = None
) -> NearestWords:
    places, values = nearest(rows, table, count, by)
    words = _texts(backbone, tokens[places.unique()].tolist())
    found = tuple(
        tuple(
            Neighbour(token=token, word=words[token], value=value)
            for token, value in zip(tokens[row].tolist(), near.tolist(), strict=True)
        )
        for row, near in zip(places, values, strict=True)
    )
    first = Counter(row[0].token for row in found)
    return NearestWords(
        by=by,
        rows=found,
        stack=None if site is None else site.stack,
        layer=None if site is None else site.layer,
        alike=_alike(found),
        cohesion=_mean_cosine([table[row] for row in places]),
        chance=_mean_cosine([table]),
        repeats={words[token]: times for token, times in first.most_common() if times > 1},
    )


def _texts(backbone: Backbone, tokens: Sequence[int]) -> dict[int, str]:
    """What to show of token ids; of those that are no text by themselves, their pieces."""
    tokenizer = backbone.tokenizer
    if tokenizer is None:
        return {token: f"#{token}" for token in tokens}
    known = len(tokenizer)
    pieces = {token: tokenizer.convert_ids_to_tokens(token) if token < known else None for token in tokens}
    return {
        token: f"#{token}" if piece is None else (tokenizer.decode([token]).strip() or str(piece))
        for token, piece in pieces.items()
    }


def stem(word: str) -> str:
    """What words of one family share: five letters, their case ignored; the word itself if it has under three."""
    letters = "".join(filter(str.isalpha, word.casefold()))
    return letters[:_STEM_LETTERS] if len(letters) >= _LEAST_LETTERS else word


def stem_chance(backbone: Backbone) -> float:
    """The share of pairs of different entries of the vocabulary that have one stem: what chance gives two words."""
    stems = Counter(map(stem, _texts(backbone, range(backbone.spec.vocab)).values()))
    total = stems.total()
    return sum(count * (count - 1) for count in stems.values()) / (total * (total - 1))


def _alike(found: Sequence[Sequence[Neighbour]]) -> float | None:
    pairs = [stem(a.word) == stem(b.word) for row in found for a, b in itertools.combinations(row, 2)]
    return sum(pairs) / len(pairs) if pairs else None


def _mean_cosine(sets: Sequence[Float[Tensor, "words dim"]]) -> float | None:
    """The mean cosine of two different entries of one set: of n unit vectors with sum s, (|s|² - n) / (n² - n)."""
    found = []
    for entries in sets:
        units = nn.functional.normalize(entries, dim=-1)
        n, total = len(units), units.sum(0, dtype=torch.float64)  # [dim]
        if n > 1:
            found.append(float((total.square().sum() - units.square().sum()) / (n * n - n)))
    return sum(found) / len(found) if found else None


def label_traces(
    backbone: Backbone, words: NearestWords, labels: Sequence[str], *, started_as_labels: bool = False
) -> tuple[LabelTrace, ...]:
    """Whether class labels are among the words that the rows of a prompt stand near.

    Args:
        backbone: Whose tokenizer to use.
        words: The rows' nearest words.
        labels: The labels, in the task's order.
        started_as_labels: Whether row i started as label i (`init="class_labels"`).

    Raises:
        BackboneError: If the backbone has no tokenizer.
    """
    traces = []
    for place, label in enumerate(labels):
        pieces = set(backbone.tokenize(label))
        near = [[place for place, word in enumerate(row) if word.token in pieces] for row in words.rows]
        own = near[place] if started_as_labels and place < len(near) else []
        rows = tuple(row for row, found in enumerate(near) if found)
        traces.append(LabelTrace(label=label, rows=rows, own_rank=min(own, default=None)))
    return tuple(traces)
