"""Model tuning: all weights of a copy of the backbone, by the same session that trains prompts."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from tests.training.sessions import calm_backbone, describing, sentiment, short_run, trained

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError, NonFiniteError, TrainingInterrupted, UnsupportedError
from softprompt.evaluation import evaluate
from softprompt.loop import optimizers
from softprompt.registry import Registry
from softprompt.training import IA3, LoRA, ModelTuning, Run, TrainConfig, data, train
from softprompt.training.learners import WeightLearner
from softprompt.training.member import Member


def momentum(parameters, *, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Steps in proportion to the gradient: where that is rounding alone, Adam's steps are as large as anywhere."""
    return torch.optim.SGD(parameters, lr=learning_rate, weight_decay=weight_decay, momentum=0.9)


@pytest.fixture(autouse=True)
def known_momentum(monkeypatch):
    """The optimizer, known by name in these tests alone."""
    known = {"adafactor": optimizers.adafactor, "adamw": optimizers.adamw, "momentum": momentum}
    monkeypatch.setattr(optimizers, "OPTIMIZERS", Registry("optimizer", "softprompt.optimizers", known))


KINDS = ("decoder-only", "encoder-decoder", "encoder-only")


def tuning(kind: str, **settings) -> Run:
    settings = {"task": sentiment() if kind == "encoder-only" else describing(), "optimizer": "momentum", **settings}
    return short_run(**{"method": ModelTuning(), "learning_rate": 0.01, "weight_decay": 0.1, **settings})


def weights(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in backbone.model.state_dict().items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def by_hand(kind: str, run: Run) -> dict[str, torch.Tensor]:
    """The same training with nothing of softprompt's but the order of the rows."""
    backbone = calm_backbone(kind)
    model = copy.deepcopy(backbone.model).requires_grad_(True)
    model.set_attn_implementation("eager")
    batches = data.Batches(
        data.encode_rows(Prompted(backbone), run, run.task, None),
        batch_size=run.batch_size,
        batch_tokens=None,
        seed=run.seed,
    )
    optimizer = momentum(model.parameters(), learning_rate=run.learning_rate, weight_decay=run.weight_decay)
    for _ in range(run.steps):
        batch = data.collate(backbone, batches.draw())
        model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"].long(), labels=batch["labels"]
        ).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.detach() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_plain_training_of_the_model(kind):
    run = tuning(kind, steps=5)
    before = weights(calm_backbone(kind))
    found = weights(trained(kind, [run])["a"].backbone)
    assert largest_difference(found, by_hand(kind, run)) < 2e-5
    assert largest_difference(found, before) > 0.01
    assert largest_difference(weights(calm_backbone(kind)), before) == 0
    assert not any(parameter.requires_grad for parameter in calm_backbone(kind).model.parameters())


def test_the_result_is_a_frozen_backbone_of_the_best_step():
    task = sentiment()
    result = trained("decoder-only", [tuning("decoder-only", task=task, steps=30, evaluate_every=5)])["a"]
    assert result.status == "finished"
    assert result.metrics["accuracy"] == max(entry.get("accuracy", 0) for entry in result.history)
    assert not any(parameter.requires_grad for parameter in result.backbone.model.parameters())
    assert evaluate(result.backbone, None, task)["accuracy"] == result.metrics["accuracy"]
    assert result.backbone.fingerprint != calm_backbone("decoder-only").fingerprint
    with pytest.raises(ConfigError, match="tuned the model"):
        result.prompt  # noqa: B018
    with pytest.raises(ConfigError, match="left the backbone as it was"):
        trained("decoder-only", [short_run()])["a"].backbone  # noqa: B018


def test_the_stored_model_is_a_backbone(tmp_path):
    task = sentiment()
    run = tuning("encoder-decoder", task=task, steps=6, evaluate_every=None)
    result = trained("encoder-decoder", [run], output_dir=tmp_path)["a"]
    assert result.path == tmp_path / "models" / "a"
    loaded = Backbone.from_pretrained(result.path, device="cpu")
    assert largest_difference(weights(loaded), weights(result.backbone)) == 0
    told = json.loads((result.path / "run.json").read_text())
    assert told["run"]["method"] == {"name": "model_tuning", "layers": None}
    assert told["metrics"]["validation"] == result.metrics
    again = trained("encoder-decoder", [run], output_dir=tmp_path)["a"]
    assert largest_difference(weights(again.backbone), weights(result.backbone)) == 0


