"""Fresh models have the shapes that their presets promise."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from softprompt.errors import ConfigError
from softprompt.pretraining.architectures import ARCHITECTURES, SHAPES, build_model, find_architecture, find_shape

T5 = [name for name in SHAPES if name.startswith("t5-")]
GPT = [name for name in SHAPES if name.startswith("gpt-")]


@pytest.mark.parametrize("preset", T5)
def test_t5_is_version_one_point_one(preset: str) -> None:
    """transformers 5 ties all four tables unless told, and unties all four when told through the flag."""
    model, shape = build_model(preset, vocab=900, max_length=64, seed=0), SHAPES[preset]
    assert model.shared.weight is model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight
    assert model.lm_head.weight is not model.shared.weight
    assert not model.config.scale_decoder_outputs
    assert model.config.dense_act_fn == "gelu_new"
    assert model.config.is_gated_act
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    attention, gated = 4 * shape.dim**2, 3 * shape.dim * shape.hidden
    matrices = shape.layers * (3 * attention + 2 * gated)
    norms = shape.dim * (5 * shape.layers + 2)
    positions = 2 * 32 * shape.heads
    assert sum(p.numel() for p in model.parameters()) == 2 * 900 * shape.dim + matrices + norms + positions


@pytest.mark.parametrize("preset", GPT)
def test_gpt_is_llama_shaped_and_tied(preset: str) -> None:
    model, shape = build_model(preset, vocab=900, max_length=64, seed=0), SHAPES[preset]
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.max_position_embeddings == 64
    matrices = shape.layers * (4 * shape.dim**2 + 3 * shape.dim * shape.hidden)
    norms = shape.dim * (2 * shape.layers + 1)
    assert sum(p.numel() for p in model.parameters()) == 900 * shape.dim + matrices + norms


@pytest.mark.parametrize("preset", ["t5-tiny", "gpt-tiny"])
def test_first_losses_are_those_of_a_uniform_guess(preset: str) -> None:
    """transformers draws T5's untied head from N(0, 1): its first loss was several times that of a guess."""
    model = build_model(preset, vocab=900, max_length=64, seed=0)
    tokens = torch.randint(2, 900, (4, 30), generator=torch.Generator().manual_seed(0))
    extra = {"decoder_input_ids": tokens} if find_architecture(preset).kind == "encoder-decoder" else {}
    with torch.no_grad():
        logits = model(input_ids=tokens, **extra).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    assert loss.item() == pytest.approx(torch.tensor(900.0).log().item(), rel=0.15)


@pytest.mark.parametrize(("preset", "loader"), [("t5-tiny", AutoModelForSeq2SeqLM), ("gpt-tiny", AutoModelForCausalLM)])
def test_saved_and_loaded_models_agree(tmp_path: Path, preset: str, loader: type) -> None:
    model = build_model(preset, vocab=900, max_length=64, seed=0).eval()
    model.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    tokens = torch.arange(2, 22)[None]
    extra = {"decoder_input_ids": tokens} if find_architecture(preset).kind == "encoder-decoder" else {}
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens, **extra).logits, loaded(input_ids=tokens, **extra).logits)
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())


def test_the_seed_decides_the_weights_and_torch_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    models = [build_model("gpt-tiny", vocab=900, max_length=64, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    first, same, other = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("family", [T5, GPT])
def test_sizes_span_more_than_a_factor_of_twenty(family: list[str]) -> None:
    """With the vocabulary of the bundled tokenizer; each size is at least twice the one before."""
    sizes = []
    for preset in family:
        with torch.device("meta"):
            shape = SHAPES[preset]
            model = ARCHITECTURES[preset.partition("-")[0]].build(shape, 8192, 512)
        sizes.append(sum(p.numel() for p in model.parameters()))
    assert all(2 * small < large for small, large in itertools.pairwise(sizes))
    assert sizes[-1] > 20 * sizes[0]


def test_every_preset_belongs_to_an_architecture_and_fits_its_heads() -> None:
    for name, shape in SHAPES.items():
        assert name.partition("-")[0] in ARCHITECTURES
        assert shape.head_dim * shape.heads == shape.dim


def test_an_unknown_preset_is_refused() -> None:
    for find in (find_shape, find_architecture):
        with pytest.raises(ConfigError, match=r"Unknown model preset 't5-mino'\. Did you mean 't5-mini'"):
            find("t5-mino")
