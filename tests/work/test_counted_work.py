"""How much is computed, which is stable where seconds are not: positions through the layers and the head, operations.

A change that makes one of these numbers larger makes softprompt slower on every machine.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from tests.families import zoo
from tests.training.sessions import calm_backbone, sentiment
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.conditioning.decoding import JoiningDecoding
from softprompt.conditioning.texts import EncodedInput, collate_inputs
from softprompt.conditioning.turns import TurnDecoding
from softprompt.evaluation import Job, evaluate_many
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.training.data import TrainRow
from softprompt.training.passes import cut_passes
from softprompt.training.step import backward

LENGTH = 8
INPUTS = (10, 3, 11, 5, 9, 4)
TARGETS = (3, 2, 1, 1, 1, 2)
METHODS = {
    "rows": PromptTuning(length=LENGTH, init="vocab"),
    "prefix": PrefixTuning(length=LENGTH, hidden=None),
    "appended": PromptTuning(length=LENGTH, init="vocab", placement="append"),
    "infix": PrefixTuning(length=LENGTH, hidden=None, placement="append"),
    "inside": PromptTuning(length=LENGTH, init="vocab", placement="middle"),
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
    """Count the positions that go through each stack of layers, and through the head, and the passes of the model."""
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
    hooks.append(model.register_forward_pre_hook(lambda module, given: seen.update(passes=1)))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("prompts", [1, 3])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_step_computes_each_prompt_once_and_each_row_once(name, prompts):
    model = model_of(name, prompts)
    rows = rows_for(model, prompts)
    for tokens, positions, passes in ((10**6, 6 * 13, 1), (30, 3 * 6 + 10 + 2 * 13, 3)):
        with watched(model.backbone) as seen:
            backward(model, cut_passes(model, rows, tokens), precision="float32")
        assert seen["layers"] == prompts * LENGTH + positions
        assert seen["head"] == sum(TARGETS) + prompts  # recording asks for one position of each
        assert seen["passes"] == passes + 1


@pytest.mark.parametrize(("tokens", "positions", "passes"), [(16384, 1329, 4), (512, 1277, 5), (200, 1290, 7)])
def test_rows_of_many_lengths_are_hardly_padded_in_few_passes(tokens, positions, passes):
    """Of 1,164 tokens; in one pass they would be 2,064."""
    model = model_of("gpt2")
    lengths = [3 + 7 * place**2 % 41 for place in range(48)]
    rows = [("p0", TrainRow([8] * length, [7, 1], (), (length + 2, 0), "p0")) for length in lengths]
    assert sum(row.tokens for _, row in rows) == 1164
    with watched(model.backbone) as seen:
        backward(model, cut_passes(model, rows, tokens), precision="float32")
    assert seen["layers"] <= LENGTH + positions
    assert seen["passes"] <= 1 + passes


def test_runs_of_several_methods_share_their_passes():
    """Prompts that are recorded are padded to the longest; those that are inserted lengthen their own rows alone."""
    backbone = zoo.fresh("gpt2")
    methods = {**METHODS, "short": PromptTuning(length=3, init="vocab")}
    model = Prompted(backbone, {name: method.build(backbone) for name, method in methods.items()})
    rows = [(name, TrainRow([8] * 10, [7, 1], (), (12, 0), name)) for name in methods for _ in range(4)]
    with watched(backbone) as seen:
        backward(model, cut_passes(model, rows, 10**6), precision="float32")
    assert seen["layers"] == 2 * LENGTH + 16 * 12 + 8 * (12 + LENGTH)
    assert seen["head"] == 2 + 2 * 24
    assert seen["passes"] == 1 + 2


def test_a_prefix_adds_no_positions():
    for name, stack, positions in (("gpt2", "layers", 6 * 13), ("t5", "encoder", 6 * 11)):
        model = model_of(name, method="prefix")
        with watched(model.backbone) as seen:
            backward(model, cut_passes(model, rows_for(model), 10**6), precision="float32")
        assert seen[stack] == positions
        assert seen["head"] == sum(TARGETS)


def test_an_encoder_reads_prompt_and_row_and_nothing_else():
    model = model_of("t5")
    with watched(model.backbone) as seen:
        backward(model, cut_passes(model, rows_for(model), 10**6), precision="float32")
    assert seen["encoder"] == 6 * (LENGTH + 11)
    assert seen["decoder"] == 6 * 3
    assert seen["head"] == sum(TARGETS)


def test_of_inputs_before_their_prompt_only_those_that_are_not_kept_are_read():
    backbone = zoo.fresh("gpt2")
    of_a_token = 2 * backbone.spec.dim * backbone.spec.layers * 4
    prompts = {"p0": METHODS["appended"].build(backbone)}
    model = Prompted(backbone, prompts, input_cache_bytes=61 * of_a_token)  # two of 30 tokens
    rows = [("p0", TrainRow([8 + row] * 30, [7, 1], (), (32, 0), "p0")) for row in range(4)]
    for unknown in (4, 2, 2):
        with watched(backbone) as seen:
            backward(model, [rows], precision="float32")
        assert seen["layers"] == unknown * 30 + 4 * (LENGTH + 2)
        assert seen["head"] == unknown + 4 * 2
    with watched(backbone) as seen:
        backward(model, [rows[:2] * 2], precision="float32")
    assert seen["layers"] == 4 * (LENGTH + 2)


@pytest.mark.parametrize(
    ("name", "method"), [*(("gpt2", method) for method in METHODS), ("t5", "rows"), ("t5", "prefix")]
)
def test_no_gradient_is_made_of_what_is_frozen(name, method):
    """A gradient of the weights would be as much again; attention has two products, and five backward."""
    model = model_of(name, method=method)
    passes = cut_passes(model, rows_for(model), 10**6)
    both, once = products_of(model, passes)
    assert once.weights < both.weights <= 2 * once.weights
    assert both.attention <= 3.5 * once.attention
    assert once.attention > 0


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize(
    ("method", "first", "second", "prefix"),
    [("appended", 30, LENGTH + 2, 0), ("infix", 29, 3, LENGTH), ("inside", 15, 15 + LENGTH + 2, 0)],
)
def test_no_gradient_is_made_of_what_stands_before_the_prompt(method, first, second, prefix, ranked):
    model = model_of("gpt2", method=method)
    candidates = ([7, 1], [8, 1]) if ranked else ()
    rows = [("p0", TrainRow([8] * 30, [7, 1], (), (32 + 2 * ranked, 0), "p0", candidates)) for _ in range(8)]
    both, once = products_of(model, [rows])
    assert once.weights < both.weights <= once.weights * (1 + 1.3 * second / (first + second))
    assert once.attention == ATTENTION * 8 * (first**2 + second * (first + second + prefix))
    assert both.attention == once.attention + 2.5 * ATTENTION * 8 * second * (first + second + prefix)


ATTENTION = 3 * 2 * 2 * 32
"""Operations of a query at a key: layers, two products of multiplying and adding, width."""


class Products(NamedTuple):
    """Operations of a step, by the kind of matrix product."""

    weights: int
    attention: int


def products_of(model: Prompted, passes: list[list[tuple[str, TrainRow]]]) -> tuple[Products, Products]:
    """Those of a step forward and backward, and forward alone."""
    with FlopCounterMode(display=False, custom_mapping=KERNELS) as both:
        backward(model, passes, precision="float32")
    with FlopCounterMode(display=False, custom_mapping=KERNELS) as once, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", lambda self: None)
        patch.setattr(torch.autograd, "backward", lambda *given: None)
        backward(model, passes, precision="float32")
    weights = [torch.ops.aten.mm, torch.ops.aten.addmm]
    found = [counter.get_flop_counts()["Global"] for counter in (both, once)]
    assert all(set(kinds) <= {*weights, *KERNELS} for kinds in found)
    first, second = (
        Products(*(sum(kinds.get(kind, 0) for kind in some) for some in (weights, KERNELS))) for kinds in found
    )
    return first, second


KERNELS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda query, key, value, *given, **options: sdpa_flop_count(query, key, value)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda gradient, query, key, value, *given, **options: sdpa_backward_flop_count(gradient, query, key, value)
    ),
}
"""A CPU's attention, which torch does not count by itself."""


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


