"""The attention function and the masks that go with it, against plain loops."""

from __future__ import annotations

import pytest
import torch
from tests.families import zoo
from torch import nn
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

from softprompt.backbones.attention import (
    Carried,
    Injection,
    Recorder,
    Site,
    _additive,
    _inject,
    _joint_mask,
    carried,
    carrying,
    keep_positions,
)
from softprompt.errors import ShapeError, UnsupportedError

PROMPT = 4


def injection(columns: torch.Tensor, starts: list[int], *, causal: bool = True) -> Injection:
    return Injection(
        keys={}, values={}, rows=torch.zeros(len(columns), dtype=torch.long), columns=columns, hidden={},
        starts=torch.tensor(starts), causal=causal, sites={},
    )  # fmt: skip


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
        got = _joint_mask(
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
    assert _joint_mask(**options) is None
    with carrying(Carried()):
        assert _joint_mask(**options) is None


def test_a_reader_of_both_directions_sees_its_own_prompt():
    columns = torch.tensor([[True, True], [True, False]])
    with carrying(Carried(injection=injection(columns, [0, 0], causal=False))):
        got = _joint_mask(
            batch_size=2, q_length=3, kv_length=3, mask_function=lambda *_: torch.tensor(True),
            attention_mask=torch.tensor([[True] * 3, [True, True, False]]), device=torch.device("cpu"),
        )  # fmt: skip
    assert got[:, 0, 0].tolist() == [[True] * 5, [True, False, True, True, False]]


def test_additive_masks_are_zero_or_the_lowest_number():
    assert _additive(None, torch.float32) is None
    got = _additive(torch.tensor([True, False]), torch.bfloat16)
    assert got.tolist() == [0.0, torch.finfo(torch.bfloat16).min]
    assert got.dtype == torch.bfloat16


def test_a_batch_must_be_a_multiple_of_the_rows():
    columns = torch.ones(2, 1, dtype=torch.bool)
    with (
        carrying(Carried(injection=injection(columns, [0, 0]))),
        pytest.raises(ShapeError, match="A batch of 3 rows is no multiple of the 2 rows"),
    ):
        _joint_mask(batch_size=3, q_length=1, kv_length=1, device=torch.device("cpu"))


def test_a_layer_that_gets_no_joint_mask_says_so():
    backbone = zoo.backbone("gpt2")
    columns = torch.ones(1, 2, dtype=torch.bool)
    four = torch.zeros(1, 1, 3, 3)
    with pytest.raises(UnsupportedError, match=r"GPT2Attention does not take its mask .*\(expected 5 columns, got 3\)"):
        backbone.call(
            Carried(injection=injection(columns, [0])), input_ids=torch.tensor([[5, 6, 7]]), attention_mask=four
        )


def test_what_is_carried_ends_with_its_block():
    outer, inner = Carried(), Carried(recorder=Recorder())
    block = carrying(outer)
    for _ in range(2):
        with block:
            assert carried() is outer
            with carrying(inner), block:
                assert carried() is outer
            assert carried() is outer
        assert carried() is None
    with pytest.raises(ZeroDivisionError), block:
        _ = 1 / 0
    assert carried() is None


def test_sites_are_told_in_order():
    assert sorted(zoo.backbone("t5").sites.values()) == [
        Site(stack, layer)
        for stack, layers in (("cross", 2), ("decoder", 2), ("encoder", 3))
        for layer in range(layers)
    ]


def test_the_head_runs_at_wanted_positions_only():
    hidden = torch.arange(12.0).view(2, 3, 2)
    kept = torch.tensor([[False, True, False], [True, False, True]])
    assert keep_positions(torch.nn.Identity(), (hidden,)) is None
    with carrying(Carried(kept=kept)):
        (got,) = keep_positions(torch.nn.Identity(), (hidden,))
    assert got.tolist() == [[[2.0, 3.0], [6.0, 7.0], [10.0, 11.0]]]


def test_a_layer_on_another_device_fetches_what_it_is_given():
    """In a model that `device_map` spreads over several devices, rows of one were looked up in keys of another."""
    later = torch.device("meta")
    layer, site = nn.Identity(), Site("decoder", 0)
    bank = torch.ones(3, 2, PROMPT, 8)
    columns = torch.ones(5, PROMPT, dtype=torch.bool)
    rows = torch.zeros(5, dtype=torch.long)
    load = Injection(
        keys={site: bank}, values={site: bank}, rows=rows, columns=columns, hidden={"decoder": columns},
        starts=rows, causal=True, sites={layer: site},
    )  # fmt: skip
    own = torch.ones(5, 2, 6, 8, device=later)
    mask = torch.ones(5, 1, 6, PROMPT + 6, dtype=torch.bool, device=later)
    key, value, joint, _ = _inject(Carried(injection=load), layer, own, own, mask, {})
    assert (key.device, value.device, joint.device) == (later, later, later)
    assert key.shape == (5, 2, PROMPT + 6, 8)


def test_a_mask_on_another_device_is_a_mask():
    later = torch.device("meta")
    columns = torch.ones(2, PROMPT, dtype=torch.bool)
    starts = torch.zeros(2, dtype=torch.long)
    load = Injection(
        keys={}, values={}, rows=starts, columns=columns, hidden={}, starts=starts, causal=True, sites={}
    )  # fmt: skip
    with carrying(Carried(injection=load)):
        mask = _joint_mask(batch_size=2, q_length=3, kv_length=3, mask_function=causal_mask_function, device=later)
    assert mask.device == later
    assert mask.shape == (2, 1, 3, PROMPT + 3)
