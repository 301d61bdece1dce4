"""A fresh T5 looks at its encoder: at the same token across, and at what stands near."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from softprompt.pretraining.architectures import SHAPES, build_model

LENGTH = 40


def fresh() -> PreTrainedModel:
    model = build_model("t5-small", vocab=900, max_length=2 * LENGTH, seed=0)
    model.set_attn_implementation("eager")
    return model.eval()


def attentions(model: PreTrainedModel, ids: torch.Tensor, reads: torch.Tensor):
    with torch.no_grad():
        return model(input_ids=ids, decoder_input_ids=reads, output_attentions=True)


def test_a_decoders_token_finds_its_like_in_the_encoder() -> None:
    model = fresh()
    ids = torch.randperm(898)[:LENGTH][None] + 2
    places = torch.randperm(LENGTH)[:12]
    found = attentions(model, ids, ids[:, places]).cross_attentions[0][0]  # [heads, target, seq]
    shares = found[:, torch.arange(12), places]
    assert shares.mean() > 0.2 > 5 / LENGTH
    random = build_model("t5-small", vocab=900, max_length=80, seed=0)
    torch.nn.init.normal_(random.decoder.block[0].layer[1].EncDecAttention.q.weight, std=(192 * 64) ** -0.5)
    random.set_attn_implementation("eager")
    chance = attentions(random.eval(), ids, ids[:, places]).cross_attentions[0][0][:, torch.arange(12), places]
    assert chance.mean() < 0.1


def test_queries_across_have_the_size_that_t5_draws_them_with() -> None:
    for preset, shape in SHAPES.items():
        if preset.startswith("t5-"):
            across = build_model(preset, vocab=900, max_length=64, seed=0).decoder.block[-1].layer[1].EncDecAttention
            assert abs(across.q.weight.std() * (shape.dim * shape.head_dim) ** 0.5 - 1) < 0.1


def test_heads_of_the_encoder_look_back_ahead_and_around() -> None:
    ids = torch.randint(2, 900, (1, LENGTH))
    found = attentions(fresh(), ids, ids[:, :3])
    offsets = torch.arange(LENGTH)[None] - torch.arange(LENGTH)[:, None]  # [seq, seq]: of what is looked at
    before, behind, around = found.encoder_attentions[0][0]
    assert (before * (offsets < 0))[5:-5].sum() > 3 * (before * (offsets > 0))[5:-5].sum()
    assert (behind * (offsets > 0))[5:-5].sum() > 3 * (behind * (offsets < 0))[5:-5].sum()
    for head in (before, behind, around):
        assert (head * (offsets.abs() <= 8))[10:-10].sum(-1).mean() > 0.7
    near = attentions(fresh(), ids, ids).decoder_attentions[0][0]
    assert (near * (offsets.abs() <= 8)).sum(-1).mean() > 0.7
