"""A backbone with prompts: names, errors, what is compiled and when it is thrown away."""

from __future__ import annotations

import pytest
import torch
from tests.families import zoo
from transformers import GenerationConfig, TextIteratorStreamer

from softprompt.conditioning import Prompted, collection
from softprompt.conditioning.collection import PromptCollection
from softprompt.conditioning.inputs import check_batch, check_list
from softprompt.errors import ConfigError, LengthError, MismatchError, ShapeError
from softprompt.prompts import PrefixTuning, PromptTuning, SoftPrompt
from softprompt.prompts.parameters import DirectPrefix, DirectRows
from softprompt.tasks import Task, TextFormat

IDS = torch.tensor([[5, 6, 7], [8, 9, 10]])
WIDE = torch.ones(2, 4)
BACKBONE, TRANSLATOR = zoo.backbone("gpt2"), zoo.backbone("t5")


def rows(length: int = 2, seed: int = 0, **options) -> SoftPrompt:
    return PromptTuning(length=length, init="vocab", **options).build(BACKBONE, seed=seed)


def both() -> Prompted:
    return Prompted(BACKBONE, {"a": rows(2), "b": rows(3, 1)})


def logits(model: Prompted, prompts) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, prompts=prompts).logits


def test_names_may_be_one_for_all_or_one_a_row():
    model = both()
    assert logits(model, "a").equal(logits(model, ["a", "a"]))
    mixed = logits(model, ["a", "b"])
    assert mixed[0].allclose(logits(model, "a")[0], atol=1e-5)
    assert mixed[1].allclose(logits(model, "b")[1], atol=1e-5)
    assert not mixed.allclose(logits(model, "a"), atol=1e-2)


def test_the_only_prompt_needs_no_name():
    model = Prompted(BACKBONE, {"a": rows()})
    assert logits(model, None).equal(logits(model, "a"))
    assert not logits(model, None).allclose(logits(model, [None, None]), atol=1e-2)


@pytest.mark.parametrize(
    ("prompts", "error", "message"),
    [
        (None, ConfigError, r"There are 2 prompts; say which each row takes: prompts=\[...\]"),
        (["a"], ShapeError, "prompts names 1 rows, but the batch has 2"),
        (["a", "c"], ConfigError, r"Unknown prompt 'c'.* Known: a, b\."),
    ],
)
def test_wrong_names_are_refused(prompts, error, message):
    with pytest.raises(error, match=message):
        both()(input_ids=IDS, prompts=prompts)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (
            {"attention_mask": torch.ones(2, 4)},
            ShapeError,
            r"attention_mask has shape \[2, 4\], but input_ids \[2, 3\]",
        ),
        ({"labels": torch.full((2, 3), -100)}, ShapeError, "No token is labelled; expected at least one label"),
        ({"labels": torch.tensor([[5, -100, -100]] * 2)}, ShapeError, "behind a row's first token"),
    ],
)
def test_wrong_inputs_are_refused(inputs, error, message):
    with pytest.raises(error, match=message):
        both()(input_ids=IDS, prompts="a", **inputs)


@pytest.mark.parametrize("wrong", [torch.full((2, 1), 5), torch.full((2, 4), 5), torch.tensor([1, 2])])
def test_labels_of_a_decoder_are_as_many_as_its_ids(wrong):
    """They ended in an IndexError; on CUDA in an assertion that ruins the process."""
    with pytest.raises(ShapeError, match=r"Beside input_ids \[2, 3\] stand labels \[2.*, but decoder-only models take"):
        both()(input_ids=IDS, prompts="a", labels=wrong)


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("bert", {"labels": IDS}, r"labels \[2, 3\], but encoder-only models take labels \[batch\], a class"),
        ("t5", {"labels": IDS[:1]}, r"labels \[1, 3\], but encoder-decoder models take labels \[batch, target\]"),
        ("t5", {"labels": IDS[0, :2]}, r"stand labels \[2\], but encoder-decoder models take"),
        (
            "t5",
            {"labels": IDS, "decoder_input_ids": IDS[:, 1:]},
            r"labels \[2, 3\] and decoder_input_ids \[2, 2\], but",
        ),
    ],
)
def test_labels_of_other_kinds(name, inputs, message):
    with pytest.raises(ShapeError, match=message):
        Prompted(zoo.backbone(name))(input_ids=IDS, prompts=[None, None], **inputs)


