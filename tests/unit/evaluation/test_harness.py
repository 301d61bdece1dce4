"""A prompt as a model of lm-evaluation-harness: its tasks, and the numbers of its own models."""

from __future__ import annotations

import math

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tests.models import POSITIONS, tiny_backbone, tiny_prompted
from tests.unit.evaluation.tasks import REVIEWS

from softprompt.errors import ConfigError, LengthError, MismatchError
from softprompt.evaluation.harness import HarnessModel
from softprompt.inference import BatchLimits

GENERATING = ("encoder-decoder", "decoder-only")
CONTEXTS = ["review : the film was very good", "bad", "topic : a short plot and a long song", "sport"]
CONTINUATIONS = [" good", " city centre", " so sad", " it is a cheap place"]


def model(kind: str, name: str | None = None, **settings):
    prompted = tiny_prompted(kind)
    return HarnessModel(prompted.backbone, prompted.prompts[name] if name else None, **settings)


def requests(kind: str, *arguments):
    return [Instance(request_type=kind, doc={}, arguments=one, idx=0) for one in arguments]


def pairs():
    return requests("loglikelihood", *zip(CONTEXTS, CONTINUATIONS, strict=True))


def theirs(kind: str):
    """The harness's own model of the bare backbone."""
    backbone = tiny_backbone(kind)
    return HFLM(
        pretrained=backbone.model,
        tokenizer=backbone.need_tokenizer(),
        backend="seq2seq" if kind == "encoder-decoder" else "causal",
        batch_size=2,
        device="cpu",
    )


@pytest.mark.parametrize("kind", GENERATING)
def test_the_bare_backbone_scores_what_it_scores_there(kind):
    ours, other = model(kind).loglikelihood(pairs()), theirs(kind).loglikelihood(pairs())
    assert [score for score, _ in ours] == pytest.approx([score for score, _ in other], rel=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in other]


def test_whole_texts_score_what_they_score_there():
    texts = [(" ".join(CONTEXTS),), ("good",)]
    ours = model("decoder-only").loglikelihood_rolling(requests("loglikelihood_rolling", *texts))
    other = theirs("decoder-only").loglikelihood_rolling(requests("loglikelihood_rolling", *texts))
    assert ours == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("kind", GENERATING)
def test_generated_text_is_what_is_generated_there(kind):
    asked = [(text, {"until": ["zzz"], "max_gen_toks": 6, "do_sample": False}) for text in CONTEXTS]
    ours = model(kind).generate_until(requests("generate_until", *asked))
    other = theirs(kind).generate_until(requests("generate_until", *asked))
    assert any(ours)
    if kind == "encoder-decoder":  # there the harness counts the context's tokens as generated ones
        other = [" ".join(text.split()[:6]) for text in other]
    assert ours == other


@pytest.mark.parametrize("kind", GENERATING)
@pytest.mark.parametrize("name", ["rows", "keys"])
def test_a_prompt_is_what_it_is_elsewhere(kind, name):
    """Log-probabilities against `score_ids`, one row at a time, and batches against each alone."""
    prompted = tiny_prompted(kind)
    ours = model(kind, name, limits=BatchLimits(rows=3)).loglikelihood(pairs())
    for (context, continuation), (score, greedy) in zip(zip(CONTEXTS, CONTINUATIONS, strict=True), ours, strict=True):
        backbone = prompted.backbone
        ids = torch.tensor([backbone.tokenize(context, special=True)])
        target = backbone.tokenize(continuation)
        expected = prompted.score_ids(ids, torch.ones_like(ids), [[target]], prompts=name)
        assert score == pytest.approx(expected.item(), rel=1e-4)
        made = prompted.generate(input_ids=ids, prompts=name, max_new_tokens=len(target), do_sample=False)
        said = made[0, ids.shape[1] :] if kind == "decoder-only" else made[0, 1:]
        assert greedy == (said.tolist() == target)
    assert [score for score, _ in ours] != pytest.approx([score for score, _ in model(kind).loglikelihood(pairs())])


