"""Every row of a mixed batch gives what it gives alone, unpadded, on the model that nothing has touched."""

from __future__ import annotations

import functools

import pytest
import torch
from tests.families import batches, naive, zoo
from tests.families.batches import Batch, relative_error
from tests.families.zoo import FAMILIES, Family
from torch import Tensor

from softprompt.conditioning import Prompted

EXACT = 1e-5

every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
every_pass = pytest.mark.parametrize("conditioning", ["auto", "concatenation"])
every_side = pytest.mark.parametrize("side", ["left", "right"])


def case(family: Family, **options) -> tuple[Prompted, Batch]:
    made = batches.prompts(family)
    return Prompted(zoo.backbone(family.name), made, **options), batches.batch(list(made))


def forward(model: Prompted, family: Family, batch: Batch, side: batches.Side) -> list[Tensor]:
    """Each row's logits, `[tokens, vocab]`, `[target, vocab]` or `[classes]`."""
    ids, mask = batch.padded(side)
    reads = {}
    if family.kind == "encoder-decoder":
        reads["decoder_input_ids"] = batches.pad(batch.reads(), "right", fill=zoo.PAD)[0]
    made = model(input_ids=ids, attention_mask=mask, prompts=batch.names, marks=batch.marks, **reads).logits
    if family.kind == "encoder-only":
        return list(made)
    if family.kind == "encoder-decoder":
        return [row[: len(target)] for row, target in zip(made, batch.targets, strict=True)]
    return [row[real] for row, real in zip(made, mask, strict=True)]


@functools.cache
def reference(name: str) -> list[Tensor]:
    family = zoo.BY_NAME[name]
    made = batches.prompts(family)
    batch = batches.batch(list(made))
    targets = batch.reads() if family.kind == "encoder-decoder" else None
    rows = [made.get(row) for row in batch.names]
    return [row.detach() for row in naive.batch_logits(family, batch.rows, rows, marks=batch.marks, targets=targets)]


@every_family
@every_pass
@every_side
def test_a_mixed_batch_gives_what_each_row_gives_alone_on_the_stock_model(family, conditioning, side):
    model, batch = case(family, conditioning=conditioning)
    with torch.no_grad():
        got = forward(model, family, batch, side)
    want = reference(family.name)
    scale = torch.cat([row.flatten() for row in want])
    errors = {
        f"{name} of {len(row)}": relative_error(mine, theirs, scale)
        for name, row, mine, theirs in zip(batch.names, batch.rows, got, want, strict=True)
    }
    assert {name: error for name, error in errors.items() if not error <= EXACT} == {}
