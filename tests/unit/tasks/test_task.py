"""Tasks from files, rows and data sets."""

from __future__ import annotations

import inspect
import json
import random

import datasets
import pytest

from softprompt.errors import ConfigError, DataError
from softprompt.tasks import FORMAT_SETTINGS, Task, TextFormat

ROWS = [{"text": f"row {index}", "label": index % 2} for index in range(40)]
FORM = {"input": "{text}", "target": "{label}", "label_words": {"0": "bad", "1": "great"}}


@pytest.fixture
def files(tmp_path):
    """One file per split, each of another format."""
    train, validation, test = (tmp_path / name for name in ("reviews.v1.jsonl", "b.csv", "c.tsv"))
    train.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:30]))
    for path, mark, rows in ((validation, ",", ROWS[30:35]), (test, "\t", ROWS[35:])):
        path.write_text("".join(f"{a}{mark}{b}\n" for a, b in [("text", "label"), *(row.values() for row in rows)]))
    return {"train": train, "validation": str(validation), "test": test}


def test_from_files(files):
    task = Task.from_files(**files, **FORM)
    assert (task.name, task.splits, task.labels) == ("reviews", ("train", "validation", "test"), ("bad", "great"))
    assert task.metrics == ("accuracy", "macro_f1")
    assert task.report.rows == {"train": 30, "validation": 5, "test": 5}
    assert str(task.report) == "train: 30 rows\nvalidation: 5 rows\ntest: 5 rows"
    first = task.examples("validation")[0]
    assert (first.input, first.targets, first.label) == ("row 30", ("bad",), "0")
    assert first.source == f"{files['validation']}:2"
    assert task.examples("validation") is task.examples("validation")


def test_parquet_files(tmp_path):
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "a.parquet")
    task = Task.from_files(validation=tmp_path / "a.parquet", **FORM)
    assert [example.targets for example in task.examples("validation")][:2] == [("bad",), ("great",)]
    assert task.examples("validation")[1].source == f"{tmp_path / 'a.parquet'}:2"


def test_free_text_has_other_default_metrics(files):
    task = Task.from_files(**files, input="{text}", target="{label}", name="mine", chat=True)
    assert (task.name, task.metrics, task.labels, task.format.chat) == ("mine", ("exact_match", "token_f1"), None, True)


def test_a_lone_train_file_is_split_and_a_lone_test_file_is_not(files):
    task = Task.from_files(train=files["train"], **FORM, split_seed=3, split_sizes=(0.5, 0.3, 0.2))
    assert task.report.rows == {"train": 15, "validation": 9, "test": 6}
    assert task.report.duplicates == {}
    assert "split in three by the seed 3" in str(task.report).splitlines()
    assert task.report.counts()["split_seed"] == 3
    other = Task.from_files(train=files["train"], **FORM, split_seed=4, split_sizes=(0.5, 0.3, 0.2))
    assert {one.input for one in other.examples("test")} != {one.input for one in task.examples("test")}
    assert Task.from_files(test=files["test"], **FORM).report.rows == {"test": 5}


def test_bad_rows_are_named_or_counted(files):
    with files["train"].open("a") as file:
        file.write('{"text": "x"}\n{"text": "", "label": 0}\nnonsense\n')
    with pytest.raises(DataError, match=r"reviews.v1.jsonl:31: column 'label' is missing"):
        Task.from_files(**files, **FORM)
    task = Task.from_files(**files, **FORM, on_bad_row="skip")
    assert task.report.rows["train"] == 30
    assert [problem.partition(": ")[0].rpartition(":")[2] for problem in task.report.skipped["train"]] == [
        "31",
        "32",
        "33",
    ]
    assert "train: 3 bad rows skipped" in str(task.report)


def test_duplicates_across_files_are_reported(files):
    with files["train"].open("a") as file:
        file.write(json.dumps(ROWS[32]) + "\n")
    task = Task.from_files(**files, **FORM)
    assert task.report.duplicates == {("train", "validation"): 1}


