"""What a call of a backbone carries to its layers.

It travels in a context variable: it reaches every layer of every family without passing through the model's
signature, and threads that share a backbone do not see each other's. It lives on the device of the embeddings; in a
model that is spread over several, each layer fetches what it needs.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from softprompt.errors import ShapeError

__all__ = [
    "Carried",
    "Injection",
    "Onlooker",
    "Recorder",
    "Site",
    "Trace",
    "carried",
    "carrying",
    "looked_on",
    "onlooker",
    "repeat_rows",
    "without_recording",
]


class Site(NamedTuple):
    """One attention layer: its stack (`encoder`, `cross` or `decoder`) and its index in it."""

    stack: str
    layer: int


@dataclass(frozen=True, kw_only=True)
class Injection:
    """Keys and values for the layers of a backbone, and which row of the batch attends to which of them.

    Attributes:
        keys: By site, `[prompts, kv_heads, prompt, head_dim]`, padded to the longest prompt.
        values: The same for values.
        rows: Which prompt each row of the batch takes, `[batch]`; rows without a prompt take any.
        columns: True where a row has a virtual token in the prompt's column, `[batch, prompt]`.
        hidden: Sites to which some row's prompt gives nothing: their own `columns`.
        starts: How many of a row's own tokens stand before its prompt, `[batch]`; 0 prepends. Tokens before
            it do not see it.
        causal: Whether the layers are a causal decoder's, in which prompts have positions and windows count.
        sites: Which site a module of the model is.
        stored: Sites whose keys and values the call's cache holds already (see `prompt_cache`).
    """

    keys: Mapping[Site, Float[Tensor, "prompts kv_heads prompt head_dim"]]
    values: Mapping[Site, Float[Tensor, "prompts kv_heads prompt head_dim"]]
    rows: Int[Tensor, " batch"]
    columns: Bool[Tensor, "batch prompt"]
    hidden: Mapping[Site, Bool[Tensor, "batch prompt"]]
    starts: Int[Tensor, " batch"]
    causal: bool
    sites: Mapping[nn.Module, Site]
    stored: frozenset[Site] = frozenset()

    def of(self, rows: Int[Tensor, " kept"]) -> Injection:
        """The same for some rows of the batch."""
        masks = {id(mask): mask[rows] for mask in self.hidden.values()}
        return replace(
            self,
            rows=self.rows[rows],
            columns=self.columns[rows],
            hidden={site: masks[id(mask)] for site, mask in self.hidden.items()},
            starts=self.starts[rows],
        )


@dataclass(frozen=True)
class Recorder:
    """Collects the calls of the attention function, in order: module, keys, values."""

    calls: list[tuple[nn.Module, Tensor, Tensor]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What one call of a backbone carries to its layers.

    Attributes:
        injection: Keys and values to attend to, if any.
        recorder: Where to note each layer's own keys and values, if anywhere.
        kept: True at the positions whose logits are wanted, `[batch, seq]`; None wants all. The output head
            then sees `[1, kept, hidden]`.
        branches: Which of several continuations of one text each position of the call belongs to, from 1, or 0 for the
            text that they continue, `[batch, seq]`; continuations do not see each other. None where there is but one.
        trace: Where to note the sites that read their injection, and each windowed mask function.
    """

    injection: Injection | None = None
    recorder: Recorder | None = None
    kept: Bool[Tensor, "batch seq"] | None = None
    branches: Int[Tensor, "batch seq"] | None = None
    trace: Trace | None = None


@dataclass(frozen=True)
class Trace:
    """What a probe wants to know of a pass: which sites read their injection, and which windows masks have."""

    reads: list[Site] = field(default_factory=list)
    windows: list[tuple[int, Callable[..., Any]]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Onlooker:
    """Who looks on at the attention of every layer in a block of calls, but for those that record prompts.

    Attributes:
        watch: Told each layer's module and its weights `[batch, heads, seq, keys]`, prompt columns in front.
        hide: From a layer's module, its mask `[batch, 1, seq, keys]` (bool, or added to the logits) and its number of
            heads to the mask that it gets instead.
    """

    watch: Callable[[nn.Module, Tensor], None] | None = None
    hide: Callable[[nn.Module, Tensor, int], Tensor] | None = None


_CARRIED: contextvars.ContextVar[Carried | None] = contextvars.ContextVar("softprompt_carried", default=None)


_ONLOOKER: contextvars.ContextVar[Onlooker | None] = contextvars.ContextVar("softprompt_onlooker", default=None)


def carried() -> Carried | None:
    """What the current call carries, or None."""
    return _CARRIED.get()


def onlooker() -> Onlooker | None:
    """Who looks on at the current call, or None; nobody does while keys and values are recorded."""
    load = _CARRIED.get()
    return None if load is not None and load.recorder is not None else _ONLOOKER.get()


@contextlib.contextmanager
def looked_on(by: Onlooker) -> Iterator[None]:
    """Run a block of calls, without gradients, at which somebody looks on."""
    token = _ONLOOKER.set(by)
    try:
        yield
    finally:
        _ONLOOKER.reset(token)


class carrying(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a statement, like `suppress`
    """Run a block in which the attention function and the output head see `load`.

    Reusable, so that a layer's recomputation can enter it again, in whichever thread runs the backward pass.
    """

    def __init__(self, load: Carried | None) -> None:
        self._load = load
        self._tokens: list[contextvars.Token[Carried | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(_CARRIED.set(self._load))

    def __exit__(self, *exception: object) -> None:
        _CARRIED.reset(self._tokens.pop())


def without_recording(load: Carried | None) -> Carried | None:
    """The same load for a recomputation, which must not note anything a second time."""
    return None if load is None else replace(load, recorder=None, trace=None)


def repeat_rows(state: Tensor, batch: int) -> Tensor:
    """Repeat per-row state as `generate` repeats rows for beams and returned sequences."""
    rows = state.shape[0]
    if batch % rows:
        raise ShapeError(f"A batch of {batch} rows is no multiple of the {rows} rows that prompts were given for.")
    return state.repeat_interleave(batch // rows, dim=0) if batch != rows else state
