"""Bytes of tensors are counted where they are made, with values and without."""

from __future__ import annotations

import torch
from tests.models import tiny_backbone
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from softprompt.backbones.allocations import Allocations, storages
from softprompt.backbones.weightless import Weightless

CPU = torch.device("cpu")


def test_what_is_held_is_counted_until_it_is_freed():
    with Allocations(CPU) as count:
        first = torch.empty(1000)
        view = first.view(10, 100)
        second = first + 1
        assert count.live_bytes == 2 * 4000
        del first
        assert count.live_bytes == 2 * 4000  # the view holds it
        del view, second
    assert (count.live_bytes, count.peak_bytes) == (0, 2 * 4000)


def test_what_was_there_before_is_not_counted():
    before = torch.empty(1000)
    with Allocations(CPU) as count:
        before.add_(1)
        row = before.view(10, 100)[0]
    assert len(row) == 100
    assert count.peak_bytes == 0


def test_a_new_peak_begins_with_what_is_held():
    with Allocations(CPU) as count:
        kept = torch.empty(100)
        torch.empty(1000)
        assert count.peak_bytes == 4400
        count.begin_peak()
        torch.empty(10)
        assert count.peak_bytes == 440
    assert len(kept) == 100


def test_a_tensor_that_is_made_of_others_counts_as_these():
    """As quantised weights are."""
    pair = TwoTensor(torch.ones(100), torch.ones(100))
    with Allocations(CPU) as count:
        other = pair + 1
        assert count.live_bytes == 800
        again = other.detach()
        del other
        assert count.live_bytes == 800
    assert sum(storage.nbytes() for storage in storages(again)) == 800


def test_a_pass_without_values_takes_what_one_with_values_takes():
    """A hand-made network: hidden states are held for the backward pass, and gradients of what is trained."""
    net = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False))
    copied = Weightless().copy(net)
    peaks = []
    for model in (net, copied):
        with Allocations(CPU) as count:
            model(torch.ones(32, 8)).sum().backward()
            peaks.append((count.live_bytes, count.peak_bytes))
    assert peaks[0] == peaks[1]
    assert peaks[1][0] == 4 * (8 * 16 + 16 * 4)
    assert peaks[1][1] >= 4 * 32 * (8 + 16)


def test_what_is_chosen_by_masks_is_known_and_what_is_chosen_by_values_is_answered():
    copied = Weightless().copy(nn.Linear(6, 5, bias=False)).weight
    mask = torch.tensor([True, False, True, False, False])
    with Allocations(CPU):
        assert copied[mask].shape == (2, 6)
        assert copied.sum().item() == 0.0
        assert bool(copied.isfinite().all())
        assert copied.argmax(-1).tolist() == [3] * 5


def test_a_backbone_without_values_is_the_same_to_ask():
    backbone = tiny_backbone("encoder-decoder")
    copied = Weightless().copy_backbone(backbone)
    assert copied.spec == backbone.spec
    assert copied.fingerprint == backbone.fingerprint
    assert copied.tokenizer is backbone.tokenizer
    assert list(copied.sites.values()) == list(backbone.sites.values())
    assert all(module in set(copied.model.modules()) for module in copied.sites)
    table, head = copied.model.get_input_embeddings(), copied.model.get_output_embeddings()
    real = backbone.model
    assert (table.weight is head.weight) == (real.get_input_embeddings().weight is real.get_output_embeddings().weight)
