"""Tasks by name: what is known, what a card says, and what is asked of a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from softprompt.errors import ConfigError, DataError
from softprompt.tasks import (
    Row,
    TaskDefinition,
    TextFormat,
    builtin,
    catalogue,
    get_scorer,
    load_task,
    register_task,
    task_definition,
    task_names,
)

BUILT_IN = tuple(definition.name for definition in builtin.BUILT_IN)


def read_greetings(folder: Path) -> dict[str, list[Row]]:
    """The rows of a task of another package."""
    lines = (folder / "greetings.txt").read_text().splitlines()
    return {"train": [Row(f"greetings.txt:{number}", {"text": line}) for number, line in enumerate(lines, start=1)]}


GREETINGS = TaskDefinition(
    name="greetings",
    summary="Hello.",
    format=TextFormat(input="{text}", target="{text}"),
    metrics=("exact_match",),
    splits=("train",),
    read=read_greetings,
    source="here",
    licence="CC0",
    citation="nobody",
    layout="greetings.txt, one greeting per line.",
)


@pytest.fixture
def tasks(monkeypatch):
    """The registry, put back as it was after the test."""
    monkeypatch.setattr(catalogue.TASKS, "_values", dict(catalogue.TASKS._values))


def test_the_names():
    assert set(BUILT_IN) <= set(task_names())
    assert len(set(BUILT_IN)) == len(BUILT_IN)
    assert {"clinc150_domains", "e2e", "e2e_sample", "sentence_polarity", "sst2", "subj"} <= set(BUILT_IN)
    with pytest.raises(ConfigError, match=r"Unknown task 'sst'\. Did you mean 'sst2'"):
        load_task("sst")


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_definition_is_complete_and_its_card_shows_all_of_it(name):
    task = task_definition(name)
    lines = task.card.split("\n")
    assert lines[0] == task.name == name
    for text in (
        task.summary,
        f"Input: {task.format.input}",
        f"Target: {task.format.target}",
        f"Metrics: {', '.join(task.metrics)}",
        f"Splits: {', '.join(task.splits)}",
        f"Source: {task.source}",
        f"Licence: {task.licence}",
        f"Citation: {task.citation}",
    ):
        assert text in lines
    assert all(get_scorer(metric).scores for metric in task.metrics)
    assert ("Data: bundled" in lines) == (task.folder is not None)


QA = ("token_f1", "exact_match")
LABELS = ("accuracy", "macro_f1")
PARAPHRASES = ("accuracy+binary_f1", "accuracy", "binary_f1")
E2E = ("bleu_uncased", "nist", "meteor", "rougeL_coco", "cider")
TRIPLES = ("bleu_webnlg", "meteor", "ter_webnlg", "chrf")
SUMMARIES = ("rougeL", "rouge1", "rouge2")
SCORED_BY = {
    "boolq": ("accuracy",), "cb": ("accuracy+macro_f1", *LABELS), "cnn_dailymail": ("rougeLsum", "rouge1", "rouge2"),
    "copa": ("accuracy",), "dart": TRIPLES, "e2e": E2E, "e2e_sample": E2E, "mrpc": PARAPHRASES,
    "multirc": ("f1a+multirc_em", "multirc"), "qqp": PARAPHRASES, "record": ("record_f1+record_em", "record"),
    "rte": ("accuracy",), "scitldr": SUMMARIES, "squad": QA, "sst2": LABELS, "webnlg_2017": TRIPLES,
    "wic": ("accuracy",), "wsc": ("wsc",), "xsum": SUMMARIES, "xsum_news_to_sports": SUMMARIES,
}  # fmt: skip


@pytest.mark.parametrize(("name", "metrics"), SCORED_BY.items())
def test_a_task_is_scored_by_what_its_papers_report(name, metrics):
    """Table-to-text was scored by cased BLEU and stemmed ROUGE-L, CNN/DailyMail by ROUGE-L of single sentences."""
    assert task_definition(name).metrics == metrics


def test_a_card_shows_label_words_and_what_a_folder_must_hold():
    lines = task_definition("sst2").card.split("\n")
    assert "Label words: 0 = negative, 1 = positive" in lines
    own = "a folder of yours (data_dir): "
    assert f"Data: from the hub (nyu-mll/glue, sst2), or {own}{task_definition('sst2').layout}" in lines
    assert f"Data: {own}{task_definition('e2e').layout}" in task_definition("e2e").card.split("\n")


@pytest.mark.usefixtures("tasks")
def test_a_task_of_ones_own(tmp_path):
    (tmp_path / "greetings.txt").write_text("hello\n\nhi\n")
    register_task(GREETINGS)
    assert "greetings" in task_names()
    with pytest.raises(DataError, match=r"greetings\.txt:2: the input is empty"):
        load_task("greetings", tmp_path)
    task = load_task("greetings", tmp_path, on_bad_row="skip")
    assert (task.name, task.card, task.metrics) == ("greetings", GREETINGS.card, ("exact_match",))
    assert task.report.rows == {"train": 2}


@pytest.mark.usefixtures("tasks")
def test_a_folder_is_asked_for_where_it_is_needed_and_only_there(tmp_path):
    register_task(GREETINGS)
    with pytest.raises(ConfigError, match=r"'greetings' needs a data_dir: greetings\.txt, one greeting per line"):
        load_task("greetings")
    with pytest.raises(DataError, match=r"nowhere of the task 'greetings' is no folder\. Expected: greetings\.txt"):
        load_task("greetings", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="'subj' brings its own data; leave data_dir out"):
        load_task("subj", tmp_path)


def test_a_task_of_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "greeting_package.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    info = tmp_path / "greeting_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[softprompt.tasks]\npolite = greeting_package:GREETINGS\n")
    (tmp_path / "greetings.txt").write_text("hello\n")
    monkeypatch.setattr(catalogue.TASKS, "_values", dict(catalogue.TASKS._values))
    monkeypatch.syspath_prepend(tmp_path)
    assert "polite" in task_names()
    assert load_task("polite", tmp_path).examples("train")[0].targets == ("hello",)


def test_import_and_cards_are_light():
    program = (
        "import sys, softprompt.tasks as tasks; [tasks.task_definition(name).card for name in tasks.task_names()];"
        "print({'datasets', 'numpy', 'pyarrow', 'rouge_score', 'sacrebleu', 'sklearn', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_documents_name_every_task():
    text = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
    named = [line for line in text.split("\n") if line.startswith("| `")]
    assert named == [
        f"| `{one.name}` | {one.data} | {', '.join(one.splits)} | {', '.join(one.metrics)} | {one.licence} |"
        for one in map(task_definition, sorted(BUILT_IN))
    ]
