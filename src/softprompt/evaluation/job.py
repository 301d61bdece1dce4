"""One evaluation among several: what is asked of a backbone for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from softprompt.backbones import Backbone
from softprompt.conditioning.texts import RenderedInput, encode_targets
from softprompt.config import choose
from softprompt.errors import ConfigError, DataError
from softprompt.evaluation.baselines import TextPrompt
from softprompt.evaluation.result import draw_rows
from softprompt.evaluation.ways import By, choose_way
from softprompt.inference import Query, Together
from softprompt.tasks import Example, FilledText, Task

__all__ = ["Job"]

_FREE_TEXT_TOKENS = 128
_SPAN_TOKENS = 30
_WITHOUT_CONTENT = ("N/A", "[MASK]", "...")  # Zhao et al. 2021 have "" where we have "..."; see `Job.calibrate`
_STEP = 8


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """One evaluation among several.

    Attributes:
        task: What to evaluate on; its own format applies, whatever a prompt has stored.
        split: Which of its splits.
        prompt: The prompt's name, or those of several that answer together; None for the bare backbone.
        text: Words before the input.
        by: `generate` scores text that is generated, or that a head over tokens reads off the input; `rank` chooses the
            most probable of the task's labels; None ranks if the task has labels.
        rows: Evaluate that many rows only, drawn by the seed; None takes all. Groups are drawn whole.
        max_new_tokens: Longest text to generate; None leaves room for twice the longest label, or 128 tokens where
            targets are free text. Of an answer that an encoder finds, the longest; 30 tokens if None.
        max_input_tokens: Longest input, besides what the backbone allows.
        truncate: Whether a longer input is cut; otherwise it is an error.
        calibrate: Whether each label's probability is divided by its mean probability for inputs without content, which
            takes out what the model says whatever it reads (Zhao et al. 2021, §5); for `rank` only. These inputs are
            "N/A", "[MASK]" and "..."; the paper's third one is the empty text, which leaves a template of a column
            alone without a token to read.
        seed: Of the draw of rows and of the bootstrap.

    Raises:
        ConfigError: If a setting is unknown or out of range, or labels are to be ranked and the task has none.
    """

    task: Task
    split: str = "validation"
    prompt: str | Together | None = None
    text: TextPrompt | None = None
    by: By | None = None
    rows: int | None = None
    max_new_tokens: int | None = None
    max_input_tokens: int | None = None
    truncate: bool = False
    calibrate: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in ("generate", "rank", None):
            raise choose("way to evaluate (by)", self.by, ("generate", "rank"))
        if self.by == "rank" and self.task.labels is None:
            raise ConfigError(
                f"by='rank' chooses among label words, but the task {self.task.name!r} has none; say by='generate', or "
                "give the task label_words."
            )
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"rows={self.rows}: expected at least 1, or None for all.")
        if self.calibrate and self.evaluates_by != "rank":
            raise ConfigError("calibrate=True corrects probabilities of labels; say by='rank', for a task with labels.")
        if self.calibrate and isinstance(self.prompt, Together) and self.prompt.combine == "vote":
            raise ConfigError("calibrate=True corrects probabilities, and votes have none; combine prompts by 'mean'.")

    @property
    def evaluates_by(self) -> By:
        """How predictions come about."""
        return choose_way(self.by, self.task.labels)

    def examples(self) -> list[Example]:
        """The rows to evaluate, in the data's order.

        Raises:
            ConfigError: If the task has no such split.
            DataError: If the split is empty.
        """
        examples = draw_rows(self.task, self.split, self.rows, self.seed)
        if not examples:
            raise DataError(
                f"The split {self.split!r} of the task {self.task.name!r} is empty; there is nothing to score."
            )
        return examples

    def queries(self, backbone: Backbone, examples: Iterable[Example]) -> list[Query]:
        """What to ask the backbone, one for each row."""
        by = self.evaluates_by
        longest = self.max_new_tokens or (_label_room(backbone, self.task) if by == "generate" else 1)
        return [self._query(example.columns, longest, source=example.source) for example in examples]

    def without_content(self) -> list[Query]:
        """What to ask for calibration: every column says nothing."""
        return [self._query(dict.fromkeys(self.task.format.fields, text), 1) for text in _WITHOUT_CONTENT]

    def _query(self, columns: Mapping[str, Any], max_new_tokens: int, source: str = "") -> Query:
        return Query(
            input=columns,
            prompt=self.prompt,
            form=self.task.format if self.text is None else self.text.before(self.task.format),
            candidates=(self.task.labels or ()) if self.evaluates_by == "rank" else (),
            max_new_tokens=max_new_tokens,
            max_input_tokens=self.max_input_tokens,
            truncate=self.truncate,
            source=source,
        )


def _label_room(backbone: Backbone, task: Task) -> int:
    """Tokens to generate: room for any spelling of a label, in steps, so that tasks share batches; or to find."""
    if backbone.spec.kind == "encoder-only":
        return _SPAN_TOKENS
    if task.labels is None:
        return _FREE_TEXT_TOKENS
    before = RenderedInput(filled=FilledText.plain(""), chat=task.format.chat)
    longest = max(map(len, encode_targets(backbone, [(before, label) for label in task.labels])))
    return math.ceil(2 * longest / _STEP) * _STEP