def test_marks_are_one_for_each_row():
    with pytest.raises(ShapeError, match=r"marks has shape \[1, 1\]; expected \[batch, marks\], 2 rows"):
        check_batch(IDS, torch.ones_like(IDS), torch.tensor([[1]]))


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "labels"])
def test_tensors_on_another_device_are_refused(name):
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": IDS}
    inputs[name] = inputs[name].to("meta")
    with pytest.raises(ShapeError, match=rf"{name} is on meta, but tiny gpt2 on cpu; move it: {name}.to\('cpu'\)"):
        both()(prompts="a", **inputs)


@pytest.mark.parametrize("conditioning", ["auto", "concatenation"])
def test_a_row_without_tokens_is_refused(conditioning):
    """It was answered in silence, by each pass differently: the last column's pad token was read."""
    model = Prompted(BACKBONE, {"a": rows()}, conditioning=conditioning)
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    message = "Row 1 has no tokens; give it at least one, or leave it out"
    with pytest.raises(ShapeError, match=message):
        model.generate(input_ids=IDS, attention_mask=mask, max_new_tokens=2)
    with pytest.raises(ShapeError, match=message):
        model(input_ids=IDS, attention_mask=mask)
    with pytest.raises(ShapeError, match=message):
        model.score_ids(IDS, mask, [[[5]], [[6]]])
    for texts in (["", ""], [" "]):
        with pytest.raises(ShapeError, match="Row 0 has no tokens"):
            model.generate(texts, max_new_tokens=2)


def test_an_empty_batch_is_refused():
    for call in (lambda: both().generate([], prompts="a"), lambda: both().score([], ["good"], prompts="a")):
        with pytest.raises(ShapeError, match="The batch has no rows; give it at least one"):
            call()


def test_one_text_is_no_list():
    """It was taken apart: a text into its letters, a mapping into its fields' names."""
    message = r"texts is one str; expected a list of them: texts=\[...\]"
    with pytest.raises(ShapeError, match=message):
        both().generate("the film", prompts="a")
    with pytest.raises(ShapeError, match=message):
        both().score("the film", ["good"], prompts="a")
    with pytest.raises(ShapeError, match="candidates is one str"):
        both().score(["the film"], "bc", prompts="a")
    with pytest.raises(ShapeError, match="texts is one dict"):
        check_list("texts", {"text": "the film"})


def test_a_translator_needs_a_target():
    model = Prompted(TRANSLATOR, {"a": PromptTuning(length=2, init="vocab").build(TRANSLATOR)})
    with pytest.raises(ShapeError, match="needs labels or decoder_input_ids; give one of them"):
        model(input_ids=IDS)


@pytest.mark.parametrize("inputs", [{}, {"texts": ["good"], "input_ids": IDS}])
def test_either_texts_or_ids_are_generated_from(inputs):
    with pytest.raises(ShapeError, match="generate needs either texts or input_ids; give exactly one"):
        both().generate(prompts="a", **inputs)


@pytest.mark.parametrize("candidates", [[["good"]], [["good"], []]])
def test_every_row_needs_candidates(candidates):
    with pytest.raises(ShapeError, match="score needs candidates for each of 2 rows"):
        both().score(["the film", "the book"], candidates, prompts="a")


def test_an_unknown_pass_is_refused():
    with pytest.raises(ConfigError, match="Unknown pass 'both'"):
        PromptCollection.__init__.__wrapped__(PromptCollection.__new__(PromptCollection), BACKBONE, "both")


def test_rows_of_another_width_are_refused():
    prompt = SoftPrompt(DirectRows(torch.zeros(2, 5)), PromptTuning(length=2), rows().info)
    with pytest.raises(MismatchError, match="'x' has rows of width 5, but tiny gpt2 expects 32"):
        Prompted(BACKBONE, {"x": prompt})


@pytest.mark.parametrize(
    ("stack", "shape", "expected"),
    [
        ("decoder", (3, 2, 4, 2, 9), r"\[3, 2, 4, 2, 8\]"),
        ("decoder", (2, 2, 4, 2, 8), r"\[3, 2, 4, 2, 8\]"),
        ("cross", (3, 2, 4, 2, 8), "no such stack"),
    ],
)
def test_a_prefix_of_another_shape_is_refused(stack, shape, expected):
    prefix = SoftPrompt(DirectPrefix({stack: torch.zeros(shape)}), PrefixTuning(length=2), rows().info)
    message = rf"The prompt 'x' gives the {stack} keys and values \[.*\], but tiny gpt2 expects {expected}"
    with pytest.raises(MismatchError, match=message):
        Prompted(BACKBONE, {"x": prefix})