def test_an_unknown_split_or_metric_is_refused(files):
    with pytest.raises(ConfigError, match="Unknown split of the task reviews 'valid'"):
        Task.from_files(**files, **FORM).examples("valid")
    with pytest.raises(ConfigError, match=r"Unknown metric 'blue'. Did you mean 'bleu'"):
        Task.from_files(**files, **FORM, metrics=["blue"])


def test_no_data_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "bad.jsonl").write_text("{}\n{}\n")
    with pytest.raises(DataError, match="The task '' has no data; name a file or rows"):
        Task.from_files(**FORM)
    with pytest.raises(DataError, match=r"empty\.jsonl holds no row; copy it again"):
        Task.from_files(train=tmp_path / "empty.jsonl", **FORM)
    with pytest.raises(DataError, match="split 'train' of the task 'rows' has no usable row: it is empty; give it row"):
        Task.from_rows({"train": []}, **FORM)
    with pytest.raises(
        DataError, match=r"split 'test' .* no usable row: all are bad, the first so: .*bad.jsonl:1: column"
    ):
        Task.from_files(test=tmp_path / "bad.jsonl", **FORM, on_bad_row="skip")


def test_from_rows():
    task = Task.from_rows({"train": ROWS[:3], "validation": iter(ROWS[3:5])}, **FORM, metrics=("accuracy",))
    assert (task.name, task.splits, task.metrics) == ("rows", ("train", "validation"), ("accuracy",))
    assert [example.source for example in task.examples("validation")] == ["validation:0", "validation:1"]
    assert Task.from_rows({"train": ROWS}, **FORM).report.rows == {"train": 32, "validation": 4, "test": 4}
    with pytest.raises(DataError, match="train:1: column 'text' is missing; the row has no columns"):
        Task.from_rows({"train": [ROWS[0], {}]}, **FORM)