@pytest.mark.parametrize("kind", GENERATING)
def test_what_greedy_decoding_says_is_greedy(kind):
    ours = model(kind, "rows")
    asked = requests("generate_until", *[(text, {"until": [], "max_gen_toks": 1}) for text in CONTEXTS])
    said = [(text, f" {word}") for text, word in zip(CONTEXTS, ours.generate_until(asked), strict=True) if word.strip()]
    assert said
    scored = ours.loglikelihood(requests("loglikelihood", *said))
    others = ours.loglikelihood(requests("loglikelihood", *[(text, " pub") for text, word in said if word != " pub"]))
    assert all(greedy for _, greedy in scored)
    assert not any(greedy for _, greedy in others)
    assert min(score for score, _ in scored) > max(score for score, _ in others)


def test_generation_ends_before_the_first_stop():
    ours = model("decoder-only", "rows")

    def said(**settings):
        (text,) = ours.generate_until(requests("generate_until", (CONTEXTS[0], {"max_gen_toks": 8, **settings})))
        return text

    whole = said(until=[])
    words = whole.split()
    assert len(words) > 3
    assert said(until=["zzz", words[2]]) == whole[: whole.index(words[2])]
    assert whole.index(whole[3:]) > 1
    assert said(until=[whole[3:], whole[1:]]) == whole[:1]
    assert said(until=words[1]) == whole[: whole.index(words[1])]


def test_too_long_contexts_lose_their_beginning():
    ours = model("decoder-only", "rows")
    long, short = "good " * POSITIONS + "bad film", "good " * (POSITIONS - 3 - 1 - 2) + "bad film"
    (first, second) = ours.loglikelihood(requests("loglikelihood", (long, " sad"), (short, " sad")))
    assert first[0] == pytest.approx(second[0], rel=1e-5)
    with pytest.raises(LengthError, match=r"96 tokens do not fit behind any input of tiny decoder-only; ask for fewer"):
        ours.generate_until(requests("generate_until", ("good", {"until": [], "max_gen_toks": POSITIONS})))


def test_a_long_text_is_predicted_token_by_token():
    """Divided into windows; the first is what it is alone."""
    ours = model("decoder-only", "rows")
    window = " ".join(["good"] * (POSITIONS - 3 - 1))
    first, both = ours.loglikelihood_rolling(requests("loglikelihood_rolling", (window,), (f"{window} sad sad",)))
    assert both < first < 0
    assert math.isfinite(both)


@pytest.mark.parametrize("kind", ["encoder-decoder", pytest.param("decoder-only", marks=pytest.mark.slow)])
def test_a_local_task_through_the_harness(kind):
    """Its accuracy is that of the labels' log-probabilities, row by row; nothing is loaded from anywhere."""
    import datasets

    rows = [{"text": text, "label": int(label)} for text, label in REVIEWS]
    local = ConfigurableTask(
        config={
            "task": "films",
            "custom_dataset": lambda **_: {"validation": datasets.Dataset.from_list(rows)},
            "validation_split": "validation",
            "output_type": "multiple_choice",
            "doc_to_text": "review : {{text}}",
            "doc_to_target": "label",
            "doc_to_choice": ["bad", "good"],
            "metric_list": [{"metric": "acc"}],
        }
    )
    prompted = tiny_prompted(kind)
    found = lm_eval.simple_evaluate(
        model=model(kind, "rows"),
        tasks=[local],
        task_manager=TaskManager(include_defaults=False),  # else it reads thousands of tasks, for ten seconds
        bootstrap_iters=0,
        random_seed=None,
    )
    backbone = prompted.backbone
    asked = [backbone.tokenize(f"review : {text}", special=True) for text, _ in REVIEWS]
    labels = [backbone.tokenize(f" {label}") for label in ("bad", "good")]
    scores = torch.cat(
        [prompted.score_ids(torch.tensor([ids]), torch.ones(1, len(ids)), [labels], prompts="rows") for ids in asked]
    )
    right = [int(best) == row["label"] for best, row in zip(scores.argmax(-1), rows, strict=True)]
    assert 0 < sum(right) < len(rows)
    assert found["results"]["films"]["acc,none"] == pytest.approx(sum(right) / len(rows))


def test_what_the_harness_cannot_ask():
    with pytest.raises(ConfigError, match="tiny encoder-only is encoder-only; the harness asks for models that"):
        model("encoder-only")
    with pytest.raises(MismatchError):
        HarnessModel(tiny_backbone("decoder-only"), tiny_prompted("encoder-decoder").prompts["rows"])
