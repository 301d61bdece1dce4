"""Malformed files of the formats that are no benchmark's: the file, the place in it and a remedy are named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tests.unit.tasks.benchmarks import FIXTURES

from softprompt.errors import DataError
from softprompt.tasks import load_task

BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;">]><benchmark>&y;</benchmark>'
DART_FILE, QED_FILE = "dart-v1.1.1-full-dev", "squad_format_dev"
NOT_UTF8 = "is not valid UTF-8; save the file as UTF-8"
LATIN_QED = json.dumps({"data": [{"title": "\xe9"}]}, ensure_ascii=False).encode("latin-1")


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("sst2", "dev.tsv", b"", r"dev\.tsv holds no row; copy it again"),
        ("sst2", "dev.tsv", b"sentence\tlabel\n", r"dev\.tsv holds no row; copy it again"),
        ("sst2", "dev.tsv", b"fine\t1\ncaf\xe9\t0\n", rf"dev\.tsv:2: {NOT_UTF8}"),
        ("sst2", "dev.tsv", b"text\tlabel\nfine\t1\n", r"dev\.tsv:2: column 'sentence' is missing; the row has 'text'"),
        ("sst2", "dev.tsv", b"fine\t1\ndull\n", r"dev\.tsv:2: has 1 columns, but 2 were named"),
        ("e2e", "devset.csv", b"", r"devset\.csv holds no row; copy it again"),
        ("e2e", "devset.csv", b"mr,ref\n", r"devset\.csv holds no row; copy it again"),
        ("e2e", "devset.csv", b"mr,ref\nname[A],caf\xe9\n", rf"devset\.csv:2: {NOT_UTF8}"),
        ("e2e", "devset.csv", b'mr,ref\nname[A],"x\n', r"devset\.csv:2: cannot be read \(.*\); mend its quotes"),
        ("scitldr", "dev.jsonl", b"", r"dev\.jsonl holds no row; copy it again"),
        ("scitldr", "dev.jsonl", b'{"source": ["On', r"dev\.jsonl:1: is not valid JSON at character 13"),
        ("scitldr", "dev.jsonl", b'{"source": ["caf\xe9"]}', rf"dev\.jsonl:1: {NOT_UTF8}"),
        ("dart", f"{DART_FILE}.json", b'[{"tripleset": "\xe9"}]', rf"{DART_FILE}\.json:1: {NOT_UTF8}"),
        ("dart", f"{DART_FILE}.xml", BOMB.encode(), rf"{DART_FILE}\.xml:1: declares a document type"),
        ("qed_nq", f"{QED_FILE}.json", b"", rf"{QED_FILE}\.json:1: is not valid JSON"),
        ("qed_nq", f"{QED_FILE}.json", b'{"data": []}', rf"{QED_FILE}\.json holds no row; copy it again"),
        ("qed_nq", f"{QED_FILE}.json", b'{"data": [{"title"', rf"{QED_FILE}\.json:1: is not valid JSON"),
        ("qed_nq", f"{QED_FILE}.json", LATIN_QED, rf"{QED_FILE}\.json:1: {NOT_UTF8}"),
    ],
)
def test_a_malformed_file_is_named_with_a_remedy(tmp_path, name, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_task(name, tmp_path)


@pytest.mark.parametrize("answers", ["answer", "answers"])
def test_questions_of_qed_are_not_all_passed_over(tmp_path, answers):
    """A file that calls its answers otherwise came out as empty: every bad row was passed over without a word."""
    content = (FIXTURES / "qed_nq" / "squad_format_dev.json").read_text(encoding="utf-8")
    misspelt = content.replace('"answers"', f'"{answers}"').replace('"text"', '"txt"')
    (tmp_path / "squad_format_dev.json").write_text(misspelt, encoding="utf-8")
    wanted = "the question has no answer" if answers == "answers" else r"column 'answers' is missing \(there is "
    with pytest.raises(DataError, match=rf"squad_format_dev\.json:data\[0\]\.paragraphs\[0\]\.qas\[0\]: {wanted}"):
        load_task("qed_nq", tmp_path)


def test_a_header_of_sst2_says_the_columns_order(tmp_path):
    """Other first lines than `sentence`, a tab and `label` were read as a sentence."""
    (tmp_path / "dev.tsv").write_text("label\tsentence\n1\tfine\n")
    (example,) = load_task("sst2", tmp_path).examples("validation")
    assert (example.input, example.targets) == ("sentence: fine", ("positive",))


def test_parquet_without_a_column_is_named(tmp_path):
    from datasets import Dataset

    Dataset.from_list([{"article": "A", "summary": "S"}]).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet:1: column 'document' is missing; the row has 'article'"):
        load_task("xsum", tmp_path)


@pytest.mark.parametrize(("name", "file"), [("mrqa_newsqa", "dev/NewsQA.jsonl.gz"), ("xsum", "train.jsonl.gz")])
def test_a_packed_line_without_end_is_refused(tmp_path, monkeypatch, name, file):
    """A few kilobytes that are packed unpack to gigabytes, and a line was read whole."""
    monkeypatch.setattr("softprompt.tasks.rows.LINE_LIMIT_BYTES", 2**20)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    Path(tmp_path / file).write_bytes(gzip.compress(b" " * 2**22))
    with pytest.raises(DataError, match=r"\.jsonl\.gz:1: the line is longer than 1,048,576 bytes; divide it"):
        load_task(name, tmp_path)
