"""`softprompt predict`: a file or standard input in, JSON lines out, in the same order."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

__all__ = ["predict"]

_STANDARD_OUTPUT = "-"
_ITS_OWN = (
    "num_beams", "dtype", "quantize", "device", "device_map", "classes", "revision", "trust_remote_code",
    "batch_tokens", "window",
)  # fmt: skip
"""Options that say how this process computes."""


def predict(
    *,
    backbone: str | None = None,
    server: str | None = None,
    prompt: str | None = None,
    input: str = "-",
    output: str = "-",
    format: Literal["text", "rows"] | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    by: Literal["generate", "rank"] | None = None,
    raw: bool = False,
    max_new_tokens: int = 128,
    num_beams: int = 1,
    truncate: bool = False,
    dtype: str = "auto",
    quantize: Literal["int8", "nf4"] | None = None,
    device: str = "auto",
    device_map: str | dict[str, str | int] | None = None,
    classes: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    batch_tokens: int = 16384,
    window: int = 512,
) -> None:
    """Answer inputs with a prompt, one JSON object per input, in the inputs' order.

    Stopped, the same command goes on behind the last line of the output file; what its lines were made with stands in
    OUTPUT.settings.json.

    Args:
        backbone: Hub id, folder, or bundled:NAME.
        server: Instead of a backbone, the address of a softprompt server; its key is read from SOFTPROMPT_API_KEY.
        prompt: The folder of a prompt or an ensemble, of a server its name; the bare backbone without one.
        input: File to read, - for standard input.
        output: File to write, - for standard output.
        format: Whether the input is lines of text, or rows with the columns of the prompt's template: JSONL, CSV, TSV
            or Parquet, on standard input JSONL; by the file's name if not given.
        on_bad_row: Whether an input that cannot be answered is an error, or gets an error instead of an output.
        by: Rank the label words that the prompt was trained with, or generate; ranks if there are any.
        raw: Take texts as they are, without the prompt's stored template.
        max_new_tokens: Longest text to generate, in tokens.
        num_beams: Beams; 1 is greedy.
        truncate: Cut inputs that are too long, instead of failing.
        dtype: The backbone's dtype: auto, float32, bfloat16, float16.
        quantize: Keep the frozen weights of linear layers in fewer bits: int8 or nf4 (needs torchao).
        device: auto, cpu, cuda, mps.
        device_map: Spread the backbone over the devices of this process, as transformers does: auto, or a mapping.
        classes: Give an encoder without classification head a new one of so many classes, for prompts with heads.
        revision: The backbone's branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the backbone may run.
        batch_tokens: Most tokens per batch, padding included.
        window: Inputs that are read, sorted by length and answered before they are written.
    """
    settings = dict(locals())
    from softprompt.cli.inputs import count_inputs, read_inputs
    from softprompt.cli.resuming import skip_answered
    from softprompt.errors import ConfigError
    from softprompt.linefile import LineFile, as_line
    from softprompt.loop.progress import Progress

    if (backbone is None) == (server is None):
        raise ConfigError("predict needs either --backbone or --server.")
    identity, ask = _of_server(settings) if server is not None else _of_backbone(settings)
    inputs = read_inputs(input, format)
    made_with = {
        **identity,
        **{name: settings[name] for name in ("by", "raw", "max_new_tokens", "num_beams", "truncate")},
    }
    kept = None if output == _STANDARD_OUTPUT else LineFile(output, "input")
    done = 0 if kept is None else skip_answered(kept, inputs, made_with)
    refused = 0
    with contextlib.nullcontext(sys.stdout) if kept is None else kept.open() as file, Progress() as progress:
        advance = progress.add("predict", total=count_inputs(input), done=done).advance
        for answer in ask(inputs, skip=on_bad_row == "skip", progress=advance):
            refused += "error" in answer
            file.write(as_line(answer))
            file.flush()
    if refused:
        print(f"{refused} bad inputs have an error instead of an output.", file=sys.stderr)


def _of_backbone(settings: dict[str, Any]) -> tuple[dict[str, Any], Callable[..., Iterator[dict[str, Any]]]]:
    """What answers are made with, and what makes them, in this process."""
    import softprompt as sp
    from softprompt.cli.answers import answer_all
    from softprompt.cli.inputs import check_template
    from softprompt.cli.loading import load_backbone
    from softprompt.cli.scoring import on_backbone, read_prompt
    from softprompt.inference import BatchLimits, Query, Together
    from softprompt.prompts import Members

    prompt, raw = settings["prompt"], settings["raw"]
    soft = read_prompt(prompt) if prompt else None
    if soft and not raw:
        check_template(soft)
    form = sp.TextFormat.from_mapping(soft.info.format) if soft and soft.info.format else None
    labels = _labels(form.labels if form else None, settings["by"])
    loaded = load_backbone(settings)
    asked: str | Together | None = None
    if isinstance(soft, Members):
        ensemble = on_backbone(loaded, soft)
        model, asked = ensemble.model, ensemble.prompt
    elif soft:
        model, asked = sp.Prompted(loaded, {"prompt": soft}), "prompt"
    else:
        model = sp.Prompted(loaded, {})
    question = Query(
        input="",
        prompt=asked,
        form=None if raw else form,
        candidates=labels,
        max_new_tokens=settings["max_new_tokens"],
        truncate=settings["truncate"],
    )
    identity = {
        **loaded.identity,
        "prompt": soft.digest() if soft else None,
        "format": form.to_mapping() if form else None,
    }
    options: dict[str, Any] = {
        "limits": BatchLimits(tokens=settings["batch_tokens"]),
        "window": settings["window"],
        **({} if labels else {"num_beams": settings["num_beams"]}),
    }
    return identity, lambda inputs, **how: answer_all(model, inputs, question, **how, **options)


def _of_server(settings: dict[str, Any]) -> tuple[dict[str, Any], Callable[..., Iterator[dict[str, Any]]]]:
    """What answers are made with, and what asks for them."""
    from softprompt.cli.remote import Remote
    from softprompt.errors import ConfigError

    defaults = {name: one.default for name, one in inspect.signature(predict).parameters.items()}
    for name in _ITS_OWN:
        if settings[name] != defaults[name]:
            raise ConfigError(f"--{name} is for a backbone in this process; a server has its own. Leave it out.")
    if settings["prompt"] is None:
        raise ConfigError("--server needs --prompt: the name of one of its models (GET /v1/models lists them).")
    remote = Remote(settings["server"], os.environ.get("SOFTPROMPT_API_KEY"))
    model = remote.model(settings["prompt"])
    known = model["card"].get("labels")
    labels = _labels(tuple(known) if known else None, settings["by"])
    question: dict[str, Any] = {"model": model["id"], "raw": settings["raw"], "truncate": settings["truncate"]}
    if not labels:
        question["max_tokens"] = settings["max_new_tokens"]
    identity = {"server": settings["server"], "prompt": model["id"], "version": model["version"]}
    return identity, functools.partial(remote.answer_all, question=question, version=model["version"], labels=labels)


def _labels(known: tuple[str, ...] | None, by: Literal["generate", "rank"] | None) -> tuple[str, ...]:
    """What to rank; nothing where text is to be generated."""
    from softprompt.errors import ConfigError
    from softprompt.evaluation import choose_way

    if choose_way(by, known) == "generate":
        return ()
    if not known:
        raise ConfigError("--by rank needs a prompt that was trained with label words.")
    return known
