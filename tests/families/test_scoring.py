"""`score` is the sum of teacher-forced log-probabilities, computed one row and one candidate at a time."""

from __future__ import annotations

import pytest
import torch
import transformers
from tests.families import batches, naive, zoo
from tests.families.zoo import Family
from torch.utils.flop_counter import FlopCounterMode

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted, splitting
from softprompt.conditioning.losses import IGNORED
from softprompt.errors import ConfigError
from softprompt.prompts import PromptTuning

TEXTS = ["the worst film of the year", "good", "nothing about this book is dull", "we saw it again and again"]
CANDIDATES = ["good", "bad or dull", "one of the best"]

SCORERS = pytest.mark.parametrize("family", zoo.of_kind("decoder-only", "encoder-decoder"), ids=str)


def summed(family: Family, text: str, candidate: str, prompt) -> float:
    """Log-probability of a candidate and its end token, in nats."""
    tokenizer = zoo.tokenizer(family.kind)
    ids = torch.tensor(tokenizer(text).input_ids)
    if family.kind == "encoder-decoder":
        target = torch.tensor(tokenizer(candidate).input_ids)
        predicted = naive.logits(family, ids, prompt, target=torch.cat([torch.tensor([zoo.PAD]), target[:-1]]))
    else:
        target = torch.tensor([*tokenizer(" " + candidate).input_ids, zoo.END])
        predicted = naive.logits(family, torch.cat([ids, target]), prompt, inputs=len(ids))[len(ids) - 1 : -1]
    return predicted.log_softmax(-1)[torch.arange(len(target)), target].sum().item()


@SCORERS
@pytest.mark.parametrize("conditioning", ["auto", "concatenation"])
def test_scores_are_sums_of_teacher_forced_log_probabilities(family, conditioning):
    prompts = {name: prompt for name, prompt in batches.prompts(family).items() if name != "divided"}  # it needs marks
    model = Prompted(zoo.backbone(family.name), prompts, conditioning=conditioning)
    names = [None, *prompts]
    texts = [TEXTS[i % len(TEXTS)] for i in range(len(names))]
    got = model.score(texts, CANDIDATES, prompts=names)
    with torch.no_grad():
        want = torch.tensor(
            [[summed(family, t, c, prompts.get(n)) for c in CANDIDATES] for t, n in zip(texts, names, strict=True)]
        )
    assert batches.relative_error(got, want) <= 1e-5
    assert (got.std(dim=0) > 0.1).all()  # scores that no prompt changes would prove little


@SCORERS
def test_rows_may_have_candidates_of_their_own(family):
    model = Prompted(zoo.backbone(family.name), batches.prompts(family))
    got = model.score(TEXTS[:2], [["good"], ["bad or dull", "good"]], prompts=["short", None])
    assert got[0, 1] == float("-inf")
    both = model.score(TEXTS[:2], ["good", "bad or dull"], prompts=["short", None])
    assert got[0, 0].allclose(both[0, 0], rtol=1e-5)
    assert got[1].allclose(both[1].flip(0), rtol=1e-5)


def check_together_as_alone(model: Prompted) -> None:
    ids = torch.tensor([[7, 9, 11, 8], [12, 6, 9, 10]])
    candidates = [[8, 9, 7], [10, 6], [11, 12, 13, 9]]
    together = model.score_ids(ids, torch.ones_like(ids), [candidates] * 2, prompts=["short", None])
    alone = [model.score_ids(ids, torch.ones_like(ids), [[one]] * 2, prompts=["short", None]) for one in candidates]
    assert together.allclose(torch.cat(alone, dim=1), rtol=1e-5, atol=1e-5)


@SCORERS
def test_a_candidate_is_scored_beside_others_as_alone(family):
    check_together_as_alone(Prompted(zoo.backbone(family.name), batches.prompts(family)))


