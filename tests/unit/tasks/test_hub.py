"""Tasks whose data come from the hub: which rows, in whose names, and what is said when they do not come."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from softprompt.errors import ConfigError, DataError
from softprompt.tasks import HubSource, Row, TaskDefinition, TextFormat
from softprompt.tasks.hub import label_values, read_hub

REVIEWS = {
    "train": [{"text": "fine", "label": 1}, {"text": "dull", "label": 0}],
    "dev": [{"text": "good", "label": 1}],
    "test": [{"text": "bad", "label": -1}],
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data set that `datasets` loads from this machine."""
    files = []
    for split, rows in REVIEWS.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files.append(f"  - split: {split}\n    path: {split}.jsonl\n")
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: films\n  data_files:\n{''.join(files)}---\n")
    return tmp_path


def read_films(folder: Path) -> dict[str, list[Row]]:
    return {"train": [Row("films:1", {"text": "own", "label": "good"})]}


def films(folder: Path) -> TaskDefinition:
    source = HubSource(
        path=str(folder),
        subset="films",
        splits={"train": "train", "validation": "dev"},
        adapt=label_values("bad", "good"),
    )
    return TaskDefinition(
        name="films",
        summary="Films.",
        format=TextFormat(input="{text}", target="{label}", label_words={"bad": "bad", "good": "good"}),
        metrics=("accuracy",),
        splits=("train", "validation"),
        read=read_films,
        source="here",
        licence="CC0",
        citation="nobody",
        hub=source,
        layout="films.txt.",
    )


def test_rows_of_the_hub_become_those_of_the_task(folder):
    task = films(folder).load()
    assert task.report.rows == {"train": 2, "validation": 1}
    assert [(one.input, one.targets, one.source) for one in task.examples("validation")] == [
        ("good", ("good",), "dev:0")
    ]
    assert [one.label for one in task.examples("train")] == ["good", "bad"]


def test_a_folder_of_ones_own_goes_before_the_hub(folder):
    assert films(folder).load(folder).report.rows == {"train": 1}


def test_bundled_data_go_before_the_hub(folder):
    assert replace(films(Path("nowhere")), folder=folder).load().report.rows == {"train": 1}


def test_the_card_names_both():
    lines = films(Path("people/films")).card.split("\n")
    assert "Data: from the hub (people/films, films), or a folder of yours (data_dir): films.txt." in lines
    assert str(HubSource(path="people/films", splits={"train": "train"})) == "people/films"


def test_a_data_set_that_is_not_reached_asks_for_a_copy():
    """Tests are offline: the libraries of the hub say so themselves."""
    definition = films(Path("people/films"))
    message = r"'people/films' cannot be loaded .*network\. If you have a copy, give it as data_dir: films\.txt\."
    with pytest.raises(DataError, match=message):
        definition.load()


def test_a_data_set_that_is_a_script_names_the_remedies(tmp_path):
    """`datasets` says so by a plain RuntimeError, which came out as an unexpected one, without the remedies."""
    script = tmp_path / "films" / "films.py"
    script.parent.mkdir()
    script.write_text("class Films: ...\n")
    message = r"films' cannot be loaded \(.*scripts.*films\.py.*refs/convert/parquet \(--dataset_revision\)\."
    with pytest.raises(DataError, match=message):
        read_hub(str(script.parent))
    with pytest.raises(DataError, match=message + r" If you have a copy, give it as data_dir: films\.txt\."):
        films(script.parent).load()


def test_a_split_that_the_data_set_lacks(folder):
    source = replace(films(folder).hub, splits={"train": "train", "validation": "validation"})
    with pytest.raises(ConfigError, match=r"Unknown split of the data set .*'validation'. Known: dev, test, train"):
        source.rows()


def test_splits_have_their_own_names_by_default(folder):
    assert list(read_hub(str(folder))) == ["train", "test"]


def test_numbers_become_the_values_of_the_files():
    adapt = label_values(False, True)
    rows = [Row("a:0", {"label": 1}), Row("a:1", {"label": -1}), Row("a:2", {}), Row("a:3", {}, "torn")]
    assert list(adapt("train", rows)) == [
        Row("a:0", {"label": True}),
        Row("a:1", {"label": -1}),
        Row("a:2", {}),
        Row("a:3", {}, "torn"),
    ]


def test_the_label_of_an_unlabelled_split_is_refused(folder):
    source = replace(films(folder).hub, splits={"train": "train", "test": "test"})
    with pytest.raises(DataError, match="test:0: column 'label' holds '-1', which has no label word; known: bad, good"):
        replace(films(folder), hub=source).load()
