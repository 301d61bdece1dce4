"""Everything that can be said of a prompt, as one result of plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final, get_args

from softprompt.backbones import Backbone
from softprompt.config import choose, to_mapping
from softprompt.errors import UnsupportedError
from softprompt.inference import BatchLimits
from softprompt.inspection.attention import LayerAttention, attention_mass
from softprompt.inspection.attribution import Attribution, Way, attribute
from softprompt.inspection.importance import Importance, Part, leave_out
from softprompt.inspection.norms import Norms, prompt_norms
from softprompt.inspection.samples import Sample, task_samples, text_sample, with_prediction
from softprompt.inspection.similarity import RowSimilarity, row_similarity
from softprompt.inspection.start import prompt_at_start
from softprompt.inspection.words import LabelTrace, Measure, NearestWords, label_traces, nearest_words
from softprompt.prompts import SoftPrompt
from softprompt.tasks import Task, TextFormat

__all__ = ["Aspect", "Inspection", "inspect_prompt"]

Aspect = Literal["words", "norms", "similarity", "attention", "importance", "attribution"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)

_AFTER, _BEFORE = "after", "before"
_READING = {"attention", "importance", "attribution"}
_NO_TEXT = "it needs texts to read; give a task or an input"


@final
@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is seen of a prompt. `before` is before its training, `after` is as it is.

    Attributes:
        backbone: Name of the backbone.
        method: Name and settings of the method.
        words: By time and measure, such as `after cosine`, the nearest words of its rows; of a prefix, in each layer.
        labels: By time, whether class labels are among the nearest words by cosine.
        norms: By time, the norms of its vectors.
        similarity: By time, cosines between its rows.
        attention: Attention onto it.
        importance: How a task goes without its parts.
        attribution: Shares of one prediction, in each way.
        left_out: By what was asked for, why it is not here.
    """

    backbone: str
    method: Mapping[str, Any]
    words: Mapping[str, tuple[NearestWords, ...]] = field(default_factory=dict)
    labels: Mapping[str, tuple[LabelTrace, ...]] = field(default_factory=dict)
    norms: Mapping[str, tuple[Norms, ...]] = field(default_factory=dict)
    similarity: Mapping[str, tuple[RowSimilarity, ...]] = field(default_factory=dict)
    attention: tuple[LayerAttention, ...] = ()
    importance: Importance | None = None
    attribution: tuple[Attribution, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def to_mapping(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return to_mapping(self)


def inspect_prompt(
    backbone: Backbone,
    prompt: SoftPrompt,
    *,
    what: Sequence[Aspect] = ASPECTS,
    task: Task | None = None,
    split: str = "validation",
    text: str | None = None,
    target: str | None = None,
    rows: int = 32,
    seed: int = 0,
    count: int = 5,
    common: int | None = None,
    parts: Sequence[Part] = ("rows", "layers"),
    limits: BatchLimits | None = None,
    progress: Callable[[int], object] | None = None,
) -> Inspection:
    """Look at a prompt from every side; what needs a task or a text and has none is left out by name.

    Args:
        backbone: The frozen model that it was made for.
        prompt: The prompt.
        what: What to look at: `words`, `norms`, `similarity`, `attention`, `importance`, `attribution`.
        task: Rows to read, for attention and importance; its first row for attribution, if there is no text.
        split: Which of the task's splits.
        text: An input, for attention without a task, and for attribution.
        target: What follows the text; if None, what the model says.
        rows: How many rows of the task, drawn by the seed.
        seed: Of the draw.
        count: Nearest words of each row.
        common: Search the tokenizer's so many most common entries alone; see `nearest_words`.
        parts: What to leave out for its importance: `rows`, `layers`, `heads`.
        limits: How large a batch may be.
        progress: Called with the number of rows after each batch that is read for importance.

    Raises:
        ConfigError: If there is nothing to look at of a name, or no such split.
        MismatchError: If the prompt was made for another backbone.
    """
    for one in what:
        if one not in ASPECTS:
            raise choose("thing to look at", one, ASPECTS)
    left_out: dict[str, str] = {}
    times = _times(backbone, prompt, left_out) if {"words", "norms", "similarity"} & set(what) else {}
    read = _samples(backbone, prompt, task, split, text, target, rows, seed) if set(what) & _READING else None
    found: dict[str, Any] = {}

    def look(name: Aspect, how: Callable[[], Any]) -> None:
        if name in what:
            try:
                found[name] = how()
            except UnsupportedError as error:
                left_out[name] = str(error)

    look("words", lambda: _words(backbone, times, count, common))
    look("norms", lambda: {time: prompt_norms(backbone, one) for time, one in times.items()})
    look("similarity", lambda: {time: row_similarity(backbone, one) for time, one in times.items()})
    if read is None:
        left_out |= {name: _NO_TEXT for name in what if name in _READING}
    else:
        look("attention", lambda: tuple(attention_mass(backbone, prompt, read.samples, limits=limits)))
        look("attribution", lambda: _attributions(backbone, prompt, read.single))
        if task is None and "importance" in what:
            left_out["importance"] = "it needs rows with targets; give a task"
        elif task is not None:
            options: dict[str, Any] = {"parts": parts, "limits": limits, "progress": progress}
            look("importance", lambda: leave_out(backbone, prompt, read.samples, task, **options))
    if "words" in found and backbone.tokenizer is not None:
        found["labels"] = _labels(backbone, prompt, task, found["words"])
    return Inspection(backbone=backbone.name, method=prompt.to_parts()[1]["method"], left_out=left_out, **found)


@final
@dataclass(frozen=True)
class _Read:
    """Samples to look at attention and importance with, and the one whose prediction is divided up."""

    samples: list[Sample]
    single: Sample


def _times(backbone: Backbone, prompt: SoftPrompt, left_out: dict[str, str]) -> dict[str, SoftPrompt]:
    """The prompt as it is, and, where that is known, as it began."""
    try:
        return {_BEFORE: prompt_at_start(backbone, prompt), _AFTER: prompt}
    except UnsupportedError as error:
        left_out["before training"] = str(error)
        return {_AFTER: prompt}


def _samples(
    backbone: Backbone,
    prompt: SoftPrompt,
    task: Task | None,
    split: str,
    text: str | None,
    target: str | None,
    rows: int,
    seed: int,
) -> _Read | None:
    single = None if text is None else text_sample(backbone, prompt, text, target=target)
    if task is None:
        return None if single is None else _Read([single], single)
    samples = task_samples(backbone, prompt, task, split, rows=rows, seed=seed)
    return _Read(samples, single or with_prediction(backbone, prompt, samples[0], task.labels or ()))


def _words(
    backbone: Backbone, times: Mapping[str, SoftPrompt], count: int, common: int | None
) -> dict[str, tuple[NearestWords, ...]]:
    return {
        f"{time} {by}": nearest_words(backbone, one, count, by=by, common=common)
        for time, one in times.items()
        for by in get_args(Measure)
    }


def _labels(
    backbone: Backbone, prompt: SoftPrompt, task: Task | None, words: Mapping[str, tuple[NearestWords, ...]]
) -> dict[str, tuple[LabelTrace, ...]]:
    """Whether labels are among the nearest words of rows; nothing of prefixes, whose layers know no words."""
    form = task.format if task is not None else None
    if form is None and prompt.info.format is not None:
        form = TextFormat.from_mapping(prompt.info.format)
    if form is None or not form.labels or prompt().rows is None:
        return {}
    as_labels = to_mapping(prompt.method).get("init") == "class_labels"
    return {
        key.partition(" ")[0]: label_traces(backbone, found[0], form.labels, started_as_labels=as_labels)
        for key, found in words.items()
        if key.endswith("cosine")
    }


def _attributions(backbone: Backbone, prompt: SoftPrompt, sample: Sample) -> tuple[Attribution, ...]:
    if not sample.target:
        raise UnsupportedError("The model says nothing of the whole input, so there is no prediction to divide up.")
    return tuple(attribute(backbone, prompt, sample, way=way) for way in get_args(Way))
