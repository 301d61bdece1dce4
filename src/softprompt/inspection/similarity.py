"""How alike the rows of a prompt are, and how alike prompts are: a map of a folder of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softprompt.backbones import Backbone
from softprompt.backbones.carrying import Site
from softprompt.errors import ConfigError
from softprompt.inspection.activations import prefix_layers
from softprompt.prompts import SoftPrompt

__all__ = ["PromptMap", "RowSimilarity", "best_match", "classical_scaling", "map_prompts", "row_similarity"]

_ROWS = "rows"


@final
@dataclass(frozen=True, kw_only=True)
class RowSimilarity:
    """Cosines between the rows of a prompt, or of one layer of a prefix.

    Attributes:
        cosines: Of each row with each, `length` lists of `length`.
        mean: The mean over pairs of different rows; None of a single row.
        stack: Of a prefix, the stack.
        layer: Of a prefix, the layer; its keys and values side by side are a row.
    """

    cosines: tuple[tuple[float, ...], ...]
    mean: float | None
    stack: str | None = None
    layer: int | None = None


@final
@dataclass(frozen=True, kw_only=True)
class PromptMap:
    """Similarities between prompts.

    Attributes:
        names: The prompts that can be compared: of one shape but for their lengths.
        best_match: By layer (`rows`, or a stack and a layer), for each pair of prompts the mean cosine of a row with
            the row of the other that is most like it, both ways.
        mean_row: By layer, for each pair the cosine of the two mean rows.
        places: For each prompt two coordinates, from classical scaling of one minus its best matches, the mean over
            layers.
        left_out: By name, why other prompts are not on the map.

    References:
        Vu et al. 2022, §4 (similarity of task prompts); Torgerson 1952 (classical scaling).
    """

    names: tuple[str, ...]
    best_match: Mapping[str, tuple[tuple[float, ...], ...]]
    mean_row: Mapping[str, tuple[tuple[float, ...], ...]]
    places: tuple[tuple[float, float], ...]
    left_out: Mapping[str, str]


def row_similarity(backbone: Backbone, prompt: SoftPrompt) -> tuple[RowSimilarity, ...]:
    """Cosines between a prompt's rows; of a prefix, in each layer.

    Args:
        backbone: The frozen model.
        prompt: The prompt.
    """
    return tuple(_within(site, vectors) for site, vectors in _vectors(backbone, prompt).items())


def _within(site: Site | None, vectors: Tensor) -> RowSimilarity:
    cosines = _cosines(vectors, vectors)
    length = len(cosines)
    apart = ~torch.eye(length, dtype=torch.bool)
    return RowSimilarity(
        cosines=_plain(cosines),
        mean=float(cosines[apart].mean()) if length > 1 else None,
        stack=None if site is None else site.stack,
        layer=None if site is None else site.layer,
    )


def map_prompts(backbone: Backbone, prompts: Mapping[str, SoftPrompt]) -> PromptMap:
    """Compare prompts for one backbone with each other.

    Args:
        backbone: The frozen model.
        prompts: By name; those of another shape than most are left out.

    Raises:
        ConfigError: If fewer than two can be compared.
    """
    vectors = {name: _vectors(backbone, prompt) for name, prompt in prompts.items()}
    shapes = {name: tuple((site, one.shape[1]) for site, one in found.items()) for name, found in vectors.items()}
    counted = list(shapes.values())
    most = max(counted, key=counted.count, default=())
    kept = {name: found for name, found in vectors.items() if shapes[name] == most}
    if len(kept) < 2:
        raise ConfigError(
            f"A map needs at least two prompts of one kind; of {', '.join(prompts) or 'none'}, no two can be compared."
        )
    layers = {_ROWS if site is None else f"{site.stack} {site.layer}": site for site, _ in most}
    matches = {layer: _each_pair(kept, site, best_match) for layer, site in layers.items()}
    means = {layer: _each_pair(kept, site, _mean_row_cosine) for layer, site in layers.items()}
    distance = 1 - torch.stack(list(matches.values())).mean(0)  # [prompts, prompts]
    return PromptMap(
        names=tuple(kept),
        best_match={layer: _plain(found) for layer, found in matches.items()},
        mean_row={layer: _plain(found) for layer, found in means.items()},
        places=tuple((x, y) for x, y in classical_scaling(distance).tolist()),
        left_out={name: "it has other rows or layers than most of the prompts" for name in vectors if name not in kept},
    )


def best_match(first: Float[Tensor, "rows dim"], second: Float[Tensor, "others dim"]) -> float:
    """The mean cosine of a row with the row of the other prompt that is most like it, both ways."""
    cosines = _cosines(first, second)  # [rows, others]
    return float((cosines.max(1).values.mean() + cosines.max(0).values.mean()) / 2)


def classical_scaling(distance: Float[Tensor, "points points"]) -> Float[Tensor, "points 2"]:
    """Coordinates in the plane whose distances are near to given ones; the first axis has the most spread.

    Args:
        distance: Symmetric, zero with itself.

    References:
        Torgerson 1952.
    """
    squared = distance.double().square()
    centred = squared - squared.mean(0) - squared.mean(1, keepdim=True) + squared.mean()
    values, vectors = torch.linalg.eigh(-centred / 2)
    axes = (vectors * values.clamp(min=0).sqrt()).flip(1)[:, :2]  # [points, 2]
    axes = nn.functional.pad(axes, (0, 2 - axes.shape[1]))
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))  # an axis has no sign of its own
    return axes * torch.where(largest < 0, -1.0, 1.0)


def _vectors(backbone: Backbone, prompt: SoftPrompt) -> dict[Site | None, Tensor]:
    """A row for each virtual token: at the input embedding, or in each layer of a prefix."""
    rows = prompt().rows
    if rows is not None:
        return {None: rows.detach().float().cpu()}
    return {site: one.flatten(1) for site, one in prefix_layers(backbone, prompt).items()}


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    return nn.functional.normalize(first, dim=-1) @ nn.functional.normalize(second, dim=-1).T


def _mean_row_cosine(first: Tensor, second: Tensor) -> float:
    return float(nn.functional.cosine_similarity(first.mean(0), second.mean(0), dim=0))


def _each_pair(
    vectors: Mapping[str, Mapping[Site | None, Tensor]], site: Site | None, measure: Callable[[Tensor, Tensor], float]
) -> Tensor:
    return torch.tensor([[measure(a[site], b[site]) for b in vectors.values()] for a in vectors.values()])


def _plain(matrix: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
