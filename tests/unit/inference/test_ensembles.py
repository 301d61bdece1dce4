"""Prompts that answer together: votes and means, by hand and in one pass."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from tests.models import END, PAD, tiny_backbone, tiny_prompted
from tests.unit.inference.test_generating import GENERATING, TEXTS
from transformers import GenerationConfig

from softprompt.conditioning import Prompted
from softprompt.errors import ArtefactError, ConfigError, MismatchError, NonFiniteError
from softprompt.evaluation import evaluate
from softprompt.inference import BatchLimits, Ensemble, Query, Together, classify, predict_texts
from softprompt.inference.encoding import encode_to_generate
from softprompt.inference.together import combine_probabilities, majority
from softprompt.prompts import Members, PrefixTuning, PromptTuning
from softprompt.tasks import Task

CANDIDATES = ("good", "bad", "city centre")
MEMBERS = ("rows", "keys", "longer")
ENCODER = "encoder-only"


def shares_of(model, names, candidates=CANDIDATES):
    """Each member's probabilities by itself, `[members, texts, candidates]`."""
    alone = [classify(model, [Query(input=t, prompt=name, candidates=candidates) for t in TEXTS]) for name in names]
    return torch.tensor([[list(choice.probabilities.values()) for choice in choices] for choices in alone])


@pytest.mark.parametrize("kind", [*GENERATING, ENCODER])
@pytest.mark.parametrize("combine", ["vote", "mean"])
def test_classes_are_combined_as_by_hand_beside_queries_to_single_prompts(kind, combine):
    model = tiny_prompted(kind)
    candidates = CANDIDATES[:2] if kind == ENCODER else CANDIDATES
    members = shares_of(model, MEMBERS, candidates)
    asked = [
        Query(input=text, prompt=prompt, candidates=candidates)
        for text in TEXTS
        for prompt in (Together(MEMBERS, combine), "rows")
    ]
    choices = list(classify(model, asked, limits=BatchLimits(rows=8)))
    mean = members.mean(0)
    for place, choice in enumerate(choices[::2]):
        got = torch.tensor(list(choice.probabilities.values()))
        votes = Counter(members[:, place].argmax(-1).tolist())
        if combine == "mean":
            torch.testing.assert_close(got, mean[place], atol=1e-5, rtol=1e-4)
            assert choice.label == candidates[mean[place].argmax()]
        else:
            assert got.tolist() == pytest.approx([votes[index] / 3 for index in range(len(candidates))])
            most = [index for index in votes if votes[index] == max(votes.values())]
            assert choice.label == candidates[max(most, key=lambda index: mean[place, index])]
    single = torch.tensor([list(choice.probabilities.values()) for choice in choices[1::2]])
    torch.testing.assert_close(single, members[0], atol=1e-5, rtol=1e-4)
    assert members.std(0).max() > 0.01  # members differ


def test_ties_go_to_the_more_probable_and_to_the_first():
    members = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.6, 0.2]])
    assert combine_probabilities(members, "vote")[0] == 0
    assert combine_probabilities(members.flip(0), "vote")[0] == 0
    assert combine_probabilities(torch.tensor([[0.5, 0.4, 0.1], [0.0, 0.4, 0.6], [0.6, 0.3, 0.1]]), "mean")[0] == 0
    assert combine_probabilities(torch.tensor([[0.51, 0.49], [0.51, 0.49], [0.0, 1.0]]), "vote")[0] == 0
    assert combine_probabilities(torch.tensor([[0.51, 0.49], [0.51, 0.49], [0.0, 1.0]]), "mean")[0] == 1
    assert majority(["a", "b", "b", "a"]) == "a"


@pytest.mark.parametrize("kind", GENERATING)
def test_the_text_of_a_vote_is_what_most_members_say(kind):
    model = tiny_prompted(kind)
    names = ("rows", "keys", "again")
    model.add("again", model.prompts["keys"])
    try:
        alone = [list(predict_texts(model, [Query(input=t, prompt=n, max_new_tokens=5) for t in TEXTS])) for n in names]
        asked = [Query(input=text, prompt=Together(names), max_new_tokens=5) for text in TEXTS]
        assert list(predict_texts(model, asked, limits=BatchLimits(rows=7))) == alone[1]
        assert alone[0] != alone[1]
    finally:
        model.remove("again")


