"""From texts to token ids."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from tests.families import zoo
from tokenizers import Tokenizer, normalizers, processors
from transformers import PreTrainedTokenizerFast

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.conditioning.chat import closing_id
from softprompt.conditioning.texts import EncodedInput, RenderedInput, encode_inputs, encode_targets, render_input
from softprompt.errors import ConfigError, DataError, LengthError
from softprompt.tasks import PROMPT_MARK, FilledText, TextFormat

DECODER, TRANSLATOR, CLASSIFIER = (zoo.backbone(name) for name in ("gpt2", "t5", "bert"))
CHAT = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"

plain = FilledText.plain


def encode_input(backbone: Backbone, given: FilledText | RenderedInput, **bounds: Any) -> EncodedInput:
    rendered = given if isinstance(given, RenderedInput) else RenderedInput(filled=given)
    return encode_inputs(backbone, [replace(rendered, **bounds)])[0]


def encode_target(backbone: Backbone, before: str, target: str, *, chat: bool = False, end: bool = True) -> list[int]:
    return encode_targets(backbone, [(RenderedInput(filled=plain(before), chat=chat), target)], end=end)[0]


def words(backbone: Backbone, ids: list[int]) -> str:
    return backbone.need_tokenizer().decode(ids)


@pytest.mark.parametrize(
    ("backbone", "lead", "tail"),
    [(DECODER, [], []), (TRANSLATOR, [], [zoo.END]), (CLASSIFIER, [zoo.START], [zoo.END])],
)
def test_an_input_gets_what_the_tokenizer_adds(backbone, lead, tail):
    body = backbone.tokenize("the best film")
    got = encode_input(backbone, plain("the best film"))
    assert (got.ids, got.marks) == ([*lead, *body, *tail], ())


def test_a_decoders_input_stays_open():
    assert encode_input(DECODER, plain("the best film  ")).ids == DECODER.tokenize("the best film")
    assert encode_input(DECODER, plain("the best film  "), chat=True).ids == DECODER.tokenize("the best film  ")


@pytest.mark.parametrize(("backbone", "lead"), [(DECODER, 0), (TRANSLATOR, 0), (CLASSIFIER, 1)])
def test_a_mark_is_a_place_between_tokens(backbone, lead):
    got = encode_input(backbone, plain(f"the best{PROMPT_MARK} film"))
    head = backbone.tokenize("the best")
    assert got.marks == (lead + len(head),)
    assert got.ids[lead : lead + len(head)] == head
    assert got.ids == encode_input(backbone, plain("the best film")).ids


@pytest.mark.parametrize("backbone", [DECODER, TRANSLATOR, CLASSIFIER])
def test_too_long_an_input_is_an_error_or_cut(backbone):
    whole = encode_input(backbone, plain("the best film of the year")).ids
    assert encode_input(backbone, plain("the best film of the year"), max_tokens=len(whole)).ids == whole
    with pytest.raises(LengthError, match=rf"An input has {len(whole)} tokens, but only {len(whole) - 1} fit beside"):
        encode_input(backbone, plain("the best film of the year"), max_tokens=len(whole) - 1)
    cut = encode_input(backbone, plain("the best film of the year"), max_tokens=len(whole) - 1, truncate=True).ids
    ends = len(backbone.special_ends[1]) if backbone is not DECODER else 0
    assert len(cut) == len(whole) - 1
    assert cut[: len(cut) - ends] == whole[: len(cut) - ends]
    assert cut[len(cut) - ends :] == whole[len(whole) - ends :]


def test_a_mark_that_is_cut_off_stands_at_the_end():
    got = encode_input(DECODER, plain(f"the best film of{PROMPT_MARK} the year"), max_tokens=3, truncate=True)
    assert (len(got.ids), got.marks) == (3, (3,))


@pytest.mark.parametrize(("backbone", "lead"), [(DECODER, 0), (TRANSLATOR, 0), (CLASSIFIER, 1)])
def test_several_marks_and_no_blanks_before_them(backbone, lead):
    got = encode_input(backbone, plain(f"{PROMPT_MARK} the best {PROMPT_MARK}{PROMPT_MARK} film:  {PROMPT_MARK}"))
    parts = [backbone.tokenize(part) for part in (" the best", " film:")]
    assert got.ids[lead : lead + sum(map(len, parts))] == [*parts[0], *parts[1]]
    ends = [0, len(parts[0]), len(parts[0]), len(parts[0]) + len(parts[1])]
    assert got.marks == tuple(lead + end for end in ends)


def test_a_shortened_input_keeps_its_marks_where_they_were():
    form = TextFormat(input="{soft:2} {a} {soft:1} {b} so {soft:3}", target="{label}")
    given = render_input(DECODER, form, {"a": "the best film of the year", "b": "bad"})
    whole = encode_input(DECODER, given)
    assert whole.marks == (0, len(DECODER.tokenize(" the best film of the year")), len(whole.ids))
    cut = encode_input(DECODER, given, max_tokens=len(whole.ids) - 2, truncate=True)
    assert cut.marks == (0, whole.marks[1] - 2, len(cut.ids))
    assert cut.ids[cut.marks[1] :] == whole.ids[whole.marks[1] :]


def test_an_input_is_not_cut_to_nothing():
    with pytest.raises(LengthError, match="but only 1 fit beside the prompt"):
        encode_input(TRANSLATOR, plain("the best film"), max_tokens=1, truncate=True)


@pytest.mark.parametrize("end", [True, False])
def test_targets_continue_inputs(end):
    tail = [zoo.END] if end else []
    assert encode_target(TRANSLATOR, "any", "good film", end=end) == [*TRANSLATOR.tokenize("good film"), *tail]
    blank = encode_target(DECODER, "any", "good film", end=end)
    assert blank == [*DECODER.tokenize(" good film"), *tail]
    for text, chat in (("any\n", False), ("any", True)):
        got = encode_target(DECODER, text, "good film", chat=chat, end=end)
        assert got == [*DECODER.tokenize("good film"), *tail] != blank


class TwoTokenizers(PreTrainedTokenizerFast):
    """Reads inputs with one tokenizer and targets with another, as Marian's and mBART's do."""

    def _switch_to_input_mode(self) -> None:
        self._tokenizer = zoo.tokenizer("encoder-decoder").backend_tokenizer

    def _switch_to_target_mode(self) -> None:
        self._tokenizer = Tokenizer.from_str(self.backend_tokenizer.to_str())
        self._tokenizer.normalizer = normalizers.Replace("o", "a")
        self._tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <s>", special_tokens=[("<s>", zoo.START)]
        )


def test_targets_are_cut_by_the_tokenizer_of_targets():
    """They were cut as inputs: a translator was trained and scored on another language's pieces."""
    tokenizer = TwoTokenizers(tokenizer_object=zoo.tokenizer("encoder-decoder").backend_tokenizer)
    backbone = Backbone.from_model(copy.deepcopy(zoo.stock("marian")), tokenizer)
    assert encode_target(backbone, "any", "a good book") == [*TRANSLATOR.tokenize("a gaad baak"), zoo.START]
    assert encode_input(backbone, plain("a good book")).ids == [*TRANSLATOR.tokenize("a good book"), zoo.END]
    assert encode_target(backbone, "any", "a good book", end=False) == TRANSLATOR.tokenize("a gaad baak")


