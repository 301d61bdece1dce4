"""Layers are recomputed within a call, and are afterwards what they were."""

from __future__ import annotations

import threading

import pytest
import torch
from tests.families import zoo
from torch import nn
from transformers import T5EncoderModel
from transformers.modeling_layers import GradientCheckpointingLayer

from softprompt.backbones.checkpointing import checkpointed
from softprompt.errors import UnsupportedError


def layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def test_blocks_nest_and_errors_leave_nothing_behind():
    model = zoo.fresh("gpt2").model
    before = [dict(vars(layer)) for layer in layers(model)]
    with checkpointed(model):
        with pytest.raises(ZeroDivisionError), checkpointed(model):
            _ = 1 / 0
        assert all("forward" in vars(layer) for layer in layers(model))
    assert [dict(vars(layer)) for layer in layers(model)] == before


def test_a_layers_own_forward_is_kept():
    """Offloading hooks put a forward of their own on a layer."""
    model = zoo.fresh("gpt2").model
    first, calls = layers(model)[0], []
    stock = first.forward

    def hooked(*args, **options):
        calls.append(len(args))
        return stock(*args, **options)

    first.forward = hooked
    embeddings = torch.zeros(1, 2, zoo.DIM, requires_grad=True)
    with checkpointed(model):
        logits = model(inputs_embeds=embeddings, use_cache=False).logits
    assert len(calls) == 1
    logits.sum().backward()
    assert len(calls) == 2
    assert first.forward is hooked


def test_other_calls_are_not_recomputed():
    """A thread that only reads keeps its cache while another's call is checkpointed."""
    model = zoo.fresh("gpt2").model
    made = []

    def read() -> None:
        with torch.no_grad():
            made.append(model(torch.tensor([[5, 6]]), use_cache=True).past_key_values.get_seq_length())

    with checkpointed(model):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert made == [2]


def test_a_model_without_such_layers_is_refused():
    model = T5EncoderModel(zoo.BY_NAME["t5"].config())
    model.encoder.block = nn.ModuleList()
    block = checkpointed(model)
    with pytest.raises(UnsupportedError, match="T5EncoderModel has no layers that gradient checkpointing can"):
        block.__enter__()
