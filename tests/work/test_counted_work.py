"""How much is computed, which is stable where seconds are not: positions through the layers and the head, operations.

A change that makes one of these numbers larger makes softprompt slower on every machine.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from tests.families import zoo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.conditioning.texts import EncodedInput, collate_inputs
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.training.data import TrainRow
from softprompt.training.passes import cut_passes
from softprompt.training.step import backward

LENGTH = 8
INPUTS = (3, 5, 4, 9, 10, 11)
TARGETS = (2, 1, 2, 1, 3, 1)
METHODS = {
    "rows": PromptTuning(length=LENGTH, init="vocab"),
    "prefix": PrefixTuning(length=LENGTH, hidden=None),
    "appended": PromptTuning(length=LENGTH, init="vocab", placement="append"),
    "infix": PrefixTuning(length=LENGTH, hidden=None, placement="append"),
}


def model_of(name: str, prompts: int = 1, method: str = "rows") -> Prompted:
    backbone = zoo.fresh(name)
    return Prompted(backbone, {f"p{i}": METHODS[method].build(backbone, seed=i) for i in range(prompts)})


def rows_for(model: Prompted, prompts: int = 1) -> list[tuple[str, TrainRow]]:
    rows = []
    for i, (before, after) in enumerate(zip(INPUTS, TARGETS, strict=True)):
        target = [7 + place for place in range(after)]
        width = (before + after, 0) if model.backbone.spec.kind == "decoder-only" else (before, after)
        prompt = f"p{i % prompts}"
        rows.append((prompt, TrainRow([8 + i] * before, target, (), width, prompt)))
    return rows


@contextlib.contextmanager
def watched(backbone: Backbone) -> Iterator[Counter[str]]:
    """Count the positions that go through each stack of layers, and through the head."""
    seen: Counter[str] = Counter()

    def watch(name: str) -> Callable[..., None]:
        def count(module: nn.Module, given: tuple[torch.Tensor, ...], options: dict[str, torch.Tensor]) -> None:
            states = given[0] if given else options["hidden_states"]
            seen[name] += states.shape[:-1].numel()

        return count

    head = backbone.model.get_output_embeddings()
    model = backbone.model
    if backbone.spec.kind == "decoder-only":
        stacks = {"layers": next(module for module in model.modules() if isinstance(module, nn.ModuleList))}
    else:
        stacks = {"encoder": model.encoder.block, "decoder": model.decoder.block}
    hooks = [stack[-1].register_forward_pre_hook(watch(name), with_kwargs=True) for name, stack in stacks.items()]
    hooks.append(head.register_forward_pre_hook(watch("head"), with_kwargs=True))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def padded(rows: list[tuple[str, TrainRow]], passes: list[list[tuple[str, TrainRow]]], part: int = 0) -> int:
    """Positions of the rows, padding included, as they are cut into passes."""
    assert sum(map(len, passes)) == len(rows)
    return sum(len(one) * max(row.width[part] for _, row in one) for one in passes)


@pytest.mark.parametrize("prompts", [1, 3])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_step_computes_each_prompt_once_and_each_row_once(name, prompts):
    model = model_of(name, prompts)
    rows = rows_for(model, prompts)
    for tokens in (10**6, 30):
        passes = cut_passes(model, rows, tokens)
        with watched(model.backbone) as seen:
            backward(model, passes, precision="float32")
        assert seen["layers"] == prompts * LENGTH + padded(rows, passes)
        assert seen["head"] == sum(TARGETS) + prompts  # recording asks for one position of each


def test_a_prefix_adds_no_positions():
    for name, stack in (("gpt2", "layers"), ("t5", "encoder")):
        model = model_of(name, method="prefix")
        rows = rows_for(model)
        passes = cut_passes(model, rows, 10**6)
        with watched(model.backbone) as seen:
            backward(model, passes, precision="float32")
        assert seen[stack] == padded(rows, passes)
        assert seen["head"] == sum(TARGETS)


def test_an_encoder_reads_prompt_and_row_and_nothing_else():
    model = model_of("t5")
    rows = rows_for(model)
    passes = cut_passes(model, rows, 10**6)
    with watched(model.backbone) as seen:
        backward(model, passes, precision="float32")
    assert seen["encoder"] == len(rows) * LENGTH + padded(rows, passes)
    assert seen["decoder"] == padded(rows, passes, part=1)
    assert seen["head"] == sum(TARGETS)


@pytest.mark.parametrize(
    ("name", "method"), [*(("gpt2", method) for method in METHODS), ("t5", "rows"), ("t5", "prefix")]
)
def test_no_gradient_is_made_of_what_is_frozen(name, method):
    """A gradient of the weights would be as much again."""
    model = model_of(name, method=method)
    passes = cut_passes(model, rows_for(model), 10**6)
    both, once = products_of(model, passes)
    assert once < both <= 2 * once


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize(("method", "behind"), [("appended", LENGTH), ("infix", 1)])
def test_no_gradient_is_made_of_what_stands_before_the_prompt(method, behind, ranked):
    model = model_of("gpt2", method=method)
    candidates = ([7, 1], [8, 1]) if ranked else ()
    rows = [("p0", TrainRow([8] * 30, [7, 1], (), (32 + 2 * ranked, 0), "p0", candidates)) for _ in range(4)]
    both, once = products_of(model, [rows])
    positions = 30 + 2 + (LENGTH if method == "appended" else 0)
    assert once < both <= once * (1 + 1.3 * (behind + 2) / positions)


def products_of(model: Prompted, passes: list[list[tuple[str, TrainRow]]]) -> tuple[int, int]:
    """Operations of the matrices of a step, forward and backward, and forward alone."""
    with FlopCounterMode(display=False) as both:
        backward(model, passes, precision="float32")
    with FlopCounterMode(display=False) as once, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", lambda self: None)
        patch.setattr(torch.autograd, "backward", lambda *given: None)
        backward(model, passes, precision="float32")
    kinds = [torch.ops.aten.mm, torch.ops.aten.addmm]
    first, second = (sum(c.get_flop_counts()["Global"].get(kind, 0) for kind in kinds) for c in (both, once))
    return first, second


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_scores_read_the_input_once_and_no_prompt(name):
    """A prompt is compiled once; in an encoder it stands among the row."""
    model = model_of(name)
    ids, mask, marks = collate_inputs(model.backbone, [EncodedInput([8] * before, ()) for before in INPUTS])
    labels = [[7, 1], [8, 9, 10, 1], [9, 1]]
    given = [*labels, [7, 1]]  # what is said twice is computed once
    with torch.no_grad():
        model.compile()
        with watched(model.backbone) as seen:
            model.score_ids(ids, mask, [given] * len(INPUTS), prompts="p0", marks=marks)
    rows, longest = len(INPUTS), max(map(len, labels))
    if name == "gpt2":  # all candidates stand in one row, and none is padded
        further = rows * sum(len(label) - 1 for label in labels)
        assert seen["layers"] == rows * max(INPUTS) + further
    else:
        further = rows * len(labels) * (longest - 1)
        assert seen["encoder"] == rows * (LENGTH + max(INPUTS))
        assert seen["decoder"] == rows + further
    assert seen["head"] == rows + further


def test_a_short_list_of_candidates_is_not_filled_up_with_work():
    model = model_of("gpt2")
    ids = torch.full((2, 10), 8)
    targets = [[[7] * 10, [9] * 10], [[2 + index] for index in range(10)]]
    with torch.no_grad():
        model.compile()
        with watched(model.backbone) as seen:
            model.score_ids(ids, torch.ones_like(ids), targets, prompts="p0")
    assert seen["layers"] == 2 * (10 + 2 * 9)
    assert seen["head"] == 2 + 2 * 9


def test_generation_reads_no_prompt():
    model = model_of("gpt2")
    ids, mask, _ = collate_inputs(model.backbone, [EncodedInput([8] * before, ()) for before in INPUTS])
    model.compile()
    with watched(model.backbone) as seen:
        model.generate(input_ids=ids, attention_mask=mask, prompts="p0", max_new_tokens=4, min_new_tokens=4)
    assert seen["layers"] == len(INPUTS) * (max(INPUTS) + 3)
    assert seen["head"] == len(INPUTS) * 4
