"""SuperGLUE's and GLUE's tasks: T5's texts from files in the published formats."""

from __future__ import annotations

import shutil

import pytest
from tests.unit.tasks.benchmarks import FIXTURES, GLUE, SUPERGLUE, folder_of, texts

from softprompt.errors import DataError
from softprompt.tasks import load_task, task_definition
from softprompt.tasks.builtin.wsc import mark_pronoun, noun_as_in_text

ROWS = {  # in train and validation
    "boolq": (2, 2),
    "cb": (3, 1),
    "copa": (2, 1),
    "mrpc": (2, 1),
    "multirc": (7, 2),
    "qqp": (2, 1),
    "record": (3, 2),
    "rte": (2, 1),
    "wic": (2, 1),
    "wsc": (2, 2),
}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_rows_from_the_benchmarks_folder_and_from_the_tasks_own(name):
    splits = dict(zip(("train", "validation"), ROWS[name], strict=True))
    assert load_task(name, folder_of(name)).report.rows == splits
    assert load_task(name, folder_of(name) / (SUPERGLUE | GLUE)[name]).report.rows == splits


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_definition_is_complete(name):
    task = task_definition(name)
    assert all((task.summary, task.licence, task.citation, task.source, task.layout, task.metrics))
    assert task.hub is not None
    assert f"Data: from the hub ({task.hub}), or a folder of yours (data_dir): {task.layout}" in task.card.split("\n")
    assert tuple(task.hub.splits) == task.splits


@pytest.mark.parametrize(
    ("name", "line", "target"),
    [
        (
            "boolq",
            "passage: Moon -- The Moon is a body of rock and dust. question: is the moon made of cheese",
            "False",
        ),
        ("cb", "hypothesis: Ann had left premise: A: I knew that Ann had left. B: Oh.", "entailment"),
        ("copa", "choice1: It fell. choice2: It was full. premise: The glass broke. question: cause", "choice1"),
        (
            "multirc",
            "question: How many cakes were left? answer: One paragraph: Sent 1: Ann baked two cakes. Sent 2: Ben ate "
            "one. ",
            "True",
        ),
        (
            "record",
            "query: After the race @placeholder thanked her coach. entities: Holt, Mira Holt, Oxbridge passage: Mira "
            "Holt of Oxbridge won the race. Holt trained for years. Holt beats the field. Oxbridge cheers",
            "Holt",
        ),
        ("rte", "hypothesis: Lyon has a museum. premise: The museum in Lyon opened in 1801.", "entailment"),
        (
            "wic",
            "sentence1: We sat on the bank of the river. sentence2: The bank lends money. word: bank",
            "False",
        ),
        ("wsc", "Ann thanked Eva because *she* had helped.", "Eva"),
        (
            "mrpc",
            "sentence1: Shares rose 3 percent on Monday . sentence2: On Monday , shares were up 3 percent .",
            "equivalent",
        ),
        (
            "qqp",
            "question1: How do I learn to swim? question2: What is the best way to learn swimming?",
            "duplicate",
        ),
    ],
)
def test_the_text_is_that_of_t5_without_the_tasks_name(name, line, target):
    assert texts(name)[0] == (line, (target,))


def test_every_class_has_its_word():
    assert [target for _, target in texts("boolq")] == [("False",), ("True",)]
    assert [target for _, target in texts("cb")] == [("entailment",), ("contradiction",), ("neutral",)]
    assert [target for _, target in texts("copa")] == [("choice1",), ("choice2",)]
    assert [target for _, target in texts("rte")] == [("entailment",), ("not_entailment",)]
    assert [target for _, target in texts("wic")] == [("False",), ("True",)]
    assert [target for _, target in texts("mrpc")] == [("equivalent",), ("not_equivalent",)]
    assert [target for _, target in texts("qqp")] == [("duplicate",), ("not_duplicate",)]


def test_answers_of_one_question_are_a_group():
    task = load_task("multirc", folder_of("multirc"))
    assert task.group == "question_id"
    answers = [(one.columns["question_id"], one.targets[0]) for one in task.examples("train")]
    assert answers == [
        ("0-0", "True"),
        ("0-0", "False"),
        ("0-0", "True"),
        ("0-1", "False"),
        ("0-1", "True"),
        ("1-2", "True"),
        ("1-2", "False"),
    ]
    assert "answer: A single cake paragraph" in task.examples("train")[2].input


def test_queries_are_trained_on_per_answer_and_scored_with_all():
    task = load_task("record", folder_of("record"))
    assert task.group == "query_id"
    assert task.start_words == ("commonsense", "reasoning", "reading", "comprehension")
    assert task.with_format(target="{answers}.").start_words == task.start_words
    assert load_task("wsc", folder_of("wsc")).start_words == ("commonsense", "pronoun", "resolution")
    assert [(one.columns["query_id"], one.targets) for one in task.examples("train")] == [
        ("0-0", ("Holt",)),
        ("0-0", ("Mira Holt",)),
        ("0-1", ("Oxbridge",)),
    ]
    assert [(one.columns["query_id"], one.targets) for one in task.examples("validation")] == [
        ("0-0", ("Norvik",)),
        ("0-1", ("Tarn",)),
    ]
    passage = 'passage: Norvik lost to Tarn on Sunday. Tarn scored "late" Norvik is last'
    assert task.examples("validation")[0].input.endswith(passage)


