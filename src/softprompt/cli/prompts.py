"""`softprompt prompts`: stored prompts, other libraries' formats, the hub."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from softprompt.cli.tables import print_table

__all__ = ["combine_prompts", "export", "import_prompt", "list_prompts", "pull", "push", "show"]

Format = Literal["peft", "npy", "vllm-embeds"]


def list_prompts(*, folder: str = "prompts") -> None:
    """List the prompts and ensembles in a folder.

    Args:
        folder: A folder of their folders.
    """
    from softprompt.artefact import read_metadata
    from softprompt.errors import ArtefactError

    if not Path(folder).is_dir():
        raise ArtefactError(f"No folder at {folder}; give one that holds prompts: --folder runs/NAME/prompts")
    rows = []
    for path in sorted(Path(folder).iterdir()):
        if (path / "prompt.json").is_file():
            facts = read_metadata(path, "prompt")
            method = facts.get("method", {})
            rows.append(
                (path.name, facts.get("task"), method.get("name"), method.get("length"), facts.get("parameters"),
                 facts.get("backbone"))
            )  # fmt: skip
        elif (path / "ensemble.json").is_file():
            facts = read_metadata(path, "ensemble")
            members = facts.get("members", [])
            lengths = sum(one.get("method", {}).get("length", 0) for one in members)
            rows.append(
                (path.name, facts.get("task"), f"{facts.get('combine')} of {len(members)}", lengths,
                 facts.get("parameters"), facts.get("backbone"))
            )  # fmt: skip
    print_table(("prompt", "task", "method", "length", "parameters", "backbone"), rows)


def show(*, path: str) -> None:
    """Show the card of a prompt or an ensemble.

    Args:
        path: Its folder.
    """
    from softprompt.artefact import read_metadata
    from softprompt.prompts import card

    if Path(path, "ensemble.json").is_file():
        print(card.render_ensemble(Path(path).name, read_metadata(path, "ensemble")))
    else:
        print(card.render(Path(path).name, read_metadata(path, "prompt")))


def combine_prompts(*, prompts: list[str], output: str, by: Literal["vote", "mean"] = "vote") -> None:
    """Make an ensemble of prompts that learned the same task: they answer together, in one forward pass.

    Args:
        prompts: The prompts' folders, e.g. "[runs/a/prompts/seed0, runs/a/prompts/seed1]".
        output: Folder for the ensemble.
        by: What most of them say (vote), or what is most probable by the mean of their probabilities (mean).
    """
    from softprompt.prompts import Members, SoftPrompt

    members = Members([SoftPrompt.load(path) for path in prompts], by)
    values = sum(prompt.num_parameters() for prompt in members.prompts)
    print(f"{members.save(output)}: {by} of {len(members.prompts)} prompts, {values:,} values")


def import_prompt(
    *,
    source: str,
    output: str,
    backbone: str,
    format: Format = "peft",
    task: int | None = None,
    like: str | None = None,
    input: str | None = None,
    target: str | None = None,
    label_words: dict[str, str] | None = None,
) -> None:
    """Import a prompt from another library's files, which say nothing of how inputs became text.

    Args:
        source: A PEFT checkpoint's folder, a `.npy` file of rows `[length, dim]` as T5X wrote them, or a file that
            `torch.save` wrote of such rows for vLLM.
        output: Folder for the prompt.
        backbone: The backbone that it was trained on: hub id, folder or bundled:NAME.
        format: What the source is.
        task: Number of the task, from 0, whose prompt is read from a PEFT checkpoint of several tasks.
        like: Folder of a prompt or an ensemble, whose task and templates it takes, such as the one that was exported.
        input: Instead, template of the input that it was trained with, e.g. "{text}".
        target: Template of the target, e.g. "{label}".
        label_words: Word for each value of the target's column, e.g. {"0": bad, "1": great}.
    """
    from softprompt.backbones import Backbone
    from softprompt.errors import ConfigError
    from softprompt.store import load_peft, load_t5x, load_vllm
    from softprompt.store.single_file import writing

    if task is not None and format != "peft":
        raise ConfigError(f"--task {task}: {format} holds one prompt; drop --task, or read a checkpoint of PEFT's.")
    _check_source(Path(source), format)
    known = _known(like, input, target, label_words)
    loaded = Backbone.from_pretrained(backbone)
    match format:
        case "peft":
            prompt = load_peft(source, loaded, task=task)
        case "npy":
            prompt = load_t5x(source, loaded)
        case _:
            prompt = load_vllm(source, loaded)
    with writing(output):
        print(f"{prompt.with_info(**known).save(output)}: {prompt.length} virtual tokens, "
              f"{prompt.num_parameters():,} values")  # fmt: skip
    if not known:
        print(
            f"{output} knows no template: inputs go to the backbone as they are. Give --like PROMPT, or --input and "
            "--target, to import it with one.",
            file=sys.stderr,
        )


def _check_source(source: Path, format: Format) -> None:
    """Refuse a folder where a file is read, and the reverse."""
    from softprompt.errors import ConfigError

    if format == "peft" and source.is_file():
        raise ConfigError(
            f"{source} is a file, and PEFT's checkpoints are folders; say what it is: --format npy or --format "
            "vllm-embeds."
        )
    if format != "peft" and (source / "adapter_config.json").is_file():
        raise ConfigError(f"{source} is a checkpoint of PEFT's, and {format} is a file; say --format peft.")


def _known(
    like: str | None, input: str | None, target: str | None, label_words: Mapping[str, str] | None
) -> dict[str, Any]:
    """What a prompt's file does not say: its task and its format; nothing if no flag says it."""
    from softprompt.cli.scoring import read_prompt
    from softprompt.errors import ConfigError
    from softprompt.tasks import TextFormat

    if like is None and input is None and target is None and label_words is None:
        return {}
    if like is not None:
        if (input, target, label_words) != (None, None, None):
            raise ConfigError("--like takes another prompt's templates; drop it, or --input, --target, --label_words.")
        info = read_prompt(like).info
        if info.format is None:
            raise ConfigError(f"{like} knows no template either; give --input and --target.")
        return {"task": info.task, "format": info.format}
    if input is None or target is None:
        raise ConfigError('A template has two sides: --input "{text}" --target "{label}".')
    return {"format": TextFormat(input=input, target=target, label_words=label_words).to_mapping()}


