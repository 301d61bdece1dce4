"""What a batch must look like before anything is computed with it."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Int
from torch import Tensor

from softprompt.backbones import Backbone
from softprompt.errors import ShapeError

__all__ = ["check_batch", "check_devices", "check_labels", "check_list"]

_LABELS = {
    "decoder-only": "labels [batch, seq], as many as input_ids",
    "encoder-only": "labels [batch], a class for each row, or [batch, targets]",
    "encoder-decoder": "labels [batch, target], and decoder_input_ids of the same shape",
}


def check_batch(ids: Int[Tensor, "batch seq"], mask: Tensor, marks: Tensor | None) -> None:
    """Refuse a batch whose parts do not fit each other, or with a row that has nothing to read.

    Args:
        ids: Token ids.
        mask: 1 or True where a token is real.
        marks: Token indices of the template's marks in each row, `[batch, marks]`, or None.

    Raises:
        ShapeError: If shapes differ, or a row has no tokens.
    """
    if mask.shape != ids.shape:
        raise ShapeError(f"attention_mask has shape {list(mask.shape)}, but input_ids {list(ids.shape)}.")
    if marks is not None and (marks.ndim != 2 or len(marks) != len(ids)):
        raise ShapeError(f"marks has shape {list(marks.shape)}; expected [batch, marks], {len(ids)} rows.")
    blank = (~mask.bool().any(-1)).nonzero().flatten().tolist()  # a masked pad token would be read in its place
    if blank:
        raise ShapeError(f"Row {blank[0]} has no tokens; give it at least one, or leave it out.")


def check_labels(
    backbone: Backbone,
    ids: Int[Tensor, "batch seq"],
    labels: Tensor | None,
    decoder_input_ids: Tensor | None,
) -> None:
    """Refuse labels and decoder inputs that are not what the kind of model takes.

    Raises:
        ShapeError: If labels are not `[batch, seq]` (decoder-only), `[batch]` or `[batch, targets]` (encoder-only), or
            `[batch, target]` and as wide as the decoder's inputs (encoder-decoder).
    """
    kind = backbone.spec.kind
    given = {"labels": labels, "decoder_input_ids": decoder_input_ids}
    shapes = {name: tensor.shape for name, tensor in given.items() if tensor is not None}
    if kind == "encoder-decoder":
        fit = len(set(shapes.values())) <= 1 and all(s[:1] == ids.shape[:1] and len(s) == 2 for s in shapes.values())
    elif kind == "encoder-only":
        fit = labels is None or (labels.shape[:1] == ids.shape[:1] and labels.ndim <= 2)
    else:
        fit = labels is None or labels.shape == ids.shape
    if not fit:
        came = " and ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ShapeError(f"Beside input_ids {list(ids.shape)} stand {came}, but {kind} models take {_LABELS[kind]}.")


def check_devices(backbone: Backbone, tensors: Mapping[str, Tensor | None]) -> None:
    """Refuse tensors that do not lie where the backbone reads its inputs.

    Raises:
        ShapeError: If one lies on another device.
    """
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != backbone.device:
            raise ShapeError(
                f"{name} is on {tensor.device}, but {backbone.name} on {backbone.device}; move it: "
                f"{name}.to({str(backbone.device)!r})."
            )


def check_list(name: str, values: object) -> None:
    """Refuse one text, or the fields of one row, where a list is wanted: they would be taken apart.

    Raises:
        ShapeError: If that is what came.
    """
    if isinstance(values, str | Mapping):
        raise ShapeError(f"{name} is one {type(values).__name__}; expected a list of them: {name}=[...].")
