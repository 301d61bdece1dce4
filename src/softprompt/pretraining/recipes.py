"""The family of small backbones: what each member is made of, and the making.

The recipes stand in `recipes.yaml`, with the text's files and their checksums.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, final

import yaml

from softprompt.config import choose, from_mapping
from softprompt.errors import DataError
from softprompt.loop.processes import Processes
from softprompt.loop.progress import Progress
from softprompt.pretraining.card import read_card
from softprompt.pretraining.corpus import file_digest
from softprompt.pretraining.finished import check_finished
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.trainer import pretrain

__all__ = [
    "ALL",
    "CORPUS_TOKENIZER",
    "FamilyText",
    "TextFile",
    "find_text",
    "make",
    "member_config",
    "member_names",
    "member_recipe",
    "text_files",
]

ALL = "all"
# In place of a tokenizer file: one is learned from the training text.
CORPUS_TOKENIZER = "corpus"
_TEXT = re.compile(r"\.(?:txt|jsonl|csv)(?:\.(?:gz|xz|zst))?$|\.parquet$")


@final
@dataclass(frozen=True, kw_only=True)
class TextFile:
    """A file of the family's text."""

    file: str
    sha256: str
    use: str
    """`train` or `held out`."""
    licence: str
    origin: str
    """What it was derived from."""


@final
@dataclass(frozen=True, kw_only=True)
class FamilyText:
    """Files to make members from."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    """If empty, every hundredth training document is held out."""
    licence: str


def member_names() -> list[str]:
    """Names of the family's members, each after the one that it starts from."""
    return list(_recipes()["members"])


def member_recipe(name: str) -> dict[str, Any]:
    """The settings that make a member, as `PretrainConfig` has them; `start_from` is another member's name.

    Raises:
        ConfigError: If the family has no such member.
    """
    recipes = _recipes()
    if name not in recipes["members"]:
        raise choose("member of the family", name, [*recipes["members"], ALL])
    own = recipes["members"][name]
    return {**recipes["defaults"], **recipes["objectives"][own["objective"]], **own}


def text_files() -> list[TextFile]:
    """The files of the family's text."""
    return [from_mapping(TextFile, entry) for entry in _recipes()["corpus"]["files"]]


def find_text(folder: str | Path, *, any_text: bool = False) -> FamilyText:
    """The family's text in a folder.

    Args:
        folder: Where the files lie.
        any_text: Take files of the right names whatever they hold, or, where not all of them are there, every
            file of the folder that `read_documents` knows by its suffix.

    Raises:
        DataError: If a file is missing or, unless `any_text`, holds something else than the family's text.
    """
    folder, wanted = Path(folder), text_files()
    missing = [entry.file for entry in wanted if not (folder / entry.file).is_file()]
    if missing and any_text:
        return _other_text(folder)
    if missing:
        raise DataError(
            f"{folder} lacks {missing[0]} of the family's text (softprompt backbones recipes lists it all); add the"
            " file, or use other text with any_text."
        )
    digests = {entry.file: file_digest(folder / entry.file) for entry in wanted}
    for entry in wanted:
        if digests[entry.file] != entry.sha256 and not any_text:
            raise DataError(
                f"{folder / entry.file} is not the family's text: expected SHA-256 {entry.sha256}, found"
                f" {digests[entry.file]}; copy the file again, or use other text with any_text."
            )
    own = all(digests[entry.file] == entry.sha256 for entry in wanted)
    return FamilyText(
        train=tuple(str(folder / entry.file) for entry in wanted if entry.use == "train"),
        held_out=tuple(str(folder / entry.file) for entry in wanted if entry.use == "held out"),
        licence=_recipes()["corpus"]["licence"] if own else "unknown",
    )


