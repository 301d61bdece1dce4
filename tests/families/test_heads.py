"""Prompts that bring a classification head: as a model that has it, in any mix of heads."""

from __future__ import annotations

import copy
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers as tf
from accelerate.hooks import ModelHook, add_hook_to_module
from tests.training.sessions import calm_backbone, difference, sentiment, short_run
from torch import Tensor, nn

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import BackboneError, ConfigError, MismatchError, UnsupportedError
from softprompt.evaluation import evaluate
from softprompt.prompts import PrefixTuning, PromptTuning, PTuningV2, SoftPrompt
from softprompt.tasks import Task
from softprompt.training import TrainConfig, train

SMALL = {
    "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32,
    "max_position_embeddings": 40, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "bert": tf.BertConfig(**SMALL),
    "roberta": tf.RobertaConfig(**SMALL),
    "electra": tf.ElectraConfig(**SMALL, embedding_size=16),
    "distilbert": tf.DistilBertConfig(
        vocab_size=50, dim=24, n_layers=2, n_heads=3, hidden_dim=32, max_position_embeddings=40, pad_token_id=0
    ),
    "modernbert": tf.ModernBertConfig(**SMALL, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2),
}
METHODS = {
    "rows": PromptTuning(length=3, init="vocab", head=True),
    "keys": PTuningV2(length=4, head=True),
    "mlp": PrefixTuning(length=2, hidden=8, head=True),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
CLASSES = {"rows": 2, "keys": 4, "mlp": 3}


@functools.cache
def backbone(family: str) -> Backbone:
    torch.manual_seed(0)
    config = copy.deepcopy(FAMILIES[family])
    config.num_labels = 3
    model = tf.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # large enough that everything matters
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return Backbone.from_model(model)


def with_classes(count: int) -> Task:
    """A task of so many labels."""
    rows = [{"x": f"text {label}", "y": str(label)} for label in range(count)]
    words = {str(label): f"word{label}" for label in range(count)}
    return Task.from_rows({"train": rows}, input="{x}", target="{y}", label_words=words, split_sizes=(1, 0, 0))


@functools.cache
def built(family: str) -> dict[str, SoftPrompt]:
    made = {}
    for seed, (name, method) in enumerate(METHODS.items()):
        task = sentiment() if CLASSES[name] == 2 else with_classes(CLASSES[name])
        prompt = method.build(backbone(family), task, seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in prompt.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        made[name] = prompt
    return made


def prompts(family: str) -> dict[str, SoftPrompt]:
    return copy.deepcopy(built(family))


def batch() -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, 50, (7, 9), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([9, 4, 7, 1, 9, 6, 3])
    mask = torch.arange(9) < lengths[:, None]
    return ids.where(mask, 0), mask


NAMES = ["rows", "keys", None, "mlp", "keys", "rows", None]


def having_it(family: str, prompt: SoftPrompt) -> tuple[Backbone, SoftPrompt]:
    """A copy of the model with the prompt's head in the place of its own, and the prompt without head."""
    head = prompt().head
    model = copy.deepcopy(backbone(family).model)
    model.set_attn_implementation("eager")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and f"{name}.weight" in head:
            classes = len(head[f"{name}.weight"])
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.Linear(module.in_features, classes, module.bias is not None))
    missing, unexpected = model.load_state_dict({k: v.detach() for k, v in head.items()}, strict=False)
    assert not unexpected
    assert missing
    changed = Backbone.from_model(model)
    bare = SoftPrompt(prompt.parametrization.prompt, prompt.method, prompt.info)
    return changed, bare.with_info(fingerprint=changed.fingerprint.to_mapping())


@every_family
@pytest.mark.parametrize("name", METHODS)
def test_it_is_the_model_that_has_the_head(family, name):
    """Logits, loss, and the gradients of prompt and head."""
    prompt = prompts(family)[name]
    ids, mask = batch()
    labels = torch.arange(len(ids)) % CLASSES[name]
    got = Prompted(backbone(family), {"a": prompt})(ids, mask, labels=labels)
    got.loss.backward()
    changed, bare = having_it(family, copy.deepcopy(prompts(family)[name]))
    head = prompt().head
    for key, parameter in changed.model.named_parameters():
        parameter.requires_grad_(key in head)
    want = Prompted(changed, {"a": bare})(ids, mask, labels=labels)
    want.loss.backward()
    torch.testing.assert_close(got.logits, want.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.loss, want.loss, rtol=1e-5, atol=1e-6)
    values = dict(changed.model.named_parameters())
    for key, parameter in zip(head, prompt.parametrization.head, strict=True):
        assert parameter.grad.abs().max() > 0
        torch.testing.assert_close(parameter.grad, values[key].grad, rtol=1e-3, atol=1e-6)
    for ours, theirs in zip(prompt.parametrization.prompt.parameters(), bare.parameters(), strict=True):
        assert ours.grad.abs().max() > 0
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


@every_family
def test_rows_of_several_heads_score_as_alone(family):
    ids, mask = batch()
    model = Prompted(backbone(family), prompts(family))
    with torch.no_grad():
        mixed = model(ids, mask, prompts=NAMES).logits
        assert mixed.shape == (7, 4)
        for row, name in enumerate(NAMES):
            own = mask[row]
            alone = model(ids[row][own][None], prompts=[name]).logits[0]
            assert len(alone) == (3 if name is None else CLASSES[name])
            torch.testing.assert_close(mixed[row, : len(alone)], alone, rtol=1e-4, atol=1e-5)
            assert (mixed[row, len(alone) :] == -torch.inf).all()


@every_family
def test_a_head_is_stored_with_its_prompt(family, tmp_path):
    prompt = prompts(family)["keys"]
    loaded = SoftPrompt.load(prompt.save(tmp_path / "a"))
    assert difference(loaded, prompt.fold()) == 0
    assert loaded.num_parameters() == prompt.num_parameters()
    assert all(name.startswith(("head.", "keys_values.")) for name in loaded().named())
    ids, mask = batch()
    with torch.no_grad():
        one, other = (Prompted(backbone(family), {"a": p})(ids, mask).logits for p in (prompt, loaded))
    assert torch.equal(one, other)


def test_the_model_keeps_its_head():
    before = {name: value.clone() for name, value in backbone("roberta").model.state_dict().items()}
    ids, mask = batch()
    model = Prompted(backbone("roberta"), prompts("roberta"))
    model(ids, mask, prompts=NAMES, labels=torch.zeros(7, dtype=torch.long)).loss.backward()
    after = backbone("roberta").model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in backbone("roberta").model.parameters())


