"""The memory of a training, known beforehand: its parts by hand, and the whole against what a training takes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from tests.models import END, PAD, SPECIAL, WORDS, tiny_backbone, word_tokenizer
from tests.training.sessions import QUIET, describing, sentiment, short_run
from torch._subclasses.fake_tensor import DynamicOutputShapeException
from transformers import LlamaConfig, LlamaForCausalLM

from softprompt.backbones import Backbone
from softprompt.backbones.allocations import Allocations
from softprompt.backbones.quantization import quantize
from softprompt.errors import ConfigError, UnsupportedError
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.training import Estimate, ModelTuning, TrainConfig, estimate_memory, train
from softprompt.training.rehearsal import Rehearsal
from softprompt.training.session import _Session
from softprompt.training.step import backward_in_memory

DIM = 24


def estimated(kind: str = "decoder-only", *runs, **config) -> Estimate:
    return estimate_memory(tiny_backbone(kind), runs or [short_run()], TrainConfig(**QUIET, **config))


def test_the_parts_that_follow_from_shapes():
    backbone = tiny_backbone("decoder-only")
    found = estimated()
    assert found.weights_bytes == sum(p.nbytes for p in backbone.model.parameters())
    prompt = 3 * DIM * 4
    assert found.trained_bytes == 2 * prompt  # it, and what a spoiled step goes back to
    factors = 4 * (3 + DIM)  # Adafactor: a row, a column, and a number or two
    assert factors <= found.optimizer_bytes <= factors + 16
    assert found.evaluation_bytes == 0
    assert found.taken == {"a": "shared"}


@pytest.mark.slow
def test_adamw_keeps_two_values_of_each():
    prompt = 3 * DIM * 4
    states = estimated("decoder-only", short_run(optimizer="adamw")).optimizer_bytes
    assert 2 * prompt <= states < 2 * prompt + 100


@pytest.mark.slow
def test_an_evaluated_run_keeps_its_best_and_a_stored_one_its_checkpoint(tmp_path):
    prompt = 3 * DIM * 4
    run = short_run(evaluate_every=None)
    assert estimated("decoder-only", run).trained_bytes == 3 * prompt
    assert estimated("decoder-only", run, output_dir=tmp_path / "none").trained_bytes == 4 * prompt
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_weights_that_are_trained_stand_beside_the_backbone():
    run = short_run(method=ModelTuning(), learning_rate=1e-3, optimizer="adamw")
    found = estimated("encoder-decoder", run)
    assert found.weights_bytes <= found.trained_bytes < 1.1 * found.weights_bytes
    assert found.optimizer_bytes >= 2 * found.weights_bytes
    assert found.update_bytes >= 3 * found.weights_bytes


def marked(backbone: Backbone, *, sharded: bool) -> Backbone:
    """The same backbone, taken for one whose weights are spread over processes."""
    other = copy.copy(backbone)
    other.sharded = sharded
    return other


def counted(backbone, runs, pass_tokens, *, processes=1, sharded=False, **settings):
    """The peak of the session's own step with values, in the process that takes most, and that of passes without."""
    config = TrainConfig(**QUIET, pass_tokens=pass_tokens, **settings)
    rehearsal = Rehearsal(backbone, runs, config, processes=processes, sharded=sharded)
    known = max(one.peak_bytes for one in rehearsal.passes())
    session = _Session(marked(backbone, sharded=sharded), runs, config)
    rows = {member.run.name: member.draw() for member in session.members}
    took = []
    for index in range(processes):
        for member in session.members:
            member.learner.module.zero_grad(set_to_none=True)
        with Allocations(backbone.device) as count:
            backward_in_memory(
                session.model, rows, precision="float32", pass_tokens=pass_tokens, say=print, count=processes,
                index=index,
            )  # fmt: skip
        took.append(count.peak_bytes)
    return max(took), known


