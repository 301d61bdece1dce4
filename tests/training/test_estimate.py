"""The memory of a training, known beforehand: its parts by hand, and the whole against what a training takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.models import tiny_backbone
from tests.training.sessions import QUIET, describing, sentiment, short_run
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from softprompt.backbones.allocations import Allocations
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


def counted(kind, runs, pass_tokens):
    """The peak of the session's own step, with values, and that of the passes without."""
    backbone = tiny_backbone(kind)
    config = TrainConfig(**QUIET, pass_tokens=pass_tokens)
    session = _Session(backbone, runs, config)
    rows = {member.run.name: member.draw() for member in session.members}
    with Allocations(backbone.device) as count:
        backward_in_memory(session.model, rows, precision="float32", pass_tokens=pass_tokens, say=print)
    return count.peak_bytes, max(one.peak_bytes for one in Rehearsal(backbone, runs, config).passes())


@pytest.mark.parametrize(
    "kind",
    ["decoder-only", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("encoder-decoder", "encoder-only"))],
)
def test_a_step_takes_to_the_byte_what_was_counted_before(kind):
    runs = [short_run(steps=1), short_run("keys", method=PrefixTuning(length=4, hidden=8), steps=1)]
    took, known = counted(kind, runs, pass_tokens=10_000)
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
    took, known = counted(kind, runs, pass_tokens)
    assert known == pytest.approx(took, rel=0.05)


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


def test_what_cannot_be_estimated_is_refused(monkeypatch):
    backbone = tiny_backbone("decoder-only")
    monkeypatch.setattr(backbone, "quantized", "int8")
    with pytest.raises(UnsupportedError, match="load it whole, on one device"):
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