@pytest.mark.parametrize("method", [ModelTuning(), LoRA(rank=2), ModelTuning(layers=1)], ids=["all", "lora", "last"])
def test_an_interrupted_session_goes_on(method, tmp_path, monkeypatch):
    """From what is trained alone: the checkpoints of an adapter held the whole model."""
    run = tuning("decoder-only", method=method, steps=6)
    wanted = weights(trained("decoder-only", [run])["a"].backbone)
    advance = Member.advance

    def interrupted(self, loss):
        advance(self, loss)
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Member, "advance", interrupted)
    with pytest.raises(TrainingInterrupted):
        trained("decoder-only", [run], output_dir=tmp_path)
    (checkpoint,) = (tmp_path / "checkpoints").glob("step-*/checkpoint.safetensors")
    stored = sum(tensor.numel() for tensor in load_file(checkpoint).values() if tensor.is_floating_point())
    monkeypatch.setattr(Member, "advance", advance)
    result = trained("decoder-only", [run], output_dir=tmp_path)["a"]
    assert largest_difference(weights(result.backbone), wanted) == 0
    assert stored < 4 * result.trained  # beside the values there are the optimizer's and the best ones


def test_it_is_alone_in_its_session():
    with pytest.raises(ConfigError, match="session of its own"):
        trained("decoder-only", [tuning("decoder-only"), short_run("b")])


def test_a_backbone_in_half_precision_is_tuned_in_float32():
    backbone = calm_backbone("decoder-only")
    half = Backbone.from_model(copy.deepcopy(backbone.model).bfloat16(), backbone.tokenizer, name="half")
    result = train(half, [tuning("decoder-only")], TrainConfig(progress=False))["a"]
    assert result.backbone.dtype == torch.float32
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_layers_learn_alone(kind):
    """What changes: the last layer of each stack, and what stands behind the layers; no embeddings."""
    before = weights(calm_backbone(kind))
    result = trained(kind, [tuning(kind, steps=3, method=ModelTuning(layers=1))])["a"]
    after = weights(result.backbone)
    changed = {name for name in before if not after[name].equal(before[name])}
    stacks = {"decoder-only": ["transformer.h."], "encoder-only": ["bert.encoder.layer."]}.get(
        kind, ["encoder.block.", "decoder.block."]
    )
    for stack in stacks:
        layers = {int(name.removeprefix(stack).partition(".")[0]) for name in before if name.startswith(stack)}
        touched = {int(name.removeprefix(stack).partition(".")[0]) for name in changed if name.startswith(stack)}
        assert touched == {max(layers)} != layers
    assert not any("embed" in name or "shared" in name or ".wte" in name or ".wpe" in name for name in changed)
    assert result.trained < sum(value.numel() for value in before.values())
    assert result.parameters == result.trained


def test_a_head_learns_alone_where_there_is_one():
    before = weights(calm_backbone("encoder-only"))
    result = trained("encoder-only", [tuning("encoder-only", steps=3, method=ModelTuning(layers=0))])["a"]
    after = weights(result.backbone)
    changed = {name for name in before if not after[name].equal(before[name])}
    assert changed
    assert all("encoder.layer" not in name and "embeddings" not in name for name in changed)
    with pytest.raises(UnsupportedError, match="has no head of its own to train: it is the table of embeddings"):
        trained("decoder-only", [tuning("decoder-only", steps=1, method=ModelTuning(layers=0))])
    with pytest.raises(ConfigError, match="layers=-1: expected at least 0"):
        ModelTuning(layers=-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [LoRA(rank=2), IA3()])
def test_adapters_learn_beside_frozen_weights(kind, method, tmp_path):
    before = weights(calm_backbone(kind))
    run = tuning(kind, steps=6, method=method, optimizer="adamw", learning_rate=0.03, batch_size=64)
    config = TrainConfig(output_dir=tmp_path / "out", progress=False)
    result = train(calm_backbone(kind), [run], config)["a"]
    after = weights(result.backbone)
    mark = "lora_" if isinstance(method, LoRA) else "ia3_"
    frozen = {name.replace(".base_layer", ""): value for name, value in after.items() if mark not in name}
    assert frozen.keys() == before.keys()
    assert all(value.equal(before[name]) for name, value in frozen.items())
    assert result.trained == sum(value.numel() for name, value in after.items() if mark in name) > 0
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    stored = sum(file.stat().st_size for file in result.path.glob("*.safetensors"))
    assert stored < 4 * result.trained + 20_000, "the adapter alone is stored"
    loaded = copy.deepcopy(calm_backbone(kind).model)
    loaded.load_adapter(str(result.path))
    again = Backbone.from_model(loaded, calm_backbone(kind).tokenizer, name="again")
    found = [evaluate(one, None, run.task, max_new_tokens=4) for one in (again, result.backbone)]
    assert dict(found[0]) == dict(found[1])


