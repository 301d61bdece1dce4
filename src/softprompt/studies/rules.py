"""The papers' rules: which method, at which scale and for which answers, with which settings; and ours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

__all__ = [
    "KEYS",
    "ROWS",
    "Advice",
    "Facts",
    "choose_method",
    "for_any",
    "for_keys",
    "for_mlp",
    "for_rows",
    "summary_rule",
]

_LESTER = "Lester et al. 2021"
_LI = "Li and Liang 2021"
_LIU = "Liu et al. 2022 (P-tuning v2)"
_SCHICK = "Schick and Schütze 2021, §3.1"
_OURS = "docs/log.md, on bundled:gpt-small"
_OURS_T5 = "docs/log.md, on bundled:t5-small, one seed"
_HOUSE = "a rule of ours, measured by nobody"
_BEST = f"that the best on validation is kept: {_LESTER}, §3; that there are ten: ours"

_BILLION = 10**9
_LARGE = 10 * _BILLION
_SMALL = 50 * 10**6
_HARDLY_MOVED = 100 * 10**6
_LOW_DATA_ROWS = 500
_LONG_INPUT_WORDS = 200


@final
@dataclass(frozen=True, kw_only=True)
class Advice:
    """One setting.

    Attributes:
        setting: Its name, as `softprompt train` spells it.
        value: What to set it to.
        reason: Why.
        source: Who says so.
    """

    setting: str
    value: Any
    reason: str
    source: str


@final
@dataclass(frozen=True, kw_only=True)
class Facts:
    """What rules look at.

    Attributes:
        kind: Of the backbone.
        parameters: Of the backbone.
        no_prefix: Why it cannot be given keys and values; None if it can.
        rows: To train on.
        labels: How many label words targets have; 0 where they are none.
        input_words: Mean of the inputs.
        reads_tokens: Whether answers are tags or spans, by a head over an encoder's tokens.
        needs_head: Whether the backbone has no head for the task.
        segments: Rows at each place of the task's template.
        length: Of the prompt, where it is given; None if it is to be found.
    """

    kind: str
    parameters: int
    no_prefix: str | None
    rows: int
    labels: int
    input_words: float
    reads_tokens: bool
    needs_head: bool
    segments: tuple[int, ...]
    length: int | None = None

    @property
    def has_labels(self) -> bool:
        """Whether targets are label words."""
        return self.labels > 0

    @property
    def reads_long(self) -> bool:
        """Whether inputs are as long as what is summarised."""
        return self.input_words > _LONG_INPUT_WORDS

    @property
    def is_small(self) -> bool:
        """Whether it writes and is of a size that no paper speaks of; of encoders none so small was searched here."""
        return self.parameters < _SMALL and self.kind != "encoder-only"

    @property
    def is_small_t5(self) -> bool:
        """Whether it is of the kind and size of bundled:t5-small, for which other rates were found than for GPTs."""
        return self.is_small and self.kind == "encoder-decoder"


def _advise(setting: str, value: Any, reason: str, source: str) -> Advice:
    return Advice(setting=setting, value=value, reason=reason, source=source)


ROWS = _advise(
    "method",
    "prompt_tuning",
    "from about ten billion parameters on, rows at the input do as well as tuning the model, and are the fewest values",
    f"{_LESTER}, §3.1 and figure 1",
)
KEYS = _advise(
    "method",
    "p_tuning_v2",
    "below ten billion parameters, keys and values in every layer come up to tuning the model where rows do not",
    f"{_LIU}, §4.1",
)
_TOKENS = _advise(
    "method",
    "p_tuning_v2",
    "in tagging words and finding answers, keys and values in every layer of an encoder, with a head over its tokens,"
    " come up to tuning the model",
    f"{_LIU}, §4.2",
)
_TABLES = _advise(
    "method",
    "prefix_tuning",
    "in writing from tables, keys and values in every layer did as well as tuning the model, with 0.1 % of its values",
    f"{_LI}, §6.1",
)
_SUMMARIES = _advise(
    "method",
    "prefix_tuning",
    "in summarising, keys and values in every layer came within 1.4 points of ROUGE-1 of tuning the model",
    f"{_LI}, §6.2",
)


_DIVIDED = _advise(
    "method",
    "prompt_tuning",
    "the template divides the rows of a prompt among its places; a prefix has none",
    "the task",
)


def choose_method(facts: Facts) -> Advice:
    """The method, by what the model and the template allow, then by the form of answers, then by scale."""
    if facts.segments:
        return _DIVIDED
    if facts.no_prefix is not None:
        return _advise(
            "method", "prompt_tuning", f"this model cannot be given keys and values: {facts.no_prefix}", "the model"
        )
    if facts.reads_tokens:
        return _TOKENS
    if not facts.has_labels:
        return _SUMMARIES if facts.reads_long else _TABLES
    return ROWS if facts.parameters >= _LARGE and facts.kind != "encoder-only" else KEYS


def for_any(facts: Facts) -> list[Advice]:
    """What does not depend on the method: the head, and of models that generate text the loss."""
    head = _advise("head", True, "the model has no head that was trained for this", "the model")
    found = [head] if facts.needs_head else []
    if facts.kind == "encoder-only":
        return found
    if facts.kind == "encoder-decoder" and facts.has_labels and facts.parameters < _HARDLY_MOVED:
        reason = "prompts at a small encoder hardly move how likely a word is (docs/log.md); they do which is likelier"
        return [*found, _advise("loss", "rank", reason, _SCHICK)]
    return [*found, _advise("loss", "likelihood", "the paper's", f"{_LESTER}, §2; {_LI}, §4")]


def for_rows(facts: Facts, steps: int | None) -> list[Advice]:
    """Prompt tuning."""
    length, *place = _length_and_place(facts, steps)
    learning = (
        [_advise("optimizer", "adamw", "what small backbones were searched with", _OURS), _small_rate(facts)]
        if facts.is_small
        else [
            _advise("optimizer", "adafactor", "without parameter scaling", f"{_LESTER}, §3"),
            _advise("learning_rate", 0.3, "best of 0.001 to 0.5", f"{_LESTER}, §3"),
            _advise("schedule", "constant", "the paper's", f"{_LESTER}, §3"),
            _advise("weight_decay", 1e-5, "the paper's", f"{_LESTER}, §3"),
        ]
    )
    batch = _advise("batch_size", 32, "the paper's", f"{_LESTER}, §3")
    return [
        length,
        *place,
        _start_of_rows(facts, length.value),
        *learning,
        batch,
        *_steps(30_000, "the paper's", f"{_LESTER}, §3", steps),
    ]


def _start_of_rows(facts: Facts, length: int) -> Advice:
    """How rows begin."""
    if not facts.has_labels:
        reason = "there are no label words; frequent words start better than noise"
    elif facts.labels > length:
        reason = _too_many_labels(facts, length)
    else:
        reason = "label words are the best start, the more so in small models"
        return _advise("init", "class_labels", reason, f"{_LESTER}, §3.2")
    return _advise("init", "vocab", reason, f"{_LESTER}, §3.2")


def _too_many_labels(facts: Facts, length: int) -> str:
    return f"{length} rows cannot begin as {facts.labels} label words; frequent words start better than noise"


def _length(facts: Facts, advice: Advice) -> Advice:
    """What is given, or else what is advised."""
    return advice if facts.length is None else _advise("length", facts.length, "it was given", "the call")


def _length_and_place(facts: Facts, steps: int | None) -> list[Advice]:
    """How many rows, and where, if that matters."""
    if facts.segments:
        return [
            _advise("length", sum(facts.segments), "the sum of the template's places", "the task"),
            _advise("placement", "template", "the template has places for rows", "the task"),
        ]
    if facts.parameters < _LARGE and (steps is None or steps >= 10_000):
        found = _advise("length", 100, "the paper's own; long training makes use of it", f"{_LESTER}, §3")
    else:
        found = _advise("length", 20, "beyond 20 rows gains are marginal", f"{_LESTER}, §3.2")
    return [_length(facts, found), *_behind(facts)]


def _small_rate(facts: Facts) -> Advice:
    """Of rows, in small models."""
    if facts.is_small_t5:
        reason = "65.0 % on sst2 behind the input, label words ranked; 1.0 gave 57.8 in another grid"
        return _advise("learning_rate", 0.3, reason, _OURS_T5)
    return _advise("learning_rate", 0.1, "better than 1.0 on a model of five million parameters", _OURS)


def for_keys(facts: Facts, steps: int | None) -> list[Advice]:
    """P-tuning v2: labels, tags or spans, every layer, no reparameterisation."""
    found = (
        _advise("length", 100, "tasks of many labels in a row prefer about 100", f"{_LIU}, §3.3")
        if facts.reads_tokens
        else _advise("length", 20, "simple classification needs no more than about 20", f"{_LIU}, §3.3")
    )
    length = _length(facts, found)
    return [
        length,
        _start(facts, length.value),
        *_small_or(facts, _advise("learning_rate", 0.007, "between the paper's 0.005 and 0.01", f"{_LIU}, appendix")),
        _advise("batch_size", 16, "small batches take more steps in the same time", _OURS),
        *_epochs(facts, 16, steps),
    ]  # fmt: skip


def for_mlp(facts: Facts, steps: int | None) -> list[Advice]:
    """Prefix tuning: free text."""
    found = (
        _advise(
            "length", 100, "the authors' for XSum; in their figure about 200 was best", f"{_LI}, §7.1 and appendix A"
        )
        if facts.reads_long
        else _advise("length", 10, "about 10 was best for writing from tables", f"{_LI}, §7.1")
    )
    width = (
        _advise("hidden", None, "in small models keys and values were trained directly", _OURS)
        if facts.is_small
        else _advise(
            "hidden", 800 if facts.reads_long else 512, "an MLP makes training stable; it is not stored", f"{_LI}, §4.3"
        )
    )
    length = _length(facts, found)
    return [
        length,
        width,
        _start(facts, length.value),
        *_small_or(facts, _advise("learning_rate", 5e-5, "the paper's, for most of its tasks", f"{_LI}, appendix A")),
        _advise("batch_size", 10, "the paper's 5 to 14", f"{_LI}, appendix A"),
        *_epochs(facts, 10, steps),
    ]


def _behind(facts: Facts) -> list[Advice]:
    """Where rows stand in a small decoder."""
    if facts.kind != "decoder-only" or not facts.is_small:
        return []
    return [_advise("placement", "append", "rows next to the answer gave 80 %, rows in front 69 % (subj)", _OURS)]


def _start(facts: Facts, length: int) -> Advice:
    """How keys and values of so many virtual tokens begin."""
    if facts.reads_tokens:
        return _advise("init", "random", "no start from words was tried with heads over tokens", _HOUSE)
    if facts.is_small:
        if facts.has_labels:
            if facts.is_small_t5:
                return _advise("init", "random", "what the rate was found with", _OURS_T5)
            reason = "82 % on subj at 32 rows a step; 64 from the activations of words, but at 16 rows a step; one seed"
            return _advise("init", "random", reason, _OURS)
        return _advise("init", "vocab", "restaurants were described better than from a random start", _OURS)
    if facts.rows >= _LOW_DATA_ROWS:
        return _advise("init", "random", f"with {facts.rows} rows the start matters little", f"{_LI}, §7.4")
    if facts.labels > length:
        return _advise("init", "vocab", _too_many_labels(facts, length), f"{_LI}, §7.4")
    words = "class_labels" if facts.has_labels else "vocab"
    return _advise("init", words, "with few rows the activations of real words are the better start", f"{_LI}, §7.4")


def _small_or(facts: Facts, rate: Advice) -> list[Advice]:
    optimizer = _advise("optimizer", "adamw", "as prefix-tuning was trained", f"{_LI}, §5.3")
    schedule = _advise("schedule", "linear", "as prefix-tuning was trained", f"{_LI}, §5.3")
    if facts.is_small_t5:
        rate = _advise("learning_rate", 0.01, "65.6 % on sst2, label words ranked", _OURS_T5)
    elif facts.is_small:
        rate = _advise("learning_rate", 0.05, "0.05 and 0.1 were best on a model of five million parameters", _OURS)
    return [optimizer, rate, schedule]


def _epochs(facts: Facts, batch_size: int, steps: int | None) -> list[Advice]:
    epochs = max(1000, 10 * facts.rows // batch_size)
    return _steps(epochs, f"10 epochs of {facts.rows} rows, but at least 1,000 steps", _HOUSE, steps)


def _steps(wanted: int, reason: str, source: str, budget: int | None) -> list[Advice]:
    if budget is not None and budget < wanted:
        wanted, reason, source = budget, f"the budget; without it {wanted}", source
    return [
        _advise("steps", wanted, reason, source),
        _advise("evaluate_every", max(1, wanted // 10), "ten evaluations, of which the best is kept", _BEST),
    ]


def summary_rule(facts: Facts) -> tuple[Advice, ...]:
    """Settings by scale as a summary of the papers has them."""
    source = "a summary's rule, in no paper"
    size = facts.parameters
    found = [
        _advise("length", max(1, min(150, round(size / 1e8 * 10))), "min(150, parameters / 100M x 10)", source),
        _advise("learning_rate", round(0.3 / math.sqrt(size / _BILLION), 4), "0.3 / sqrt(parameters / 1B)", source),
    ]
    if size < 3 * _BILLION:
        found.append(_advise("init", "vocab", "below 3B parameters", source))
    if size < _BILLION:
        found.append(_advise("method", "model_tuning", "below 1B parameters, to be considered", source))
    return tuple(found)
