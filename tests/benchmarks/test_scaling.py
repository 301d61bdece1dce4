"""What is reckoned of large backbones is what the library stores, compiles and computes on a small one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.scaling import BACKBONES, H200, Shape, che_hit_rate, main, serving, training
from benchmarks.serving.arrivals import draw_arrivals, hit_rate, zipf
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

import softprompt as sp

LENGTH = 5
SHAPE = Shape("small", parameters=0, layers=3, dim=32, kv_heads=2, head_dim=8)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=SHAPE.dim, intermediate_size=48, num_hidden_layers=SHAPE.layers,
        num_attention_heads=4, num_key_value_heads=SHAPE.kv_heads, head_dim=SHAPE.head_dim,
    )  # fmt: skip
    return sp.Backbone.from_model(LlamaForCausalLM(config).eval())


@pytest.mark.parametrize("prefix", [False, True])
def test_bytes_are_those_of_a_prompt(backbone, prefix):
    method = sp.PrefixTuning(length=LENGTH, hidden=None) if prefix else sp.PromptTuning(length=LENGTH, init="random")
    prompt = method.build(backbone, seed=0)
    stored = SHAPE.stored_bytes(LENGTH, prefix=prefix)
    assert prompt.num_parameters() * 4 == stored
    model = sp.Prompted(backbone)
    model.add("one", prompt, fixed=True)
    more = SHAPE.compiled_bytes(LENGTH)  # what is bfloat16 on paper is float32 here
    assert model.compile() == SHAPE.held_bytes(LENGTH, prefix=prefix) + more


def test_operations_are_those_of_a_pass(backbone):
    in_layers = sum(p.numel() for name, p in backbone.model.named_parameters() if "proj" in name)
    shape, tokens = replace(SHAPE, parameters=in_layers), 7
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.model.model(input_ids=torch.zeros(1, tokens, dtype=torch.long))
    counts = counter.get_flop_counts()["Global"]
    products = sum(count for kind, count in counts.items() if kind in (torch.ops.aten.mm, torch.ops.aten.addmm))
    assert products == shape.pass_flops(tokens)


@pytest.mark.parametrize(("tasks", "room"), [(1000, 100), (200, 150), (50, 3)])
def test_the_hit_rate_is_that_of_requests_in_the_long_run(tasks, room):
    asked = [one.task for one in draw_arrivals(rate=1, count=100_000, tasks=tasks, inputs=1, seed=(0,))]
    assert che_hit_rate(zipf(tasks), room) == pytest.approx(hit_rate(asked, room=room), abs=0.01)


def test_nothing_is_hit_without_room():
    assert che_hit_rate(np.full(4, 0.25), 0) == 0


def test_more_tasks_cost_hits_and_the_disk():
    few, many = (serving(BACKBONES[1], H200, tasks, prefix=True) for tasks in (1000, 1_000_000))
    assert few.hits == 1
    assert few.read_share == 0
    assert 0 < many.hits < 1
    assert many.compile_share == pytest.approx(many.read_share * H200.disk / H200.host)


def test_a_miss_of_rows_reads_the_weights_at_least():
    """Few rows are bound by that, and not by their operations."""
    shape, tasks = BACKBONES[2], 1_000_000
    short, long = (serving(shape, H200, tasks, length=length) for length in (1, 2000))
    missed = [(1 - one.hits) * one.answers for one in (short, long)]
    reading_s, computing_s = 2 * shape.parameters / H200.bandwidth, 2 * shape.parameters * 2000 * 1.4 / H200.flops
    assert short.compile_share == pytest.approx(missed[0] * reading_s, rel=0.01)
    assert long.compile_share == pytest.approx(missed[1] * computing_s, rel=0.01)


def test_gpus_that_compute_one_after_the_other_are_no_faster_than_one():
    """Twice the GPUs answered twice as much, which needs layers that are divided; there are none such."""
    smaller = replace(H200, memory=H200.memory / 2)
    one, two = (serving(BACKBONES[1], machine, 10).answers for machine in (H200, smaller))
    assert (H200.gpus(BACKBONES[1]), smaller.gpus(BACKBONES[1])) == (1, 1)
    assert one == two
    half = replace(H200, memory=H200.memory / 8)
    assert half.gpus(BACKBONES[1]) == 2
    assert serving(BACKBONES[1], half, 10).answers == one


def test_a_backbone_on_many_gpus_waits_for_its_parts():
    small, large = (training(shape, H200) for shape in (BACKBONES[0], BACKBONES[-1]))
    assert small.gpus == 1
    assert small.gather_s == 0
    assert large.gather_s > large.step_s
    assert large.gather_s == pytest.approx(4 * 2 * BACKBONES[-1].parameters * 15 / 16 / H200.network)
    assert large.activation_bytes == (32 * 130 + 16 * 100) * 126 * 16384 * 2


@pytest.mark.slow
def test_the_tables_name_every_backbone(capsys, tmp_path):
    main(["--results", str(tmp_path), "--plot", str(tmp_path / "plot.svg")])
    printed = capsys.readouterr().out
    assert all(printed.count(shape.name) >= 3 for shape in BACKBONES)
    assert (tmp_path / "plot.svg").read_text(encoding="utf-8").startswith("<?xml")
