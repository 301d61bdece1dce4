"""The one attention function: a prompt's keys and values before a layer's own.

transformers lets a library register an attention function by name, and beside it the function that builds the
masks. Both are registered here once for every stock kernel that can be wrapped. Outside a call that carries
something they hand over unchanged. Inside one (see `carrying`),

- the *mask function* builds the stock mask and puts in front of it one column per virtual token, so that
  sliding windows, hidden positions and rows with shorter prompts are settled once per pass, not per layer;
- the *attention function* records a layer's keys and values when asked, and concatenates the prompt's.

What a call carries travels in a context variable: it reaches every layer of every family without passing
through the model's signature, and threads that share a backbone do not see each other's. It lives on the
device of the embeddings; in a model that is spread over several, each layer fetches what it needs.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from softprompt.errors import ShapeError, UnsupportedError

__all__ = ["KERNELS", "Carried", "Injection", "Recorder", "Site", "Trace", "carried", "carrying", "wrapped"]

KERNELS = ("sdpa", "eager")
"""The stock kernels that take a mask of any shape, which injection needs."""


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
        hidden: Stacks of which some row's prompt leaves columns empty: their own `columns`.
        starts: How many of a row's own tokens stand before its prompt, `[batch]`; 0 prepends. Tokens before
            it do not see it.
        causal: Whether the layers are a causal decoder's, in which prompts have positions and windows count.
        sites: Which site a module of the model is.
    """

    keys: Mapping[Site, Float[Tensor, "prompts kv_heads prompt head_dim"]]
    values: Mapping[Site, Float[Tensor, "prompts kv_heads prompt head_dim"]]
    rows: Int[Tensor, " batch"]
    columns: Bool[Tensor, "batch prompt"]
    hidden: Mapping[str, Bool[Tensor, "batch prompt"]]
    starts: Int[Tensor, " batch"]
    causal: bool
    sites: Mapping[nn.Module, Site]


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
        trace: Where to note the sites that read their injection, and each windowed mask function.
    """

    injection: Injection | None = None
    recorder: Recorder | None = None
    kept: Bool[Tensor, "batch seq"] | None = None
    trace: Trace | None = None


@dataclass(frozen=True)
class Trace:
    """What a probe wants to know of a pass: which sites read their injection, and which windows masks have."""

    reads: list[Site] = field(default_factory=list)
    windows: list[tuple[int, Callable[..., Any]]] = field(default_factory=list)


_CARRIED: contextvars.ContextVar[Carried | None] = contextvars.ContextVar("softprompt_carried", default=None)


def carried() -> Carried | None:
    """What the current call carries, or None."""
    return _CARRIED.get()


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


def wrapped(kernel: str) -> str:
    """The name under which the attention function that wraps a stock kernel is registered."""
    return f"softprompt_{kernel}"


def keep_positions(head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook of an output head: let only the wanted positions through, as one row."""
    load = _CARRIED.get()
    if load is None or load.kept is None:
        return None
    hidden, *rest = args  # [batch, seq, hidden]
    return (hidden[load.kept.to(hidden.device)].unsqueeze(0), *rest)  # [1, kept, hidden]


