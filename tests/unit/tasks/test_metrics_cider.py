"""CIDEr where there is nothing to count."""

from __future__ import annotations

from softprompt.tasks.metrics.cider import CiderSums


def test_answers_that_share_no_word_with_their_references_score_nothing():
    """Sums over no shared words were integers where floats are promised, which checked shapes refused."""
    assert CiderSums.of(["a pub", "by a river"], [["two wells"], ["red stone"]]).total() == 0.0
    assert CiderSums.of(["", ""], [["two wells"], ["red stone"]]).total() == 0.0
