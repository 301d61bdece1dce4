"""How a row becomes text: what is stored beside a trained prompt and applied again at inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from softprompt import config
from softprompt.errors import ConfigError, DataError
from softprompt.tasks.metrics.labels import normalise_label
from softprompt.tasks.template import MARK_FIELD, PROMPT_MARK, FilledText, Template, column_text, parse_template

__all__ = ["TextFormat"]


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
        chat: Whether the tokenizer's chat template goes around the input, where the tokenizer has one.
        system: The conversation's system turn, the same for all rows, with `chat`; places of a prompt may stand in it.

    Raises:
        ConfigError: If a template cannot be read, the mark stands in the target, the system turn names a column or
            there is no chat, or label words are empty, differ only
            in case or spacing, or go with a target of several columns.

    References:
        Raffel et al. 2020, §2.4 (text to text); Schick and Schütze 2021, §3 (verbalizers).
    """

    input: str
    target: str
    label_words: Mapping[Any, str] | None = None
    chat: bool = False
    system: str | None = None
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
            object.__setattr__(self, "label_words", words)

    @property
    def fields(self) -> tuple[str, ...]:
        """The input's columns, each once, in the template's order."""
        return self._input.fields

    @property
    def target_fields(self) -> tuple[str, ...]:
        """The target's columns, each once, in the template's order."""
        return self._target.fields

    @property
    def segments(self) -> tuple[int, ...]:
        """Virtual tokens at each place that the templates have for them; empty if they do not divide them."""
        return self._segments

    @property
    def system_text(self) -> str | None:
        """The system turn, with its marks; None if there is none."""
        return None if self.system is None else parse_template(self.system, columns=False).render({})

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The targets that are legal, in the label words' order, each once; `None` where the target is free text."""
        if self.label_words is None:
            return None
        (name,) = self.target_fields
        return tuple(dict.fromkeys(self._target.render({name: word}) for word in self.label_words.values()))

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
        texts = {name: column_text(value, name) for name in self._input.fields}
        if not any(text.strip() for text in texts.values()):
            raise DataError(f"the input is empty ({', '.join(map(repr, texts))}); give it a text")
        return self._input.fill(texts)

    def render_targets(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The targets of one row: one, or as many as the list in its column has.

        Raises:
            DataError: If a column is missing, holds no text or an empty list, a target is blank, a value has no label
                word, or more than one column holds a list.
        """
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