def _attend(
    kernel: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    load = _CARRIED.get()
    if load is not None and load.recorder is not None:
        load.recorder.calls.append((module, key, value))
    if load is not None and load.injection is not None:
        key, value, attention_mask, options = _inject(load, module, key, value, attention_mask, options)
    return kernel(module, query, key, value, attention_mask, **options)


def _inject(
    load: Carried,
    module: nn.Module,
    key: Float[Tensor, "batch kv_heads seq head_dim"],
    value: Float[Tensor, "batch kv_heads seq head_dim"],
    mask: Tensor | None,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Put the prompt's keys and values before a layer's own.

    The mask already has the prompt's columns in front. A stack to which no prompt gives anything drops them.
    """
    injection = load.injection
    assert injection is not None
    site = injection.sites.get(module)
    prompt = injection.columns.shape[1]
    own = key.shape[2]
    if mask is None or site is None or mask.shape[-1] < prompt + own:
        raise UnsupportedError(
            f"{type(module).__name__} does not take its mask from transformers' mask functions (expected "
            f"{prompt + own} columns, got {None if mask is None else mask.shape[-1]}); use the concatenation pass."
        )
    if site not in injection.keys:
        return key, value, mask[..., prompt:], options
    rows = _expand(injection.rows, key.shape[0]).to(key.device)
    bank_keys, bank_values = injection.keys[site].to(key), injection.values[site].to(value)
    key = torch.cat([_gather(bank_keys, rows), key], dim=2)  # [batch, kv_heads, prompt+seq, head_dim]
    value = torch.cat([_gather(bank_values, rows), value], dim=2)
    if site.stack in injection.hidden:
        columns = _expand(injection.hidden[site.stack], key.shape[0]).to(mask.device)
        mask = _hide(mask, columns[:, None, None, :])
    bias = options.get("position_bias")
    if bias is not None:
        options = {**options, "position_bias": nn.functional.pad(bias, (prompt, 0))}
    if load.trace is not None:
        load.trace.reads.append(site)
    return key, value, mask, options


def _gather(bank: Tensor, rows: Tensor) -> Tensor:
    """Each row's prompt; one prompt for all rows is not copied before the concatenation."""
    return bank.expand(rows.shape[0], -1, -1, -1) if bank.shape[0] == 1 else bank.index_select(0, rows)


def _expand(state: Tensor, batch: int) -> Tensor:
    """Repeat per-row state as `generate` repeats rows for beams and returned sequences."""
    rows = state.shape[0]
    if batch % rows:
        raise ShapeError(f"A batch of {batch} rows is no multiple of the {rows} rows that prompts were given for.")
    return state.repeat_interleave(batch // rows, dim=0) if batch != rows else state


def _hide(mask: Tensor, columns: Bool[Tensor, "batch 1 1 prompt"]) -> Tensor:
    """Mask, in the prompt's part of a joint mask, what a stack's prompts leave empty."""
    prompt = columns.shape[-1]
    front, own = mask[..., :prompt], mask[..., prompt:]
    if mask.dtype == torch.bool:
        return torch.cat([front & columns, own], dim=-1)
    return torch.cat([front.masked_fill(~columns, torch.finfo(mask.dtype).min), own], dim=-1)


def _joint_mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    **options: Any,
) -> Tensor | None:
    """A boolean mask `[batch, 1, seq, prompt+seq]`; the stock mask (or None) if nothing is injected."""
    stock = dict(options, batch_size=batch_size, q_length=q_length, kv_length=kv_length, q_offset=q_offset)
    stock.update(attention_mask=attention_mask, local_size=local_size)
    load = _CARRIED.get()
    if load is None or load.injection is None:
        return sdpa_mask(**stock)
    if load.trace is not None and local_size is not None:
        load.trace.windows.append((local_size, options["mask_function"]))
    own = sdpa_mask(**{**stock, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    assert own is not None
    injection = load.injection
    columns = _expand(injection.columns, batch_size).to(own.device)[:, None, None, :]  # [batch, 1, 1, prompt]
    if not injection.causal:
        front = columns.expand(-1, 1, q_length, -1)
        return torch.cat([front.expand(-1, own.shape[1], -1, -1), own], dim=-1)
    starts = _expand(injection.starts, batch_size).to(own.device)[:, None]  # [batch, 1]
    tokens = _token_index(batch_size, q_length, q_offset, attention_mask, own.device)  # [batch, seq]
    lengths = columns.sum(-1)[:, 0]  # [batch, 1]
    front = columns & (tokens >= starts)[:, None, :, None]  # [batch, 1, seq, prompt]
    if local_size is not None:
        queries = tokens + lengths * (tokens >= starts)  # [batch, seq], in positions
        places = starts + torch.arange(columns.shape[-1], device=own.device)  # [batch, prompt]
        front = front & (queries[:, :, None] - places[:, None, :] < local_size)[:, None]
        if bool((starts > 0).any()):
            kv_offset = options.get("kv_offset", 0)
            keys = _token_index(batch_size, kv_length, kv_offset, attention_mask, own.device)
            keys = keys + lengths * (keys >= starts)
            own = own & (queries[:, :, None] - keys[:, None, :] < local_size)[:, None]
    return torch.cat([front.expand(-1, own.shape[1], -1, -1), own], dim=-1)


def _token_index(
    batch: int, length: int, offset: int | Tensor, attention_mask: Tensor | None, device: torch.device
) -> Int[Tensor, "batch seq"]:
    """Which of its row's own tokens stands in each column, counted from 0; padding is clamped to 0."""
    columns = torch.arange(length, device=device) + offset
    if attention_mask is None:
        return columns.expand(batch, -1)
    counted = attention_mask.long().cumsum(-1) - 1  # [batch, total]
    beyond = columns.clamp(max=counted.shape[1] - 1)
    return (counted[:, beyond] + (columns - beyond)).clamp(min=0)


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if mask is None:
        return None
    return torch.zeros((), dtype=dtype, device=mask.device).where(mask, torch.finfo(dtype).min)


def _sdpa_attention(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
    return _attend(AttentionInterface()["sdpa"], module, *args, **options)


def _eager_attention(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
    return _attend(_eager_kernel(type(module)), module, *args, **options)


def _eager_kernel(kind: type[nn.Module]) -> Callable[..., Any]:
    """The eager attention of a model's own file: every modelling file of transformers has its own."""
    for base in kind.__mro__:
        kernel = vars(sys.modules[base.__module__]).get("eager_attention_forward")
        if kernel is not None:
            return kernel
    raise UnsupportedError(f"{kind.__name__} has no eager attention function; load the model with attention='sdpa'.")


def _eager_mask(*, dtype: torch.dtype = torch.float32, **options: Any) -> Tensor | None:
    return _additive(_joint_mask(**{**options, "allow_is_causal_skip": False}), dtype)


def without_recording(load: Carried | None) -> Carried | None:
    """The same load for a recomputation, which must not note anything a second time."""
    return None if load is None else replace(load, recorder=None, trace=None)


AttentionInterface.register(wrapped("sdpa"), _sdpa_attention)
AttentionInterface.register(wrapped("eager"), _eager_attention)
AttentionMaskInterface.register(wrapped("sdpa"), _joint_mask)
AttentionMaskInterface.register(wrapped("eager"), _eager_mask)
