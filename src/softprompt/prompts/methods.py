"""The methods of the two papers: settings classes that build prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softprompt.config import from_mapping
from softprompt.errors import ConfigError, UnsupportedError
from softprompt.prompts import initializers, placements, registry
from softprompt.prompts.host import Host, LabelledTask
from softprompt.prompts.initializers import Materials
from softprompt.prompts.parameters import DirectPrefix, DirectRows, ReparameterizedPrefix
from softprompt.prompts.prompt import PromptInfo, SoftPrompt

__all__ = ["PrefixTuning", "PromptTuning"]

_COMMON_TOKENS = 5000
_RANDOM_PREFIX_STD = 0.02


@dataclass(frozen=True, kw_only=True)
class PromptTuning:
    """Trainable rows at the input embedding (Lester et al. 2021; in an encoder-decoder, the encoder's).

    Attributes:
        length: Virtual tokens.
        init: Name of an initializer: `class_labels`, `vocab`, `random`, `text`, `prompt`.
        text: The words to start from, for `init="text"`.
        source: Folder of the prompt to start from, for `init="prompt"`.
        placement: Name of a placement: `prepend`, `middle`, `append`, or `template`, which divides the rows among the
            places `{soft:N}` of the task's template.
        segments: Rows at each place, for `placement="template"`; taken from the task if None.

    Raises:
        ConfigError: If a setting is unknown or out of range. `init` is looked up when a prompt is built: a trained one
            is read without the package that started it.
    """

    length: int = 100
    init: str = "class_labels"
    text: str | None = None
    source: str | None = None
    placement: str = "prepend"
    segments: Sequence[int] | None = None

    def __post_init__(self) -> None:
        _check(self.length, self.init, self.text, self.source, self.placement)
        if self.segments is not None:
            object.__setattr__(self, "segments", tuple(self.segments))
            _check_segments(self)

    def build(self, backbone: Host, task: LabelledTask | None = None, seed: int = 0) -> SoftPrompt:
        """Make an untrained prompt.

        Args:
            backbone: The frozen model that it is for.
            task: A task, whose label words `init="class_labels"` starts from.
            seed: Of everything random.

        Raises:
            ConfigError: If the initializer is unknown or lacks what it starts from, or the task's template divides
                another number of rows.
        """
        method = dataclasses.replace(self, segments=_divided(self, task))
        materials = _materials(method, backbone, task, torch.Generator().manual_seed(seed))
        rows = initializers.find(self.init)(materials)
        return SoftPrompt(DirectRows(rows), method, _info(backbone, self.source))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PromptTuning:
        """Read the settings from plain values."""
        return from_mapping(cls, settings)


@dataclass(frozen=True, kw_only=True)
class PrefixTuning:
    """Trainable keys and values before those of every layer (Li & Liang 2021).

    An encoder-decoder takes three prefixes: for its encoder, for the decoder's attention onto the encoder, and
    for the decoder. A decoder-only model has the last alone, an encoder-only model the first.

    Attributes:
        length: Virtual tokens.
        hidden: Width of the reparameterisation MLP; None trains keys and values directly.
        init: `random`, or the name of an initializer of rows, whose activations in every layer are the start.
        text: The words whose activations to start from, for `init="text"`.
        source: Folder of the prompt to start from, for `init="prompt"`.
        encoder: Whether the encoder gets a prefix.
        cross: Whether the decoder's attention onto the encoder gets one.
        decoder: Whether the decoder gets one.
        placement: `prepend`; in decoder-only models also `middle` and `append` (infix), which hide the prefix
            from what stands before it.

    Raises:
        ConfigError: If a setting is unknown or out of range; `init` is looked up when a prefix is built.
    """

    length: int = 10
    hidden: int | None = 512
    init: str = "random"
    text: str | None = None
    source: str | None = None
    encoder: bool = True
    cross: bool = True
    decoder: bool = True
    placement: str = "prepend"

    def __post_init__(self) -> None:
        _check(self.length, self.init, self.text, self.source, self.placement)
        if self.hidden is not None and self.hidden < 1:
            raise ConfigError(f"hidden={self.hidden}: expected a positive width, or None for direct parameters.")

    def build(self, backbone: Host, task: LabelledTask | None = None, seed: int = 0) -> SoftPrompt:
        """Make an untrained prefix.

        Args:
            backbone: The frozen model that it is for.
            task: A task, whose label words `init="class_labels"` starts from.
            seed: Of everything random.

        Raises:
            ConfigError: If the initializer is unknown or lacks what it starts from, or every stack is switched off.
            UnsupportedError: If the backbone's layers cannot be given keys and values, or the placement needs a
                decoder-only model.
        """
        spec = backbone.spec
        if spec.no_prefix is not None:
            raise UnsupportedError(
                f"{backbone.name} cannot take prefix tuning, because {spec.no_prefix}; use PromptTuning."
            )
        if self.placement == "template":
            raise UnsupportedError(
                "A prefix has no rows that a template could divide; use another placement, or PromptTuning."
            )
        if spec.kind != "decoder-only" and self.placement != "prepend":
            raise UnsupportedError(
                f"placement={self.placement!r} of a prefix needs a decoder-only model; {backbone.name} is "
                f"{spec.kind}: use placement='prepend'."
            )
        wanted = {"encoder": self.encoder, "cross": self.cross, "decoder": self.decoder}
        stacks = {name: stack for name, stack in spec.stacks.items() if wanted[name]}
        if not stacks:
            raise ConfigError(
                f"Every prefix that {backbone.name} could take is switched off: {', '.join(spec.stacks)}."
            )
        generator = torch.Generator().manual_seed(seed)
        start = self._start(backbone, task, list(stacks), generator)
        info = _info(backbone, self.source)
        if self.hidden is None:
            return SoftPrompt(DirectPrefix(start), self, info)
        reparameterized = ReparameterizedPrefix(
            start, dim=spec.dim, hidden=self.hidden, from_start=self.init != "random", generator=generator
        )
        return SoftPrompt(reparameterized, self, info)

    def _start(
        self, backbone: Host, task: LabelledTask | None, stacks: list[str], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Keys and values to start from, by stack, `[layers, 2, kv_heads, length, head_dim]`."""
        if self.init == "random":
            shapes = {name: backbone.spec.stacks[name] for name in stacks}
            return {
                name: torch.randn(s.layers, 2, s.kv_heads, self.length, s.head_dim, generator=generator)
                * _RANDOM_PREFIX_STD
                for name, s in shapes.items()
            }
        source = SoftPrompt.load(self.source)() if self.source else None
        if source is not None and source.keys_values:
            if missing := sorted(set(stacks) - set(source.keys_values)):
                raise ConfigError(f"init='prompt': {self.source} has no prefix for {', '.join(missing)}.")
            return {name: _fit_prefix(source.keys_values[name].detach(), self.length) for name in stacks}
        rows = initializers.find(self.init)(_materials(self, backbone, task, generator))
        return _activations(backbone, rows, stacks)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PrefixTuning:
        """Read the settings from plain values."""
        return from_mapping(cls, settings)


registry.register("prompt_tuning", PromptTuning)
registry.register("prefix_tuning", PrefixTuning)


def _check(length: int, init: str, text: str | None, source: str | None, placement: str) -> None:
    if length < 1:
        raise ConfigError(f"length={length}: a prompt has at least one virtual token.")
    placements.find(placement)
    for setting, value, needs in (("text", text, "text"), ("source", source, "prompt")):
        if value is not None and init != needs:
            raise ConfigError(f"{setting}= is used by init={needs!r} only, but init={init!r}; drop one of them.")
        if value is None and init == needs:
            raise ConfigError(f"init={needs!r} needs {setting}=...")


def _divided(method: PromptTuning, task: LabelledTask | None) -> tuple[int, ...] | None:
    """Rows at each place of a template: the method's own, or the task's.

    Raises:
        ConfigError: If they contradict each other, or only one of placement and template divides the rows.
    """
    found = tuple(task.segments) if task is not None else ()
    if method.placement != "template":
        if found:
            raise ConfigError(
                f"The task's template divides {sum(found)} virtual tokens among {len(found)} places, but"
                f" placement={method.placement!r}; use placement='template'."
            )
        return None
    if not (found or method.segments):
        raise ConfigError("placement='template' needs a task whose input has places such as {soft:20}.")
    if found and method.segments not in (None, found):
        raise ConfigError(f"segments={list(method.segments or ())}, but the task's template has {list(found)}.")
    if found and sum(found) != method.length:
        raise ConfigError(
            f"length={method.length}, but the task's template has places for {sum(found)} virtual tokens; use"
            f" length={sum(found)}."
        )
    return found or tuple(method.segments or ())


def _check_segments(method: PromptTuning) -> None:
    segments = method.segments or ()
    if method.placement != "template":
        raise ConfigError(f"segments= is used by placement='template' only, not {method.placement!r}; drop it.")
    if min(segments, default=0) < 1 or sum(segments) != method.length:
        raise ConfigError(
            f"segments={list(segments)}: expected numbers of rows, at least 1 each, {method.length} in all."
        )


def _info(backbone: Host, source: str | Path | None) -> PromptInfo:
    return PromptInfo(
        backbone=backbone.name,
        fingerprint=backbone.fingerprint.to_mapping(),
        kind=backbone.spec.kind,
        tokenizer=backbone.tokenizer_digest,
        lineage=(f"started from {source}",) if source else (),
    )


@torch.no_grad()
def _materials(
    method: PromptTuning | PrefixTuning, backbone: Host, task: LabelledTask | None, generator: torch.Generator
) -> Materials:
    def embedded(ids: list[int]) -> Tensor:
        return backbone.embed(torch.tensor(ids, dtype=torch.long, device=backbone.device)).float().cpu()

    def pieces(words: str, what: str) -> Tensor:
        ids = backbone.tokenize(words)
        if not ids:
            raise ConfigError(f"{what} {words!r} has no tokens for {backbone.name}; give words that it knows.")
        return embedded(ids)

    source = SoftPrompt.load(method.source)().rows if method.source else None
    labels = (task.labels or ()) if task is not None and method.init == "class_labels" else ()
    return Materials(
        length=method.length,
        dim=backbone.spec.dim,
        generator=generator,
        vocabulary=embedded(backbone.common_tokens(_COMMON_TOKENS)),
        labels=tuple(pieces(label, "The label") for label in labels),
        text=pieces(method.text, "The text") if method.text is not None else None,
        source=source.detach() if source is not None else None,
    )


@torch.no_grad()
def _activations(backbone: Host, rows: Tensor, stacks: list[str]) -> dict[str, Tensor]:
    """Keys and values of every layer for rows run through the frozen model (Li & Liang 2021, §7.4)."""
    table = backbone.embed(torch.zeros(1, dtype=torch.long, device=backbone.device))
    mask = torch.ones(1, rows.shape[0], dtype=torch.bool, device=backbone.device)
    recorded = backbone.record(rows[None].to(table), mask)
    return {
        stack: torch.stack(
            [torch.stack([keys[0], values[0]]) for (name, _), (keys, values) in recorded.items() if name == stack]
        )
        .float()
        .cpu()
        for stack in stacks
    }


def _fit_prefix(keys_values: Tensor, length: int) -> Tensor:
    return initializers.fit(keys_values.movedim(3, 0), length).movedim(0, 3)