def test_a_head_is_read_under_hooks():
    """Hooks of accelerate bind `forward` to the model: the head's copy ran the model, and no prompt reached it."""
    ids, mask = batch()
    plain = Prompted(backbone("bert"), prompts("bert"))
    hooked = copy.deepcopy(backbone("bert").model)
    hooked.set_attn_implementation("eager")
    add_hook_to_module(hooked, ModelHook())
    with torch.no_grad():
        want = plain(ids, mask, prompts="keys").logits
        got = Prompted(Backbone.from_model(hooked), prompts("bert"))(ids, mask, prompts="keys").logits
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_nothing_of_a_batch_is_kept():
    ids, mask = batch()
    Prompted(backbone("bert"), prompts("bert"))(ids, mask, prompts="keys")
    assert backbone("bert").head._given.output is None


def test_threads_do_not_see_each_others_heads():
    """A head's weights are put into a module that all threads share, for as long as a call lasts."""
    ids, mask = batch()
    model = Prompted(backbone("bert"), prompts("bert"))
    start = threading.Barrier(3)

    def logits(name: str) -> list[Tensor]:
        start.wait(10)
        with torch.no_grad():
            return [model(ids, mask, prompts=name).logits for _ in range(20)]

    with ThreadPoolExecutor(3) as pool:
        found = dict(zip(METHODS, pool.map(logits, METHODS), strict=True))
    for several in found.values():
        assert all(torch.equal(one, several[0]) for one in several)


