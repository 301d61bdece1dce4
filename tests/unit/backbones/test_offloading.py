"""A backbone whose layers are kept on disk or in CPU memory is the same backbone, and trains the same prompt."""

from __future__ import annotations

import pytest
import torch
from tests.models import word_tokenizer
from tests.training.ranks import make_model
from tests.training.sessions import difference, sentiment, short_run

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import UnsupportedError
from softprompt.training import IA3, LoRA, ModelTuning, TrainConfig, train

DISK = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "disk",
        "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}  # fmt: skip


def saved(family, folder):
    make_model(family).save_pretrained(folder)
    word_tokenizer("decoder-only").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return saved("llama", tmp_path)


@pytest.mark.parametrize("device_map", [{"": "cpu"}, DISK], ids=["cpu", "disk"])
def test_spread_over_memory_and_disk(folder, device_map):
    """Layers on disk are empty between passes; the fingerprint is of what they hold."""
    whole, spread = Backbone.from_pretrained(folder), Backbone.from_pretrained(folder, device_map=device_map)
    assert any(weight.is_meta for weight in spread.model.parameters()) == ("lm_head" in device_map)
    assert spread.fingerprint == whole.fingerprint
    runs = [short_run(task=sentiment(), steps=3)]
    found, wanted = (train(backbone, runs, TrainConfig(progress=False))["a"].prompt for backbone in (spread, whole))
    assert difference(found, wanted) < 1e-6


def test_the_embedding_table_may_be_on_disk(folder):
    spread = Backbone.from_pretrained(folder, device_map={**DISK, "model.embed_tokens": "disk"})
    ids = torch.tensor([[5, 6, 7]])
    assert spread.device == torch.device("cpu")
    found = Prompted(spread)(ids, prompts=[None]).logits
    torch.testing.assert_close(found, Prompted(Backbone.from_pretrained(folder))(ids, prompts=[None]).logits)


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_a_tied_table_counts_once_wherever_it_is_kept(tmp_path, place):
    """Each place of an offloaded table has an empty weight of its own, which made it another model."""
    device_map = {**DISK, "model.embed_tokens": place, "lm_head": place}
    folder = saved("tied-llama", tmp_path)
    spread = Backbone.from_pretrained(folder, device_map=device_map)
    assert spread.fingerprint == Backbone.from_pretrained(folder).fingerprint


def test_offloaded_weights_are_not_trained(folder):
    """Their places are empty: a copy of the model would train nothing, or end in torch's own error."""
    spread = Backbone.from_pretrained(folder, device_map=DISK)
    for method in (ModelTuning(), LoRA(), IA3()):
        with pytest.raises(UnsupportedError, match="where they cannot be trained; load it without device_map"):
            train(spread, [short_run(method=method)], TrainConfig(progress=False))


def test_offloaded_weights_are_not_quantised(folder):
    pytest.importorskip("torchao")
    with pytest.raises(UnsupportedError, match="which cannot be quantised; put all of it on devices, or drop quantize"):
        Backbone.from_pretrained(folder, device_map=DISK, quantize="int8")