def member_config(
    name: str,
    text: FamilyText,
    *,
    output_dir: str | Path = "models",
    cache_dir: str | Path = ".cache/pretraining",
    tokenizer: str | None = None,
    compile: bool | None = None,
    threads: int | None = None,
) -> PretrainConfig:
    """The pre-training that makes a member in `output_dir/name`.

    Args:
        name: The member.
        text: From `find_text`.
        output_dir: Folder of the family's folders.
        cache_dir: Where tokens are kept.
        tokenizer: A tokenizer file, `CORPUS_TOKENIZER`, or None for the family's own. A member that starts from
            another one inherits that one's.
        compile: Whether torch compiles the step; as the recipe says if None.
        threads: CPU threads.

    Raises:
        ConfigError: If the family has no such member.
    """
    settings = {**member_recipe(name), "threads": threads, "licence": text.licence}
    if compile is not None:
        settings["compile"] = compile
    if start := settings.get("start_from"):
        settings["start_from"] = str(Path(output_dir) / start)
    elif tokenizer != CORPUS_TOKENIZER:
        settings["tokenizer"] = tokenizer or _recipes()["tokenizer"]
    paths = {"output_dir": str(Path(output_dir) / name), "cache_dir": str(cache_dir)}
    return from_mapping(PretrainConfig, {**settings, **paths, "train": text.train, "held_out": text.held_out})


def make(
    names: Sequence[str],
    text: str | Path,
    *,
    any_text: bool = False,
    output_dir: str | Path = "models",
    cache_dir: str | Path = ".cache/pretraining",
    tokenizer: str | None = None,
    compile: bool | None = None,
    threads: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Make members of the family, and those that they start from; go on where an interrupted making stopped.

    Args:
        names: Members, or `ALL`.
        text: Folder of the family's text.
        any_text: See `find_text`.
        output_dir: Each member gets its folder in this one; finished folders are left as they are.
        cache_dir: See `member_config`, as for the others.
        tokenizer: A tokenizer file, `CORPUS_TOKENIZER`, or None.
        compile: Whether torch compiles the step.
        threads: CPU threads.

    Returns:
        The card of each member that was needed, in the order of making.

    Raises:
        ConfigError: If a name is unknown, or a folder holds a model of other settings or other text.
        DataError: If text is missing or is not the family's.
        TrainingInterrupted: After Ctrl-C or SIGTERM; the state is saved.
    """
    names = member_names() if ALL in names else names
    for name in names:
        member_recipe(name)
    found = find_text(text, any_text=any_text)
    progress = Progress(stream=None if Processes().first else io.StringIO())
    cards: dict[str, dict[str, Any]] = {}
    for name in _in_order(names, Path(output_dir)):
        config = member_config(
            name,
            found,
            output_dir=output_dir,
            cache_dir=cache_dir,
            tokenizer=tokenizer,
            compile=compile,
            threads=threads,
        )
        if card := read_card(config.output_dir):
            check_finished(card, config, progress)
            progress.say(f"{name}: finished already, in {config.output_dir}.")
            cards[name] = card
        else:
            progress.say(f"{name}: {config.steps} steps of {config.objective}, to {config.output_dir}.")
            cards[name] = pretrain(config, command=_command(name, any_text, tokenizer))
    return cards


def _recipes() -> dict[str, Any]:
    file = resources.files("softprompt.pretraining") / "recipes.yaml"
    recipes: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return recipes


def _in_order(names: Sequence[str], output_dir: Path) -> list[str]:
    """The members to make, each after the one that it starts from; a finished one needs none before it."""
    order: list[str] = []

    def need(name: str) -> None:
        start = member_recipe(name).get("start_from")
        if start is not None and read_card(output_dir / name) is None:
            need(start)
        if name not in order:
            order.append(name)

    for name in names:
        need(name)
    return order


def _other_text(folder: Path) -> FamilyText:
    files = sorted(path for path in folder.glob("*") if _TEXT.search(path.name) and path.is_file())
    if not files:
        raise DataError(
            f"{folder} holds no text: no .txt, .jsonl or .csv file (plain, .gz, .xz or .zst) and no .parquet file."
        )
    return FamilyText(train=tuple(map(str, files)), held_out=(), licence="unknown")


def _command(name: str, any_text: bool, tokenizer: str | None) -> str:
    """What makes a member, for its card: where text and results lie, threads and compilation decide nothing."""
    options = (" --any_text true" if any_text else "") + (f" --tokenizer {tokenizer}" if tokenizer else "")
    return f"softprompt backbones make --name {name} --text FOLDER{options}"