@pytest.mark.parametrize("method", [ModelTuning(), LoRA(rank=2), IA3()], ids=lambda method: method.name)
def test_what_is_kept_beside_the_model_is_what_is_trained_and_only_when_it_is_evaluated(method, monkeypatch):
    """Each step cloned all weights, and each best score the whole model: memory and time that no baseline needs."""
    kept, steps = [], []
    values, advance = WeightLearner.values, Member.advance

    def keeping(self):
        kept.append(values(self))
        return kept[-1]

    def advancing(self, loss):
        advance(self, loss)
        steps.append(self)

    monkeypatch.setattr(WeightLearner, "values", keeping)
    monkeypatch.setattr(Member, "advance", advancing)
    result = trained(
        "decoder-only", [tuning("decoder-only", task=sentiment(), method=method, steps=4, evaluate_every=4)]
    )["a"]
    assert len(steps) == 4
    assert [sum(value.numel() for value in one.values()) for one in kept] == [result.trained]
    assert not steps[-1].state_dict()["before"]


@pytest.mark.parametrize("method", [ModelTuning(), LoRA(rank=2), IA3()], ids=lambda method: method.name)
@pytest.mark.parametrize("evaluate_every", [0, 2])
def test_a_run_that_diverges_goes_back_to_its_best_weights_or_its_start(method, evaluate_every, monkeypatch, tmp_path):
    run = tuning("decoder-only", task=sentiment(), method=method, steps=6, evaluate_every=evaluate_every)
    beside = WeightLearner(calm_backbone("decoder-only"), method, run.seed).backbone
    if evaluate_every:
        beside = trained("decoder-only", [dataclasses.replace(run, steps=2)])["a"].backbone
    advance = Member.advance

    def spoiling(self, loss):
        advance(self, loss)
        if self.step == 4:
            with torch.no_grad():
                for parameter in self.learner.module.parameters():
                    if parameter.requires_grad:
                        parameter.fill_(torch.nan)

    monkeypatch.setattr(Member, "advance", spoiling)
    sessions = []
    monkeypatch.setattr(Member, "result", lambda self: sessions.append(self) or self.learner.finish(None, {}))
    with pytest.raises(NonFiniteError, match=r"at step 5 the loss is nan|are NaN"):
        trained("decoder-only", [run], output_dir=tmp_path)
    (member,) = sessions
    assert member.result_step == (2 if evaluate_every else 0)
    assert largest_difference(weights(member.learner.backbone), weights(beside)) == 0
    assert (tmp_path / "models" / "a").exists() == bool(evaluate_every)


def test_an_adapter_starts_from_the_runs_seed(monkeypatch):
    """It was drawn from whatever state torch's randomness was in: no seed of a run made another, nor the same again."""

    def start(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(3)
        return weights(WeightLearner(calm_backbone("decoder-only"), LoRA(rank=2), seed).backbone)

    before = torch.get_rng_state()
    one, again, other = start(1), start(1), start(2)
    assert largest_difference(one, again) == 0
    assert largest_difference(one, other) > 0.01
    torch.set_rng_state(before)
    WeightLearner(calm_backbone("decoder-only"), LoRA(rank=2), 1)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("method", [ModelTuning(), LoRA(rank=2), IA3()], ids=lambda method: method.name)
def test_a_head_that_knows_nothing_is_trained_and_stored_with_the_adapter(method, tmp_path):
    """LoRA and IA3 learned beside a frozen random head, and evaluation refused what they had learned."""
    whole = calm_backbone("encoder-only")
    whole.model.bert.save_pretrained(tmp_path / "base")
    whole.need_tokenizer().save_pretrained(tmp_path / "base")
    backbone = Backbone.from_pretrained(tmp_path / "base", device="cpu", classes=2)
    assert backbone.has_untrained_head
    run = tuning("encoder-only", method=method, optimizer="adamw", learning_rate=0.05, steps=20, evaluate_every=None)
    result = train(backbone, [run], TrainConfig(output_dir=tmp_path / "out", progress=False))["a"]
    start, end = backbone.model.classifier.weight, weights(result.backbone)
    heads = [value for name, value in end.items() if "classifier" in name and name.endswith("weight")]
    assert not any(value.equal(start) for value in heads[-1:])
    classes = {} if method == ModelTuning() else {"classes": 2}
    loaded = Backbone.from_pretrained(result.path, device="cpu", **classes)
    assert not loaded.has_untrained_head
    found = [evaluate(one, None, run.task) for one in (loaded, result.backbone)]
    assert dict(found[0]) == dict(found[1])
    assert found[0]["accuracy"] == result.metrics["accuracy"]
