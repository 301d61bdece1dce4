"""Subject, predicate and object in threes, with texts that say them: WebNLG's XML, and DART's, which follows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from softprompt.errors import DataError
from softprompt.tasks.documents import read_elements
from softprompt.tasks.format import TextFormat
from softprompt.tasks.rows import Row

__all__ = ["TABLE_FORMAT", "TABLE_METRICS", "linearise", "read_benchmark", "triples_row"]

TABLE_FORMAT = TextFormat(input="{table}", target="{references}")
TABLE_METRICS = ("bleu_webnlg", "meteor", "ter_webnlg", "chrf")
BAR = " | "
NO_TEXT = "the entry has no text; expected at least one, as in the files with lexicalisations"


def linearise(triples: Iterable[object], *, lower: bool = False) -> str:
    """Triples as prefix-tuning writes them: `Aarhus : leader : Jacob_Bundsgaard | Aarhus : country : Denmark`.

    Its code puts a bar before WebNLG's first triple too; here, as in its paper, bars stand between triples.

    Args:
        triples: Subject, predicate and object each.
        lower: Whether predicates are written in lower case, as it does in DART.

    Raises:
        DataError: If there is none, or one is not three texts.

    References:
        Li and Liang 2021, §5.1 and the readers of their repository.
    """
    written = []
    for triple in triples:
        parts = triple if isinstance(triple, list) else []
        texts = [part for part in parts if isinstance(part, str) and part.strip()]
        if not len(parts) == len(texts) == 3:
            raise DataError(f"{triple!r:.80} is no triple; expected the texts of subject, predicate and object")
        head, predicate, tail = texts
        written.append(f"{head} : {predicate.lower() if lower else predicate} : {tail}")
    if not written:
        raise DataError("the entry has no triples; expected a subject, predicate and object at least")
    return BAR.join(written)


def triples_row(
    source: str, triples: Iterable[object], references: list[Any], *, lower: bool = False, **columns: object
) -> Row:
    """A row with the linearised triples as `table`, the texts as `references`, and the columns; bad where one lacks."""
    try:
        table = linearise(triples, lower=lower)
    except DataError as problem:
        return Row(source, {}, str(problem))
    return Row(source, {"table": table, "references": references, **columns}, None if references else NO_TEXT)


def read_benchmark(path: Path, *, lower: bool = False, texts: frozenset[str] | None = None) -> Iterator[Row]:
    """The entries of a file in WebNLG's format, with their categories.

    Args:
        path: The file.
        lower: As in `linearise`.
        texts: Comments of the texts that are kept; an entry without any such text is passed over. All if None.

    Raises:
        DataError: If the file cannot be read (see `read_elements`), or holds no entry.

    References:
        Gardent et al. 2017, §3.
    """
    line = 0
    for line, entry in read_elements(path, "entry"):
        row = _entry_row(f"{path}:{line}", entry, lower=lower)
        if row.problem is None and texts is not None:
            kept = [text.text or "" for text in entry.iter("lex") if text.get("comment") in texts]
            if kept:
                yield Row(row.source, {**row.columns, "references": kept})
        else:
            yield row
    if not line:
        raise DataError(f"{path} holds no <entry>; expected WebNLG's format: <benchmark>, in it <entries>.")


def _entry_row(source: str, entry: Element, *, lower: bool) -> Row:
    triples = [(triple.text or "").split(BAR) for triple in entry.iter("mtriple")]
    references = [text.text or "" for text in entry.iter("lex")]
    return triples_row(source, triples, references, lower=lower, category=entry.get("category", ""))
