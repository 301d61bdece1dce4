"""Queries become tokens: what they take up in a batch, and what is refused before they are in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from softprompt.backbones.heads import TokenHead, token_head_of
from softprompt.conditioning import Prompted, scoring
from softprompt.conditioning.joining import check_parts, check_target
from softprompt.conditioning.places import find_places
from softprompt.conditioning.texts import EncodedInput, RenderedInput, encode_inputs, render_input
from softprompt.errors import ConfigError, DataError
from softprompt.inference.queries import EncodedQuery, Query, known, names_of, stored_format
from softprompt.inference.together import Together
from softprompt.prompts import placements
from softprompt.tasks import TextFormat

__all__ = ["columns", "encode", "encode_to_generate", "encode_to_rank"]


def encode(model: Prompted, queries: Sequence[Query]) -> list[EncodedQuery]:
    """Tokenize queries that all have candidates to rank, or all none.

    Raises:
        SoftpromptError: As `encode_to_rank`, or as `encode_to_generate`.
    """
    ranked = any(query.candidates for query in queries)
    return encode_to_rank(model, queries) if ranked else encode_to_generate(model, queries)


def encode_to_generate(model: Prompted, queries: Sequence[Query]) -> list[EncodedQuery]:
    """Tokenize queries that text will be generated for, or read off the input by a head over tokens.

    Raises:
        ConfigError: If the model is an encoder, and a prompt brings no such head, or one for inputs of another kind or
            for other tags.
        LengthError: If an input is too long and may not be cut, or an encoder-decoder has too few positions for the
            answer.
        DataError: If an input has no tokens.
        ShapeError: If an input has no place for a part of a prompt of `placement="template"`.
    """
    if model.backbone.spec.kind == "encoder-only":
        return _encode_to_read(model, queries)
    inputs = [_render(model, query) for query in queries]
    if model.backbone.spec.kind == "encoder-decoder":
        for query in queries:
            check_target(model.backbone, query.max_new_tokens)
    return _encode(model, queries, inputs, [[] for _ in queries], [query.max_new_tokens for query in queries])


@torch.no_grad()
def _encode_to_read(model: Prompted, queries: Sequence[Query]) -> list[EncodedQuery]:
    asked = [(name, query) for query in queries for name in names_of(query.prompt)]
    heads = {name: _token_head(model, name) for name in dict.fromkeys(name for name, _ in asked)}
    for name, tags in dict.fromkeys((name, _tags(query.form)) for name, query in asked):
        _check_tags(model, name, tags)
    inputs = _bounded(model, queries, [_render(model, query) for query in queries], [0] * len(queries))
    encoded = encode_inputs(model.backbone, inputs, offsets=True)
    rows = []
    for query, one, row in zip(queries, inputs, encoded, strict=True):
        _check_tokens(model, one, row)
        kind, outputs = _same_head(query, heads)
        places = find_places(kind, query.form, one, row, outputs=outputs, longest=query.max_new_tokens)
        longest = max(_length(model, name) for name in names_of(query.prompt))
        tokens = (len(row.ids) + longest) * len(names_of(query.prompt))
        rows.append(
            EncodedQuery(
                input=row, prompt=query.prompt, tokens=tokens, room=0, targets=(), candidates=(), places=places
            )
        )
    return rows


def _same_head(query: Query, heads: Mapping[str | None, tuple[TokenHead, int]]) -> tuple[TokenHead, int]:
    """What the heads of a query's prompts read, which must be the same; their outputs are not averaged."""
    found = {heads[name] for name in names_of(query.prompt)}
    if len(found) > 1 or (isinstance(query.prompt, Together) and query.prompt.combine != "vote"):
        raise ConfigError(
            f"The heads over tokens of {', '.join(map(str, names_of(query.prompt)))} answer together by combine='vote',"
            " if they read the same of an input."
        )
    return found.pop()


def _check_tags(model: Prompted, name: str | None, tags: tuple[str, ...] | None) -> None:
    """Refuse tags that are not those which a prompt's head was trained on: it knows them by their places alone."""
    trained = None if name is None else _tags(stored_format(model, name))
    if trained is not None and tags is not None and tags != trained:
        raise ConfigError(
            f"The head of the prompt {name!r} was trained on the tags {', '.join(trained)}, but the task has "
            f"{', '.join(tags)}; give label_words for the tags that it was trained on, in their order."
        )


def _tags(form: TextFormat | None) -> tuple[str, ...] | None:
    return None if form is None else form.tags


