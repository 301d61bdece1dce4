"""How the films' files become text."""

from __future__ import annotations

TEMPLATES = ("--input", "{text}", "--target", "{label}", "--label_words", '{"0": bad, "1": good}')