def test_an_encoder_decoder_reads_its_input_once_and_generates_from_a_cache():
    model = model_of("t5")
    ids, mask, _ = collate_inputs(model.backbone, [EncodedInput([8] * before, ()) for before in INPUTS])
    with watched(model.backbone) as seen:
        model.generate(input_ids=ids, attention_mask=mask, prompts="p0", max_new_tokens=4, min_new_tokens=4)
    assert seen["encoder"] == len(INPUTS) * (LENGTH + max(INPUTS))
    assert seen["decoder"] == seen["head"] == len(INPUTS) * 4


@pytest.mark.parametrize(
    ("name", "decoding", "read"),
    [
        ("gpt2", JoiningDecoding, {"layers": max(INPUTS)}),
        ("llama", JoiningDecoding, {"layers": max(INPUTS)}),
        ("gpt2", TurnDecoding, {"layers": max(INPUTS)}),
        ("mistral", TurnDecoding, {"layers": max(INPUTS)}),
        ("t5", TurnDecoding, {"encoder": LENGTH + max(INPUTS), "decoder": 1}),
    ],
)
def test_a_running_batch_asks_the_head_for_one_token_of_each_row(name, decoding, read):
    """The head ran at every position of the inputs where rows begin together."""
    model = model_of(name)
    model.compile()
    running = decoding(model.backbone)
    ids, mask, _ = collate_inputs(model.backbone, [EncodedInput([8] * before, ()) for before in INPUTS])
    with watched(model.backbone) as seen:
        logits = model.admit(running, ids, mask, prompts=["p0"] * len(INPUTS))
    assert seen == {name: len(INPUTS) * count for name, count in read.items()} | {"head": len(INPUTS), "passes": 1}
    with watched(model.backbone) as seen:
        running.step(logits.argmax(-1))
    assert seen["head"] == len(INPUTS)
    assert seen["passes"] == 1


@pytest.mark.parametrize(
    ("by", "positions", "head", "passes"),
    [
        ("rank", 300 + 30 * 4, 30 * (1 + 4), 2),  # in one pass of inputs 450; of both labels 4 tokens have successors
        ("generate", 450 + 30 * 2, 30 * 3, 3),  # all rows in one batch, as steps cost more than padding
    ],
)
def test_an_evaluation_of_several_prompts_mixes_their_rows(by, positions, head, passes):
    """Ten rows of each of three prompts, whichever of them a batch takes; prompts are compiled once, in one pass."""
    backbone, task = calm_backbone("decoder-only"), sentiment(label_words={"0": "bad", "1": "good or great"})
    model = Prompted(backbone, {f"p{i}": METHODS["rows"].build(backbone, seed=i) for i in range(3)})
    jobs = {name: Job(task=task, prompt=name, by=by, max_new_tokens=3) for name in model.prompts}
    with watched(backbone) as seen:
        evaluate_many(model, jobs)
    assert seen["layers"] <= 3 * LENGTH + positions
    assert seen["head"] <= 3 + head
    assert seen["passes"] <= 1 + passes
