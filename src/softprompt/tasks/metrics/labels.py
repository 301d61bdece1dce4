"""Labels as words: when two spellings are the same label."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["match_label", "normalise_label"]


def normalise_label(text: str) -> str:
    """A label without its case and with single spaces: what two labels are compared by."""
    return " ".join(text.split()).casefold()


def match_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that a generated text says, or `None`: an illegal output, which is always counted as wrong.

    The whole text must be the label, but for case and spacing: a label inside a longer text is none.

    Args:
        text: Generated text.
        labels: The legal targets, as `Task.labels` has them.

    References:
        Lester et al. 2021, §3.2 (illegal labels); Raffel et al. 2020, §2.4.
    """
    said = normalise_label(text)
    return next((label for label in labels if normalise_label(label) == said), None)
