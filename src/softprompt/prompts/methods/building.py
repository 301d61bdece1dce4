"""What building a prompt takes, whatever the method: checks, the words to start from, what it belongs to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from softprompt.config import check_lists, check_types
from softprompt.errors import ConfigError, MismatchError
from softprompt.prompts import placements
from softprompt.prompts.host import Host, LabelledTask
from softprompt.prompts.initializers import Materials, fit
from softprompt.prompts.parameters import Parameters, WithHead
from softprompt.prompts.prompt import PromptInfo, SoftPrompt

__all__ = [
    "Placed",
    "Started",
    "check_placed",
    "check_started",
    "describe",
    "embed_text",
    "gather",
    "load_sources",
    "place",
    "with_head",
]

_COMMON_TOKENS = 5000


@runtime_checkable
class Started(Protocol):
    """A method, as far as the start of its values is concerned."""

    @property
    def length(self) -> int:
        """Virtual tokens."""

    @property
    def init(self) -> str:
        """Name of an initializer."""

    @property
    def text(self) -> str | None:
        """The words to start from."""

    @property
    def source(self) -> str | Sequence[str] | None:
        """Folder of the prompt to start from, or several."""


@runtime_checkable
class Placed(Protocol):
    """A method of rows, as far as their places are concerned."""

    @property
    def length(self) -> int:
        """Virtual tokens."""

    @property
    def placement(self) -> str:
        """Name of a placement."""

    @property
    def segments(self) -> Sequence[int] | None:
        """Rows at each place of a template."""


def check_started(method: Started) -> None:
    """Refuse values of other types than the settings', a length that is none, and a start without what it starts from.

    Args:
        method: A dataclass that is `Started`.

    Raises:
        ConfigError: If a setting is of another type, out of range, or contradicts another.
    """
    check_types(type(method), vars(method))
    check_lists(type(method), vars(method))
    if method.length < 1:
        raise ConfigError(f"length={method.length}: a prompt has at least one virtual token.")
    for setting, value, needs in (("text", method.text, "text"), ("source", method.source, "prompt")):
        if value is not None and method.init != needs:
            raise ConfigError(f"{setting}= is used by init={needs!r} only, but init={method.init!r}; drop one of them.")
        if not value and method.init == needs:
            raise ConfigError(f"init={needs!r} needs {setting}=...")


def check_placed(method: Placed) -> None:
    """Refuse an unknown placement, and segments that are not the rows'.

    Raises:
        ConfigError: If a setting is unknown, or contradicts another.
    """
    placements.find(method.placement)
    if method.segments is None:
        return
    if method.placement != "template":
        raise ConfigError(f"segments= is used by placement='template' only, not {method.placement!r}; drop it.")
    if min(method.segments, default=0) < 1 or sum(method.segments) != method.length:
        raise ConfigError(
            f"segments={list(method.segments)}: expected numbers of rows, at least 1 each, {method.length} in all."
        )


P = TypeVar("P", bound=Any)


def place(method: P, task: LabelledTask | None) -> P:
    """The method with its rows divided as the task's template says.

    Args:
        method: A dataclass that is `Placed`.
        task: The task, if any.

    Raises:
        ConfigError: If method and template contradict each other, or only one of placement and template divides rows.
    """
    found = tuple(task.segments) if task is not None else ()
    if method.placement != "template":
        if found:
            raise ConfigError(
                f"The task's template divides {sum(found)} virtual tokens among {len(found)} places, but"
                f" placement={method.placement!r}; use placement='template'."
            )
        return method
    if not (found or method.segments):
        raise ConfigError("placement='template' needs a task whose input has places such as {soft:20}.")
    if found and method.segments not in (None, found):
        raise ConfigError(f"segments={list(method.segments)}, but the task's template has {list(found)}.")
    if found and sum(found) != method.length:
        raise ConfigError(
            f"length={method.length}, but the task's template has places for {sum(found)} virtual tokens; use"
            f" length={sum(found)}."
        )
    return dataclasses.replace(method, segments=found or method.segments)


def load_sources(method: Started, backbone: Host) -> list[SoftPrompt]:
    """The prompts that a method starts from.

    Raises:
        ArtefactError: If one cannot be read.
        MismatchError: If one was made for another backbone than that of the new prompt.
        ConfigError: If some are rows and others prefixes.
    """
    loaded = {path: SoftPrompt.load(path) for path in _sources(method)}
    for path, prompt in loaded.items():
        made_for = prompt.info.fingerprint  # none, if it was imported and never bound
        if made_for and not backbone.fingerprint.is_of(made_for):
            raise MismatchError(
                f"init='prompt': {path} was made for {prompt.info.backbone}, and {backbone.name} is another model, to"
                " which its values mean something else; train it on this one. To start from them nevertheless, store"
                " it as of no model: prompt.with_info(fingerprint={}).save(...)."
            )
    rows = [path for path, prompt in loaded.items() if prompt().rows is not None]
    if rows and len(rows) < len(loaded):
        raise ConfigError(
            f"init='prompt': of {', '.join(loaded)}, {', '.join(rows)} holds rows and the others keys and values,"
            " which have no mean; start from prompts of one kind."
        )
    return list(loaded.values())


def _sources(method: Started) -> list[str]:
    if method.source is None:
        return []
    return [method.source] if isinstance(method.source, str) else list(method.source)


def describe(method: Started, backbone: Host) -> PromptInfo:
    """What a fresh prompt of a method belongs to, and where it comes from."""
    return PromptInfo(
        backbone=backbone.name,
        fingerprint=backbone.fingerprint.to_mapping(),
        kind=backbone.spec.kind,
        tokenizer=backbone.tokenizer_digest,
        lineage=tuple(f"started from {path}" for path in _sources(method)),
    )


def with_head(
    parameters: Parameters, backbone: Host, task: LabelledTask | None, generator: torch.Generator
) -> Parameters:
    """A prompt's parameters with a head of their own, over what the task's targets are: classes, tags, or spans.

    Args:
        parameters: What the method trains.
        backbone: The model that it is for.
        task: What the head is over; without a task, as many classes as the model's own head has.
        generator: The only source of randomness.

    Raises:
        ConfigError: If the task's targets are free text.
        UnsupportedError: If the model is no encoder, or has no classification head where it needs one.
    """
    if task is None or task.labels is not None:
        classes = None if task is None else len(task.labels or ())
        return WithHead(parameters, backbone.start_head(classes, generator))
    if task.tags is not None:
        return WithHead(parameters, backbone.start_token_head("tokens", len(task.tags), generator))
    if task.context is not None:
        return WithHead(parameters, backbone.start_token_head("span", 2, generator))
    raise ConfigError(
        "head=True trains a head over the task's labels, but it has none; give it label_words, name the words that are"
        " tagged (words), or the column that answers stand in (context)."
    )


@torch.no_grad()
def gather(method: Started, backbone: Host, task: LabelledTask | None, generator: torch.Generator) -> Materials:
    """What an initializer may start from, for a method on a backbone.

    Args:
        method: The method.
        backbone: Whose embeddings to take.
        task: Whose label words to take, or start words if it has no labels, for `init="class_labels"`.
        generator: The only source of randomness.

    Raises:
        ConfigError: If words have no tokens, or a prompt to start from has no rows.
        MismatchError: If a prompt to start from was made for another backbone.
    """
    sources = [prompt().rows for prompt in load_sources(method, backbone)]
    if any(rows is None for rows in sources):
        raise ConfigError(
            f"init='prompt': {method.source} is a prefix, which has no rows; start from a prompt of rows."
        )
    labels = (task.labels or task.start_words) if task is not None and method.init == "class_labels" else ()
    return Materials(
        length=method.length,
        dim=backbone.spec.dim,
        generator=generator,
        vocabulary=_embedded(backbone, backbone.common_tokens(_COMMON_TOKENS)),
        labels=tuple(_pieces(backbone, label, "The label") for label in labels),
        text=_pieces(backbone, method.text, "The text") if method.text is not None else None,
        sources=tuple(rows.detach() for rows in sources if rows is not None),
    )


@torch.no_grad()
def embed_text(backbone: Host, text: str, length: int) -> Tensor:
    """Embeddings of a text's tokens, repeated or cut to a length: `[length, dim]`, float32, on the CPU.

    Raises:
        ConfigError: If the text has no tokens.
    """
    return fit(_pieces(backbone, text, "The text"), length)


def _pieces(backbone: Host, words: str, what: str) -> Tensor:
    ids = backbone.tokenize(words)
    if not ids:
        raise ConfigError(f"{what} {words!r} has no tokens for {backbone.name}; give words that it knows.")
    return _embedded(backbone, ids)


def _embedded(backbone: Host, ids: list[int]) -> Tensor:
    return backbone.embed(torch.tensor(ids, dtype=torch.long, device=backbone.device)).float().cpu()