def test_input_and_target_are_the_tokens_of_the_whole():
    """What a decoder-only model was trained to read: the same pieces as in running text."""
    ids = [*encode_input(DECODER, plain("the film is ")).ids, *encode_target(DECODER, "the film is", "good", end=False)]
    assert ids == DECODER.tokenize("the film is good")
    assert words(DECODER, ids) == "the film is good"


def test_rendering():
    form = TextFormat(input="film: {text}", target="{label}")
    assert render_input(DECODER, None, "as it is") == RenderedInput(filled=plain("as it is"))
    assert render_input(DECODER, form, "dull") == RenderedInput(filled=FilledText("film: dull", ((6, 10),)))
    assert render_input(DECODER, form, {"text": "dull"}) == render_input(DECODER, form, "dull")
    with pytest.raises(DataError, match="Without a stored template an input is a text, but got dict"):
        render_input(DECODER, None, {"text": "dull"})


def test_a_chat_template_goes_around():
    form = TextFormat(input="film: {text}", target="{label}", chat=True)
    with pytest.raises(ConfigError, match="asks for a chat template, but tiny gpt2 has none; set chat=False"):
        render_input(DECODER, form, "dull")
    given = FilledText("<s>film: dull</s><s>", ((9, 13),))
    assert render_input(chatting(CHAT), form, "dull") == RenderedInput(filled=given, chat=True)


def chatting(template: str) -> Backbone:
    tokenizer = copy.deepcopy(zoo.tokenizer("decoder-only"))
    tokenizer.chat_template = template
    return Backbone.from_model(copy.deepcopy(zoo.stock("gpt2")), tokenizer)


LONG = "the best film of the year was the worst one too"


