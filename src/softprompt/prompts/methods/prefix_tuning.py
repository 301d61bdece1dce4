"""Prefix tuning: trainable keys and values before those of every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softprompt.config import check_lists, from_mapping
from softprompt.errors import ConfigError, UnsupportedError
from softprompt.prompts import initializers, placements, registry
from softprompt.prompts.host import Host, LabelledTask
from softprompt.prompts.methods.building import check_started, describe, gather, load_sources, with_head
from softprompt.prompts.parameters import DirectPrefix, Parameters, ReparameterizedPrefix
from softprompt.prompts.prompt import SoftPrompt

__all__ = ["PTuningV2", "PrefixTuning"]

_RANDOM_STD = 0.02


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
        source: Folder of the prompt to start from, for `init="prompt"`; of several, their mean.
        encoder: Whether the encoder gets a prefix.
        cross: Whether the decoder's attention onto the encoder gets one.
        decoder: Whether the decoder gets one.
        layers: Which layers of each stack get keys and values, from 0 in front or from -1 behind; None for all. Those
            that a stack lacks are left out.
        placement: `prepend`; in decoder-only models also `middle` and `append` (infix), which hide the prefix
            from what stands before it.
        head: Whether an encoder-only model's head is trained anew and stored with the prefix: over the task's classes,
            over the tags of its words, or over first and last token of an answer.

    Raises:
        ConfigError: If a setting is unknown or out of range; `init` is looked up when a prefix is built.
    """

    length: int = 10
    hidden: int | None = 512
    init: str = "random"
    text: str | None = None
    source: str | Sequence[str] | None = None
    encoder: bool = True
    cross: bool = True
    decoder: bool = True
    layers: Sequence[int] | None = None
    placement: str = "prepend"
    head: bool = False

    def __post_init__(self) -> None:
        check_started(self)
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))
        placements.find(self.placement)
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
            MismatchError: If a prompt to start from was made for another backbone.
            UnsupportedError: If the backbone's layers cannot be given keys and values, the placement needs a
                decoder-only model, or a head is to be trained and the model is no encoder, or has none for classes.
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
        stacks = {name: stack for name, stack in spec.stacks.items() if wanted[name] and stack.chosen(self.layers)}
        if not stacks:
            raise ConfigError(
                f"Every prefix that {backbone.name} could take is switched off: {', '.join(spec.stacks)}; mind encoder,"
                " cross, decoder and layers."
            )
        generator = torch.Generator().manual_seed(seed)
        start = self._start(backbone, task, list(stacks), generator)
        info = describe(self, backbone)
        parameters: Parameters = DirectPrefix(start)
        if self.hidden is not None:
            parameters = ReparameterizedPrefix(
                start, dim=spec.dim, hidden=self.hidden, from_start=self.init != "random", generator=generator
            )
        if self.head:
            parameters = with_head(parameters, backbone, task, generator)
        return SoftPrompt(parameters, self, info)

    def _start(
        self, backbone: Host, task: LabelledTask | None, stacks: list[str], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Keys and values to start from, by stack, `[layers, 2, kv_heads, length, head_dim]`."""
        if self.init == "random":
            shapes = {name: backbone.spec.stacks[name] for name in stacks}
            return {
                name: torch.randn(
                    len(s.chosen(self.layers)), 2, s.kv_heads, self.length, s.head_dim, generator=generator
                )
                * _RANDOM_STD
                for name, s in shapes.items()
            }
        sources = load_sources(self, backbone)
        if any(source().keys_values for source in sources):
            return {name: self._mean(backbone, name, sources) for name in stacks}
        rows = initializers.find(self.init)(gather(self, backbone, task, generator))
        found = _activations(backbone, rows, stacks)
        return {name: values[list(backbone.spec.stacks[name].chosen(self.layers))] for name, values in found.items()}

    def _mean(self, backbone: Host, stack: str, sources: Sequence[SoftPrompt]) -> Tensor:
        """The mean of several prefixes for a stack, each repeated or cut to this one's length."""
        facts = backbone.spec.stacks[stack]
        wanted = facts.chosen(self.layers)
        for source in sources:
            given = facts.chosen(source.layers) if stack in source().keys_values else ()
            if given != wanted:
                has = f"one of the layers {list(given)}" if given else "none"
                raise ConfigError(
                    f"init='prompt': expected a prefix for the {stack} of the layers {list(wanted)}, but {self.source}"
                    f" has {has}; set layers, encoder, cross and decoder as they were."
                )
        found = [_fit_prefix(one().keys_values[stack].detach(), self.length) for one in sources]
        expected = (len(wanted), 2, facts.kv_heads, self.length, facts.head_dim)
        for one in found:
            if tuple(one.shape) != expected:
                raise ConfigError(
                    f"init='prompt': expected keys and values for the {stack} of the form {list(expected)} (layers, 2,"
                    f" heads, length, width), but {self.source} has {list(one.shape)}; start from a prefix of a model"
                    " of this shape."
                )
        return initializers.mean(found)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PrefixTuning:
        """Read the settings from plain values."""
        check_lists(cls, settings)
        return from_mapping(cls, settings)


@dataclass(frozen=True, kw_only=True)
class PTuningV2(PrefixTuning):
    """P-tuning v2 (Liu et al. 2022, §3): a prefix whose keys and values are trained themselves, without an MLP.

    Its settings are those of `PrefixTuning`. On encoder-only models the paper trains a head with it: `head=True`. Its
    lengths lie between 8 and about 200, its rates between 5e-3 and 1e-2.
    """

    length: int = 20
    hidden: int | None = None


registry.register("p_tuning_v2", PTuningV2)
registry.register("prefix_tuning", PrefixTuning)


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