@pytest.mark.slow
def test_a_head_learns_with_its_prompt_alone_or_beside_others():
    task = sentiment(rows=60)
    runs = [
        short_run(
            name,
            task=task,
            method=method,
            optimizer="adamw",
            learning_rate=0.05,
            batch_size=16,
            steps=60,
            seed=seed,
            evaluate_every=None,
        )
        for seed, (name, method) in enumerate(METHODS.items())
    ]
    calm = calm_backbone("encoder-only")
    together = train(calm, runs, TrainConfig(progress=False))
    for run in runs:
        alone = train(calm, [run], TrainConfig(progress=False))[run.name]
        assert difference(alone.prompt, together[run.name].prompt) < 1e-4
        losses = [entry["loss"] for entry in alone.history]
        assert sum(losses[-5:]) < 0.92 * sum(losses[:5])
        assert evaluate(calm, alone.prompt, task, by="rank")["accuracy"] == alone.metrics["accuracy"]


def stored_bare(folder, family: str) -> None:
    backbone(family).model.base_model.save_pretrained(folder)


@every_family
def test_an_encoder_without_head_is_given_one(family, tmp_path):
    """The same each time, so that its prompts know it again."""
    stored_bare(tmp_path, family)
    with pytest.raises(UnsupportedError, match="say how many classes a new head shall have: load it with classes=N"):
        PTuningV2(length=2, head=True).build(Backbone.from_pretrained(tmp_path, device="cpu"), with_classes(4))
    one, two = (Backbone.from_pretrained(tmp_path, device="cpu", classes=2) for _ in range(2))
    assert one.fingerprint == two.fingerprint
    ids, mask = batch()
    with pytest.raises(ConfigError, match="has no head that was trained; give each row a prompt with a head"):
        Prompted(one)(ids, mask, prompts=[None] * len(ids))
    with pytest.raises(MismatchError, match="and the prompt 'a' brings none; train one with head=True"):
        Prompted(one, {"a": PromptTuning(length=2, init="vocab").build(one)})
    prompt = PTuningV2(length=2, head=True).build(one, with_classes(4))
    assert Prompted(two, {"a": prompt})(ids, mask).logits.shape == (7, 4)
    other = Backbone.from_pretrained(tmp_path, device="cpu", classes=5)  # how many does not matter
    torch.testing.assert_close(
        Prompted(other, {"a": prompt})(ids, mask).logits, Prompted(two, {"a": prompt})(ids, mask).logits
    )


def test_what_cannot_have_a_new_head_is_refused(tmp_path):
    backbone("bert").model.save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="has a head already; load it without classes"):
        Backbone.from_pretrained(tmp_path, device="cpu", classes=3)
    with pytest.raises(BackboneError, match="has a head of another number of classes"):
        Backbone.from_pretrained(tmp_path, device="cpu", classes=2)
    for kind in ("decoder-only", "encoder-decoder"):
        calm_backbone(kind).model.save_pretrained(tmp_path / kind)
        with pytest.raises(BackboneError, match=r"without classes|classif"):
            Backbone.from_pretrained(tmp_path / kind, device="cpu", classes=3)
    calm = calm_backbone("decoder-only")
    with pytest.raises(UnsupportedError, match="has no classification head; it answers in label words"):
        PromptTuning(length=2, init="vocab", head=True).build(calm)
    free = Task.from_rows({"train": [{"x": "a", "y": "b"}]}, input="{x}", target="{y}", split_sizes=(1, 0, 0))
    with pytest.raises(ConfigError, match="head over the task's labels, but it has none"):
        PTuningV2(head=True).build(backbone("bert"), free)
