"""SQuAD and what follows its format, against files in the published form."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from softprompt.errors import DataError
from softprompt.tasks import load_task, task_definition

FILES = Path(__file__).parents[2] / "fixtures" / "tasks"
NO_ANSWER = (
    r"the question has no answer; questions that cannot be answered, as in SQuAD 2, are not part of this task: leave"
    r" them out, or skip bad rows"
)


def lines(task, split):
    """Question, targets and place of each row of a split."""
    return [(one.columns["question"], one.targets, Path(one.source).name) for one in task.examples(split)]


@pytest.fixture
def mrqa(tmp_path):
    """A folder as the shared task's scripts make it, from its lines."""
    for file in (FILES / "mrqa").rglob("*.jsonl"):
        packed = tmp_path / file.parent.name / f"{file.name}.gz"
        packed.parent.mkdir(exist_ok=True)
        packed.write_bytes(gzip.compress(file.read_bytes()))
    return tmp_path


def write_squad(folder, data) -> Path:
    (folder / "dev-v1.1.json").write_text(json.dumps(data))
    return folder


def question(**columns):
    """A document of one question."""
    asked = {"id": "q", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]} | columns
    return {"data": [{"title": "T", "paragraphs": [{"context": "Ann came.", "qas": [asked]}]}]}


def test_squad():
    task = load_task("squad", FILES / "squad")
    assert task.splits == ("train", "validation")
    first = task.examples("train")[0]
    assert first.input == (
        "question: How high does Lake Orin lie? context: Lake Orin lies 412 metres above the sea. It freezes from "
        "December to March, and the ferry stops then."
    )
    assert (first.columns["id"], first.columns["title"]) == ("q-0", "Lake_Orin")
    assert lines(task, "train") == [
        ("How high does Lake Orin lie?", ("412 metres",), "train-v1.1.json:data[0].paragraphs[0].qas[0]"),
        ("When does the ferry stop?", ("from December to March",), "train-v1.1.json:data[0].paragraphs[0].qas[1]"),
        ("Who made the wheel?", ("Anna Weir",), "train-v1.1.json:data[1].paragraphs[0].qas[0]"),
    ]
    assert [targets for _, targets, _ in lines(task, "validation")] == [
        ("in June", "June"),
        ("a bird of the salt marsh", "a bird", "bird"),
    ]


def test_the_development_set_alone_can_be_scored_on(tmp_path):
    shutil.copy(FILES / "squad" / "dev-v1.1.json", tmp_path)
    assert load_task("squad", tmp_path).report.rows == {"validation": 2}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"answers": [], "is_impossible": True, "plausible_answers": [{"text": "Bo", "answer_start": 0}]}, NO_ANSWER),
        ({"answers": [{"text": " ", "answer_start": -1}]}, "the question's answer is blank; give its text, or skip"),
        ({"answers": "Ann"}, "column 'answers' holds 'Ann'; expected a list: use the file as it was published"),
        ({"question": None}, r"column 'question' is null; give it a text"),
    ],
)
def test_a_question_that_cannot_be_used_is_named(tmp_path, answers, message):
    """Questions of SQuAD 2 that have no answer were to be said, not to be scored as wrong."""
    folder = write_squad(tmp_path, question(**answers))
    with pytest.raises(DataError, match=rf"dev-v1\.1\.json:data\[0\]\.paragraphs\[0\]\.qas\[0\]: {message}"):
        load_task("squad", folder)


def test_questions_without_answer_can_be_skipped(tmp_path):
    data = question()
    data["data"] += question(answers=[])["data"]
    task = load_task("squad", write_squad(tmp_path, data), on_bad_row="skip")
    assert task.report.rows == {"validation": 1}
    assert len(task.report.skipped["validation"]) == 1


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ([], r"dev-v1\.1\.json has no list 'data'"),
        ({"data": [{"title": "T"}]}, r"dev-v1\.1\.json:data\[0\] has no list 'paragraphs'"),
        ({"data": ["T"]}, r"dev-v1\.1\.json:data\[0\] has no list 'paragraphs'"),
        (
            {"data": [{"paragraphs": [{"context": "C"}]}]},
            r"dev-v1\.1\.json:data\[0\]\.paragraphs\[0\] has no list 'qas'",
        ),
    ],
)
def test_a_document_that_is_not_squads_is_named(tmp_path, data, place):
    form = r"; expected SQuAD's form: data, in it paragraphs with context and qas, in these question and answers\."
    with pytest.raises(DataError, match=place + form):
        load_task("squad", write_squad(tmp_path, data))


def test_broken_and_empty_squad(tmp_path):
    with pytest.raises(DataError, match=r"dev-v1\.1\.json holds no row; copy it again"):
        load_task("squad", write_squad(tmp_path, {"data": []}))
    whole = (FILES / "squad" / "dev-v1.1.json").read_bytes()
    (tmp_path / "dev-v1.1.json").write_bytes(whole[:200])
    with pytest.raises(DataError, match=r"dev-v1\.1\.json:1: is not valid JSON at character \d+ \(.*\); copy the file"):
        load_task("squad", tmp_path)
    (tmp_path / "dev-v1.1.json").write_text('{"data": "é"}', encoding="latin-1")
    with pytest.raises(DataError, match=r"dev-v1\.1\.json:1: is not valid UTF-8; save the file as UTF-8"):
        load_task("squad", tmp_path)
    with pytest.raises(DataError, match=r"holds none of the files amazon_reviews_v1\.0\.json"):
        load_task("squadshifts_amazon", tmp_path)


