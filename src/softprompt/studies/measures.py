"""What trained prompts look like, in numbers that stand in a study's rows beside the scores."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.config import choose
from softprompt.errors import ConfigError, UnsupportedError
from softprompt.inspection import (
    LayerAttention,
    attention_mass,
    label_traces,
    map_prompts,
    nearest_words,
    prompt_at_start,
    task_samples,
)
from softprompt.inspection.words import stem_chance
from softprompt.prompts import SoftPrompt
from softprompt.registry import Registry
from softprompt.studies.cells import starts_elsewhere
from softprompt.tasks import Task

__all__ = [
    "MEASURED",
    "MEASURES",
    "MEMBERS_BEST",
    "MEMBERS_MEAN",
    "OF_MEMBERS",
    "Measure",
    "applied",
    "compares_starts",
    "is_count",
    "is_measured",
    "measured_columns",
    "unit_of",
]

MEASURED = "measured_"
"""What the columns of measures begin with, before their names."""
MEMBERS_MEAN, MEMBERS_BEST = OF_MEMBERS = ("members_mean", "members_best")
"""What the row of an ensemble has besides: the watched score of its members, the mean, and that of the one that is best
on validation."""
_MISSING = f"{MEASURED}missing"
_ROWS = 16
_FAR_TOKENS = 8

Look = Callable[[Backbone, SoftPrompt, SoftPrompt | None, Task], Mapping[str, float]]
"""From a backbone, a trained prompt, the same before its training if that is known, and its task to values by name."""


@final
@dataclass(frozen=True, kw_only=True)
class Measure:
    """A look at a trained prompt.

    Attributes:
        function: Takes it; it leaves out values that there are none of, and raises UnsupportedError without any.
        units: By the name of each value that it may give, its unit.
        is_count: Whether its values follow from what was asked for, whatever is learned: seeds do not differ in them.
        of_starts: Whether it is of runs that start from a prompt for another task: the function is given that prompt
            as the second, and as the first, in place of what the run learned, that which the method of the second
            learned on the run's own task.
    """

    function: Look
    units: Mapping[str, str]
    is_count: bool = False
    of_starts: bool = False


def labels(backbone: Backbone, prompt: SoftPrompt, start: SoftPrompt | None, task: Task) -> dict[str, float]:
    """The share of class labels of which a piece is among the five words nearest to some row.

    References:
        Lester et al. 2021, §7.
    """
    words = task.format.labels
    if not words:
        raise UnsupportedError("the task has no labels.")

    def kept(one: SoftPrompt) -> float:
        (near,) = nearest_words(backbone, _with_rows(one))
        return 100 * statistics.fmean(trace.persists for trace in label_traces(backbone, near, words))

    return {"labels_kept": kept(prompt), **({"labels_kept_before": kept(start)} if start else {})}


def stems(backbone: Backbone, prompt: SoftPrompt, start: SoftPrompt | None, task: Task) -> dict[str, float]:
    """The share of pairs among a row's five nearest words that have one stem, and that among any two words.

    References:
        Lester et al. 2021, §7.
    """

    def alike(one: SoftPrompt) -> float:
        (near,) = nearest_words(backbone, _with_rows(one))
        return 100 * (near.alike or 0.0)

    found = {"stem_share": alike(prompt), "stem_share_chance": 100 * stem_chance(backbone)}
    return {**found, **({"stem_share_before": alike(start)} if start else {})}


def attention(backbone: Backbone, prompt: SoftPrompt, start: SoftPrompt | None, task: Task) -> dict[str, float]:
    """How 16 validation rows attend to the prompt: the input's tokens, or where none of them can, the target's.

    `attention_mass` is the share of attention on the prompt; `attention_layers` how that differs between layers, and
    `attention_heads` between the heads of one layer (standard deviations); `attention_spread` how evenly it lies on
    the prompt's rows. `attention_reach` is the mass over what it would be if even, of tokens that stand eight tokens
    away or more, as a share of the same of nearer ones: 100 where the prompt is attended to from everywhere alike.
    """
    samples = task_samples(backbone, prompt, task, rows=_ROWS)
    layers = attention_mass(backbone, prompt, samples)
    looking = [layer for layer in layers if layer.looker == "input" and layer.even] or layers
    spreads = [spread for layer in looking for spread in layer.spread if spread is not None]
    reach = _reach(looking)
    return {
        "attention_mass": 100 * statistics.fmean(layer.mean_mass for layer in looking),
        "attention_layers": 100 * statistics.pstdev(layer.mean_mass for layer in looking),
        "attention_heads": 100 * statistics.fmean(statistics.pstdev(layer.mass) for layer in looking),
        **({"attention_spread": 100 * statistics.fmean(spreads)} if spreads else {}),
        **({} if reach is None else {"attention_reach": 100 * reach}),
    }


def storage(backbone: Backbone, prompt: SoftPrompt, start: SoftPrompt | None, task: Task) -> dict[str, float]:
    """Values of the prompt as it is stored, per thousand of the backbone's.

    References:
        Lester et al. 2021, §2 and table 4.
    """
    values = sum(parameter.numel() for parameter in backbone.model.parameters())
    return {"stored_share": 1000 * prompt.num_parameters() / values}


def similarity(backbone: Backbone, prompt: SoftPrompt, start: SoftPrompt | None, task: Task) -> dict[str, float]:
    """How like the prompt that a run starts from is to one that was learned on the run's own task.

    `similarity` is the cosine of the two mean rows, `similarity_rows` the mean cosine of a row with the row of the
    other that is most like it; of prefixes the mean over layers.

    References:
        Vu et al. 2022, §4.
    """
    if start is None:
        raise UnsupportedError("what its run starts from is not known.")
    try:
        found = map_prompts(backbone, {"alone": prompt, "start": start})
    except ConfigError as error:
        raise UnsupportedError(str(error)) from error
    looks = {"similarity": found.mean_row, "similarity_rows": found.best_match}
    return {
        name: 100 * statistics.fmean(cosines[0][1] for cosines in layers.values()) for name, layers in looks.items()
    }


_POINTS = "points"
MEASURES: Registry[Measure] = Registry(
    "measure",
    "softprompt.measures",
    {
        "attention": Measure(
            function=attention,
            units=dict.fromkeys(
                ("attention_heads", "attention_layers", "attention_mass", "attention_reach", "attention_spread"),
                _POINTS,
            ),
        ),
        "labels": Measure(function=labels, units=dict.fromkeys(("labels_kept", "labels_kept_before"), _POINTS)),
        "similarity": Measure(
            function=similarity, units=dict.fromkeys(("similarity", "similarity_rows"), _POINTS), of_starts=True
        ),
        "stems": Measure(
            function=stems, units=dict.fromkeys(("stem_share", "stem_share_before", "stem_share_chance"), _POINTS)
        ),
        "storage": Measure(function=storage, units={"stored_share": "per thousand"}, is_count=True),
    },
)
"""The measures that a grid may ask for, by name."""


def applied(measures: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Those among the names of measures that are of a run of such settings."""
    return [name for name in measures if not MEASURES.get(name).of_starts or starts_elsewhere(settings)]