@pytest.mark.parametrize("kind", GENERATING)
def test_a_mean_chooses_each_token_by_the_mean_of_the_members(kind):
    """Token by token, by hand, without cache and without batch."""
    model = tiny_prompted(kind)
    got = list(
        predict_texts(model, [Query(input=t, prompt=Together(MEMBERS, "mean"), max_new_tokens=5) for t in TEXTS])
    )
    assert got == [by_hand(model, kind, text, MEMBERS, 5) for text in TEXTS]
    alone = [list(predict_texts(model, [Query(input=t, prompt=n, max_new_tokens=5) for t in TEXTS])) for n in MEMBERS]
    assert all(texts != got for texts in alone)


@torch.no_grad()
def by_hand(model, kind, text, names, room):
    ids = model.backbone.tokenizer(text, return_tensors="pt").input_ids
    said = []
    for _ in range(room):
        if kind == "encoder-decoder":
            given = {"input_ids": ids, "decoder_input_ids": torch.tensor([[PAD, *said]])}
        else:
            given = {"input_ids": torch.cat([ids, torch.tensor([said], dtype=torch.long)], dim=1)}
        logits = torch.cat([model(**given, prompts=name).logits[:, -1] for name in names])
        said.append(int(logits.softmax(-1).mean(0).argmax()))
        if said[-1] == END:
            break
    return model.backbone.tokenizer.decode(said, skip_special_tokens=True)


@pytest.mark.parametrize("kind", GENERATING)
@pytest.mark.parametrize("combine", ["vote", "mean"])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_members_that_agree_answer_like_one(kind, combine, options):
    prompt = tiny_prompted(kind).prompts["keys"]
    ensemble = Ensemble(tiny_backbone(kind), [prompt] * 3, combine=combine)
    alone = predict_texts(
        tiny_prompted(kind), [Query(input=text, prompt="keys", max_new_tokens=5) for text in TEXTS], **options
    )
    assert ensemble.generate(TEXTS, max_new_tokens=5, **options) == list(alone)
    one = list(classify(tiny_prompted(kind), [Query(input=t, prompt="keys", candidates=CANDIDATES) for t in TEXTS]))
    assert [c.label for c in ensemble.classify(TEXTS, CANDIDATES)] == [c.label for c in one]


def test_all_members_answer_in_one_pass(monkeypatch):
    model = tiny_prompted("encoder-decoder")
    calls = []
    whole = Prompted.score_ids
    monkeypatch.setattr(Prompted, "score_ids", lambda self, *a, **k: calls.append(len(a[0])) or whole(self, *a, **k))
    list(classify(model, [Query(input=TEXTS[0], prompt=Together(MEMBERS), candidates=CANDIDATES)]))
    assert calls == [3]


def test_sampling_is_refused_as_members_would_say_other_texts():
    model = tiny_prompted("decoder-only")
    with pytest.raises(ConfigError, match="do_sample draws another text for each prompt"):
        list(predict_texts(model, [Query(input=TEXTS[0], prompt=Together(MEMBERS))], do_sample=True))


@pytest.mark.parametrize(("names", "combine"), [((), "vote"), (("a", "a"), "vote")])
def test_what_is_no_ensemble_is_refused(names, combine):
    with pytest.raises(ConfigError):
        Together(names, combine)


def prompts_of(kind="decoder-only", count=3):
    backbone = tiny_backbone(kind)
    methods = [
        PromptTuning(length=3, init="vocab"),
        PrefixTuning(length=2, hidden=None),
        PromptTuning(length=5, init="vocab"),
    ]
    return [methods[index % 3].build(backbone, seed=index) for index in range(count)]


def test_an_ensemble_is_kept_as_one_folder(tmp_path):
    made = Ensemble(tiny_backbone("decoder-only"), prompts_of(), combine="mean")
    made.save(tmp_path / "three")
    assert sorted(file.name for file in (tmp_path / "three").iterdir()) == [
        "README.md", "ensemble.json", "ensemble.safetensors"
    ]  # fmt: skip
    kept = Ensemble.load(tiny_backbone("decoder-only"), tmp_path / "three")
    assert kept.members.digest() == made.members.digest()
    assert kept.members.combine == "mean"
    assert kept.generate(TEXTS[:4], max_new_tokens=4) == made.generate(TEXTS[:4], max_new_tokens=4)
    card = (tmp_path / "three" / "README.md").read_text()
    assert "3 soft prompts that answer together" in card
    assert "| 1 | prefix_tuning | 2 |" in card
    other = Members(made.members.prompts, "vote")
    assert other.digest() != made.members.digest()


