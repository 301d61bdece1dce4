"""The cheap alternatives that a prompt must beat: text prompts, and always the most frequent answer."""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import final

from softprompt.errors import ConfigError, DataError
from softprompt.evaluation.recording import PredictionFile, Said
from softprompt.evaluation.result import Evaluation, draw_rows, measure
from softprompt.tasks import PROMPT_MARK, Task, TextFormat

__all__ = ["TextPrompt", "evaluate_majority"]

_BETWEEN = "\n\n"


@final
@dataclass(frozen=True)
class TextPrompt:
    """Prompt design: words before the input of the bare backbone.

    Attributes:
        text: The words; a blank follows them unless they end with one, or with a line's end.

    Raises:
        ConfigError: If the text is blank.

    References:
        Brown et al. 2020, §2 (zero- and few-shot); Lester et al. 2021, §1 (prompt design as the baseline).
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ConfigError("The text prompt is blank; give it words, or evaluate the bare backbone with None.")

    @classmethod
    def few_shot(cls, task: Task, shots: int, *, seed: int = 0, instruction: str = "") -> TextPrompt:
        """Examples drawn from the training split, each an input with its target, with empty lines between them.

        A target stands behind its input as the scored ones do: behind a blank, or at once where the input ends a line.

        Args:
            task: Where the examples are from.
            shots: How many.
            seed: Of the draw and its order.
            instruction: What stands before them.

        Raises:
            ConfigError: If there are not that many examples, or none is wanted.
        """
        examples = task.examples("train")
        if not 1 <= shots <= len(examples):
            raise ConfigError(
                f"shots={shots}: the training split of {task.name} has {len(examples)} rows; give 1 or more."
            )
        drawn = random.Random(seed).sample(list(examples), shots)
        shown = [_as_scored(example.input) + example.targets[0] for example in drawn]
        return cls(_BETWEEN.join([*([instruction] if instruction else []), *shown]) + _BETWEEN)

    def before(self, form: TextFormat) -> TextFormat:
        """A task's format with these words before its input."""
        text = self.text if self.text[-1].isspace() else f"{self.text} "
        escaped = text.replace("{", "{{").replace("}", "}}")
        return dataclasses.replace(form, input=escaped + form.input)


def _as_scored(text: str) -> str:
    """An input up to its target, with the blanks that the bare backbone is given: none are kept before a mark."""
    *before, last = text.split(PROMPT_MARK)
    whole = "".join([*(part.rstrip(" ") for part in before), last])
    return whole if whole.endswith("\n") else f"{whole.rstrip(' ')} "


def evaluate_majority(
    task: Task,
    split: str = "validation",
    *,
    rows: int | None = None,
    seed: int = 0,
    output: str | Path | None = None,
) -> Evaluation:
    """Score the most frequent training target, said for every row; of several, the one that comes first.

    Of tagged words it is the most frequent tag, said for every word.

    Args:
        task: The task; its `train` split says what is frequent.
        split: What to score it on.
        rows: Score that many rows only, the same that `evaluate` draws by the seed; None takes all.
        seed: Of the draw of rows and of the bootstrap.
        output: File that gets the predictions, as in `evaluate`.

    Raises:
        ConfigError: If the task lacks one of the splits, or `output` holds something else.
        DataError: If one of them is empty.
    """
    start = time.perf_counter()
    targets = [target for example in task.examples("train") for target in example.targets]
    counts = Counter(targets if task.tags is None else [tag for target in targets for tag in target.split()])
    examples = draw_rows(task, split, rows, seed)
    if not counts or not examples:
        raise DataError(f"The task {task.name!r} has no rows in {'train' if not counts else split}; add some.")
    ((most_frequent, _),) = counts.most_common(1)
    words = [1 if task.tags is None else len(example.targets[0].split()) for example in examples]
    said = [" ".join([most_frequent] * count) for count in words]
    if output is not None:
        file = PredictionFile(output)
        done = len(file.begin(task, split, examples, {"by": "majority", "answer": most_frequent}))
        file.add(task, split, examples[done:], [Said(text) for text in said[done:]])
    return measure(task, split, examples, said, by="majority", seed=seed, seconds=time.perf_counter() - start)
