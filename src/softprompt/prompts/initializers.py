"""How a prompt starts: plain functions of tensors.

The rows of prompt tuning start from an initializer of `ROWS`: it takes `Materials` and returns `[length, dim]`.
Third parties add theirs through the entry-point group `softprompt.initializers`, or with `register`.

References:
    Lester et al. 2021, §3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softprompt.errors import ConfigError
from softprompt.registry import Registry

__all__ = [
    "ROWS",
    "Initializer",
    "Materials",
    "class_labels",
    "find",
    "fit",
    "mean",
    "names",
    "normal",
    "previous",
    "random",
    "register",
    "text",
    "vocab",
]

_RANDOM_RANGE = 0.5


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What an initializer may start from: tensors only, in float32 on the CPU.

    Attributes:
        length: Rows wanted.
        dim: Width of a row.
        generator: The only source of randomness.
        vocabulary: Embeddings of the most common tokens, `[tokens, dim]`.
        labels: For each class label, or word that stands in for them, the embeddings of its pieces, `[pieces, dim]`.
        text: Embeddings of a given text's tokens, `[tokens, dim]`; None if none was given.
        sources: Rows of each of other prompts, `[rows, dim]`; empty if none was given.
    """

    length: int
    dim: int
    generator: torch.Generator
    vocabulary: Float[Tensor, "tokens dim"]
    labels: tuple[Tensor, ...] = ()
    text: Tensor | None = None
    sources: tuple[Tensor, ...] = ()


Initializer = Callable[[Materials], Tensor]


def random(materials: Materials) -> Float[Tensor, "length dim"]:
    """Uniform in [-0.5, 0.5] (Lester et al. 2021, §3.2)."""
    uniform = torch.rand(materials.length, materials.dim, generator=materials.generator)
    return (uniform * 2 - 1) * _RANDOM_RANGE


def normal(materials: Materials) -> Float[Tensor, "length dim"]:
    """Drawn around the mean of common tokens' embeddings, as far as they spread, in each dimension."""
    spread, mean = torch.std_mean(materials.vocabulary, dim=0)
    return mean + spread * torch.randn(materials.length, materials.dim, generator=materials.generator)


def vocab(materials: Materials) -> Float[Tensor, "length dim"]:
    """Embeddings of common tokens, sampled without replacement (Lester et al. 2021, §3.2).

    Raises:
        ConfigError: If the prompt is longer than there are tokens to sample.
    """
    tokens = materials.vocabulary.shape[0]
    if materials.length > tokens:
        raise ConfigError(
            f"init='vocab' samples {materials.length} of {tokens} common tokens without replacement; use a shorter "
            "prompt or init='random'."
        )
    order = torch.randperm(tokens, generator=materials.generator)[: materials.length]
    return materials.vocabulary[order].clone()


def class_labels(materials: Materials) -> Float[Tensor, "length dim"]:
    """One row per class label, the mean of its pieces; the remaining rows as `vocab` (Lester et al. 2021, §3.2).

    A task without labels may have start words, which are taken like them (ibid.).

    Raises:
        ConfigError: If there are no labels or start words, or more of them than rows.
    """
    count = len(materials.labels)
    if not count:
        raise ConfigError("init='class_labels' needs a task with label words; give one, or use init='vocab'.")
    if count > materials.length:
        raise ConfigError(
            f"init='class_labels' needs a row for each of {count} labels or start words, but the prompt has"
            f" {materials.length}; use length={count} or more, or init='vocab'."
        )
    rows = vocab(materials)
    rows[:count] = torch.stack([pieces.mean(dim=0) for pieces in materials.labels])
    return rows


def text(materials: Materials) -> Float[Tensor, "length dim"]:
    """Embeddings of a text's tokens, repeated or cut to the prompt's length.

    Raises:
        ConfigError: If no text was given.
    """
    if materials.text is None:
        raise ConfigError("init='text' needs text=...: the words to start from.")
    return fit(materials.text, materials.length)


def previous(materials: Materials) -> Float[Tensor, "length dim"]:
    """Rows of another prompt, or the mean of several, each repeated or cut to the prompt's length.

    Raises:
        ConfigError: If no prompt was given, or the rows of one have another width.

    References:
        Vu et al. 2022 (soft prompt transfer).
    """
    if not materials.sources:
        raise ConfigError("init='prompt' needs source=...: the folder of the prompt to start from, or several.")
    for rows in materials.sources:
        if rows.shape[1] != materials.dim:
            raise ConfigError(
                f"init='prompt': expected rows of width {materials.dim}, but the source's have {rows.shape[1]}."
            )
    return mean([fit(rows, materials.length) for rows in materials.sources])


def mean(several: Sequence[Float[Tensor, "*shape"]]) -> Float[Tensor, "*shape"]:
    """The mean of tensors of one shape."""
    return torch.stack(list(several)).mean(dim=0)


def fit(rows: Float[Tensor, "rows ..."], length: int) -> Float[Tensor, "length ..."]:
    """Repeat rows from the start, or cut them, to a length."""
    repeats = -(-length // rows.shape[0])
    return rows.repeat(repeats, *[1] * (rows.ndim - 1))[:length].clone()


ROWS: Registry[Initializer] = Registry(
    "initializer",
    "softprompt.initializers",
    {
        "class_labels": class_labels,
        "normal": normal,
        "prompt": previous,
        "random": random,
        "text": text,
        "vocab": vocab,
    },
)


def register(name: str, initializer: Initializer) -> None:
    """Add an initializer of prompt rows under a name.

    Raises:
        ConfigError: If the name already stands for another initializer.
    """
    ROWS.add(name, initializer)


def names() -> tuple[str, ...]:
    """All known initializers, sorted."""
    return ROWS.names()


def find(name: str) -> Initializer:
    """An initializer by name: built in, registered, or another package's.

    Raises:
        ConfigError: If there is none, or it does not load.
    """
    return ROWS.get(name)