def _token_head(model: Prompted, name: str | None) -> tuple[TokenHead, int]:
    """What the head over tokens of a prompt reads, and how many numbers it has for each."""
    head = {} if name is None else known(model, name)().head
    kind = token_head_of(head)
    if kind is None:
        raise ConfigError(
            f"by='generate' needs a model that generates text, but {model.backbone.name} is encoder-only; say by='rank'"
            ", and give the task label_words if it has none; or train a prompt with head=True on a task that names its"
            " words or its context."
        )
    return kind, len(head[f"{kind}.weight"])


def encode_to_rank(model: Prompted, queries: Sequence[Query]) -> list[EncodedQuery]:
    """Tokenize queries and their candidates. An encoder-only model has its classes in its head, and no tokens of them.

    Raises:
        ConfigError: If a query has no candidates, or one of them twice.
        LengthError: If an input is too long and may not be cut.
        DataError: If an input has no tokens.
    """
    for query in queries:
        if not query.candidates or len(set(query.candidates)) < len(query.candidates):
            raise ConfigError(f"Classifying needs different candidates to choose from, but got {query.candidates!r}.")
    inputs = [_render(model, query) for query in queries]
    targets: Sequence[Sequence[list[int]]] = [[] for _ in queries]
    if model.backbone.spec.kind != "encoder-only":
        targets = scoring.encode(model.backbone, inputs, [query.candidates for query in queries])
    return _encode(model, queries, inputs, targets, [max(map(len, row), default=0) for row in targets])


def _encode(
    model: Prompted,
    queries: Sequence[Query],
    inputs: Sequence[RenderedInput],
    targets: Sequence[Sequence[list[int]]],
    rooms: Sequence[int],
) -> list[EncodedQuery]:
    bounded = _bounded(model, queries, inputs, rooms)
    encoded = encode_inputs(model.backbone, bounded)
    for query, one, row in zip(queries, bounded, encoded, strict=True):
        _check_tokens(model, one, row)
        for name in names_of(query.prompt):
            _check_parts(model, name, row)
    return [
        EncodedQuery(
            input=row,
            prompt=query.prompt,
            tokens=_columns_of_all(model, query, len(row.ids), found, room),
            room=room,
            targets=found,
            candidates=query.candidates,
        )
        for row, query, room, found in zip(encoded, queries, rooms, targets, strict=True)
    ]


def _bounded(
    model: Prompted, queries: Sequence[Query], inputs: Sequence[RenderedInput], rooms: Sequence[int]
) -> list[RenderedInput]:
    return [
        replace(one, max_tokens=_most_tokens(model, query, room), truncate=query.truncate, source=query.source)
        for one, query, room in zip(inputs, queries, rooms, strict=True)
    ]


def _check_tokens(model: Prompted, one: RenderedInput, row: EncodedInput) -> None:
    if not row.ids:
        raise DataError(
            f"{one.source}{': ' if one.source else ''}The input {one.filled.text[:40]!r} has no tokens for "
            f"{model.backbone.name}; give it a text."
        )


def _check_parts(model: Prompted, name: str | None, row: EncodedInput) -> None:
    """Refuse an input that has no place for a part of its prompt, before it is in a batch with others."""
    if name is not None and model.prompts[name].placement == "template":
        placed = placements.find("template")(torch.tensor([len(row.ids)]), torch.tensor([row.marks or (-1,)]))
        check_parts(placed, len(model.prompts[name].segments))


def _most_tokens(model: Prompted, query: Query, room: int) -> int | None:
    bounds = (
        *(model.longest_input(name, room=room) for name in names_of(query.prompt)),
        query.max_input_tokens,
    )
    return min((bound for bound in bounds if bound is not None), default=None)


def columns(model: Prompted, inputs: int, prompt: str | None, targets: Sequence[list[int]], room: int) -> int:
    """Tokens that a query takes up in a batch.

    In a decoder-only model its candidates stand side by side behind the input; in an encoder-decoder each reads what
    the encoder made of the input.

    Args:
        model: The backbone with its prompts.
        inputs: Tokens of its input.
        prompt: Its prompt's name.
        targets: Token ids of its candidates.
        room: Most tokens behind its input.
    """
    own = inputs + _length(model, prompt)
    if model.backbone.spec.kind == "decoder-only":
        return own + (sum(map(len, targets)) if targets else room)
    return (own + room) * max(1, len(targets))


def _columns_of_all(model: Prompted, query: Query, inputs: int, targets: Sequence[list[int]], room: int) -> int:
    """Tokens of a query's rows, which are as wide as the widest."""
    names = names_of(query.prompt)
    return len(names) * max(columns(model, inputs, name, targets, room) for name in names)


def _length(model: Prompted, name: str | None) -> int:
    return 0 if name is None else model.prompts[name].length


def _render(model: Prompted, query: Query) -> RenderedInput:
    for name in names_of(query.prompt):
        if name is not None:
            known(model, name)
    return render_input(model.backbone, query.form, query.input)
