"""Joint masks, against plain loops."""

from __future__ import annotations

import pytest
import torch
from tests.unit.backbones.injections import injection
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

from softprompt.backbones.carrying import Carried, carrying
from softprompt.backbones.masks import additive_mask, joint_mask

PROMPT = 4


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("window", [None, 3])
def test_a_joint_mask_is_what_a_loop_over_positions_gives(side, window):
    """Each row as the sequence it stands for: tokens, its prompt before the one it starts at, tokens."""
    lengths, starts, prompts = [5, 3, 6, 2], [0, 2, 3, 0], [4, 2, 3, 0]
    width = max(lengths)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    mask = mask.flip(1) if side == "left" else mask
    columns = torch.arange(PROMPT) < torch.tensor(prompts)[:, None]
    function = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    with carrying(Carried(injection=injection(columns, starts))):
        got = joint_mask(
            batch_size=4, q_length=width, kv_length=width, attention_mask=mask, mask_function=function,
            local_size=window, device=torch.device("cpu"),
        )  # fmt: skip
    assert got.shape == (4, 1, width, PROMPT + width)
    for row in range(4):
        real = mask[row].nonzero().flatten().tolist()
        sequence = real[: starts[row]] + [("virtual", j) for j in range(prompts[row])] + real[starts[row] :]
        for here in real:
            at = sequence.index(here)
            seen = sequence[: at + 1] if window is None else sequence[max(0, at + 1 - window) : at + 1]
            want = [("virtual", j) in seen for j in range(PROMPT)] + [column in seen for column in range(width)]
            assert got[row, 0, here].tolist() == want, (row, here)


def test_without_prompts_the_mask_is_the_stock_one():
    options = {"batch_size": 1, "q_length": 3, "kv_length": 3, "device": torch.device("cpu")}
    assert joint_mask(**options) is None
    with carrying(Carried()):
        assert joint_mask(**options) is None


def test_a_reader_of_both_directions_sees_its_own_prompt():
    columns = torch.tensor([[True, True], [True, False]])
    with carrying(Carried(injection=injection(columns, [0, 0], causal=False))):
        got = joint_mask(
            batch_size=2, q_length=3, kv_length=3, mask_function=lambda *_: torch.tensor(True),
            attention_mask=torch.tensor([[True] * 3, [True, True, False]]), device=torch.device("cpu"),
        )  # fmt: skip
    assert got[:, 0, 0].tolist() == [[True] * 5, [True, False, True, True, False]]


def test_additive_masks_are_zero_or_the_lowest_number():
    """And never left out, as those are that a kernel can do without."""
    options = {"batch_size": 1, "q_length": 2, "kv_length": 2, "mask_function": causal_mask_function}
    assert joint_mask(**options, allow_is_causal_skip=True, device=torch.device("cpu")) is None
    got = additive_mask(**options, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert got.dtype == torch.bfloat16
    assert got[0, 0].tolist() == [[0.0, torch.finfo(torch.bfloat16).min], [0.0, 0.0]]


def test_a_mask_on_another_device_is_a_mask():
    later = torch.device("meta")
    columns = torch.ones(2, PROMPT, dtype=torch.bool)
    with carrying(Carried(injection=injection(columns, [0, 0]))):
        mask = joint_mask(batch_size=2, q_length=3, kv_length=3, mask_function=causal_mask_function, device=later)
    assert mask.device == later
    assert mask.shape == (2, 1, 3, PROMPT + 3)