def export(
    *,
    path: str,
    output: str,
    format: Format = "peft",
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
) -> None:
    """Export a prompt for another library.

    Args:
        path: The prompt's folder.
        output: Folder (PEFT) or file (.npy, .pt) to write.
        format: What to write: rows (npy, vllm-embeds), or also a decoder-only model's prefix (peft).
        dtype: Of what is written for vLLM; float32 if not said.
    """
    from softprompt.errors import ConfigError, UnsupportedError
    from softprompt.prompts import SoftPrompt
    from softprompt.store import save_peft, save_t5x, save_vllm

    if dtype is not None and format != "vllm-embeds":
        raise ConfigError(f"dtype={dtype}: {format} is always float32; drop dtype, or write vllm-embeds.")
    if format == "peft" and Path(output).suffix in (".npy", ".pt"):
        raise ConfigError(
            f"{output} names a file, and PEFT's checkpoints are folders; say what to write: --format npy or --format "
            "vllm-embeds."
        )
    if Path(path, "ensemble.json").is_file():
        raise UnsupportedError(
            f"{path} is an ensemble, which no other library applies; export its members, the prompts that it was made "
            "of, each by itself."
        )
    prompt = SoftPrompt.load(path)
    match format:
        case "peft":
            print(save_peft(prompt, output))
        case "npy":
            print(save_t5x(prompt, output))
        case _:
            print(save_vllm(prompt, output, dtype=dtype or "float32"))


def push(*, path: str, repo: str, private: bool = False) -> None:
    """Push a prompt to the hub.

    Args:
        path: The prompt's folder.
        repo: Repository on the hub, OWNER/NAME; made if it does not exist.
        private: Whether a new repository is private.
    """
    from softprompt.store import push_prompt

    print(push_prompt(path, repo, private=private))


def pull(*, repo: str, output: str, revision: str | None = None) -> None:
    """Pull a prompt from the hub.

    Args:
        repo: Repository on the hub, OWNER/NAME.
        output: Folder for the prompt.
        revision: Branch, tag or commit.
    """
    from softprompt.store import pull_prompt

    print(pull_prompt(repo, output, revision=revision))
