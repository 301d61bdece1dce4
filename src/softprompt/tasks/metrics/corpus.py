"""Metrics of whole corpora that sacrebleu computes, with their settings: BLEU, chrF and TER."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, final

from softprompt.tasks.metrics.signature import Answers
from softprompt.tasks.metrics.words import lower_ascii, webnlg_text

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacreMetric

__all__ = [
    "CORPUS_METRICS",
    "CorpusMetric",
    "bleu",
    "bleu_multi",
    "bleu_uncased",
    "bleu_webnlg",
    "chrf",
    "ter",
    "ter_webnlg",
]

_WEBNLG_REFERENCES = 3


@functools.cache
def _bleu(**settings: Any) -> SacreMetric:
    from sacrebleu.metrics.bleu import BLEU

    # Detokenised text that ends in " ." is what small models write, not a mistake that deserves a warning.
    return BLEU(force=True, **settings)


@functools.cache
def _multi_bleu() -> SacreMetric:
    return _bleu(tokenize="none", smooth_method="none")


@functools.cache
def _chrf() -> SacreMetric:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@functools.cache
def _ter() -> SacreMetric:
    from sacrebleu.metrics.ter import TER

    return TER()


@final
@dataclass(frozen=True, kw_only=True)
class CorpusMetric:
    """How a metric of sacrebleu is set, and what it is given.

    Attributes:
        make: Gives it; the library is imported then.
        prepared: From a text to what is scored.
        most_references: How many of a row's references are looked at, the first ones; None looks at all.
    """

    make: Callable[[], SacreMetric]
    prepared: Callable[[str], str] = str
    most_references: int | None = None

    def score(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """The score of all rows, which may differ in their number of references.

        Args:
            predictions: One text per row.
            references: One or more texts per row.
        """
        said = [self.prepared(text) for text in predictions]
        true = [self._prepared_references(row) for row in references]
        return self.make().corpus_score(said, list(zip_longest(*true))).score

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[float]]:
        """What is counted in each row: n-grams or edits, and lengths.

        Args:
            predictions: One text per row.
            references: One or more texts per row.
        """
        metric = self.make()
        return [
            metric._extract_corpus_statistics(
                [self.prepared(said)], [[text] for text in self._prepared_references(row)]
            )[0]
            for said, row in zip(predictions, references, strict=True)
        ]

    def score_of(self, counts: Sequence[float]) -> float:
        """The score of such counts, or of their sums over rows.

        Args:
            counts: As a row of `statistics` has them.
        """
        return float(self.make()._compute_score_from_stats(list(counts)).score)

    def _prepared_references(self, row: Sequence[str]) -> list[str]:
        return [self.prepared(text) for text in row[: self.most_references]]


CORPUS_METRICS: Mapping[str, CorpusMetric] = {
    "bleu": CorpusMetric(make=_bleu),
    "bleu_multi": CorpusMetric(make=_multi_bleu),
    "bleu_uncased": CorpusMetric(make=_bleu, prepared=lower_ascii),
    "bleu_webnlg": CorpusMetric(make=_multi_bleu, prepared=webnlg_text, most_references=_WEBNLG_REFERENCES),
    "chrf": CorpusMetric(make=_chrf),
    "ter": CorpusMetric(make=_ter),
    "ter_webnlg": CorpusMetric(make=_ter, prepared=webnlg_text, most_references=_WEBNLG_REFERENCES),
}
"""By the metrics' names, which are their scores' too."""


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus BLEU in percent: up to 4-grams, 13a tokenisation, exponential smoothing; rows may differ in references.

    References:
        Papineni et al. 2002; Post 2018 (the settings: sacrebleu's defaults).
    """
    return {"bleu": CORPUS_METRICS["bleu"].score(predictions, references)}


def bleu_uncased(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus BLEU in percent as mteval-v13a gives it without the option -c, and the E2E challenge reports it.

    `bleu` of texts in lower case (A to Z only).

    References:
        Papineni et al. 2002; Dušek et al. 2020 (the E2E challenge's measures).
    """
    return {"bleu_uncased": CORPUS_METRICS["bleu_uncased"].score(predictions, references)}


def bleu_multi(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus BLEU in percent as Moses' multi-bleu.perl gives it: up to 4-grams of words between blanks, no smoothing.

    Texts are scored as they are: tokenise and lower-case them first where a published number was. The reference
    length of a row is the closest to the prediction's, of two equally close ones the shorter.

    References:
        Papineni et al. 2002; Koehn et al. 2007 (Moses).
    """
    return {"bleu_multi": CORPUS_METRICS["bleu_multi"].score(predictions, references)}


def bleu_webnlg(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus BLEU in percent as the WebNLG challenge's scripts give it, which prefix-tuning reports of WebNLG.

    `bleu_multi` of texts in lower case with blanks around every mark (`webnlg_text`), and of three references at most,
    the first ones. Where a row has fewer, the scripts add empty ones, which spares very short predictions a penalty;
    here there are none. DART is scored by the same scripts, but on texts of its authors' own preparation, so published
    figures of DART are near these, not equal.

    References:
        Gardent et al. 2017, §5, and the challenge's `evaluation.py` and `bleu_eval_3ref.sh`.
    """
    return {"bleu_webnlg": CORPUS_METRICS["bleu_webnlg"].score(predictions, references)}


def chrf(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus chrF2 in percent: character 1- to 6-grams, beta 2; rows may differ in references.

    References:
        Popović 2015; Post 2018 (the settings: sacrebleu's defaults).
    """
    return {"chrf": CORPUS_METRICS["chrf"].score(predictions, references)}


def ter(answers: Answers) -> dict[str, float]:
    """Corpus TER in percent: edits and shifts of words that lead to the nearest reference, per word of one.

    Less is better, and more than 100 is possible. The length is the mean of a row's references; case is ignored.

    References:
        Snover et al. 2006; Post 2018 (the settings: sacrebleu's defaults, which are TERCOM's).
    """
    return {"ter": CORPUS_METRICS["ter"].score(answers.predictions, answers.references)}


def ter_webnlg(answers: Answers) -> dict[str, float]:
    """Corpus TER in percent as the WebNLG challenge's scripts give it: `ter` of the texts that `bleu_webnlg` is of.

    References:
        Gardent et al. 2017, §5, and the challenge's `evaluation.py` and `ter_eval.sh`.
    """
    return {"ter_webnlg": CORPUS_METRICS["ter_webnlg"].score(answers.predictions, answers.references)}
