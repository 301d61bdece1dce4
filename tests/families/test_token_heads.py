"""Prompts that bring a head over tokens: tags of words and spans of a context, in any mix, on whatever encoder."""

from __future__ import annotations

import copy
import functools
import random

import pytest
import torch
import transformers as tf
from tests.models import word_tokenizer
from tests.training.sessions import calm_backbone, difference, sentiment, short_run, words
from torch import Tensor, nn

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import BackboneError, ConfigError, DataError, MismatchError, ShapeError, UnsupportedError
from softprompt.evaluation import evaluate
from softprompt.inference import BatchLimits, Query, predict_texts
from softprompt.prompts import PrefixTuning, PromptTuning, PTuningV2, SoftPrompt
from softprompt.tasks import Task
from softprompt.training import TrainConfig, train
from softprompt.training.data import encode_rows

SMALL = {
    "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32,
    "max_position_embeddings": 40, "pad_token_id": 0,
}  # fmt: skip
MODELS = {
    "bert": lambda: tf.BertModel(tf.BertConfig(**SMALL)),
    "roberta": lambda: tf.RobertaForMaskedLM(tf.RobertaConfig(**SMALL)),
    "electra": lambda: tf.ElectraForPreTraining(tf.ElectraConfig(**SMALL, embedding_size=16)),
    "distilbert": lambda: tf.DistilBertForQuestionAnswering(
        tf.DistilBertConfig(
            vocab_size=60, dim=24, n_layers=2, n_heads=3, hidden_dim=32, max_position_embeddings=40, pad_token_id=0
        )
    ),
    "deberta": lambda: tf.DebertaV2ForSequenceClassification(tf.DebertaV2Config(**SMALL)),
    "modernbert": lambda: tf.ModernBertForTokenClassification(
        tf.ModernBertConfig(**SMALL, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)
TAGS = ("B-LOC", "B-PER", "O")
NAMES = ["tags", "spans", "rows", "spans", "tags", "rows", "tags"]


def tagged(rows: int = 24, seed: int = 0, **settings) -> Task:
    """Sentences in which what one reads is a person and what one visits a place."""
    source = random.Random(seed)
    kinds = {"film": "B-PER", "book": "B-PER", "city": "B-LOC", "river": "B-LOC"}

    def some(count: int) -> list[dict[str, list[str]]]:
        found = [[*words(source.randint(2, 9), source).split(), source.choice(list(kinds))] for _ in range(count)]
        return [{"tokens": one, "ner": [kinds.get(word, "O") for word in one]} for one in found]

    defaults = {"input": "{tokens}", "target": "{ner}", "words": "tokens", "name": "tagged"}
    return Task.from_rows({"train": some(rows), "validation": some(12)}, **{**defaults, **settings})


def asked(rows: int = 24, seed: int = 0, **settings) -> Task:
    """Sentences with one place, or a place and what follows it, which is asked for."""
    source = random.Random(seed)

    def one() -> dict[str, object]:
        before, behind = ([w for w in words(5, source).split() if w not in ("city", "river")] for _ in range(2))
        answer = source.choice(["city", "river", "city centre", "river centre"])
        return {"question": "place", "context": " ".join([*before, answer, *behind]), "answers": [answer]}

    defaults = {"input": "{question} : {context}", "target": "{answers}", "context": "context", "name": "asked"}
    splits = {"train": [one() for _ in range(rows)], "validation": [one() for _ in range(12)]}
    return Task.from_rows(splits, **{**defaults, **settings})


@functools.cache
def backbone(name: str) -> Backbone:
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():  # large enough that everything matters
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return Backbone.from_model(model)


@functools.cache
def built(name: str) -> dict[str, SoftPrompt]:
    on = backbone(name)
    takes_keys = on.spec.no_prefix is None
    methods = {
        "tags": PTuningV2(length=4, head=True) if takes_keys else PromptTuning(length=4, init="vocab", head=True),
        "spans": PrefixTuning(length=2, hidden=8, head=True) if takes_keys else PromptTuning(
            length=2, init="vocab", head=True
        ),
        "rows": PromptTuning(length=3, init="vocab", placement="append", head=True),
    }  # fmt: skip
    made = {}
    for seed, (kind, method) in enumerate(methods.items()):
        prompt = method.build(on, asked() if kind == "spans" else tagged(), seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in prompt.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        made[kind] = prompt
    return made


def prompts(name: str) -> dict[str, SoftPrompt]:
    return copy.deepcopy(built(name))


def batch() -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, 50, (7, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9) < torch.tensor([9, 4, 7, 2, 9, 6, 3])[:, None]
    return ids.where(mask, 0), mask


def labels(mask: Tensor) -> Tensor:
    """A tag at every second token, or a span from the second to the last."""
    made = torch.full(mask.shape, -100)
    for row, name in enumerate(NAMES):
        count = int(mask[row].sum())
        if name == "spans":
            made[row, :2] = torch.tensor([1, count - 1])
        else:
            made[row, :count:2] = torch.arange(len(range(0, count, 2))) % 3
    return made


@every_model
def test_logits_are_one_layer_over_the_encoders_states(name):
    """Of real tokens: virtual ones have states, too, wherever they stand."""
    ids, mask = batch()
    for placement in ("prepend", "append"):
        prompt = PromptTuning(length=3, init="vocab", placement=placement, head=True).build(backbone(name), tagged())
        head = {key: torch.randn_like(value) for key, value in prompt().head.items()}
        with torch.no_grad():
            for parameter, value in zip(prompt.parametrization.head, head.values(), strict=True):
                parameter.copy_(value)
            got = Prompted(backbone(name), {"a": prompt})(ids, mask).logits
            own = ids[2][mask[2]]
            embedded, rows = backbone(name).embed(own), prompt().rows
            whole = [embedded, rows] if placement == "append" else [embedded[:1], rows, embedded[1:]]
            states = backbone(name).model.base_model(inputs_embeds=torch.cat(whole)[None]).last_hidden_state[0]
        virtual = slice(len(own), len(own) + 3) if placement == "append" else slice(1, 4)
        real = torch.cat([states[: virtual.start], states[virtual.stop :]])
        want = nn.functional.linear(real, head["tokens.weight"], head["tokens.bias"])
        torch.testing.assert_close(got[2, : len(own)], want, rtol=1e-4, atol=1e-4)
        assert (got[2, len(own) :] == 0).all()


@every_model
def test_rows_of_several_heads_are_as_alone(name):
    """Logits, losses, and the gradients of every prompt and head."""
    ids, mask = batch()
    targets = labels(mask)
    model, alone = Prompted(backbone(name), prompts(name)), Prompted(backbone(name), prompts(name))
    mixed = model(ids, mask, prompts=NAMES, labels=targets)
    assert mixed.logits.shape == (7, 9, 3)
    assert mixed.rows.tolist() == sorted(mixed.rows.tolist())
    mixed.losses.sum().backward()
    for row, kind in enumerate(NAMES):
        own = mask[row]
        wide = max(2, int(own.sum()))
        single = alone(ids[row][own][None], prompts=[kind], labels=targets[row, :wide][None])
        single.losses.sum().backward()
        outputs = single.logits.shape[2]
        assert outputs == (2 if kind == "spans" else 3)
        torch.testing.assert_close(mixed.logits[row, : own.sum(), :outputs], single.logits[0], rtol=1e-4, atol=1e-5)
        assert (mixed.logits[row, :, outputs:] == -torch.inf).all()
        torch.testing.assert_close(mixed.losses[mixed.rows == row], single.losses, rtol=1e-4, atol=1e-5)
    for one, other in zip(model.parameters(), alone.parameters(), strict=True):
        assert one.grad.abs().max() > 0
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in backbone(name).model.parameters())


def test_the_loss_of_a_span_is_that_of_both_its_ends():
    ids, mask = batch()
    model = Prompted(backbone("bert"), prompts("bert"))
    with torch.no_grad():
        got = model(ids, mask, prompts="spans", labels=torch.tensor([[0, 1]] * 7))
    starts, ends = got.logits.masked_fill(~mask[:, :, None], -torch.inf).unbind(-1)
    want = [nn.functional.cross_entropy(one, torch.full((7,), end)) for end, one in enumerate((starts, ends))]
    torch.testing.assert_close(got.loss, sum(want) / 2)


def test_heads_over_classes_and_over_tokens_train_in_one_batch():
    on = calm_backbone("encoder-only")
    made = {
        "classes": PromptTuning(length=2, init="vocab", head=True).build(on, sentiment()),
        "tags": PromptTuning(length=2, init="vocab", head=True).build(on, tagged()),
    }
    model = Prompted(on, made)
    ids, mask = batch()
    names = ["classes", None, "tags", "classes", "tags", "tags", None]
    targets = torch.full((7, 9), -100)
    targets[:, 0] = torch.tensor([1, 0, 2, 0, 1, 0, 1])
    got = model(ids, mask, prompts=names, labels=targets)
    assert got.logits is None
    for row, name in enumerate(names):
        own = mask[row]
        single = model(ids[row][own][None], prompts=[name], labels=targets[row, : own.sum()][None])
        torch.testing.assert_close(got.losses[got.rows == row], single.losses, rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match="Some rows have logits of classes, others of tokens"):
        model(ids, mask, prompts=names)
    with pytest.raises(ShapeError, match="No token is labelled"):
        model(ids, mask, prompts="tags", labels=torch.full((7, 9), -100))


@every_model
def test_a_head_is_stored_with_its_prompt(name, tmp_path):
    ids, mask = batch()
    for kind, prompt in prompts(name).items():
        loaded = SoftPrompt.load(prompt.save(tmp_path / kind))
        assert difference(loaded, prompt.fold()) == 0
        head = {"head.span.weight"} if kind == "spans" else {"head.tokens.weight", "head.tokens.bias"}
        assert {key for key in loaded().named() if key.startswith("head.")} == head
        with torch.no_grad():
            one, other = (Prompted(backbone(name), {"a": p})(ids, mask).logits for p in (prompt, loaded))
        assert torch.equal(one, other)


HOW = {"optimizer": "adamw", "learning_rate": 0.05, "batch_size": 16, "steps": 60, "evaluate_every": None}


def learning_runs():
    """Tags, spans and classes, in one session."""
    return [
        short_run("tags", task=tagged(60), method=PTuningV2(length=4, head=True), **HOW),
        short_run("spans", task=asked(80), method=PrefixTuning(length=4, hidden=16, head=True), **{**HOW, "seed": 1}),
        short_run("rows", task=tagged(40, 3), method=PromptTuning(length=3, init="vocab", head=True), **HOW),
        short_run("classes", task=sentiment(60), method=PTuningV2(length=4, head=True), **HOW),
    ]


@pytest.mark.slow
def test_heads_learn_with_their_prompts_alone_or_beside_others():
    calm = calm_backbone("encoder-only")
    runs = learning_runs()
    together = train(calm, runs, TrainConfig(progress=False))
    for run in runs:
        alone = train(calm, [run], TrainConfig(progress=False))[run.name]
        assert difference(alone.prompt, together[run.name].prompt) < 1e-4
        losses = [entry["loss"] for entry in alone.history]
        assert sum(losses[-5:]) < 0.85 * sum(losses[:5])
    assert together["tags"].metrics["entity_f1"] > 80
    assert together["tags"].metrics["tag_accuracy"] > 90
    assert together["spans"].metrics["exact_match"] > 90  # of about eight words one or two


def test_they_score_as_in_training_and_from_disk(tmp_path):
    calm = calm_backbone("encoder-only")
    runs = [run for run in learning_runs() if run.name in ("tags", "spans")]
    result = train(calm, runs, TrainConfig(progress=False, output_dir=tmp_path))
    for run in runs:
        loaded = SoftPrompt.load(result[run.name].path)
        found = evaluate(calm, loaded, run.task)
        assert dict(found) == result[run.name].metrics
        assert found.by == "generate"
        model = Prompted(calm, {"a": loaded})
        ask = [Query(input=one.columns, prompt="a", form=run.task.format) for one in run.task.examples("validation")]
        said = [row.prediction for row in found.predictions]
        assert list(predict_texts(model, ask, limits=BatchLimits(rows=5))) == said
        assert [next(predict_texts(model, [query])) for query in ask] == said


def test_a_session_goes_on_where_it_was_stopped(tmp_path):
    calm = calm_backbone("encoder-only")
    short = {**HOW, "steps": 6}
    runs = [
        short_run("tags", task=tagged(), method=PTuningV2(length=4, head=True), **short),
        short_run("spans", task=asked(), method=PTuningV2(length=4, head=True), **short),
    ]
    whole = train(calm, runs, TrainConfig(progress=False))
    config = TrainConfig(progress=False, output_dir=tmp_path, checkpoint_every=3, keep_checkpoints=5)
    train(calm, runs, config)
    for later in (tmp_path / "checkpoints").glob("*6*"):
        later.rename(tmp_path / "taken away")
    again = train(calm, runs, config)
    for run in runs:
        assert difference(whole[run.name].prompt, again[run.name].prompt) == 0


def test_only_a_words_first_token_is_labelled():
    """Pieces of letters: the second piece of a word says nothing, nor do special tokens."""
    tokenizer = word_tokenizer("encoder-only")
    calm = calm_backbone("encoder-only")
    task = tagged()
    prompt = PromptTuning(length=2, init="vocab", head=True).build(calm, task)
    run = short_run(task=task, method=prompt.method)
    rows = encode_rows(Prompted(calm, {"a": prompt}), run, task, "a")
    for row, example in zip(rows, task.examples("train"), strict=True):
        tags = [TAGS[target] for target in row.target if target != -100]
        assert tags == example.columns["ner"]
        assert row.terms == len(tags)
        assert len(row.target) == len(row.input)
        assert [row.input[i] for i, t in enumerate(row.target) if t != -100] == tokenizer(
            example.input, add_special_tokens=False
        ).input_ids


def test_rows_whose_answer_is_cut_off_are_left_out_and_counted(capsys):
    calm = calm_backbone("encoder-only")
    rows = [{"q": "place", "c": f"{'film ' * before}river book", "a": ["river"]} for before in (1, 2, 30)]
    rows.append({"q": "place", "c": "film book", "a": ["city"]})
    task = Task.from_rows({"train": rows, "validation": rows}, input="{q} : {c}", target="{a}", context="c", name="cut")
    settings = {**HOW, "steps": 1, "truncate": True, "max_input_tokens": 12}
    run = short_run("a", task=task, method=PTuningV2(length=2, head=True), **settings)
    train(calm, [run], TrainConfig())
    assert "run 'a': 2 rows are left out: their targets are not in what is read." in capsys.readouterr().err
    train(calm, [short_run("a", steps=1)], TrainConfig())
    assert "left out" not in capsys.readouterr().err
    nowhere = Task.from_rows({"train": rows[2:]}, input="{q} : {c}", target="{a}", context="c", split_sizes=(1, 0, 0))
    run = short_run("a", task=nowhere, method=PTuningV2(length=2, head=True), truncate=True, max_input_tokens=12)
    with pytest.raises(DataError, match="run 'a': no row of rows has its target among the tokens of its input"):
        train(calm, [run], TrainConfig(progress=False))


def test_words_that_are_cut_off_have_no_entity():
    calm = calm_backbone("encoder-only")
    prompt = PTuningV2(length=2, head=True).build(calm, tagged())
    query = Query(input={"tokens": ["film"] * 20}, prompt="a", form=tagged().format, truncate=True, max_input_tokens=8)
    (said,) = predict_texts(Prompted(calm, {"a": prompt}), [query])
    assert len(said.split()) == 20
    assert set(said.split()[6:]) == {"O"}


def test_an_answer_is_no_longer_than_is_allowed():
    calm = calm_backbone("encoder-only")
    prompt = PTuningV2(length=2, head=True).build(calm, asked())
    with torch.no_grad():
        for parameter in prompt.parametrization.head:
            parameter.mul_(50)
    model = Prompted(calm, {"a": prompt})
    source = random.Random(5)
    for longest in (1, 3):
        columns = [{"question": "place", "context": words(20, source)} for _ in range(10)]
        ask = [Query(input=one, prompt="a", form=asked().format, max_new_tokens=longest) for one in columns]
        lengths = set()
        for one, said in zip(columns, predict_texts(model, ask), strict=True):
            assert said in one["context"]
            lengths.add(len(said.split()))
        assert max(lengths) == longest


@every_model
def test_every_encoder_is_taken_whatever_it_was_stored_with(name, tmp_path):
    """The same each time, so that its prompts know it again."""
    MODELS[name]().save_pretrained(tmp_path)
    one, two = (Backbone.from_pretrained(tmp_path, device="cpu") for _ in range(2))
    assert one.fingerprint == two.fingerprint
    prompt = PromptTuning(length=2, init="vocab", head=True).build(one, tagged())
    ids, mask = batch()
    with torch.no_grad():
        got, again = (Prompted(on, {"a": prompt})(ids, mask).logits for on in (one, two))
    torch.testing.assert_close(got, again)
    if one.has_untrained_head:
        with pytest.raises(MismatchError, match="has no head that was trained, and the prompt 'a' brings none"):
            Prompted(one, {"a": PromptTuning(length=2, init="vocab").build(one)})


def test_a_head_is_asked_for_the_tags_that_it_was_trained_on():
    """Tags found in data were compared by their number: a head for persons scored a task of places, and said so little.

    Their order counts too, because it is all that the head knows of them.
    """
    calm = calm_backbone("encoder-only")
    people, places = (tagged(label_words={**dict.fromkeys(TAGS, "O"), tag: tag}) for tag in ("B-PER", "B-LOC"))
    method = PTuningV2(length=2, head=True)
    trained = method.build(calm, people).with_info(format=people.format.to_mapping())
    evaluate(calm, trained, people)
    with pytest.raises(ConfigError, match="was trained on the tags O, B-PER, but the task has B-LOC, O"):
        evaluate(calm, trained, places)
    turned = tagged(label_words={"B-PER": "B-PER", "B-LOC": "O", "O": "O"})
    with pytest.raises(ConfigError, match="but the task has B-PER, O; give label_words for the tags that it was"):
        evaluate(calm, trained, turned)
    evaluate(calm, method.build(calm, people), places)  # of an imported prompt, no tags are known


def test_what_takes_no_head_over_tokens_is_refused(monkeypatch):
    for kind, what in (("decoder-only", tagged()), ("encoder-decoder", asked())):
        with pytest.raises(UnsupportedError, match=f"is {kind} and takes no head over tokens; it answers in text: dr"):
            PTuningV2(length=2, head=True).build(calm_backbone(kind), what)
    with pytest.raises(BackboneError, match="has no head that softprompt can use"):
        Backbone.from_model(tf.LlamaModel(tf.LlamaConfig(**SMALL)))
    calm = calm_backbone("encoder-only")
    tags = PTuningV2(length=2, head=True).build(calm, tagged())
    with pytest.raises(ConfigError, match="The prompt's head tags words, but the format names none"):
        evaluate(calm, tags, asked())
    spans = PTuningV2(length=2, head=True).build(calm, asked())
    with pytest.raises(ConfigError, match="The prompt's head finds answers, but the format names no column"):
        evaluate(calm, spans, tagged())
    fewer = tagged(label_words={"O": "O", "B-PER": "B-PER", "B-LOC": "B-LOC", "B-ORG": "B-ORG"})
    with pytest.raises(ConfigError, match="knows 3 tags, but the task has 4"):
        evaluate(calm, tags, fewer)
    monkeypatch.setattr(type(calm.tokenizer), "is_fast", False)
    with pytest.raises(BackboneError, match="does not say where in a text its tokens stand"):
        evaluate(calm, tags, tagged())
