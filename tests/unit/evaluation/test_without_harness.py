"""Without lm-evaluation-harness its model says what to install."""

from __future__ import annotations

import importlib
import sys

import pytest

from softprompt.errors import MissingDependencyError


def test_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    monkeypatch.delitem(sys.modules, "softprompt.evaluation.harness", raising=False)
    with pytest.raises(
        MissingDependencyError, match=r"This needs lm-evaluation-harness: pip install 'softprompt\[lm-eval\]'"
    ):
        importlib.import_module("softprompt.evaluation.harness")
