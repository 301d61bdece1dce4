"""Damaged files of SuperGLUE and GLUE: the file, the line and a remedy are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.unit.tasks.benchmarks import GLUE, SUPERGLUE, folder_of

from softprompt.errors import DataError
from softprompt.tasks import load_task


def damaged(tmp_path: Path, name: str, content: bytes) -> Path:
    """A task's folder whose validation file is something else."""
    shutil.copytree(folder_of(name) / (SUPERGLUE | GLUE)[name], tmp_path, dirs_exist_ok=True)
    (tmp_path / ("val.jsonl" if name in SUPERGLUE else "dev.tsv")).write_bytes(content)
    return tmp_path


PASSAGE = '{"idx": 0, "passage": %s}'
QUERY = '{"idx": 0, "passage": {"text": "Tarn", "entities": [{"start": 0, "end": %s}]}, "qas": [%s]}'
SPANS = '{"text": "Tom ran as he was late.", "target": {%s}, "label": %s}'
NOUN = '"span1_text": "%s", "span1_index": %s, "span2_text": "he", "span2_index": 3'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("boolq", '{"question": "a", "passage": "b"', r"val\.jsonl:1: is not valid JSON at character 33 .*one object"),
        ("boolq", '{"question": "a", "passage": "b"}', r"val\.jsonl:1: column 'label' is missing; the row has 'quest"),
        ("cb", '{"premise": "a", "label": "neutral"}', r"val\.jsonl:1: column 'hypothesis' is missing; the row has"),
        ("cb", '{"premise": "a", "hypothesis": "b", "label": "maybe"}', r"val\.jsonl:1: .*'maybe', which has no label"),
        ("copa", "[1]", r"val\.jsonl:1: holds a JSON list; write one object per line"),
        ("multirc", '{"idx": 0}', r"val\.jsonl:1: column 'passage' is missing \(there is 'idx'\); use the file as it"),
        ("multirc", PASSAGE % '{"questions": 3}', r"val\.jsonl:1: column 'questions' holds 3; expected a list"),
        ("multirc", PASSAGE % '{"questions": [3]}', r"column 'questions\[0\]' holds 3; expected an object"),
        (
            "multirc",
            PASSAGE % '{"text": "a", "questions": [{"question": "b", "idx": 0, "answers": [{"text": "c"}]}]}',
            r"val\.jsonl:1: column 'label' is missing \(there is 'text'\)",
        ),
        ("record", QUERY % (9, ""), r"val\.jsonl:1: an entity from character 0 to 9 is not in its passage of 4"),
        ("record", QUERY % (3, '{"query": "a", "idx": 0}'), r"val\.jsonl:1: column 'answers' is missing"),
        ("record", QUERY % (3, '{"query": "a", "idx": 0, "answers": []}'), r"'answers' holds an empty list; a query"),
        ("wsc", '{"text": "Tom ran."}', r"val\.jsonl:1: column 'target' is missing"),
        ("wsc", SPANS % (NOUN % ("Tom", 0), "1"), r"val\.jsonl:1: column 'label' holds 1; expected true or false"),
        ("wsc", SPANS % (NOUN % ("Eva", 7), "true"), r"column 'span1_index' holds 7, but the text has 6 words"),
        ("wsc", SPANS % (NOUN % (" ", 0), "false"), r"val\.jsonl:1: column 'span1_text' is blank"),
        ("wsc", SPANS % ((NOUN % ("Tom", 0)).replace("3", "0"), "true"), r"'he', which is not word 0 of the text"),
        ("mrpc", "Quality\t#1 ID\t#2 ID\n1\t2\t3\n", r"dev\.tsv:2: column 'sentence1' is missing; the row has 'label'"),
        ("qqp", "question1\tquestion2\tis_duplicate\na\t0\n", r"dev\.tsv:2: has 2 columns, but 3 were named"),
    ],
)
def test_a_damaged_row_is_named_with_a_remedy(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        load_task(name, damaged(tmp_path, name, content.encode()))


@pytest.mark.parametrize("name", sorted(SUPERGLUE | GLUE))
def test_an_empty_file_and_one_in_another_encoding_are_named(tmp_path, name):
    header = b"" if name in SUPERGLUE else (folder_of(name) / GLUE[name] / "dev.tsv").read_bytes().splitlines(True)[0]
    with pytest.raises(DataError, match=r"(val\.jsonl|dev\.tsv) holds no row; copy it again"):
        load_task(name, damaged(tmp_path, name, header))
    with pytest.raises(DataError, match=r"(val\.jsonl:1|dev\.tsv:2): is not valid UTF-8; save the file as UTF-8"):
        load_task(name, damaged(tmp_path, name, header + b'{"a": "caf\xe9"}\n'))


@pytest.mark.parametrize("name", sorted(SUPERGLUE | GLUE))
def test_a_folder_without_the_files_is_an_error(tmp_path, name):
    with pytest.raises(
        DataError, match=r"The data_dir .* holds none of the files train\.(jsonl|tsv), .*; check the fol"
    ):
        load_task(name, tmp_path)


@pytest.mark.parametrize("name", sorted(SUPERGLUE | GLUE))
def test_a_validation_file_alone_can_be_scored(tmp_path, name):
    """The training file was demanded, also to score on the other."""
    file = "val.jsonl" if name in SUPERGLUE else "dev.tsv"
    shutil.copy(folder_of(name) / (SUPERGLUE | GLUE)[name] / file, tmp_path)
    assert load_task(name, tmp_path).splits == ("validation",)


def test_training_files_with_joined_labels(tmp_path):
    shutil.copy(folder_of("wic") / "WiC" / "train.jsonl", tmp_path / "WiC_train_joined.jsonl")
    assert load_task("wic", tmp_path).splits == ("train",)
    shutil.copy(folder_of("wic") / "WiC" / "val.jsonl", tmp_path)
    assert load_task("wic", tmp_path).splits == ("train", "validation")


def test_parts_of_the_validation_file_are_never_read_with_all_of_it(tmp_path):
    for part in ("train", "dev"):
        shutil.copy(folder_of("boolq") / "BoolQ" / "val.jsonl", tmp_path / f"BoolQ_val_part_{part}.jsonl")
    task = load_task("boolq", tmp_path)
    assert task.splits == ("train", "validation")
    assert task.examples("train")[0].source.endswith("BoolQ_val_part_train.jsonl:1")
    shutil.copy(folder_of("boolq") / "BoolQ" / "val.jsonl", tmp_path)
    assert load_task("boolq", tmp_path).splits == ("validation",)
