"""How a row becomes text: what is stored beside a trained prompt and applied again at inference."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, final

from softprompt import config
from softprompt.errors import ConfigError, DataError
from softprompt.tasks.metrics.labels import normalise_label
from softprompt.tasks.template import MARK_FIELD, PROMPT_MARK, FilledText, Template, column_text, parse_template

__all__ = ["FORMAT_SETTINGS", "TextFormat"]


@final
@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """Templates over the columns of a row, and the words that stand for its classes.

    Args:
        input: Template of the input, e.g. `question: {question} context: {context}`. Text is kept exactly; `{prompt}`
            may stand in it once, where a prompt with `placement="middle"` goes, or `{soft:20}` wherever 20 virtual
            tokens of one with `placement="template"` go. Either is rendered as `PROMPT_MARK`.
        target: Template of the target, e.g. `{label}`. A column that holds a list of texts gives several references.
        label_words: The verbalizer: value of the target's only column to the word that the model says for it.
            Several values may share a word.
        chat: Whether the tokenizer's chat template goes around the input; one without is refused.
        system: The conversation's system turn, the same for all rows, with `chat`; places of a prompt may stand in it.
        words: The column of the input whose words are tagged: a list of words, or a text that blanks divide. The
            target's only column then holds a tag for each of them, likewise, and the label words are words for tags. As
            text both are joined by blanks.
        context: The column of the input in whose words the target stands, as an answer stands in a passage. Models that
            generate text do not heed it; a head of an encoder then finds where the target begins and ends.

    Raises:
        ConfigError: If a template cannot be read, the mark stands in the target, the system turn names a column or
            there is no chat, label words are empty, differ only in case or spacing, or go with a target of several
            columns, or words and context are not what they are said to be.

    References:
        Raffel et al. 2020, §2.4 (text to text); Schick and Schütze 2021, §3 (verbalizers).
    """

    input: str
    target: str
    label_words: Mapping[Any, str] | None = None
    chat: bool = False
    system: str | None = None
    words: str | None = None
    context: str | None = None
    _input: Template = field(init=False, repr=False, compare=False)
    _target: Template = field(init=False, repr=False, compare=False)
    _segments: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        target = parse_template(self.target)
        object.__setattr__(self, "_input", parse_template(self.input))
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_segments", parse_template((self.system or "") + self.input).segments)
        if self.system is not None and not self.chat:
            raise ConfigError("system= is the first turn of a conversation; set chat=True, or drop it.")
        if self.system_text == "":
            raise ConfigError("The system turn is empty; give it a text or a place for the prompt, or drop it.")
        if target.marks:
            raise ConfigError(
                f"The target template {self.target!r} holds {{{MARK_FIELD}}} or {{soft:N}}; a prompt's place is in the"
                " input only."
            )
        if self.label_words is not None:
            # YAML and Python know numbers and truth values as keys; a row's value is compared as text.
            words = {column_text({"label_words": key}, "label_words"): word for key, word in self.label_words.items()}
            check_label_words(words, target)
            check_tags(words if self.words is not None else {})
            object.__setattr__(self, "label_words", words)
        self._check_columns()

    def _check_columns(self) -> None:
        for setting, name in (("words", self.words), ("context", self.context)):
            if name is not None and name not in self.fields:
                raise ConfigError(
                    f"{setting}={name!r} is no column of the input template {self.input!r}; name one of "
                    f"{', '.join(self.fields)}."
                )
        if self.words is not None and self.target_fields != (self.target[1:-1],):
            raise ConfigError(
                f"words={self.words!r} have a tag each, but the target template is {self.target!r}; name the column of"
                " tags alone, as in {tags}."
            )
        if self.context is not None and (self.words is not None or self.label_words is not None):
            other = "words" if self.words is not None else "label_words"
            raise ConfigError(f"context= says that targets stand in a column, {other}= that they do not; drop one.")

    @property
    def fields(self) -> tuple[str, ...]:
        """The input's columns, each once, in the template's order."""
        return self._input.fields

    @property
    def target_fields(self) -> tuple[str, ...]:
        """The target's columns, each once, in the template's order."""
        return self._target.fields

    @property
    def start_words(self) -> tuple[()]:
        """None: they are a task's, not of its words."""
        return ()

    @property
    def segments(self) -> tuple[int, ...]:
        """Virtual tokens at each place that the templates have for them; empty if they do not divide them."""
        return self._segments

    @property
    def system_text(self) -> str | None:
        """The system turn, with its marks; None if there is none."""
        return None if self.system is None else parse_template(self.system, columns=False).render({})

    @functools.cached_property
    def labels(self) -> tuple[str, ...] | None:
        """The targets that are legal, in the label words' order, each once; `None` where the target is free text."""
        if self.label_words is None or self.words is not None:
            return None
        (name,) = self.target_fields
        return tuple(dict.fromkeys(self._target.render({name: word}) for word in self.label_words.values()))

    @property
    def tags(self) -> tuple[str, ...] | None:
        """The tags of words, in the label words' order, each once; `None` where words have none, or any."""
        if self.words is None or self.label_words is None:
            return None
        return tuple(dict.fromkeys(self.label_words.values()))

    def place_of(self, column: str) -> int:
        """Which of the input's filled parts a column fills first, as `FilledText.fields` counts them."""
        return [name for _, name in self._input.pieces if name is not None].index(column)

    def render_input(self, value: str | Mapping[str, object]) -> str:
        """The input of one row, as `fill_input` gives it."""
        return self.fill_input(value).text

    def fill_input(self, value: str | Mapping[str, object]) -> FilledText:
        """The input of one row, and which parts of it its columns filled.

        Args:
            value: A text, for a template of one field, or the columns by name.

        Raises:
            DataError: If a text comes for several fields, a column is missing or holds no text, or all are blank.
        """
        if isinstance(value, str):
            if len(self._input.fields) > 1:
                raise DataError(
                    f"The template {self.input!r} has the fields {', '.join(self._input.fields)}, but one text came; "
                    "give a mapping with a text for each."
                )
            value = {self._input.fields[0]: value}
        texts = {
            name: " ".join(column_words(value, name)) if name == self.words else column_text(value, name)
            for name in self._input.fields
        }
        if not any(text.strip() for text in texts.values()):
            raise DataError(f"the input is empty ({', '.join(map(repr, texts))}); give it a text")
        return self._input.fill(texts)

    def render_targets(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The targets of one row: one, or as many as the list in its column has; of tagged words their tags, as one.

        Raises:
            DataError: If a column is missing, holds no text or an empty list, a target is blank, a value has no label
                word, more than one column holds a list, or there are not as many tags as words.
        """
        if self.words is not None:
            return (" ".join(self._row_tags(row, self.words)),)
        if self.label_words is not None:
            return (self._target.render({self._target.fields[0]: self.label_words[self.label_key(row)]}),)
        lists = {name: row[name] for name in self._target.fields if isinstance(row.get(name), list | tuple)}
        if len(lists) > 1:
            raise DataError(f"the columns {' and '.join(map(repr, lists))} hold lists; one column may hold references")
        unrolled: list[Mapping[str, Any]] = [
            {**row, name: value} for name, several in lists.items() for value in several
        ]
        if lists and not unrolled:
            raise DataError(f"column {next(iter(lists))!r} holds an empty list; give at least one reference")
        targets = []
        for reference in unrolled or [row]:
            texts = {name: column_text(reference, name) for name in self._target.fields}
            if not any(text.strip() for text in texts.values()):
                raise DataError(f"the target is empty ({', '.join(map(repr, texts))}); give it a text")
            targets.append(self._target.render(texts))
        return tuple(targets)

    def _row_tags(self, row: Mapping[str, Any], column: str) -> list[str]:
        (name,) = self.target_fields
        words, tags = column_words(row, column), column_words(row, name)
        if len(words) != len(tags):
            raise DataError(f"column {name!r} has {len(tags)} tags for the {len(words)} words of {column!r}")
        if self.label_words is None:
            return tags
        return [self.label_words[self.label_key({name: tag})] for tag in tags]

    def label_key(self, row: Mapping[str, object]) -> str:
        """The class of one row as its column spells it, a key of the label words.

        Raises:
            DataError: If the value has no label word.
        """
        known = self.label_words or {}
        (name,) = self._target.fields
        key = column_text(row, name)
        if key not in known:
            raise DataError(f"column {name!r} holds {key!r:.40}, which has no label word; known: {', '.join(known)}")
        return key

    def to_mapping(self) -> dict[str, Any]:
        """The fields as plain values, for JSON and YAML."""
        return config.to_mapping(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TextFormat:
        """Build a format from what `to_mapping` gave.

        Raises:
            ConfigError: If a name is unknown, a template is missing, or a value is refused (see the class).
        """
        return config.from_mapping(cls, values)


FORMAT_SETTINGS = tuple(one.name for one in fields(TextFormat) if one.init)
"""The names of a format's settings, which whatever reads a task takes too."""


def column_words(row: Mapping[str, object], name: str) -> list[str]:
    """The words of one column: its list, or what blanks divide in its text.

    Raises:
        DataError: If the column is missing, or one of its words is no text, blank, or holds a blank.
    """
    value = row.get(name)
    if not isinstance(value, list | tuple):
        return column_text(row, name).split()
    words = [column_text({name: word}, name) for word in value]
    for index, word in enumerate(words):
        if not word.strip() or " " in word:
            raise DataError(f"column {name!r} holds {word!r} as word {index}; give a word without blanks")
    return words


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse label words of tags that no blank could divide.

    Raises:
        ConfigError: If one holds white space.
    """
    for key, tag in tags.items():
        if len(tag.split()) > 1:
            raise ConfigError(f"The tag of {key!r} is {tag!r}; give it a word without blanks.")


def check_label_words(label_words: Mapping[str, str], target: Template) -> None:
    """Refuse label words that no generated text could be matched to without doubt.

    Raises:
        ConfigError: If there are none, one is blank, two differ only in case or spacing, or the target has several
            columns.
    """
    if len(target.fields) != 1:
        raise ConfigError(
            f"Label words stand for the values of one column, but the target template {target.source!r} has "
            f"{', '.join(target.fields)}; name one column, or leave the label words out."
        )
    if not label_words:
        raise ConfigError("label_words is empty; give each class a word, or leave label_words out.")
    spelled: dict[str, str] = {}
    for key, word in label_words.items():
        if not word.strip() or PROMPT_MARK in word:
            raise ConfigError(f"The label word of {key!r} is {word!r}; give the class a word that a model can say.")
        other = spelled.setdefault(normalise_label(word), word)
        if other != word:
            raise ConfigError(
                f"The label words {other!r} and {word!r} differ only in case or spacing; spell one as the other."
            )