@pytest.mark.parametrize("backbone", [DECODER, TRANSLATOR, CLASSIFIER])
@pytest.mark.parametrize("template", ["the film is {text} : good or bad", "the film: {text}", "{text} {prompt} too :"])
def test_what_a_column_filled_is_cut_and_the_template_stays(backbone, template):
    """The end of the whole was cut: an instruction behind the text went first, and then the question itself."""
    given = render_input(backbone, TextFormat(input=template, target="{label}"), LONG)
    whole = encode_input(backbone, given).ids
    before, _, behind = template.replace(" {prompt}", "").partition("{text}")
    for most in range(len(whole) - 12, len(whole)):
        cut = encode_input(backbone, given, max_tokens=most, truncate=True)
        said = backbone.need_tokenizer().decode(cut.ids, skip_special_tokens=True)
        assert len(cut.ids) == most
        assert said.startswith(before)
        assert said.endswith(behind)
        kept = said[len(before) : len(said) - len(behind)]
        assert LONG.startswith(kept)
        assert kept != LONG
        if "{prompt}" in template:
            assert (
                backbone.need_tokenizer().decode(cut.ids[cut.marks[0] :], skip_special_tokens=True).strip() == "too :"
            )


def test_a_text_prompt_is_not_what_is_cut():
    form = TextFormat(input="so is this good or bad : {text}", target="{label}")
    given = render_input(DECODER, form, LONG)
    fixed = len(DECODER.tokenize("so is this good or bad :"))
    cut = encode_input(DECODER, given, max_tokens=fixed + 3, truncate=True).ids
    assert words(DECODER, cut).startswith("so is this good or bad : the")
    with pytest.raises(
        LengthError, match=rf"{fixed} of them not from a column, but only {fixed} fit .*; shorten the temp"
    ):
        encode_input(DECODER, given, max_tokens=fixed, truncate=True)


def test_the_longest_column_is_cut_first():
    form = TextFormat(input="{a} : {b} : {c}", target="{label}")
    columns = {"a": "good", "b": LONG, "c": "we saw it again and again"}
    given = render_input(DECODER, form, columns)
    whole = encode_input(DECODER, given).ids
    lengths = {name: len(DECODER.tokenize(f" {text}")) for name, text in columns.items()}
    gap = lengths["b"] - lengths["c"]
    assert gap > 1 > lengths["a"] - lengths["c"]
    parts = words(DECODER, encode_input(DECODER, given, max_tokens=len(whole) - gap, truncate=True).ids).split(" : ")
    assert (parts[0], parts[2]) == (columns["a"], columns["c"])
    assert LONG.startswith(parts[1])
    parts = words(DECODER, encode_input(DECODER, given, max_tokens=len(whole) - gap - 6, truncate=True).ids).split(
        " : "
    )
    left = [len(DECODER.tokenize(f" {part}")) for part in parts]
    assert parts[0] == "good"
    assert left[1:] == [lengths["c"] - 3] * 2


@pytest.mark.parametrize("content", ["m.content", "(m.content | trim)"])
def test_a_chat_keeps_its_turns(content):
    """The opening of the answer was cut, and the model went on in the user's turn."""
    backbone = chatting(CHAT.replace("m.content", content))
    form = TextFormat(input=" film: {text} : so", target="{label}", chat=True)
    given = render_input(backbone, form, LONG)
    whole = encode_input(backbone, given).ids
    cut = encode_input(backbone, given, max_tokens=len(whole) - 7, truncate=True).ids
    assert len(cut) == len(whole) - 7
    said = words(backbone, cut)
    assert said.endswith(": so</s><s>")
    assert words(backbone, whole).startswith(said.removesuffix(": so</s><s>").rstrip())


def test_a_prompt_may_stand_in_the_system_turn():
    """Before the user's turn, and in it: the places are those of both turns, in order."""
    backbone = chatting(CHAT)
    form = TextFormat(
        input="film: {text} {soft:2}", target="{label}", chat=True, system="the best {soft:3} {{film}} {soft:1}"
    )
    assert form.segments == (3, 1, 2)
    given = render_input(backbone, form, "dull")
    assert (
        given.filled.text == f"<s>the best {PROMPT_MARK} {{film}} {PROMPT_MARK}</s><s>film: dull {PROMPT_MARK}</s><s>"
    )
    assert [given.filled.text[a:b] for a, b in given.filled.fields] == ["dull"]
    encoded = encode_input(backbone, given)
    assert encoded.ids == [
        token
        for part in given.filled.text.split(PROMPT_MARK)
        for token in backbone.tokenize(part if part.endswith("<s>") else part.rstrip(" "))
    ]
    assert encoded.marks[0] == len(backbone.tokenize("<s>the best"))
    assert len(encoded.marks) == 3
    whole = len(encoded.ids)
    cut = encode_input(backbone, render_input(backbone, form, LONG), max_tokens=whole, truncate=True)
    assert (len(cut.ids), len(cut.marks)) == (whole, 3)


