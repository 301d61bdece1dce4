"""AG News, TREC, Amazon's reviews and counterfactual IMDB, against files in the published form."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from softprompt.errors import DataError
from softprompt.tasks import load_task
from softprompt.tasks.builtin.amazon import read_reviews
from softprompt.tasks.builtin.trec import read_questions

FILES = Path(__file__).parents[2] / "fixtures" / "tasks"
REVIEW = "<review>\n<rating>\n5.0\n</rating>\n<review_text>\nFine.\n</review_text>\n</review>\n"


def pairs(task, split):
    """Input and targets of each row of a split."""
    return [(one.input, one.targets) for one in task.examples(split)]


def test_ag_news():
    task = load_task("ag_news", FILES / "ag_news")
    assert task.report.rows == {"train": 7, "validation": 1, "test": 2}
    assert task.splits == ("train", "validation", "test")
    assert pairs(task, "train")[0] == (
        "title: Vale signs treaty description: Vale and its neighbours signed a treaty \\on fishing.",
        ("World",),
    )
    assert pairs(task, "train")[2][0] == (
        'title: New probe, old ideas description: A probe that its makers call "Reed" will measure the sea.'
    )
    assert task.labels == ("World", "Sports", "Business", "Sci/Tech")
    places = {Path(one.source).name for split in ("train", "validation") for one in task.examples(split)}
    assert places == {f"train.csv:{line}" for line in range(1, 9)}


def test_ag_news_from_parts_of_its_test_file(tmp_path):
    """They are never read beside the test file that they are part of."""
    for name in ("from_test_train.csv", "from_test_dev.csv", "test.csv"):
        shutil.copy(FILES / "ag_news" / "test.csv", tmp_path / name)
    assert load_task("ag_news", tmp_path).report.rows == {"train": 2, "validation": 2}
    shutil.copy(FILES / "ag_news" / "train.csv", tmp_path)
    assert load_task("ag_news", tmp_path).report.rows == {"train": 7, "validation": 1, "test": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'"1","T","D"\n"5","T","D"\n',
            r"test\.csv:2: column 'class' holds '5', which has no label word; known: 1, 2, 3",
        ),
        (
            b"Class Index,Title,Description\n",
            r"test\.csv:1: column 'class' holds 'Class Index', which has no label word",
        ),
        (b'"1","T"\n', r"test\.csv:1: has 2 columns, but 3 were named"),
        (b'"1","T","D\n', r"test\.csv:1: cannot be read \(.*\); mend its quotes"),
        (b'"1","T","\xe9"\n', r"test\.csv:1: is not valid UTF-8"),
        (b"", r"test\.csv holds no row; copy it again"),
    ],
)
def test_bad_ag_news_is_named(tmp_path, content, message):
    (tmp_path / "test.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_task("ag_news", tmp_path)


def test_trec():
    task = load_task("trec", FILES / "trec")
    assert task.report.rows == {"train": 10, "validation": 1, "test": 2}
    assert pairs(task, "train")[3] == ("question: What city is a sister\u00f0city of Orin ?", ("location",))
    assert pairs(task, "validation") == [("question: In what year was Tarn founded ?", ("number",))]
    assert task.examples("train")[0].columns == {
        "coarse": "DESC",
        "fine": "manner",
        "question": "How did the mill at Tarn come to stand still ?",
    }
    assert task.labels == ("abbreviation", "description", "entity", "human", "location", "number")


def test_trec_under_its_other_names(tmp_path):
    shutil.copy(FILES / "trec" / "train_5500.label", tmp_path / "train.txt")
    assert load_task("trec", tmp_path).report.rows == {"train": 10, "validation": 1}
    shutil.copy(FILES / "trec" / "TREC_10.label", tmp_path / "test.txt")
    assert load_task("trec", tmp_path).report.rows == {"train": 10, "validation": 1, "test": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "NUM:dist How far ?\n\n0 How far ?\n",
            r"test\.txt:3: holds '0 How far \?'; expected a class and a question, as",
        ),
        ("NUM:dist\n", r"test\.txt:1: holds 'NUM:dist'; expected a class and a question"),
        ("NUMB:dist How far ?\n", r"test\.txt:1: column 'coarse' holds 'NUMB', which has no label word; known: ABBR"),
        ("", r"test\.txt holds no row; copy it again"),
    ],
)
def test_a_bad_line_of_trec_is_named(tmp_path, content, message):
    (tmp_path / "test.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        load_task("trec", tmp_path)


def test_a_control_character_ends_no_line_of_trec(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"NUM:dist How\x85 far ?\nNUM:dist How near ?\n")
    assert [row.columns["question"] for row in read_questions(tmp_path / "a.txt")] == ["How\x85 far ?", "How near ?"]


def test_amazon():
    task = load_task("amazon_books", FILES / "amazon")
    assert task.report.rows == {"train": 10, "validation": 1, "test": 1}
    (kept,) = task.examples("test")
    assert (kept.input, kept.targets) == (
        "review: I read & kept it.\n\nA fine diary — <b>buy</b> it.",
        ("positive",),
    )
    assert kept.columns == {
        "rating": "5.0",
        "title": "On this diary",
        "review_text": "I read & kept it.\n\nA fine diary — <b>buy</b> it.",
        "label": "positive",
    }
    assert kept.source.endswith("positive.review:77")
    assert [one.label for one in task.examples("train")].count("positive") == 5


@pytest.mark.parametrize("folder", ["kitchen_&_housewares", "kitchen"])
def test_amazons_kitchen_under_both_names(tmp_path, folder):
    shutil.copytree(FILES / "amazon" / "kitchen_&_housewares", tmp_path / folder)
    assert load_task("amazon_kitchen", tmp_path).report.rows == {"train": 4, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (REVIEW + REVIEW[:-12], r"breaks off in the review of line 9; copy the file again"),
        (REVIEW + REVIEW[:60], r"breaks off in the review of line 9; copy the file again"),
        (REVIEW + "stray\n", r":9: holds b'stray' outside of a tag; mend the line or copy it again"),
        (REVIEW.replace("<rating>", "<rating"), r":2: holds b'<rating' outside of a tag"),
        ("", r"holds no <review>; copy the file again"),
    ],
    ids=["review", "field", "stray", "tag", "empty"],
)
def test_broken_reviews_are_named(tmp_path, content, message):
    path = tmp_path / "positive.review"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_reviews(path, "positive"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"Fine.", b"\xe9"), r"negative\.review:9: is not valid UTF-8; save the file as UTF-8"),
        (
            (b"review_text", b"text"),
            r"negative\.review:9: column 'review_text' is missing; the row has 'rating', 'label'",
        ),
        ((b"Fine.", b" "), r"negative\.review:9: the input is empty"),
    ],
)
def test_a_bad_review_is_named(tmp_path, change, message):
    (tmp_path / "books").mkdir()
    review = REVIEW.encode()
    (tmp_path / "books" / "negative.review").write_bytes(review + review.replace(*change))
    with pytest.raises(DataError, match=message):
        load_task("amazon_books", tmp_path)


@pytest.mark.parametrize(("name", "labels"), [("original", {"negative", "positive"}), ("revised", {"negative"})])
def test_counterfactual_imdb(name, labels):
    task = load_task(f"imdb_{name}", FILES / "counterfactual_imdb")
    assert task.report.rows == {"train": 2, "validation": 2}
    assert {target for one in task.examples("validation") for target in one.targets} == labels


def test_quotes_around_a_review_are_no_part_of_it():
    task = load_task("imdb_original", FILES / "counterfactual_imdb")
    assert pairs(task, "train")[0] == (
        "review: Long, boring, blasphemous. Never have I been so glad to see ending credits roll.",
        ("negative",),
    )
    assert pairs(task, "train")[1][0].startswith(
        'review: This movie is so bad, it can only be compared to the all-time worst "comedy": Police Academy 7.'
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Sentiment\tText\nNeutral\tx\n", r"test\.tsv:2: column 'Sentiment' holds 'Neutral', which has no label word"),
        (b"Label\tText\nPositive\tx\n", r"test\.tsv:2: column 'Sentiment' is missing; the row has 'Label', 'Text'"),
        (b"Sentiment\tText\nPositive x\n", r"test\.tsv:2: has 1 columns, but 2 were named"),
        (b'Sentiment\tText\nPositive\t"x\n', r"test\.tsv:2: cannot be read \(.*\); mend its quotes"),
        (b"Sentiment\tText\nPositive\t\xe9\n", r"test\.tsv:2: is not valid UTF-8"),
        (b"Sentiment\tText\n", r"test\.tsv holds no row; copy it again"),
    ],
)
def test_bad_counterfactual_imdb_is_named(tmp_path, content, message):
    (tmp_path / "sentiment" / "new").mkdir(parents=True)
    (tmp_path / "sentiment" / "new" / "test.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_task("imdb_revised", tmp_path)


def test_folders_without_the_files(tmp_path):
    for name, file in {
        "ag_news": r"train\.csv, test\.csv",
        "trec": r"train_5500\.label, train\.txt",
        "amazon_dvd": r"dvd/negative\.review, dvd/positive\.review",
        "imdb_original": r"sentiment/orig/train\.tsv",
    }.items():
        with pytest.raises(DataError, match=f"The data_dir .* holds none of the files {file}"):
            load_task(name, tmp_path)
