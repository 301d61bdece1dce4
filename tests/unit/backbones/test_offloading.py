"""A backbone whose layers are kept on disk or in CPU memory is the same backbone, and trains the same prompt."""

from __future__ import annotations

import pytest
import torch
from tests.models import word_tokenizer
from tests.training.ranks import make_model
from tests.training.sessions import difference, sentiment, short_run

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.training import TrainConfig, train

DISK = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "disk",
        "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    make_model("llama").save_pretrained(tmp_path / "llama")
    word_tokenizer("decoder-only").save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


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