def test_a_chat_template_may_refuse_a_system_turn():
    refusing = "{{ raise_exception('only users speak') if messages[0].role == 'system' }}" + CHAT
    form = TextFormat(input="{text}", target="{label}", chat=True, system="be brief")
    with pytest.raises(
        ConfigError, match=r"refuses the conversation \(only users speak\); put the system turn's words"
    ):
        render_input(chatting(refusing), form, "dull")
    render_input(chatting(refusing), replace(form, system=None), "dull")


@pytest.mark.parametrize("system", ["be brief", "{prompt}", "{soft:2} be brief"])
def test_a_chat_template_that_drops_the_system_turn_is_refused(system):
    """The prompt's place went with it, and nothing said so."""
    users = CHAT.replace("{{ m.content }}", "{{ m.content if m.role == 'user' }}")
    form = TextFormat(input="{text}", target="{label}", chat=True, system=system)
    with pytest.raises(ConfigError, match="leaves the system turn out; put its words into the input"):
        render_input(chatting(users), form, "dull")


def test_a_chat_that_rewrites_its_input_is_not_cut():
    backbone = chatting(CHAT.replace("m.content", "m.content | upper"))
    given = render_input(backbone, TextFormat(input="film: {text}", target="{label}", chat=True), LONG)
    assert given.filled.fields == ()
    with pytest.raises(LengthError, match="of them not from a column, but only 9 fit"):
        encode_input(backbone, given, max_tokens=9, truncate=True)


OPENED = (
    "{% for m in messages %}{{ '[' if m.role == 'user' else BEFORE }}{{ m.content }}"
    "{{ ']' if m.role == 'user' else BEHIND }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("before", "behind", "wanted", "closing"),
    [
        ("''", "'</s>'", "good film", "</s>"),
        ("' '", "'</s>'", " good film", "</s>"),
        ("''", "'<turn>' + nl", "good film", "<turn>"),
        ("''", "''", "good film", "</s>"),
        ("'so '", "'</s>'", "good film", "</s>"),
    ],
    ids=["plain", "blank before", "turn token", "nothing behind", "words before"],
)
@pytest.mark.parametrize("end", [True, False])
def test_a_chat_target_is_what_the_template_writes(before, behind, wanted, closing, end):
    """The bare target was put behind the opening, and the text's end behind it, as Llama 2 and Gemma never see them."""
    backbone = chatting("{% set nl = '\n' %}" + OPENED.replace("BEFORE", before).replace("BEHIND", behind))
    backbone.need_tokenizer().add_special_tokens({"additional_special_tokens": ["<turn>"]})
    closing_ids = backbone.need_tokenizer().convert_tokens_to_ids([closing]) if closing != "</s>" else [backbone.end_id]
    assert None not in closing_ids
    got = encode_target(backbone, "[any]", "good film", chat=True, end=end)
    assert got == [*backbone.tokenize(wanted), *(closing_ids if end else [])]
    assert closing_id(backbone) in (None, *closing_ids)


def test_a_template_that_opens_an_answer_otherwise_than_it_writes_one_is_refused():
    backbone = chatting(
        OPENED.replace("BEFORE", "''").replace("BEHIND", "''") + "{% if add_generation_prompt %}so{% endif %}"
    )
    with pytest.raises(
        ConfigError, match=r"opens an answer with '\[question\]so', but writes one as '\[question\]answer'"
    ):
        encode_target(backbone, "[any]so", "good", chat=True)
    refusing = "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}so"
    with pytest.raises(ConfigError, match=r"refuses an answer \(one turn\); set chat=False"):
        encode_target(chatting(refusing), "so", "good", chat=True)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content }}",
        "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}so",
        "{{ raise_exception('no turn of a user') }}",
    ],
)
def test_a_template_that_writes_no_answers_ends_no_generation(template):
    """What is generated need be no chat: a template that a chat would refuse ended every generation."""
    backbone = chatting(template)
    assert closing_id(backbone) is None
    assert Prompted(backbone).generate(["[any]"], prompts=[None], raw=True, max_new_tokens=1)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (f"a{PROMPT_MARK}b", r"the input holds the character U\+10FFFD, which marks a prompt's place; remove it"),
        ("a\ud800", "the input holds a lone surrogate at character 2"),
        ((("user", "hello"), ("assistant", f"{PROMPT_MARK}")), r"the assistant's turn holds the character U\+10FFFD"),
    ],
)
def test_raw_text_moves_no_prompt(value, problem):
    tokenizer = copy.deepcopy(DECODER.need_tokenizer())
    tokenizer.chat_template = CHAT
    with pytest.raises(DataError, match=problem):
        render_input(Backbone.from_model(DECODER.model, tokenizer, name="talks"), None, value)