@pytest.mark.parametrize(
    "kind",
    ["decoder-only", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("encoder-decoder", "encoder-only"))],
)
def test_a_step_takes_to_the_byte_what_was_counted_before(kind):
    runs = [short_run(steps=1), short_run("keys", method=PrefixTuning(length=4, hidden=8), steps=1)]
    took, known = counted(tiny_backbone(kind), runs, pass_tokens=10_000)
    assert known == took


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
@pytest.mark.parametrize(
    ("runs", "pass_tokens"),
    [
        ([short_run(method=ModelTuning(), steps=1)], 50),
        ([short_run(str(i), method=PrefixTuning(length=4, hidden=64), steps=1) for i in range(4)], 50),
        ([short_run(str(i), method=PrefixTuning(length=20, hidden=64), steps=1) for i in range(4)], 50),
    ],
    ids=["all weights", "held", "not held"],
)
def test_gradients_of_earlier_passes_count(kind, runs, pass_tokens):
    took, known = counted(tiny_backbone(kind), runs, pass_tokens)
    assert known == pytest.approx(took, rel=0.05)


def quantized_backbone(kind: str | None) -> Backbone:
    """Of whole blocks of 4-bit weights; not quantised at all if None."""
    ids = {"vocab_size": len(SPECIAL + WORDS), "pad_token_id": PAD, "eos_token_id": END, "bos_token_id": END}
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**ids, **shape))
    backbone = Backbone.from_model(model, word_tokenizer("decoder-only"), name="a llama")
    if kind is not None:
        _ = backbone.fingerprint
        quantize(model, kind)
        backbone.quantized = kind
    return backbone


def linear_layers(backbone: Backbone) -> list[torch.nn.Linear]:
    return [module for module in backbone.model.model.layers.modules() if isinstance(module, torch.nn.Linear)]


@pytest.mark.slow
@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_step_through_quantised_weights_takes_what_was_counted_before(kind, recomputed):
    """What weights are for a product, in full, is among it: of int8 every layer's until the backward pass."""
    runs = [short_run(method=PrefixTuning(length=4, hidden=8), steps=1)]
    backbone = quantized_backbone(kind)
    took, known = counted(backbone, runs, pass_tokens=10_000, gradient_checkpointing=recomputed)
    assert known == took
    _, plain = counted(quantized_backbone(None), runs, pass_tokens=10_000, gradient_checkpointing=recomputed)
    weights = [4 * layer.weight.numel() for layer in linear_layers(backbone)]
    if kind == "int8" and not recomputed:
        assert 0.8 * sum(weights) < known - plain < sum(weights)
    else:
        assert max(weights) < known - plain < 0.4 * sum(weights)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bits"), [("int8", 8), ("nf4", 4)])
def test_quantised_weights_count_as_they_are_kept(kind, bits):
    backbone = quantized_backbone(kind)
    inside = linear_layers(backbone)
    values = sum(layer.weight.numel() for layer in inside)
    outside = sum(p.nbytes for p in backbone.model.parameters()) - sum(layer.weight.nbytes for layer in inside)
    found = estimate_memory(backbone, [short_run()], TrainConfig(**QUIET))
    assert values * bits // 8 < found.weights_bytes - outside < 1.15 * values * bits // 8
    with pytest.raises(UnsupportedError, match=f"keeps its weights in {kind}, which cannot be trained"):
        estimate_memory(backbone, [short_run(method=ModelTuning())], TrainConfig(**QUIET))


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("pass_tokens", [10_000, 50])
def test_a_process_takes_what_was_counted_before_of_its_share(sharded, pass_tokens):
    runs = [short_run(steps=1, batch_size=7), short_run("keys", method=PrefixTuning(length=4, hidden=8), steps=1)]
    took, known = counted(tiny_backbone("decoder-only"), runs, pass_tokens, processes=2, sharded=sharded)
    alone, _ = counted(tiny_backbone("decoder-only"), runs, pass_tokens)
    assert known == pytest.approx(took, rel=0.05)
    if pass_tokens == 10_000:
        assert known < 0.8 * alone  # of all rows


