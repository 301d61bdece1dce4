"""A backbone whose layers are kept on disk or in CPU memory is the same backbone, and trains the same prompt."""

from __future__ import annotations

import pytest
import torch
from tests.models import word_tokenizer
from tests.training.ranks import FAMILIES, make_model
from tests.training.sessions import difference, sentiment, short_run

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import BackboneError, UnsupportedError
from softprompt.inference import Engine, Request, Sampling
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.training import IA3, LoRA, ModelTuning, TrainConfig, train

DISK = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "disk",
        "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}  # fmt: skip


def saved(family, folder):
    make_model(family).save_pretrained(folder)
    word_tokenizer(FAMILIES[family]).save_pretrained(folder)
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


@pytest.mark.slow
@pytest.mark.parametrize(("family", "device_map"), [("llama", DISK), ("t5", {"": "disk"})], ids=["llama", "t5"])
def test_answers_are_those_of_the_whole(family, device_map, tmp_path):
    """Text of an encoder-decoder began where its table stood, which was nowhere."""
    folder = saved(family, tmp_path / "model")
    whole = Backbone.from_pretrained(folder)
    methods = {"rows": PromptTuning(length=4, init="vocab"), "keys": PrefixTuning(length=3, hidden=None, init="vocab")}
    for name, method in methods.items():
        method.build(whole, seed=1).save(tmp_path / "prompts" / name)
    asked = [("review : great film", "rows"), ("the song was long", "keys"), ("a bad book", None)]
    texts, names = zip(*asked, strict=True)
    found = []
    for backbone in (whole, Backbone.from_pretrained(folder, device_map=device_map)):
        with Engine(backbone, tmp_path / "prompts") as engine:
            sampling = Sampling(max_new_tokens=5)
            answers = [engine.submit(Request(input=text, prompt=name, sampling=sampling)) for text, name in asked]
            said = [answer.result().completions for answer in answers]
        model = Prompted(backbone, {name: method.build(whole, seed=1) for name, method in methods.items()})
        said.append(model.generate(texts, prompts=names, max_new_tokens=5, num_beams=2))
        found.append((said, model.score(texts, ["good", "bad"], prompts=names)))
    (said, scores), (wanted, wanted_scores) = found
    assert said == wanted
    torch.testing.assert_close(scores, wanted_scores)


def test_parts_that_share_a_table_have_one_place(tmp_path):
    """Accelerate ended in the bare name of the weight."""
    device_map = {"shared": "cpu", "encoder": "disk", "decoder": "disk", "lm_head": "disk"}
    with pytest.raises(BackboneError, match=r"encoder\.embed_tokens\.weight is kept where its layer does not find"):
        Backbone.from_pretrained(saved("t5", tmp_path), device_map=device_map)


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