def test_nouns_are_trained_on_where_they_are_meant_and_scored_everywhere():
    assert [target for _, target in texts("wsc")] == [("Eva",), ("the piano",)]
    assert texts("wsc")[1][0].endswith('heavy. "Good for *it*," they said. ')
    assert [target for _, target in texts("wsc", "validation")] == [("The cup",), ("not the box",)]


@pytest.mark.parametrize(
    ("text", "pronoun", "place", "marked"),
    [
        ("She saw her .", "her", 2, "She saw *her* ."),
        ("they used it, and it broke", "it", 2, "they used *it*, and it broke"),
        ("hit it  now", "it", 0, "hit *it*  now"),
        ("now use it", "it", 3, "now use *it*"),
        ("It rains", "It", 0, "*It* rains"),
        ('said "(his) own', "his", 1, 'said "(*his*) own'),
    ],
)
def test_a_pronoun_is_marked_where_it_stands(text, pronoun, place, marked):
    assert mark_pronoun(text, pronoun, place) == marked


@pytest.mark.parametrize(("pronoun", "place"), [("he", 0), ("it", 1), ("it", 9), ("it", -5)])
def test_a_pronoun_that_is_elsewhere_is_refused(pronoun, place):
    with pytest.raises(DataError, match=f"'span2_text' holds '{pronoun}', which is not word {place} of the text"):
        mark_pronoun("her hat , it was hers", pronoun, place)


@pytest.mark.parametrize(
    ("noun", "place", "spelt"),
    [
        ("The old mill", 1, "the old mill"),
        ("the old\nmill", 1, "the old mill"),
        ("near", 0, "Near"),
        ("Ida.", 5, "Ida"),
        ("mill", 0, "mill"),
    ],
)
def test_a_noun_is_spelt_as_in_the_text(noun, place, spelt):
    """Some of the published nouns are not letter by letter in their text; the hub's `wsc.fixed` mends the same ones."""
    text = "Near the old mill stood Ida ."
    assert noun_as_in_text({"text": text, "span1_text": noun, "span1_index": place}) == spelt


def test_rte_is_the_same_from_glue_and_superglue():
    for split in ("train", "validation"):
        assert texts("rte", split) == texts("rte", split, FIXTURES / "glue" / "RTE")


def test_glue_takes_quotes_for_text_and_an_unlabelled_test_set_for_none():
    assert texts("mrpc")[1][0] == 'sentence1: " We won , " he said . sentence2: He said that they would win " soon .'
    assert texts("qqp")[1][0] == 'question1: Why is the sky blue? question2: Why is "the sea" salty?'


def test_labelled_test_sets_of_mrpc(tmp_path):
    shutil.copytree(FIXTURES / "glue" / "MRPC", tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "train.tsv", tmp_path / "msr_paraphrase_test.txt")
    assert load_task("mrpc", tmp_path).report.rows == {"train": 2, "validation": 1, "test": 2}
    shutil.copy(tmp_path / "dev.tsv", tmp_path / "test.tsv")
    assert load_task("mrpc", tmp_path).report.rows == {"train": 2, "validation": 1, "test": 1}


def test_a_torn_line_of_qqp_can_be_left_out(tmp_path):
    """GLUE's QQP has a few questions with a line end in them, whose halves have too few columns."""
    shutil.copytree(FIXTURES / "glue" / "QQP", tmp_path, dirs_exist_ok=True)
    with open(tmp_path / "train.tsv", "a", encoding="utf-8") as file:
        file.write('3\t7\t8\tWas he real?\t"\n\tWhat is the evidence?\t0\n')
    with pytest.raises(DataError, match=r"train\.tsv:4: has 5 columns, but 6 were named.*on_bad_row='skip'"):
        load_task("qqp", tmp_path)
    report = load_task("qqp", tmp_path, on_bad_row="skip").report
    assert report.rows["train"] == 2
    assert len(report.skipped["train"]) == 2


def test_few_shot_copies_validate_on_dev32(tmp_path):
    shutil.copytree(FIXTURES / "superglue" / "CB", tmp_path / "CB")
    shutil.copy(tmp_path / "CB" / "train.jsonl", tmp_path / "CB" / "dev32.jsonl")
    assert load_task("cb", tmp_path).report.rows == {"train": 3, "validation": 3, "test": 1}
    (tmp_path / "CB" / "val.jsonl").unlink()
    assert load_task("cb", tmp_path).report.rows == {"train": 3, "validation": 3}