@pytest.mark.slow
def test_each_of_several_processes_needs_its_part_and_a_layer(monkeypatch):
    monkeypatch.setattr("softprompt.training.estimate.free_memory", lambda device: 10**9)
    monkeypatch.setattr("softprompt.training.estimate.held_memory", lambda device: 10**8)
    backbone, run = tiny_backbone("decoder-only"), short_run(evaluate_every=None, evaluate_rows=8)
    one, two = (estimate_memory(backbone, [run], TrainConfig(**QUIET), processes=count) for count in (1, 2))
    assert two.weights_bytes == one.weights_bytes
    assert two.needed_bytes == two.total_bytes > one.needed_bytes == one.added_bytes
    assert two.evaluation_bytes < one.evaluation_bytes  # rows are shared
    assert (one.free_bytes, two.free_bytes) == (10**9, (10**9 + 10**8) // 2)
    spread = estimate_memory(backbone, [run], TrainConfig(**QUIET), processes=2, sharded=True)
    assert 0.5 * one.weights_bytes <= spread.weights_bytes < 0.6 * one.weights_bytes
    assert spread.process_bytes == one.process_bytes
    assert spread.added_bytes >= spread.gathered_bytes + spread.largest.peak_bytes
    away = estimate_memory(backbone, [run], TrainConfig(**QUIET), processes=2, sharded=True, offload=True)
    assert away.weights_bytes + away.offloaded_bytes == spread.weights_bytes
    assert away.offloaded_bytes >= 0.5 * one.weights_bytes
    assert away.gathered_bytes > spread.gathered_bytes


@pytest.mark.slow
def test_what_does_not_fit_into_several_processes_is_told_what_would(monkeypatch):
    backbone, run, held = tiny_backbone("encoder-decoder"), short_run(task=sentiment(), batch_size=16), 10**6
    monkeypatch.setattr("softprompt.training.estimate.held_memory", lambda device: held)
    monkeypatch.setattr("softprompt.training.estimate._SMALLEST", 8)

    def asked(free: int, **settings) -> Estimate:
        monkeypatch.setattr("softprompt.training.estimate.free_memory", lambda device: 2 * free - held)
        return estimate_memory(backbone, [run], TrainConfig(**QUIET, **settings), processes=2, sharded=True)

    needed = asked(10**9)
    assert needed.fits
    enough = needed.needed_bytes - needed.largest.peak_bytes * 4 // 10
    tight = asked(enough)
    assert not tight.fits
    assert tight.remedy
    assert asked(enough, **tight.remedy).fits


@pytest.mark.parametrize(
    ("launch", "told"),
    [
        ({"processes": 0}, "expected at least 1"),
        ({"offload": True, "sharded": True}, "say sharded=True, and how many processes"),
        ({"offload": True, "processes": 2}, "say sharded=True, and how many processes"),
    ],
)
def test_launches_that_there_are_not_are_refused(launch, told):
    with pytest.raises(ConfigError, match=told):
        estimate_memory(tiny_backbone("decoder-only"), [short_run()], **launch)


@pytest.mark.parametrize("head", [False, True])
def test_encoders_are_evaluated_by_classes_again_and_again(head):
    run = short_run(method=PromptTuning(length=3, head=head), evaluate_every=1)
    backbone = tiny_backbone("encoder-only")
    first, second = (estimate_memory(backbone, [run], TrainConfig(**QUIET)) for _ in range(2))
    assert first.evaluation_bytes > 0
    assert (second.evaluation_bytes, second.largest) == (first.evaluation_bytes, first.largest)


@pytest.mark.slow
def test_smaller_passes_and_recomputed_layers_take_less():
    run = short_run(task=sentiment(), batch_size=16)
    whole = estimated("encoder-decoder", run).largest
    small = estimated("encoder-decoder", run, pass_tokens=whole.tokens // 4).largest
    assert small.tokens <= whole.tokens // 4
    assert small.peak_bytes < whole.peak_bytes
    recomputed = estimated("encoder-decoder", run, gradient_checkpointing=True).largest
    assert recomputed.tokens == whole.tokens
    assert recomputed.peak_bytes < whole.peak_bytes


@pytest.mark.slow
def test_twice_the_tokens_generated_take_more_in_a_cache():
    peaks = [
        estimated(
            "decoder-only", short_run(task=describing(), evaluate_every=None, max_new_tokens=tokens)
        ).evaluation_bytes
        for tokens in (30, 60)
    ]
    assert 0 < peaks[0] < peaks[1]


@pytest.mark.slow
def test_what_does_not_fit_is_told_what_would(monkeypatch):
    run = short_run(task=sentiment(), batch_size=16)
    needed = estimated("encoder-decoder", run)
    assert needed.fits
    assert not needed.remedy
    monkeypatch.setattr("softprompt.training.estimate.free_memory", lambda device: needed.added_bytes * 6 // 10)
    monkeypatch.setattr("softprompt.training.estimate._SMALLEST", 8)
    tight = estimated("encoder-decoder", run)
    assert not tight.fits
    assert tight.remedy["pass_tokens"] < needed.largest.tokens
    assert estimated("encoder-decoder", run, **tight.remedy).fits
    monkeypatch.setattr("softprompt.training.estimate.free_memory", lambda device: 10)
    assert estimated("encoder-decoder", run).remedy == {}


def test_inputs_that_are_kept_count_up_to_what_is_allowed():
    run = short_run(method=PromptTuning(length=3, placement="append"), batch_size=24, steps=1)
    session = _Session(tiny_backbone("decoder-only"), [run], TrainConfig(**QUIET, input_cache_bytes=2**20))
    session.run()
    kept = session.model._inputs.held_bytes
    assert kept <= estimated("decoder-only", run, input_cache_bytes=2**20).cached_bytes < 1.5 * kept
    assert estimated("decoder-only", run, input_cache_bytes=100).cached_bytes == 100 < kept
    assert estimated("decoder-only", run).cached_bytes == 0
    assert estimated("decoder-only", short_run(), input_cache_bytes=2**20).cached_bytes == 0


@pytest.mark.parametrize(
    ("runs", "config", "told"),
    [
        ([], {}, "needs runs"),
        ([short_run(), short_run()], {}, "names of their own"),
        ([short_run("a"), short_run("b", method=ModelTuning())], {}, "a session of its own"),
        ([short_run("a", evaluate_every=0), short_run("b", evaluate_every=0)], {"halve_at": (1,)}, "never evaluated"),
        ([short_run(evaluate_every=1, metric="rouge1")], {}, "rouge1"),
    ],
    ids=["none", "names", "weights", "halving", "score"],
)
def test_what_training_refuses_is_refused(runs, config, told):
    with pytest.raises(ConfigError, match=told) as known:
        estimate_memory(tiny_backbone("decoder-only"), runs, TrainConfig(**QUIET, **config))
    with pytest.raises(ConfigError) as refused:
        train(tiny_backbone("decoder-only"), runs, TrainConfig(**QUIET, **config))
    assert str(known.value) == str(refused.value)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(UnsupportedError, match="quantised, or an encoder, which cannot be sharded"):
        estimate_memory(tiny_backbone("encoder-only"), [short_run()], processes=2, sharded=True)
    backbone = tiny_backbone("decoder-only")
    with pytest.raises(UnsupportedError, match="say how many there will be: processes=N, sharded=True"):
        estimate_memory(marked(backbone, sharded=True), [short_run()])
    backbone = Backbone.from_model(copy.deepcopy(backbone.model), backbone.tokenizer)
    backbone.model.lm_head.weight = torch.nn.Parameter(torch.empty(2**20, 2, device="meta"), requires_grad=False)
    told = r"MiB on cpu, 8 MiB in CPU memory or on disk\).*load it whole, on one device"
    with pytest.raises(UnsupportedError, match=told):
        estimate_memory(backbone, [short_run()])


def test_a_model_that_computes_by_values_is_refused(monkeypatch):
    def chosen(self) -> int:
        raise DynamicOutputShapeException(torch.ops.aten.nonzero.default)

    monkeypatch.setattr(Rehearsal, "optimize", chosen)
    with pytest.raises(UnsupportedError, match=r"depends on values, not on shapes alone \(aten.nonzero.default\)"):
        estimated()


@pytest.mark.slow
def test_nothing_of_the_backbone_is_changed():
    backbone = tiny_backbone("encoder-decoder")
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    estimate_memory(backbone, [replace(short_run(), method=PromptTuning(length=2))], TrainConfig(**QUIET))
    after = backbone.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(p.requires_grad for p in backbone.model.parameters())