def test_prompts_come_and_go():
    model = both()
    before = logits(model, "b")
    model.remove("a")
    assert list(model.prompts) == ["b"]
    with pytest.raises(ConfigError, match="Unknown prompt 'a'"):
        model.remove("a")
    model.add("b", rows(3, 2))
    assert not logits(model, "b").allclose(before, atol=1e-2)


def test_a_prompt_is_recorded_once_until_it_changes(monkeypatch):
    model, recorded = both(), []
    record = collection.record_rows

    def counting(backbone, prompts, **options):
        recorded.append(len(prompts))
        return record(backbone, prompts, **options)

    monkeypatch.setattr(collection, "record_rows", counting)
    first = logits(model, "a")
    assert logits(model, ["a", "b"])[0].allclose(first[0], atol=1e-5)
    logits(model, ["b", "a"])
    assert recorded == [1, 1]  # a, then b; never both again
    with torch.no_grad():
        model.prompts["a"].parametrization.rows.mul_(-1)
    assert not logits(model, "a").allclose(first, atol=1e-2)
    assert recorded == [1, 1, 1]


def test_an_optimizers_step_is_seen():
    model = Prompted(BACKBONE, {"a": rows()})
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    before = logits(model, "a")
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    assert not logits(model, "a").allclose(before, atol=1e-3)


def test_its_parameters_are_the_prompts():
    model = both()
    assert [parameter.shape for parameter in model.parameters()] == [(2, 32), (3, 32)]


def formed(prompt: SoftPrompt, template: str) -> SoftPrompt:
    return prompt.with_info(format={"input": template, "target": "{label}"})


def test_a_stored_template_is_applied_and_can_be_bypassed():
    prompt = formed(rows(), "the film is {text}")
    model = Prompted(BACKBONE, {"a": prompt, "bare": rows()})
    options = {"max_new_tokens": 3, "do_sample": False}
    want = model.generate(["the film is dull"], prompts="bare", **options)
    assert model.generate(["dull"], prompts="a", **options) == want
    assert model.generate([{"text": "dull"}], prompts="a", **options) == want
    assert model.generate(["the film is dull"], prompts="a", raw=True, **options) == want
    scores = model.score(["dull"], ["good", "bad"], prompts="a")
    assert scores.allclose(model.score(["the film is dull"], ["good", "bad"], prompts="bare"))


def test_the_mark_of_a_template_places_a_prompt():
    model = Prompted(BACKBONE, {"a": formed(rows(placement="middle"), "the film {prompt} {text}")})
    ids, mask, marks = model.encode(["is dull"], "a")
    head = BACKBONE.tokenize("the film")
    assert marks.tolist() == [[len(head)]]
    assert ids[0, : len(head)].tolist() == head
    with torch.no_grad():
        got = model(input_ids=ids, attention_mask=mask, marks=marks).logits
        half = model(input_ids=ids, attention_mask=mask).logits
    assert marks.item() != ids.shape[1] // 2
    assert not got.allclose(half, atol=1e-2)


def divided(template: str, length: int) -> SoftPrompt:
    rows = [{"text": "so", "label": "bad"}]
    task = Task.from_rows({"train": rows, "validation": rows}, input=template, target="{label}")
    prompt = PromptTuning(length=length, init="vocab", placement="template").build(BACKBONE, task)
    return prompt.with_info(format=task.format.to_mapping())


def test_a_template_divides_a_prompt():
    """The same rows in two places are those of an undivided prompt where the places meet."""
    prompt = divided("the film {soft:2}{soft:3} {text}", 5)
    assert prompt.segments == (2, 3)
    whole = formed(
        SoftPrompt(prompt.parametrization, rows(placement="middle").method, prompt.info), "the film {prompt} {text}"
    )
    apart = divided("{soft:2} the film {text} {soft:3}", 5)
    model = Prompted(BACKBONE, {"divided": prompt, "whole": whole, "apart": apart})
    options = {"max_new_tokens": 3, "do_sample": False}
    texts = ["is dull", "is the best of the year"]
    assert model.generate(texts, prompts="divided", **options) == model.generate(texts, prompts="whole", **options)
    scores = {name: model.score(texts, ["good", "bad"], prompts=name) for name in model.prompts}
    assert scores["divided"].equal(scores["whole"])
    assert not scores["divided"].allclose(scores["apart"], atol=1e-3)
    mixed = model.score(texts, ["good", "bad"], prompts=["apart", "whole"])
    assert mixed.allclose(torch.stack([scores["apart"][0], scores["whole"][1]]), atol=1e-5)