@SCORERS
def test_equal_candidates_score_equally(family):
    model = Prompted(zoo.backbone(family.name), batches.prompts(family))
    ids = torch.tensor([[7, 9, 11, 8], [12, 6, 9, 10]])
    targets = [[[8, 9, 7], [8, 9, 7], [10, 6]], [[10, 6], [8, 9, 7], [10, 6]]]
    scores, greedy = model.judge_ids(ids, torch.ones_like(ids), targets, prompts="short")
    assert scores[0, 0] == scores[0, 1] != scores[0, 2]
    assert scores[1, 0] == scores[1, 2] != scores[1, 1]
    assert greedy.shape == (2, 3)
    apart = model.score_ids(ids, torch.ones_like(ids), [row[1:] for row in targets], prompts="short")
    assert scores[:, 1:].allclose(apart, rtol=1e-5)


def test_candidates_may_begin_apart(monkeypatch):
    """mBART's decoder begins with its target's last token."""
    family = zoo.BY_NAME["t5"]
    backbone = zoo.fresh("t5")

    def begin_with_the_last(labels: torch.Tensor) -> torch.Tensor:
        last = (labels != IGNORED).sum(-1, keepdim=True) - 1
        return torch.cat([labels.gather(1, last), labels[:, :-1].clamp(min=0)], dim=1)

    monkeypatch.setattr(backbone.model, "prepare_decoder_input_ids_from_labels", begin_with_the_last)
    check_together_as_alone(Prompted(backbone, batches.prompts(family)))


@SCORERS
def test_more_candidates_cost_no_more_of_the_input(family):
    """An encoder-decoder made keys and values of its encoder's output for each candidate anew."""
    if family.kind == "decoder-only" and not splitting.divides(zoo.backbone(family.name)):
        pytest.skip("its text cannot be read in parts: each candidate needs the input")
    model = Prompted(zoo.backbone(family.name), batches.prompts(family))

    def products(inputs: int, candidates: int) -> int:
        """Operations of the layers' matrices; those of attention grow with both."""
        ids = torch.full((2, inputs), 7)
        ends = [[8 + index, 9] for index in range(candidates)]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.score_ids(ids, torch.ones_like(ids), [ends] * 2, prompts="short")
        counts = counter.get_flop_counts()["Global"]
        return sum(counts.get(kind, 0) for kind in (torch.ops.aten.mm, torch.ops.aten.addmm))

    products(6, 1)  # which records the prompt, once
    assert products(12, 5) - products(12, 2) == products(6, 5) - products(6, 2) > 0


@SCORERS
def test_what_greedy_decoding_says_is_told_apart(family):
    model = Prompted(zoo.backbone(family.name), batches.prompts(family))
    for name in ("short", None):
        ids, mask, marks = model.encode(TEXTS[:1], [name], room=2)
        made = model.generate(
            input_ids=ids, attention_mask=mask, marks=marks, prompts=[name], max_new_tokens=2, do_sample=False
        )
        said = made[0, ids.shape[1] if family.kind == "decoder-only" else 1 :].tolist()
        other = [*said[:-1], (said[-1] + 1) % zoo.VOCAB]
        targets = [[other, said, said[:1]]]
        scores, greedy = model.judge_ids(ids, mask, targets, prompts=[name], marks=marks)
        assert greedy.tolist() == [[False, True, True]]
        assert scores.equal(model.score_ids(ids, mask, targets, prompts=[name], marks=marks))


@pytest.mark.parametrize("family", zoo.of_kind("encoder-only"), ids=str)
def test_classes_are_no_candidates(family):
    model = Prompted(zoo.backbone(family.name), batches.prompts(family))
    with pytest.raises(ConfigError, match="scores its own classes only"):
        model.score(TEXTS, CANDIDATES, prompts="short")


