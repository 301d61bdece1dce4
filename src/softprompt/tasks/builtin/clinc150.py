"""Queries to an assistant, by domain."""

from __future__ import annotations

from softprompt.tasks.builtin.bundled import DATA, read_bundled
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat

__all__ = ["CLINC150_DOMAINS"]

CLINC150_DOMAINS = TaskDefinition(
    name="clinc150_domains",
    summary=(
        "Queries to an assistant, by the domain of their intent: 10 domains of 15 intents each. The original splits, "
        "without the out-of-scope queries; the intent is kept in the column `intent`."
    ),
    format=TextFormat(
        input="query: {text}",
        target="{domain}",
        label_words={
            "banking": "banking",
            "credit_cards": "credit cards",
            "kitchen_and_dining": "kitchen and dining",
            "home": "home",
            "auto_and_commute": "auto and commute",
            "travel": "travel",
            "utility": "utility",
            "work": "work",
            "small_talk": "small talk",
            "meta": "meta",
        },
    ),
    metrics=("accuracy", "macro_f1"),
    splits=("train", "validation", "test"),
    read=read_bundled,
    source="https://github.com/clinc/oos-eval (data_full.json, domains.json)",
    licence="CC BY 3.0",
    citation=(
        "Larson et al. 2019, An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction, EMNLP-IJCNLP"
    ),
    folder=DATA / "clinc150_domains",
)
