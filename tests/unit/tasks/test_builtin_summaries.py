"""XSum, CNN/DailyMail and SciTLDR, against files in the published form."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from softprompt.errors import DataError
from softprompt.tasks import hub, load_task
from softprompt.tasks.builtin.xsum_sections import read_sections

FILES = Path(__file__).parents[2] / "fixtures" / "tasks"
ADDRESSES = "XSum-WebArxiveUrls-BBCids.txt"


def pairs(task, split):
    """Input and targets of each row of a split."""
    return [(one.input, one.targets) for one in task.examples(split)]


def write_lines(path, *rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.parent


def test_xsum():
    task = load_task("xsum", FILES / "xsum")
    assert task.report.rows == {"train": 3, "validation": 1, "test": 2}
    assert task.metrics == ("rougeL", "rouge1", "rouge2")
    assert pairs(task, "train")[0] == (
        "The council of Tarn has voted to keep its mill.\nThe vote was close.",
        ("A town keeps its old mill.",),
    )


def test_cnn_dailymail():
    task = load_task("cnn_dailymail", FILES / "cnn_dailymail")
    assert task.report.rows == {"train": 1, "validation": 1, "test": 1}
    (one,) = task.examples("test")
    assert one.input.startswith("(CNN) -- A baker of test Street sold bread")
    assert one.targets == ("Baker of test Street sells bread from a boat .\nHe did so for nine years .",)


def test_parquet_of_the_hub_in_parts(tmp_path):
    rows = [json.loads(line) for line in (FILES / "xsum" / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, part in enumerate((rows[:2], rows[2:])):
        name = f"train-{number:05}-of-00002.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), tmp_path / name)
    task = load_task("xsum", tmp_path)
    assert pairs(task, "train") == pairs(load_task("xsum", FILES / "xsum"), "train")
    assert Path(task.examples("train")[2].source).name == "train-00001-of-00002.parquet:1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"article": "A", "summary": "S"}', r"train\.jsonl:1: column 'document' is missing; the row has 'article'"),
        (b'{"document": "A", "summary": ""}', r"train\.jsonl:1: the target is empty"),
        (b'{"document": "A", "summ', r"train\.jsonl:1: is not valid JSON"),
        (b'{"document": "\xe9"}', r"train\.jsonl:1: is not valid UTF-8"),
        (b"", r"train\.jsonl holds no row; copy it again"),
    ],
)
def test_a_bad_row_of_the_hub_is_named(tmp_path, content, message):
    (tmp_path / "train.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_task("xsum", tmp_path)


def test_broken_parquet_and_an_empty_folder(tmp_path):
    with pytest.raises(
        DataError, match=r"holds none of the files train\.jsonl, train\.jsonl\.gz, train\.parquet, train"
    ):
        load_task("cnn_dailymail", tmp_path)
    (tmp_path / "test.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"test\.parquet breaks off after row 0 or is no Parquet file"):
        load_task("cnn_dailymail", tmp_path)


def test_news_to_sports():
    """The hub's rows say no section: it comes from the addresses that XSum's repository lists."""
    task = load_task("xsum_news_to_sports", FILES / "xsum")
    found = {
        split: [(one.columns["id"], one.columns["section"]) for one in task.examples(split)] for split in task.splits
    }
    assert found == {
        "train": [("35000001", "news")],
        "validation": [("35000004", "news")],
        "test": [("35000005", "sport")],
    }


def test_sections_are_read_from_addresses():
    assert read_sections(FILES / "xsum" / ADDRESSES) == {
        "35000001": "news",
        "35000002": "sport",
        "35000003": "weather",
        "35000004": "news",
        "35000005": "sport",
        "35000006": "news",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "http://example.org/news/a-1 1",
            r"BBCids\.txt:2: holds no address of the BBC and number; copy the file again",
        ),
        ("http://www.bbc.co.uk/news/a-1", r"BBCids\.txt:2: holds no address of the BBC and number"),
        ("", r"train\.jsonl:1: column 'id' holds '35000001', which XSum-WebArxiveUrls-BBCids\.txt lacks"),
    ],
)
def test_a_bad_list_of_addresses_is_named(tmp_path, line, message):
    shutil.copytree(FILES / "xsum", tmp_path, dirs_exist_ok=True)
    (tmp_path / ADDRESSES).write_text(f"http://www.bbc.com/news/a-9\t9\n{line}\n")
    with pytest.raises(DataError, match=message):
        load_task("xsum_news_to_sports", tmp_path)


@pytest.mark.parametrize("line", ["http://www.bbc.com/" + "a" * 50_000, "x//bbc.com/a" * 5_000], ids=["word", "again"])
def test_a_long_line_that_is_no_address_takes_no_time(tmp_path, line):
    """Every division of the address into section and rest was tried."""
    (tmp_path / ADDRESSES).write_text(line)
    start_s = time.process_time()
    with pytest.raises(DataError, match="holds no address"):
        read_sections(tmp_path / ADDRESSES)
    assert time.process_time() - start_s < 1


def test_sections_need_the_list_of_addresses(tmp_path):
    shutil.copy(FILES / "xsum" / "test.jsonl", tmp_path)
    with pytest.raises(DataError, match=r"There is no file .*XSum-WebArxiveUrls-BBCids\.txt; check the path"):
        load_task("xsum_news_to_sports", tmp_path)


def test_scitldr():
    task = load_task("scitldr", FILES / "scitldr")
    assert task.report.rows == {"train": 2, "validation": 2}
    assert task.examples("train")[0].targets == ("Learning HGNs, ND domains",)
    assert [len(one.targets) for one in task.examples("validation")] == [2, 2]
    sketch = task.examples("validation")[0]
    assert sketch.input.startswith(
        "We present sketch-rnn, a recurrent neural network able to construct stroke-based drawings of common objects. "
        "The model is trained"
    )


def test_scitldr_trains_on_each_summary(tmp_path):
    """Spaces around the published sentences would be learned as part of a summary."""
    row = {"source": ["One. ", " Two."], "target": [" first ", "second"], "title": "T"}
    write_lines(tmp_path / "train.jsonl", row)
    task = load_task("scitldr", write_lines(tmp_path / "dev.jsonl", row))
    assert pairs(task, "train") == [("One. Two.", ("first",)), ("One. Two.", ("second",))]
    assert pairs(task, "validation") == [("One. Two.", ("first", "second"))]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"source": "One.", "target": ["T"]},
            r"dev\.jsonl:1: column 'source' is missing or no list of texts; expected",
        ),
        ({"source": ["One."]}, r"dev\.jsonl:1: column 'target' is missing or no list of texts"),
        ({"source": ["One."], "target": [1]}, r"dev\.jsonl:1: column 'target' is missing or no list of texts"),
        ({"source": ["One."], "target": []}, r"dev\.jsonl:1: column 'target' holds an empty list"),
        ({"source": [], "target": ["T"]}, r"dev\.jsonl:1: the input is empty"),
        ([], r"dev\.jsonl:1: holds a JSON list"),
    ],
)
def test_a_bad_row_of_scitldr_is_named(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        load_task("scitldr", write_lines(tmp_path / "dev.jsonl", row))


@pytest.mark.parametrize(
    ("name", "asked", "columns"),
    [
        ("xsum", ("EdinburghNLP/xsum", None), {"document": "A long report.", "summary": "A report."}),
        ("cnn_dailymail", ("abisee/cnn_dailymail", "3.0.0"), {"article": "A long report.", "highlights": "A report."}),
    ],
)
def test_without_a_folder_the_hub_is_asked(name, asked, columns, monkeypatch):
    def splits(path, subset, revision):
        assert ((path, subset), revision) == (asked, None)
        return {split: [columns] for split in ("train", "validation", "test")}

    monkeypatch.setattr(hub, "load_all_splits", splits)
    task = load_task(name)
    assert task.splits == ("train", "validation", "test")
    (example,) = task.examples("test")
    assert (example.input, example.targets) == ("A long report.", ("A report.",))