def test_members_of_another_backbone_or_another_format_are_refused(tmp_path):
    Members(prompts_of()).save(tmp_path / "three")
    with pytest.raises(MismatchError):
        Ensemble.load(tiny_backbone("encoder-decoder"), tmp_path / "three")
    first, *rest = prompts_of()
    with pytest.raises(ConfigError, match="Prompt 2 of an ensemble reads its inputs in another format"):
        Members([first, rest[0], rest[1].with_info(format={"input": "{text}"})])
    with pytest.raises(ConfigError, match="at least one"):
        Members([])


@pytest.mark.parametrize("key", ["members", "combine"])
def test_a_damaged_folder_is_refused(tmp_path, key):
    Members(prompts_of()).save(tmp_path / "three")
    file = tmp_path / "three" / "ensemble.json"
    file.write_text(file.read_text().replace(f'"{key}"', '"other"'))
    with pytest.raises(ArtefactError, match=f"ensemble.json cannot be used .*{key}"):
        Members.load(tmp_path / "three")


def test_a_member_that_diverged_is_named():
    model = tiny_prompted("decoder-only")
    prompt = PromptTuning(length=2, init="vocab").build(model.backbone, seed=0)
    with torch.no_grad():
        prompt.parametrization.rows.fill_(1e38)
    model.add("wild", prompt)
    try:
        with pytest.raises(NonFiniteError, match="with the prompt 'wild' are NaN"):
            list(classify(model, [Query(input=TEXTS[0], prompt=Together(("rows", "wild")), candidates=CANDIDATES)]))
    finally:
        model.remove("wild")


def test_candidates_are_the_label_words_of_the_members(tmp_path):
    form = {"input": "{text} it is", "target": "{label}", "label_words": {"0": "bad", "1": "good"}}
    ensemble = Ensemble(tiny_backbone("decoder-only"), [prompt.with_info(format=form) for prompt in prompts_of()])
    assert set(ensemble.classify(["very long film"])[0].probabilities) == {"bad", "good"}
    with pytest.raises(ConfigError, match="without label words"):
        Ensemble(tiny_backbone("decoder-only"), prompts_of()).classify(["film"])


def test_tensors_that_belong_to_no_member_are_refused(tmp_path):
    Members(prompts_of()).save(tmp_path / "three")
    file = tmp_path / "three" / "ensemble.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({**facts, "members": facts["members"][:2]}))
    with pytest.raises(ArtefactError, match=r"tensors of members 0, 1, 2, but ensemble\.json names 2"):
        Members.load(tmp_path / "three")


def test_members_of_different_backbones_are_no_ensemble():
    other = PromptTuning(length=3, init="vocab").build(tiny_backbone("encoder-decoder"), seed=0)
    with pytest.raises(ConfigError, match="made for tiny encoder-decoder, but the first for tiny decoder-only"):
        Members([prompts_of()[0], other])


def test_a_batch_counts_the_padding_of_its_members():
    model = tiny_prompted("decoder-only")
    (alone,) = encode_to_generate(model, [Query(input=TEXTS[0], prompt="longer", max_new_tokens=4)])
    (both,) = encode_to_generate(model, [Query(input=TEXTS[0], prompt=Together(("rows", "longer")), max_new_tokens=4)])
    assert both.tokens == 2 * alone.tokens


def test_votes_have_no_probabilities_to_calibrate():
    task = Task.from_rows(
        {"validation": [{"text": "film", "label": "0"}]}, input="{text}", target="{label}",
        label_words={"0": "bad", "1": "good"},
    )  # fmt: skip
    ensemble = Ensemble(tiny_backbone("decoder-only"), prompts_of())
    with pytest.raises(ConfigError, match="votes have none"):
        evaluate(tiny_backbone("decoder-only"), ensemble, task, calibrate=True)


def test_several_texts_per_input_are_refused_wherever_they_are_asked_for():
    config = GenerationConfig(num_return_sequences=3, num_beams=3, pad_token_id=PAD, eos_token_id=END)
    asked = [Query(input=text, prompt="rows", max_new_tokens=3) for text in TEXTS[:4]]
    with pytest.raises(ConfigError, match="one text per input"):
        list(predict_texts(tiny_prompted("decoder-only"), asked, num_beams=3, generation_config=config))