def compares_starts(measures: Sequence[str]) -> bool:
    """Whether one of them compares what runs start from with what is learned on their own task."""
    return any(MEASURES.get(name).of_starts for name in measures)


def measured_columns(
    measures: Sequence[str],
    backbone: Backbone,
    prompt: SoftPrompt,
    task: Task,
    *,
    compared: tuple[SoftPrompt, SoftPrompt] | None = None,
) -> dict[str, Any]:
    """What a trained prompt's row says of its looks.

    Args:
        measures: Names of `MEASURES`.
        backbone: The frozen model.
        prompt: As it was trained.
        task: That it was trained on.
        compared: What its run started from, and what was learned on the task alone; None where there is no such pair.

    Returns:
        Values by name, in the measures' units, and what there is not of them, with the reason.
    """
    try:
        start = prompt_at_start(backbone, prompt)
    except UnsupportedError:
        start = None
    row: dict[str, Any] = {}
    missing = {}
    for name in measures:
        measure = MEASURES.get(name)
        try:
            if not measure.of_starts:
                found = measure.function(backbone, prompt, start, task)
            elif compared is None:
                raise UnsupportedError("the run starts from no prompt for another task.")
            else:
                found = measure.function(backbone, compared[1], compared[0], task)
        except UnsupportedError as error:
            missing[name] = str(error)
        else:
            row |= {f"{MEASURED}{value}": number for value, number in found.items()}
    return {**row, **({_MISSING: "; ".join(f"{name}: {why}" for name, why in missing.items())} if missing else {})}


def unit_of(measures: Sequence[str], value: str, what: str) -> str:
    """The unit of a value that measures give.

    Args:
        measures: Names of `MEASURES`.
        value: Its name.
        what: What an error says that it stands for.

    Raises:
        ConfigError: If none of them gives it.
    """
    units = {name: unit for measure in measures for name, unit in MEASURES.get(measure).units.items()}
    if value not in units:
        raise choose(what, value, units)
    return units[value]


def is_measured(measures: Sequence[str], name: str) -> bool:
    """Whether a name is that of a value that measures give."""
    return any(name in MEASURES.get(measure).units for measure in measures)


def is_count(measures: Sequence[str], value: str) -> bool:
    """Whether a value that measures give is counted, so that no seed could change it."""
    return any(MEASURES.get(measure).is_count for measure in measures if value in MEASURES.get(measure).units)


def _with_rows(prompt: SoftPrompt) -> SoftPrompt:
    if prompt().rows is None:
        raise UnsupportedError("keys and values stand near no words of the embedding table.")
    return prompt


def _reach(layers: Sequence[LayerAttention]) -> float | None:
    """The lift of far tokens over that of near ones; None without tokens of both."""
    bands = [band for layer in layers for band in layer.bands]
    lifts = []
    for some in ([band for band in bands if band.least >= _FAR_TOKENS], [b for b in bands if b.least < _FAR_TOKENS]):
        even = sum(band.even * band.tokens for band in some)
        lifts.append(sum(band.mass * band.tokens for band in some) / even if even else 0.0)
    far, near = lifts
    return far / near if far and near else None