def test_a_divided_prompt_needs_its_marks():
    model = Prompted(BACKBONE, {"a": divided("{soft:2} {text} {soft:3}", 5)})
    with pytest.raises(ShapeError, match=r"A prompt of 2 parts meets rows with \[0\] marks; render them with"):
        model(input_ids=IDS)
    with pytest.raises(ShapeError, match=r"A prompt of 2 parts meets rows with \[1\] marks"):
        model(input_ids=IDS, marks=torch.tensor([[0], [1]]))


def test_texts_that_are_too_long_are_an_error_or_cut():
    model = Prompted(BACKBONE, {"a": rows(4)})
    text = "the best film of the year " * 20
    with pytest.raises(LengthError, match=f"only {zoo.POSITIONS - 4 - 5} fit beside the prompt and the target"):
        model.generate([text], max_new_tokens=5)
    ids, mask, _ = model.encode([text, "dull"], "a", truncate=True, room=5)
    assert mask.sum(-1).tolist() == [zoo.POSITIONS - 9, len(BACKBONE.tokenize("dull"))]
    assert ids[0].tolist() == BACKBONE.tokenize(text)[: zoo.POSITIONS - 9]
    assert len(model.generate([text, "dull"], max_new_tokens=5, truncate=True, do_sample=False)) == 2


def test_several_texts_of_an_input_stand_side_by_side():
    model = Prompted(BACKBONE, {"a": rows()})
    texts, options = ["the film is", "a book"], {"num_beams": 4, "max_new_tokens": 4, "do_sample": False}
    alone = [model.generate([text], num_return_sequences=3, **options) for text in texts]
    assert model.generate(texts, num_return_sequences=3, **options) == [*alone[0], *alone[1]]
    assert len(set(alone[0])) == len(alone[0]) == 3


def test_texts_are_texts_whatever_transformers_returns():
    model = Prompted(BACKBONE, {"a": rows()})
    options = {"max_new_tokens": 4, "do_sample": False}
    want = model.generate(["the film is"], **options)
    assert model.generate(["the film is"], return_dict_in_generate=True, output_scores=True, **options) == want
    assert model.generate(["the film is"], generation_config=GenerationConfig(**options)) == want


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_a_text_is_streamed_as_it_comes(name):
    backbone = zoo.backbone(name)
    model = Prompted(backbone, {"a": PromptTuning(length=2, init="vocab").build(backbone)})
    streamer = TextIteratorStreamer(backbone.need_tokenizer(), skip_prompt=True, skip_special_tokens=True, timeout=9)
    (text,) = model.generate(["the film is"], streamer=streamer, max_new_tokens=6, do_sample=False)
    assert text
    assert "".join(streamer).removeprefix(" ") == text


def test_a_template_stays_whole_where_its_text_is_cut():
    model = Prompted(BACKBONE, {"a": formed(rows(4), "film: {text} so good or bad :")})
    text = "the best film of the year " * 20
    ids, mask, _ = model.encode([text, "dull"], "a", truncate=True, room=5)
    assert mask.sum(-1)[0] == zoo.POSITIONS - 9
    assert all(said.endswith(" so good or bad :") for said in _decoded(ids, mask))
    assert model.score([text], ["good"], truncate=True).isfinite().all()


def _decoded(ids: torch.Tensor, mask: torch.Tensor) -> list[str]:
    return [BACKBONE.need_tokenizer().decode(row[real]) for row, real in zip(ids, mask, strict=True)]


def test_formats_are_read_as_they_were_stored():
    form = TextFormat(input="the film is {text}", target="{label}", label_words={"0": "bad", "1": "good"})
    stored = rows().with_info(format=form.to_mapping())
    assert Prompted(BACKBONE, {"a": stored}).encode(["dull"], "a")[0].shape[1] == len(
        BACKBONE.tokenize("the film is dull")
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_masters_stay_float32_whatever_the_backbones_dtype(dtype):
    backbone = zoo.fresh("llama")
    backbone.model.to(dtype)
    model = Prompted(backbone, {"a": PromptTuning(length=2, init="vocab").build(backbone)})
    output = model(input_ids=IDS, labels=IDS)
    output.loss.backward()
    (parameter,) = model.parameters()
    assert (parameter.dtype, parameter.grad.dtype, output.loss.dtype) == (torch.float32,) * 3
    assert parameter.grad.all()