@pytest.fixture
def folder(tmp_path):
    """A data set as `datasets` finds it in a folder."""
    path = tmp_path / "reviews"
    path.mkdir()
    for split, rows in {"train": ROWS[:20], "validation": ROWS[20:30], "test": ROWS[30:]}.items():
        (path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_from_hub(folder):
    task = Task.from_hub(f"{folder}/", **FORM)
    assert task.name == "reviews"
    assert task.report.rows == {"train": 20, "validation": 10, "test": 10}
    assert task.examples("test")[0].source == "test:0"
    assert task.examples("test")[0].columns == ROWS[30]


def test_from_hub_with_chosen_splits(folder):
    task = Task.from_hub(str(folder), splits={"train": "test"}, **FORM, name="few")
    assert (task.name, task.report.rows) == ("few", {"train": 8, "validation": 1, "test": 1})
    assert {example.source.partition(":")[0] for example in task.examples("train")} == {"test"}
    with pytest.raises(ConfigError, match=r"Unknown split of the data set .*'dev'. Known: test, train, validation"):
        Task.from_hub(str(folder), splits={"validation": "dev"}, **FORM)


def test_a_data_set_that_cannot_be_loaded(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty' cannot be loaded .*check its name, files and the network"):
        Task.from_hub(str(tmp_path / "empty"), **FORM)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "train.jsonl").write_text('{"text": "a"')
    with pytest.raises(DataError, match="torn' cannot be loaded"):
        Task.from_hub(str(tmp_path / "torn"), **FORM)


def reviews() -> Task:
    rows = {
        "train": [{"text": f"film {number}", "label": str(number % 2)} for number in range(20)],
        "validation": [{"text": f"book {number}", "label": "1"} for number in range(5)],
    }
    return Task.from_rows(rows, input="{text}", target="{label}", label_words={"0": "bad", "1": "good"}, name="reviews")


@pytest.mark.parametrize("read", [Task.from_files, Task.from_rows, Task.from_hub])
def test_all_settings_of_a_format_are_read(read):
    """They are written out for each way of reading; here they are held to the format's own, and to its defaults."""
    own, taken = (inspect.signature(one).parameters for one in (TextFormat, read))
    assert {name: taken[name].default for name in FORMAT_SETTINGS} == {name: one.default for name, one in own.items()}


def test_other_words_for_the_same_rows():
    task = reviews().with_format(input="{text} . It is", label_words={"0": "poor", "1": "fine"})
    assert (task.name, task.metrics, task.labels) == ("reviews", ("accuracy", "macro_f1"), ("poor", "fine"))
    first = task.examples("train")[0]
    assert (first.input, first.targets, first.source) == (
        "film 0 . It is",
        ("poor",),
        reviews().examples("train")[0].source,
    )
    assert reviews().with_format().format == reviews().format
    with pytest.raises(ConfigError, match=r"Unknown setting of a format 'inputs'. Did you mean 'input'"):
        reviews().with_format(inputs="{text}")
    with pytest.raises(DataError, match="stars"):
        reviews().with_format(target="{stars}", label_words={"0": "a", "1": "b"})


def test_other_metrics_for_the_same_rows():
    task = reviews().with_metrics(["macro_f1", "accuracy"])
    assert (task.metrics, task.watched, task.report) == (("macro_f1", "accuracy"), "macro_f1", reviews().report)
    for names, message in (
        ([], "The task reviews needs a metric; name one, such as accuracy"),
        (["acuracy"], r"Unknown metric 'acuracy'. Did you mean 'accuracy'"),
        (["multirc"], "scores groups of rows, but nothing says which"),
        (["accuracy", "accuracy"], "The metric 'accuracy' gives 'accuracy', as one before it does"),
    ):
        with pytest.raises(ConfigError, match=message):
            reviews().with_metrics(names)
    with pytest.raises(ConfigError, match="The metric 'binary_f1' gives 'binary_f1', as one before it"):
        Task.from_rows({"train": ROWS}, **FORM, metrics=["binary_f1", "binary_f1"])
    with pytest.raises(ConfigError, match="needs two labels"):
        Task.from_rows({"train": ROWS}, input="{text}", target="{text}").with_metrics(["binary_f1"])


def test_training_rows_that_validate():
    task = reviews().validated_on_train(6, seed=3)
    assert task.examples("test") == reviews().examples("validation")
    drawn, kept = ([one.source for one in task.examples(split)] for split in ("validation", "train"))
    whole = [one.source for one in reviews().examples("train")]
    assert (len(drawn), sorted(drawn + kept)) == (6, sorted(whole))
    assert [source for source in whole if source in kept] == kept
    assert drawn != [one.source for one in reviews().validated_on_train(6, seed=4).examples("validation")]
    assert task.report.rows == {"train": 14, "validation": 6, "test": 5}
    with pytest.raises(ConfigError, match="20 distinct inputs to train on"):
        reviews().validated_on_train(20)
    with pytest.raises(ConfigError, match="has a test split"):
        task.validated_on_train(3)


def test_rows_of_one_input_stay_together():
    """Else a checkpoint would be chosen on inputs that were trained on, as E2E's with their many references."""
    said = [{"table": f"name : {number // 3}", "said": f"text {number}"} for number in range(30)]
    rows = {"train": said, "validation": said[:3]}
    task = Task.from_rows(rows, input="{table}", target="{said}").validated_on_train(4)
    trained = {example.input for example in task.examples("train")}
    assert len(trained) == 6
    assert len(task.examples("train")) == 18
    held = task.examples("validation")
    assert len(held) == 4
    assert not trained & {example.input for example in held}
    assert all(len(example.targets) == 3 for example in held)


def test_fewer_training_rows():
    task = reviews().with_train_rows(4, seed=1)
    assert {split: len(task.examples(split)) for split in task.splits} == {"train": 4, "validation": 5}
    assert task.report.rows["train"] == 4
    with pytest.raises(ConfigError, match="train_rows=0"):
        reviews().with_train_rows(0)


def test_of_several_references_each_is_a_row():
    """Fifty rows of E2E had been fifty tables with all that is said of them, some 460 rows."""
    said = [{"table": f"name : {number // 8}", "said": f"text {number}"} for number in range(80)]
    task = Task.from_rows({"train": said, "validation": said}, input="{table}", target="{said}").with_train_rows(9)
    drawn = task.examples("train")
    assert (len(drawn), task.report.rows) == (9, {"train": 9, "validation": 80})
    assert len({example.targets for example in drawn}) == 9
    assert 1 < len({example.input for example in drawn}) < 9
    with pytest.raises(ConfigError, match="train_rows=9: rows has 9 rows to train on"):
        task.with_train_rows(9)


def test_a_labelled_input_counts_once_and_a_draw_stays_what_it_was():
    rows = [{"text": f"film {number // 2}", "label": str(number // 2 % 2)} for number in range(40)]
    task = Task.from_rows({"train": rows, "validation": rows}, **FORM)
    assert len(task.with_train_rows(5).examples("train")) == 10
    places = sorted(random.Random(5).sample(range(20), 4))
    drawn = [f"film {place}" for place in places]
    assert [one.input for one in reviews().with_train_rows(4, seed=5).examples("train")] == drawn
    said = [{"text": f"film {number}", "said": "yes"} for number in range(20)]
    plain = Task.from_rows({"train": said, "validation": said}, input="{text}", target="{said}")
    assert [one.input for one in plain.with_train_rows(4, seed=5).examples("train")] == drawn


def test_tags_are_those_of_all_splits():
    rows = {"train": [{"w": ["a", "b"], "t": ["O", "B-X"]}], "validation": [{"w": "c", "t": "I-X"}]}
    task = Task.from_rows(rows, input="{w}", target="{t}", words="w")
    assert task.tags == ("B-X", "I-X", "O")
    assert (task.labels, task.metrics) == (None, ("entity_f1", "tag_accuracy"))
    assert task.examples("train")[0].targets == ("O B-X",)
    again = task.with_format(input="tag {w}")
    assert again.tags == task.tags
    assert again.examples("validation")[0].input == "tag c"


ANSWERS = [
    {"text": f"{question} {answer}", "label": str(label), "question": question}
    for question, labels in enumerate([(0, 1, 1), (1, 0)])
    for answer, label in enumerate(labels)
]
SCORED_TOGETHER = {
    "input": "{text}", "target": "{label}", "label_words": {"0": "no", "1": "yes"}, "metrics": ["multirc"],
    "group": "question",
}  # fmt: skip


def test_rows_may_be_scored_in_groups(tmp_path):
    """Only tasks by name could say which rows belong together."""
    for split in ("train", "validation"):
        lines = [json.dumps(row) + "\n" for row in ANSWERS]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    made = [
        Task.from_rows({"validation": ANSWERS}, **SCORED_TOGETHER),
        Task.from_files(validation=tmp_path / "validation.jsonl", **SCORED_TOGETHER),
        Task.from_hub(str(tmp_path), **SCORED_TOGETHER),
    ]
    for task in made:
        rows = task.examples("validation")
        assert [task.group_of(row) for row in rows] == ["0", "0", "0", "1", "1"]
        assert task.answers(rows, ["yes"] * 5).groups == ["0", "0", "0", "1", "1"]
    with pytest.raises(DataError, match="validation:0 has no column 'asked', which says what it is scored with"):
        Task.from_rows({"validation": ANSWERS}, **{**SCORED_TOGETHER, "group": "asked"})
    with pytest.raises(ConfigError, match="group"):
        Task.from_rows({"validation": ANSWERS}, **{**SCORED_TOGETHER, "group": None})


def test_tags_of_the_data_that_differ_only_in_case_are_refused_as_data():
    """It was said that the label words differ, though nobody had given any."""
    rows = {"train": [{"words": "a b", "tags": "B-X O"}], "validation": [{"words": "c", "tags": "b-x"}]}
    settings = {"input": "{words}", "target": "{tags}", "words": "words"}
    with pytest.raises(DataError, match="column 'tags' holds the tags 'B-X' and 'b-x', which differ only in case; spe"):
        Task.from_rows(rows, **settings)
    words = {"B-X": "B-X", "b-x": "B-X", "O": "O"}
    assert Task.from_rows(rows, **settings, label_words=words).tags == ("B-X", "O")
