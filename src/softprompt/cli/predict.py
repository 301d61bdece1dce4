"""`softprompt predict`: a file or standard input in, JSON lines out, in the same order."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

__all__ = ["predict"]


def predict(
    *,
    backbone: str,
    prompt: str | None = None,
    input: str = "-",
    output: str = "-",
    format: Literal["text", "jsonl"] = "text",
    by: Literal["generate", "rank"] | None = None,
    raw: bool = False,
    max_new_tokens: int = 128,
    num_beams: int = 1,
    truncate: bool = False,
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int = 16384,
    window: int = 512,
) -> None:
    """Answer inputs with a prompt, one JSON object per input, in the inputs' order.

    Stopped, the same command goes on behind the last line of the output file.

    Args:
        backbone: Hub id, folder, or bundled:NAME.
        prompt: The prompt's folder; the bare backbone without one.
        input: File to read, - for standard input.
        output: File to write, - for standard output.
        format: Whether a line is a text, or a JSON object with the columns of the prompt's template.
        by: Rank the label words that the prompt was trained with, or generate; ranks if there are any.
        raw: Take texts as they are, without the prompt's stored template.
        max_new_tokens: Longest text to generate, in tokens.
        num_beams: Beams; 1 is greedy.
        truncate: Cut inputs that are too long, instead of failing.
        dtype: The backbone's dtype: auto, float32, bfloat16, float16.
        device: auto, cpu, cuda, mps.
        batch_tokens: Most tokens per batch, padding included.
        window: Inputs that are read, sorted by length and answered before they are written.
    """
    import softprompt as sp
    from softprompt.cli.answers import generated, ranked
    from softprompt.inference import BatchLimits, make_queries
    from softprompt.loop.progress import Progress

    done = 0 if output == "-" else _answered(Path(output))
    labels = _labels(prompt, by)
    loaded = sp.Backbone.from_pretrained(backbone, dtype=dtype, device=device)
    model = sp.Prompted(loaded, {"prompt": sp.SoftPrompt.load(prompt)} if prompt else {})
    with _reading(input) as lines, _appending(output) as file, Progress() as progress:
        waiting, again = itertools.tee(itertools.islice(_inputs(lines, input, format), done, None))
        queries = make_queries(
            model,
            ((value, "prompt" if prompt else None) for value in waiting),
            raw=raw,
            candidates=labels,
            max_new_tokens=max_new_tokens,
            truncate=truncate,
        )
        bar = progress.add("predict", total=_count(input), done=done)
        shared: dict[str, Any] = {"limits": BatchLimits(tokens=batch_tokens), "window": window, "progress": bar.advance}
        answers = (
            ranked(model, queries, **shared) if labels else generated(model, queries, num_beams=num_beams, **shared)
        )
        for value, answer in zip(again, answers, strict=True):
            file.write(json.dumps({"input": value, **answer}, ensure_ascii=False) + "\n")
            file.flush()


def _labels(prompt: str | None, by: Literal["generate", "rank"] | None) -> tuple[str, ...]:
    """What to rank; nothing where text is to be generated."""
    import softprompt as sp
    from softprompt.errors import ConfigError
    from softprompt.evaluation import choose_way

    form = sp.SoftPrompt.load(prompt).info.format if prompt else None
    labels = sp.TextFormat.from_mapping(form).labels if form else None
    if choose_way(by, labels) == "generate":
        return ()
    if not labels:
        raise ConfigError("--by rank needs a prompt that was trained with label words.")
    return labels


def _inputs(lines: Iterable[str], place: str, format: str) -> Iterator[str | Mapping[str, Any]]:
    from softprompt.errors import DataError

    for number, line in enumerate(lines, 1):
        text = line.removesuffix("\n")
        if format == "text":
            yield text
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}:{number} is not JSON ({error}); expected an object per line.") from None
        if not isinstance(row, dict):
            raise DataError(f"{place}:{number} holds {type(row).__name__}; expected an object per line.")
        yield row


def _answered(path: Path) -> int:
    """Complete lines of an output file; a half-written last line is cut off."""
    if not path.is_file():
        return 0
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    return whole.count(b"\n")


def _count(place: str) -> int:
    """Lines of a file; unknown, thus 0, for standard input."""
    if place == "-":
        return 0
    with Path(place).open("rb") as file:
        return sum(1 for _ in file)


def _reading(place: str) -> contextlib.AbstractContextManager[TextIO]:
    return contextlib.nullcontext(sys.stdin) if place == "-" else Path(place).open(encoding="utf-8", newline="\n")


def _appending(place: str) -> contextlib.AbstractContextManager[TextIO]:
    return contextlib.nullcontext(sys.stdout) if place == "-" else Path(place).open("a", encoding="utf-8")