@pytest.mark.parametrize("name", ["bart", "qwen3_next"])
def test_a_model_whose_text_cannot_be_read_in_parts_is_scored_from_the_start(name):
    """BART's decoder counts padding among its positions; some layers of Qwen3-Next fold what they read into a state."""
    backbone = unlike_others(name)
    assert not splitting.divides(backbone)
    ids, mask = torch.tensor([[7, 9, 11, 8], [12, 6, 37, 37]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    candidates = [[8, 9, 7], [10, 6], [11]]
    prompt = PromptTuning(length=3, init="random", placement="append").build(backbone, seed=0)
    with torch.no_grad():
        got = Prompted(backbone, {"a": prompt}).score_ids(ids, mask, [candidates] * 2, prompts=[None, "a"])
    for row, inputs in enumerate(([7, 9, 11, 8], [12, 6])):
        for place, candidate in enumerate(candidates):
            embedded = [backbone.embed(torch.tensor(inputs)), backbone.embed(torch.tensor(candidate))]
            if row:
                embedded.insert(1, prompt().rows)
            with torch.no_grad():
                logits = backbone.model(inputs_embeds=torch.cat(embedded)[None], use_cache=False).logits[0]
            said = logits[-len(candidate) - 1 : -1].log_softmax(-1)
            want = said[torch.arange(len(candidate)), torch.tensor(candidate)].sum()
            assert got[row, place].allclose(want, rtol=1e-4, atol=1e-4)


def unlike_others(name: str) -> Backbone:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "d_model": 32,
             "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "decoder_layers": 2,
             "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "max_position_embeddings": 64}  # fmt: skip
    if name == "qwen3_next":
        sizes |= {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
                  "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "num_experts": 4,
                  "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                  "shared_expert_intermediate_size": 16}  # fmt: skip
    made = type(config)(**sizes, pad_token_id=0, eos_token_id=1, bos_token_id=2)
    return Backbone.from_model(transformers.AutoModelForCausalLM.from_config(made).float())


def test_a_head_that_nobody_can_tell_is_seen():
    """A model may apply its head's weight itself; the hook then never runs, and a single row's scores were wrong."""
    backbone = zoo.fresh("gpt2")
    backbone.model.get_output_embeddings()._forward_pre_hooks.clear()
    prompts = {"short": batches.prompts(zoo.BY_NAME["gpt2"])["short"]}
    for texts in (TEXTS[:1], TEXTS):
        want = Prompted(zoo.backbone("gpt2"), prompts).score(texts, CANDIDATES)
        assert Prompted(backbone, prompts).score(texts, CANDIDATES).allclose(want, rtol=1e-5)


@pytest.mark.parametrize("scaling", [None, "dynamic", "longrope"])
def test_padding_beside_many_candidates_takes_no_positions(scaling):
    """All candidates together are longer than the model's positions, and rows differ in length; a padded column behind
    them stood at a position that no token has."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4, "pad_token_id": 0, "eos_token_id": 1}  # fmt: skip
    if scaling is None:
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=4, eos_token_id=1)
        )
    elif scaling == "dynamic":
        rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**sizes, max_position_embeddings=48, rope_parameters=rope)
        )
    else:
        rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0,
                "original_max_position_embeddings": 48}  # fmt: skip
        model = transformers.Phi3ForCausalLM(
            transformers.Phi3Config(**sizes, max_position_embeddings=96, original_max_position_embeddings=48,
                                    rope_parameters=rope)
        )  # fmt: skip
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    prompted = Prompted(Backbone.from_model(model.eval()), {})
    draw = torch.Generator().manual_seed(1)
    lengths = (20, 18)
    rows = [torch.randint(3, 60, (length,), generator=draw) for length in lengths]
    candidates = [torch.randint(3, 60, (6,), generator=draw).tolist() for _ in range(12)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.arange(20) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        got = prompted.score_ids(ids, mask, [candidates] * 2, prompts=[None, None])
        for row, given in enumerate(rows):
            for place, candidate in enumerate(candidates):
                whole = torch.cat([given, torch.tensor(candidate)])[None]
                said = model(input_ids=whole, use_cache=False).logits[0, len(given) - 1 : -1].log_softmax(-1)
                want = said[torch.arange(6), torch.tensor(candidate)].sum()
                assert got[row, place].allclose(want, rtol=1e-4, atol=1e-4)
