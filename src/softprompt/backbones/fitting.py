"""Whether a prompt's tensors have the shapes that a backbone takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from softprompt.backbones.spec import BackboneSpec
from softprompt.errors import MismatchError, UnsupportedError

__all__ = ["check_fit"]


def check_fit(
    spec: BackboneSpec,
    rows: Float[Tensor, "prompt dim"] | None,
    keys_values: Mapping[str, Tensor],
    *,
    layers: Sequence[int] | None = None,
    prompt: str,
    backbone: str,
    no_prefix: str | None,
) -> None:
    """Refuse tensors that do not fit.

    Args:
        spec: The backbone's facts.
        rows: A prompt's rows, if it has any.
        keys_values: A prompt's keys and values by stack, each `[layers, 2, kv_heads, length, head_dim]`.
        layers: To how many layers of each stack they go, by index, from 0 or from -1; to all if None.
        prompt: What messages call the prompt, at the start of a sentence.
        backbone: What they call the backbone.
        no_prefix: Why keys and values cannot be given to the backbone's layers, or None if they can.

    Raises:
        MismatchError: If a width, a number of layers or heads, or a stack is another than the backbone's.
        UnsupportedError: If there are keys and values, and the backbone cannot take any.
    """
    if rows is not None and rows.shape[1] != spec.dim:
        raise MismatchError(
            f"{prompt} has rows of width {rows.shape[1]}, but {backbone} expects {spec.dim}; load the backbone that it "
            "was made for."
        )
    if keys_values and no_prefix is not None:
        raise UnsupportedError(
            f"{prompt} is a prefix, and {backbone} cannot take one, because {no_prefix}; use prompt tuning."
        )
    for stack, value in keys_values.items():
        wanted = spec.stacks.get(stack)
        shape = wanted and [len(wanted.chosen(layers)), 2, wanted.kv_heads, value.shape[3], wanted.head_dim]
        if list(value.shape) != shape:
            raise MismatchError(
                f"{prompt} gives the {stack} keys and values {list(value.shape)}, but {backbone} expects "
                f"{shape or 'no such stack'} [layers, 2, kv_heads, length, head_dim]; load the backbone that it was "
                "made for."
            )
