"""The prompts of a prompted backbone: checked, each with the pass it takes, compiled when nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, final

import torch
from torch import nn

from softprompt.backbones import Backbone, Fingerprint
from softprompt.conditioning.joining import Applied, KeysValues, given, record_rows
from softprompt.conditioning.probe import Verdict, probe
from softprompt.config import choose
from softprompt.errors import MismatchError, UnsupportedError
from softprompt.prompts import PromptTensors, SoftPrompt

__all__ = ["Conditioning", "PassTaken", "PromptCollection"]

Conditioning = Literal["auto", "shared", "concatenation"]
PassTaken = Literal["shared", "concatenation", "injection"]


@final
class PromptCollection(Mapping[str, SoftPrompt]):
    """Prompts by name, for one backbone.

    Args:
        backbone: The frozen model.
        conditioning: Which pass prompts of rows take, as in `Prompted`.

    Raises:
        ConfigError: If the pass is unknown.
        UnsupportedError: If the forced pass cannot be exact on this backbone.
    """

    def __init__(self, backbone: Backbone, conditioning: Conditioning) -> None:
        if conditioning not in ("auto", "shared", "concatenation"):
            raise choose("pass", conditioning, ("auto", "shared", "concatenation"))
        self._backbone = backbone
        self._conditioning = conditioning
        self._prompts: dict[str, SoftPrompt] = {}
        self._passes: dict[str, PassTaken] = {}
        self._compiled: dict[str, tuple[tuple[Any, ...], Applied]] = {}
        if conditioning == "shared" and self.verdict.shared is not None:
            raise UnsupportedError(f"{backbone.name} cannot take the shared-prompt pass: {self.verdict.shared}.")

    def __getitem__(self, name: str) -> SoftPrompt:
        return self._prompts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prompts)

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def verdict(self) -> Verdict:
        """What the probe found exact on this backbone."""
        return probe(self._backbone)

    def add(self, name: str, prompt: SoftPrompt) -> None:
        """Add a prompt, or replace the one of that name; see `Prompted.add`."""
        tensors = prompt()
        self._check(name, prompt, tensors)
        prompt.to(self._backbone.device)
        self._prompts[name] = prompt
        self._compiled.pop(name, None)
        if tensors.keys_values:
            self._passes[name] = "injection"
        else:
            allowed = self._conditioning != "concatenation" and self.verdict.shared is None
            self._passes[name] = "shared" if allowed and prompt.placement == "prepend" else "concatenation"

    def remove(self, name: str) -> None:
        """Forget a prompt.

        Raises:
            ConfigError: If there is none of that name.
        """
        if name not in self._prompts:
            raise choose("prompt", name, self._prompts)
        del self._prompts[name], self._passes[name]
        self._compiled.pop(name, None)

    def pass_of(self, name: str) -> PassTaken:
        """Which way a prompt takes."""
        return self._passes[name]

    def positions(self, name: str | None) -> int:
        """Positions that a prompt takes up beside an input."""
        given_only = (
            self._backbone.spec.kind != "decoder-only" and name is not None and self.pass_of(name) == "injection"
        )
        return 0 if name is None or given_only else self._prompts[name].length

    def applied(self, names: Sequence[str | None], *, checkpointing: bool) -> list[Applied]:
        """The distinct prompts of a batch, in order of appearance, in the backbone's dtype and device.

        Without gradients a prompt is compiled once, and again only when its parameters have changed.
        """
        distinct = list(dict.fromkeys(name for name in names if name is not None))
        if torch.is_grad_enabled():
            return self._apply(distinct, checkpointing=checkpointing)
        states = {name: _state(self._prompts[name]) for name in distinct}
        missing = [name for name in distinct if name not in self._compiled or self._compiled[name][0] != states[name]]
        for name, applied in zip(missing, self._apply(missing, checkpointing=False), strict=True):
            self._compiled[name] = (states[name], applied)
        return [self._compiled[name][1] for name in distinct]

    def _apply(self, names: Sequence[str], *, checkpointing: bool) -> list[Applied]:
        tensors = {name: self._cast(self._prompts[name]()) for name in names}
        shared = [name for name in names if self.pass_of(name) == "shared"]
        rows = [rows for name in shared if (rows := tensors[name].rows) is not None]
        recorded = record_rows(self._backbone, rows, checkpointing=checkpointing) if rows else []
        keys_values: dict[str, KeysValues] = dict(zip(shared, recorded, strict=True))
        for name, found in tensors.items():
            if found.keys_values:
                keys_values[name] = given(self._backbone, found)
        return [
            Applied(
                length=tensors[name].length,
                placement=self._prompts[name].placement,
                rows=None if name in keys_values else tensors[name].rows,
                keys_values=keys_values.get(name),
            )
            for name in names
        ]

    def _cast(self, tensors: PromptTensors) -> PromptTensors:
        device, dtype = self._backbone.device, self._backbone.dtype
        rows = None if tensors.rows is None else tensors.rows.to(device, dtype)
        stacks = {stack: value.to(device, dtype) for stack, value in tensors.keys_values.items()}
        return PromptTensors(rows=rows, keys_values=stacks)

    def _check(self, name: str, prompt: SoftPrompt, tensors: PromptTensors) -> None:
        backbone, info = self._backbone, prompt.info
        if not info.fingerprint:
            raise MismatchError(
                f"The prompt {name!r} was imported for {info.backbone} and is bound to no backbone yet; check that "
                f"{backbone.name} is that model, and pass bind(prompt, backbone) instead."
            )
        made_for = Fingerprint.from_mapping(info.fingerprint)
        if not made_for.matches(backbone.fingerprint):
            raise MismatchError(
                f"The prompt {name!r} was made for {info.backbone} ({made_for.short}), but the backbone is "
                f"{backbone.name} ({backbone.fingerprint.short}); load the backbone that it was made for."
            )
        if tensors.rows is not None and tensors.rows.shape[1] != backbone.spec.dim:
            raise MismatchError(
                f"The prompt {name!r} has rows of width {tensors.rows.shape[1]}; {backbone.name} expects "
                f"{backbone.spec.dim}."
            )
        if tensors.keys_values and self.verdict.prefix is not None:
            raise UnsupportedError(f"{backbone.name} cannot take the prefix {name!r}: {self.verdict.prefix}.")
        for stack, value in tensors.keys_values.items():
            expected = backbone.spec.stacks.get(stack)
            shape = expected and (expected.layers, 2, expected.kv_heads, tensors.length, expected.head_dim)
            if tuple(value.shape) != shape:
                raise MismatchError(
                    f"The prefix {name!r} gives its {stack} {list(value.shape)}; {backbone.name} expects "
                    f"{list(shape) if shape else 'no such stack'} [layers, 2, kv_heads, length, head_dim]."
                )


def _state(prompt: nn.Module) -> tuple[Any, ...]:
    """What changes whenever a prompt's parameters do."""
    return tuple((id(parameter), parameter._version) for parameter in prompt.parameters())
