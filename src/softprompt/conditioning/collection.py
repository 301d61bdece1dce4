"""The prompts of a prompted backbone: checked, each with the pass it takes, compiled when nothing is trained."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from softprompt.backbones import Backbone, Fingerprint
from softprompt.backbones.fitting import check_fit
from softprompt.conditioning.joining import Applied, KeysValues, given, record_rows
from softprompt.conditioning.probe import Verdict, probe
from softprompt.config import choose
from softprompt.errors import MismatchError, NonFiniteError, UnsupportedError
from softprompt.prompts import PromptTensors, SoftPrompt

__all__ = ["Conditioning", "PassTaken", "PromptCollection"]

Conditioning = Literal["auto", "shared", "concatenation"]
PassTaken = Literal["shared", "concatenation", "injection"]

_MOST_COMPILED = 4096
"""Virtual tokens, padding included, of prompts that are compiled in one pass; a single one may have more."""


@dataclass(frozen=True, eq=False)
class _Compiled:
    """A prompt as it was applied last, and the parameters' values that this was made from; None if they are fixed.

    Values and not torch's version counters are compared, because fused optimizers write without counting.
    """

    values: tuple[Tensor, ...] | None
    applied: Applied

    def is_of(self, prompt: SoftPrompt) -> bool:
        """Whether the prompt still has these values."""
        if self.values is None:
            return True
        parameters = tuple(prompt.parameters())
        return len(parameters) == len(self.values) and all(map(_same, parameters, self.values))


@dataclass(frozen=True, eq=False)
class _Entry:
    """All that is known of one prompt under its name; it is replaced as a whole."""

    prompt: SoftPrompt
    taken: PassTaken
    fixed: bool
    compiled: _Compiled | None = None


@final
class PromptCollection(Mapping[str, SoftPrompt]):
    """Prompts by name, for one backbone.

    Prompts may be added, replaced and removed while other threads apply them: a call takes the entries of its
    names once, and goes on with these.

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
        self._entries: Mapping[str, _Entry] = {}  # never changed, but replaced under the lock
        self._lock = threading.Lock()
        if conditioning == "shared" and self.verdict.shared is not None:
            raise UnsupportedError(f"{backbone.name} cannot take the shared-prompt pass: {self.verdict.shared}.")

    def __getitem__(self, name: str) -> SoftPrompt:
        return self._entries[name].prompt

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def verdict(self) -> Verdict:
        """What the probe found exact on this backbone."""
        return probe(self._backbone)

    def add(self, name: str, prompt: SoftPrompt, *, fixed: bool = False) -> None:
        """Add a prompt, or replace the one of that name; see `Prompted.add`."""
        tensors = prompt()
        self._check(name, prompt, tensors)
        if any(tensor.device != self._backbone.device for tensor in (*prompt.parameters(), *prompt.buffers())):
            prompt.to(self._backbone.device)
        entry = _Entry(prompt, self._pass_for(prompt, tensors), fixed)
        with self._lock:
            self._entries = {**self._entries, name: entry}

    def remove(self, name: str) -> None:
        """Forget a prompt.

        Raises:
            ConfigError: If there is none of that name.
        """
        with self._lock:
            if name not in self._entries:
                raise choose("prompt", name, self._entries)
            self._entries = {other: entry for other, entry in self._entries.items() if other != name}

    def pass_of(self, name: str) -> PassTaken:
        """Which way a prompt takes."""
        return self._entries[name].taken

    def positions(self, name: str | None) -> int:
        """Positions that a prompt takes up beside an input."""
        if name is None:
            return 0
        entry = self._entries[name]
        given_only = self._backbone.spec.kind != "decoder-only" and entry.taken == "injection"
        return 0 if given_only else entry.prompt.length

    def applied(self, names: Sequence[str | None], *, checkpointing: bool) -> list[Applied]:
        """The distinct prompts of a batch, in order of appearance, in the backbone's dtype and device.

        Without gradients a prompt is compiled once, and again only when its parameters have changed; many of them in
        passes of a bounded size.

        Raises:
            ConfigError: If there is none of a name (any more).
        """
        entries, chosen = self._entries, {}
        for name in names:
            if name is not None:
                if name not in entries:
                    raise choose("prompt", name, entries)
                chosen[name] = entries[name]
        if torch.is_grad_enabled():
            return self._apply(list(chosen.values()), checkpointing=checkpointing)
        known = {
            name: entry.compiled.applied
            for name, entry in chosen.items()
            if entry.compiled is not None and entry.compiled.is_of(entry.prompt)
        }
        for few in _cut({name: entry.prompt.length for name, entry in chosen.items() if name not in known}):
            known |= self._compile({name: chosen[name] for name in few})
        return [known[name] for name in chosen]

    def _compile(self, entries: Mapping[str, _Entry]) -> dict[str, Applied]:
        """Compute some prompts in one pass, of which nothing stays but what is theirs."""
        values = {
            name: None if entry.fixed else tuple(p.detach().clone() for p in entry.prompt.parameters())
            for name, entry in entries.items()
        }
        made = dict(zip(entries, map(_owning, self._apply(list(entries.values()))), strict=True))
        for name, applied in made.items():
            self._keep(name, entries[name], _Compiled(values[name], applied))
        return made

    def compile(self, names: Sequence[str]) -> int:
        """Compute prompts, and look at what comes out; see `Prompted.compile`."""
        size = 0
        for name, applied in zip(dict.fromkeys(names), self.applied(names, checkpointing=False), strict=True):
            made = [*(applied.head.values()), *(part for pair in (applied.keys_values or {}).values() for part in pair)]
            made += [] if applied.rows is None else [applied.rows]
            if not all(bool(tensor.isfinite().all()) for tensor in made):
                raise NonFiniteError(
                    f"The prompt {name!r} is NaN or infinite in {self._backbone.dtype}, or makes a layer so; train it "
                    "again with a lower rate, or load the backbone in float32."
                )
            entry = self._entries[name]
            copies = 1 if entry.fixed else 2  # their values when they were compiled are kept too
            size += copies * sum(tensor.nbytes for tensor in entry.prompt.parameters())
            size += sum(tensor.nbytes for tensor in made)
        return size

    def _keep(self, name: str, entry: _Entry, compiled: _Compiled) -> None:
        """Keep what was compiled, unless the prompt was replaced or removed in the meantime."""
        with self._lock:
            current = self._entries.get(name)
            if current is not None and current.prompt is entry.prompt:
                self._entries = {**self._entries, name: replace(current, compiled=compiled)}

    def _pass_for(self, prompt: SoftPrompt, tensors: PromptTensors) -> PassTaken:
        if tensors.keys_values:
            return "injection"
        allowed = self._conditioning != "concatenation" and self.verdict.shared is None
        return "shared" if allowed and prompt.placement == "prepend" else "concatenation"

    def _apply(self, entries: Sequence[_Entry], *, checkpointing: bool = False) -> list[Applied]:
        with torch.autocast(self._backbone.device.type, enabled=False):  # prompts stay float32; only the pass is cast
            tensors = [self._cast(entry.prompt()) for entry in entries]
        shared = [i for i, entry in enumerate(entries) if entry.taken == "shared"]
        rows = [rows for i in shared if (rows := tensors[i].rows) is not None]
        recorded = record_rows(self._backbone, rows, checkpointing=checkpointing) if rows else []
        keys_values: dict[int, KeysValues] = dict(zip(shared, recorded, strict=True))
        for i, found in enumerate(tensors):
            if found.keys_values:
                keys_values[i] = given(self._backbone, found, entries[i].prompt.layers)
        return [
            Applied(
                length=found.length,
                placement=entry.prompt.placement,
                segments=entry.prompt.segments,
                rows=None if i in keys_values else found.rows,
                keys_values=keys_values.get(i),
                head=found.head,
            )
            for i, (entry, found) in enumerate(zip(entries, tensors, strict=True))
        ]

    def _cast(self, tensors: PromptTensors) -> PromptTensors:
        device, dtype = self._backbone.device, self._backbone.dtype
        rows = None if tensors.rows is None else tensors.rows.to(device, dtype)
        stacks = {stack: value.to(device, dtype) for stack, value in tensors.keys_values.items()}
        head = {name: value.to(device, dtype) for name, value in tensors.head.items()}
        return PromptTensors(rows=rows, keys_values=stacks, head=head)

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
        if backbone.has_untrained_head and not tensors.head:
            raise MismatchError(
                f"{backbone.name} has no head that was trained, and the prompt {name!r} brings none; train one with"
                " head=True."
            )
        check_fit(
            backbone.spec,
            tensors.rows,
            tensors.keys_values,
            layers=prompt.layers,
            prompt=f"The prompt {name!r}",
            backbone=backbone.name,
            no_prefix=self.verdict.prefix if tensors.keys_values else None,
        )
        if info.tokenizer is not None and backbone.tokenizer_digest not in (None, info.tokenizer):
            warnings.warn(
                f"The prompt {name!r} was made with another tokenizer or chat template than {backbone.name} has: "
                "texts will not be to it what they were; load the tokenizer that it was made with.",
                stacklevel=4,  # at whoever made or changed a `Prompted`
            )


def _cut(lengths: Mapping[str, int]) -> Iterator[list[str]]:
    """Cut prompts into passes of a bounded size, those of like length together."""
    few: list[str] = []
    for name in sorted(lengths, key=lengths.__getitem__):
        if few and (len(few) + 1) * lengths[name] > _MOST_COMPILED:  # the longest comes last
            yield few
            few = []
        few.append(name)
    if few:
        yield few


def _owning(applied: Applied) -> Applied:
    """The same, without the memory of the batch that it was recorded in."""
    if applied.keys_values is None:
        return applied
    kept = {site: (keys.clone(), values.clone()) for site, (keys, values) in applied.keys_values.items()}
    return replace(applied, keys_values=kept)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)
