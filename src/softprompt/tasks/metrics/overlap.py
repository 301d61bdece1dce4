"""Metrics of generated text: overlap with references. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Sequence

from softprompt.tasks.metrics.signature import Answers
from softprompt.tasks.metrics.words import caption_words

__all__ = ["cider", "meteor", "nist", "rouge1", "rouge2", "rouge_l", "rouge_l_coco", "rouge_l_sum"]

RECALL_WEIGHT = 1.2


def nist(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus NIST-5, on its own scale from 0 up, as mteval-v13a gives it and the E2E challenge reports it.

    Words as the script divides them, without case. A prediction's length is held against the mean of its own
    references. Where rows differ in their number, so does the E2E challenge's Python scorer; for mteval-v13a it fills
    rows up with empty references, which makes short predictions cheaper.

    References:
        Doddington 2002; the script mteval-v13a.pl; Dušek et al. 2020 (the E2E challenge's measures).
    """
    from softprompt.tasks.metrics.nist import NistSums

    return {"nist": NistSums.of(predictions, references).total()}


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """CIDEr on the official scorer's scale from 0 to 10.

    This is what the COCO caption scorer, and so the E2E challenge, calls CIDEr: the paper's CIDEr-D, with rarity
    among the rows that are scored, a length penalty, and words that are not stemmed.

    References:
        Vedantam et al. 2015; the scorer's `cider_scorer.py`; Dušek et al. 2020 (the E2E challenge's measures).
    """
    from softprompt.tasks.metrics.cider import CiderSums

    return {"cider": CiderSums.of(predictions, references).total()}


def meteor(answers: Answers) -> dict[str, float]:
    """Corpus METEOR 1.5 for English in percent, as the COCO caption scorer and the E2E challenge report it.

    Words are those of `cider`. It runs `meteor-1.5.jar`, which the package pycocoevalcap brings along, or which the
    environment variable METEOR_JAR names (its folder `data` beside it), by the `java` that is on the path.

    Raises:
        MissingDependencyError: If Java or the program is not here.
        DataError: If the program gives no alignments.

    References:
        Denkowski and Lavie 2014; Dušek et al. 2020 (the E2E challenge's measures).
    """
    from softprompt.tasks.metrics.meteor import meteor_of, meteor_statistics

    return {"meteor": meteor_of(meteor_statistics(answers.predictions, answers.references).sum(0))}


def rouge1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over rows, in percent, of the F1 of stemmed words against the reference that fits best.

    References:
        Lin 2004, §2.
    """
    return {"rouge1": rouge("rouge1", predictions, references)}


def rouge2(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over rows, in percent, of the F1 of stemmed word pairs against the reference that fits best.

    References:
        Lin 2004, §2.
    """
    return {"rouge2": rouge("rouge2", predictions, references)}


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over rows, in percent, of the F1 of the longest common subsequence of stemmed words; best reference.

    References:
        Lin 2004, §3.
    """
    return {"rougeL": rouge("rougeL", predictions, references)}


def rouge_l_sum(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over rows, in percent, of ROUGE-L of whole summaries, whose lines are their sentences; best reference.

    A full stop between blanks ends a sentence too, as T5 scores CNN/DailyMail: its tokenizer has no line ends.
    For each sentence of the reference, the words of its longest common subsequences with all sentences of the
    prediction count together. A text in one line has its ROUGE-L, but that a word counts no more often than in both.

    References:
        Lin 2004, §3.2; See et al. 2017, §5 (its use for CNN/DailyMail); T5's `rouge` (t5/evaluation/metrics.py).
    """
    said = [_with_lines(text) for text in predictions]
    return {"rougeLsum": rouge("rougeLsum", said, [[_with_lines(text) for text in row] for row in references])}


def _with_lines(text: str) -> str:
    return text.replace(" . ", " .\n")


def rouge_l_coco(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean over rows, in percent, of the COCO caption scorer's ROUGE-L, which the E2E challenge reports.

    From the longest common subsequences of words, which are not stemmed: the best precision and the best recall over
    the references, recall weighing 1.2 times as much.

    References:
        Lin 2004, §3; the scorer's `rouge.py`; Dušek et al. 2020 (the E2E challenge's measures).
    """
    scores = [
        row_rouge_l(caption_words(prediction), [caption_words(text) for text in row])
        for prediction, row in zip(predictions, references, strict=True)
    ]
    return {"rougeL_coco": 100 * sum(scores) / len(scores)}


def row_rouge_l(said: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """One row's ROUGE-L, from 0 to 1."""
    shared = [longest_shared(said, true) for true in references]
    precision = max(shared) / max(1, len(said))
    recall = max(length / max(1, len(true)) for length, true in zip(shared, references, strict=True))
    weight = RECALL_WEIGHT**2
    return (1 + weight) * precision * recall / (recall + weight * precision) if precision else 0.0


def longest_shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    longest = [0] * (len(other) + 1)
    for word in one:
        before, longest = longest, [0]
        for place, candidate in enumerate(other):
            longest.append(before[place] + 1 if word == candidate else max(before[place + 1], longest[place]))
    return longest[-1]


def rouge(kind: str, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean over rows, in percent, of one kind of ROUGE (Porter stemming, best F1 over the references)."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind], use_stemmer=True)
    best = [
        scorer.score_multi(list(row), prediction)[kind].fmeasure
        for prediction, row in zip(predictions, references, strict=True)
    ]
    return 100 * sum(best) / len(best)
