"""Templates over columns: parsing, rendering, and every refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import ConfigError, DataError
from softprompt.tasks.template import PROMPT_MARK, column_text, parse_template

NAMES = st.sampled_from(["text", "label", "a_1", "q"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=PROMPT_MARK))
PIECES = st.lists(st.tuples(TEXTS, NAMES), min_size=1, max_size=5)


@given(pieces=PIECES, values=st.fixed_dictionaries(dict.fromkeys(["text", "label", "a_1", "q"], TEXTS)))
def test_rendering_is_joining_the_pieces(pieces, values):
    source = "".join(text.replace("{", "{{").replace("}", "}}") + "{" + name + "}" for text, name in pieces)
    template = parse_template(source)
    assert template.render(values) == "".join(text + values[name] for text, name in pieces)
    assert template.render(values) == source.format(**values)
    assert template.fields == tuple(dict.fromkeys(name for _, name in pieces))


def test_a_name_is_taken_as_it_is_written():
    template = parse_template("{customer rating}/{answers.text}/{a[0]}")
    assert template.fields == ("customer rating", "answers.text", "a[0]")
    assert template.render({"customer rating": "5", "answers.text": "x", "a[0]": "y"}) == "5/x/y"


def test_the_mark_is_a_place_and_no_column():
    template = parse_template("{premise} {prompt} {hypothesis}")
    assert template.fields == ("premise", "hypothesis")
    assert (template.marks, template.segments) == (1, ())
    assert template.render({"premise": "a", "hypothesis": "b"}) == f"a {PROMPT_MARK} b"
    assert parse_template("{premise}").marks == 0


def test_a_prompt_is_divided_among_places():
    template = parse_template("{soft:20} {premise} {soft:5} {hypothesis} answer: {soft:3}")
    assert template.fields == ("premise", "hypothesis")
    assert (template.marks, template.segments) == (3, (20, 5, 3))
    mark = PROMPT_MARK
    assert template.render({"premise": "a", "hypothesis": "b"}) == f"{mark} a {mark} b answer: {mark}"
    assert parse_template("{soft}").fields == ("soft",), "without a number it is a column"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{text", "cannot be read"),
        ("text}", "cannot be read.*double literal braces"),
        ("{}", "empty braces"),
        ("{text:>5}", "formats 'text' with ':' or '!'"),
        ("{text!r}", "formats 'text' with ':' or '!'"),
        ("{prompt:20} {text}", "formats 'prompt'"),
        ("{prompt} {text} {prompt}", "more than once"),
        ("{prompt} {text} {soft:3}", r"holds \{prompt\} beside \{soft:N\}"),
        ("{soft:0} {text}", r"holds \{soft:0\}; give the number of virtual tokens"),
        ("{soft:two} {text}", r"holds \{soft:two\}; give the number"),
        ("{soft!r:2} {text}", "formats 'soft'"),
        ("{soft:2}", "names no column"),
        ("plain", "names no column"),
        ("{prompt}", "names no column.*soft prompt's place"),
        (f"{{text}} {PROMPT_MARK}", r"U\+10FFFD.*write \{prompt\}"),
    ],
)
def test_a_template_that_is_refused(source, message):
    with pytest.raises(ConfigError, match=message):
        parse_template(source)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\u0085b ", "a\u0085b "),
        ("", ""),
        (3, "3"),
        (-1, "-1"),
        (0.5, "0.5"),
        (True, "true"),
        (False, "false"),
    ],
)
def test_the_text_of_a_value(value, text):
    assert column_text({"x": value}, "x") == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "column 'x' is null"),
        (float("nan"), "column 'x' holds float"),
        ([1], "column 'x' holds list .*expected text or a number"),
        ({"a": 1}, "column 'x' holds dict"),
        ("ab\ud800", "column 'x' holds a lone surrogate at character 3"),
        (f"a{PROMPT_MARK}", r"column 'x' holds the character U\+10FFFD.*remove it"),
    ],
)
def test_a_value_that_is_no_text(value, message):
    with pytest.raises(DataError, match=message):
        column_text({"x": value}, "x")