@pytest.mark.parametrize(
    ("name", "rows", "targets"),
    [
        ("amazon", 1, ("its lid", "lid")),
        ("new_wiki", 12, ("3 wells", "3")),
        ("nyt", 1, ("five hours", "of five hours")),
        ("reddit", 1, ("at the harbour", "the harbour")),
    ],
)
def test_each_of_squadshifts_is_a_test_set(name, rows, targets):
    task = load_task(f"squadshifts_{name}", FILES / "squadshifts")
    assert task.report.rows == {"test": rows}
    assert task.examples("test")[0].targets == targets


def test_new_wikipedia_is_split_by_article():
    task = load_task("squadshifts_new_wiki_split", FILES / "squadshifts")
    titles = [{one.columns["title"] for one in task.examples(split)} for split in task.splits]
    assert task.splits == ("train", "validation", "test")
    assert [len(several) for several in titles] == [10, 1, 1]
    assert len(set().union(*titles)) == 12
    assert {len(one.targets) for one in task.examples("train")} == {1}
    assert {len(one.targets) for one in task.examples("test")} == {2}


def test_qed_skips_and_counts_what_its_conversion_did_not_find():
    """The training file has three questions, one of them with the answer '' at -1; none was counted."""
    task = load_task("qed_nq", FILES / "qed_nq")
    assert task.report.rows == {"train": 2, "validation": 2}
    (skipped,) = task.report.skipped.pop("train")
    assert not task.report.skipped
    assert skipped.endswith("the question's answer is blank; give its text, or skip bad rows")
    assert task.examples("validation")[0].targets == ("The uvea", "middle layer", "uvea")


def test_mrqa(mrqa):
    task = load_task("mrqa_newsqa", mrqa)
    assert lines(task, "train") == [
        ("Where were ferries held?", ("Port Elm",), "NewsQA.jsonl.gz:2 qas[0]"),
        ("What was sold?", ("bread",), "NewsQA.jsonl.gz:3 qas[0]"),
    ]
    assert lines(task, "validation")[0][1] == ("the hall was flooded", "flooded hall")
    assert task.examples("train")[0].input.startswith(
        "question: Where were ferries held? context: [TLE] Storm closes harbour [PAR] Two ferries"
    )
    assert task.examples("train")[0].columns["id"] == "NewsQA-train-0"


def test_a_set_of_another_domain_has_no_training_split(mrqa):
    task = load_task("mrqa_duorc", mrqa)
    assert (task.splits, task_definition("mrqa_duorc").splits) == (("validation",), ("validation",))
    assert task.examples("validation")[0].targets == ("in the clock", "clock")


def test_all_sets_of_mrqa_have_a_name():
    inside = ("hotpotqa", "natural_questions", "newsqa", "searchqa", "squad", "triviaqa")
    outside = ("bioasq", "drop", "duorc", "race", "relation_extraction", "textbookqa")
    for names, splits in ((inside, ("train", "validation")), (outside, ("validation",))):
        for name in names:
            definition = task_definition(f"mrqa_{name}")
            assert (definition.splits, definition.metrics) == (splits, ("token_f1", "exact_match"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"context": "C"}', r"NewsQA\.jsonl\.gz:2 has no list 'qas'; expected SQuAD's form"),
        (b'{"context": "C", "qas": [{"question": "Q", "answers": []}]}', rf"NewsQA\.jsonl\.gz:2 qas\[0\]: {NO_ANSWER}"),
        (b'{"context": "C", "qas": [3]}', r"NewsQA\.jsonl\.gz:2 qas\[0\]: column 'answers' is missing"),
        (b'{"context": "C", "qas', r"NewsQA\.jsonl\.gz:2: is not valid JSON at character 18"),
        (b'{"context": "\xe9"}', r"NewsQA\.jsonl\.gz:2: is not valid UTF-8; save the file as UTF-8"),
    ],
)
def test_a_bad_line_of_mrqa_is_named(tmp_path, line, message):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "NewsQA.jsonl.gz").write_bytes(gzip.compress(b'{"header": {"dataset": "NewsQA"}}\n' + line))
    with pytest.raises(DataError, match=message):
        load_task("mrqa_newsqa", tmp_path)


def test_a_file_of_mrqa_that_breaks_off(mrqa):
    file = mrqa / "dev" / "NewsQA.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"NewsQA\.jsonl\.gz cannot be read after line \d+ \(.*\); copy it again"):
        load_task("mrqa_newsqa", mrqa)
    file.write_bytes(gzip.compress(b'{"header": {"dataset": "NewsQA", "split": "dev"}}\n'))
    with pytest.raises(DataError, match=r"NewsQA\.jsonl\.gz holds no row; copy it again"):
        load_task("mrqa_newsqa", mrqa)
