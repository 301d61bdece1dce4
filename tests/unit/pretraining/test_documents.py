"""Files of every kind become documents, and bad ones are named."""

from __future__ import annotations

import gzip
import importlib.util
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import DataError, MissingDependencyError
from softprompt.pretraining.documents import read_documents


def lines(*texts: str) -> str:
    return "\n".join(json.dumps({"id": index, "text": text}) for index, text in enumerate(texts)) + "\n"


@pytest.mark.parametrize(
    ("suffix", "compress"), [("", lambda data: data), (".xz", lzma.compress), (".gz", gzip.compress)]
)
def test_lines_rows_and_whole_texts(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    def write(name: str, text: str) -> Path:
        file = tmp_path / f"{name}{suffix}"
        file.write_bytes(compress(text.encode()))
        return file

    assert list(read_documents(write("a.jsonl", lines("one\u2028é", "", "  ", "two")))) == ["one\u2028é", "two"]
    assert list(read_documents(write("b.txt", "first\nsecond\n"))) == ["first\nsecond"]
    assert list(read_documents(write("c.csv", 'id,text\n1,"a\nb"\n2,NA\n3,7\n4,\n'))) == ["a\nb", "NA", "7"]


def test_columns_of_parquet(tmp_path: Path) -> None:
    Dataset.from_dict({"id": [1, 2, 3], "text": ["one", "", "two\r\n2"]}).to_parquet(tmp_path / "a.parquet")
    assert list(read_documents(tmp_path / "a.parquet")) == ["one", "two\r\n2"]


# What JSON may hold in a string without an escape, and readers of text take for the end of a line.
BREAKS = "\u2028\u2029\x85\x1c\x0b\x0c\r\n"


@given(st.lists(st.text(alphabet=st.sampled_from("ab é" + BREAKS), min_size=1), max_size=20))
def test_no_line_break_inside_a_string_splits_a_document(tmp_path_factory: pytest.TempPathFactory, texts: list) -> None:
    file = tmp_path_factory.getbasetemp() / "breaks.jsonl"
    file.write_text("".join(json.dumps({"text": f"<{text}>"}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    assert list(read_documents(file)) == [f"<{text}>" for text in texts]


def test_fields_beside_the_text_may_be_anything(tmp_path: Path) -> None:
    """The JSON reader of datasets refuses a field that is null in the first ten megabytes and a number later."""
    file = tmp_path / "a.jsonl"
    long = [{"label": None, "text": "w" * 1000}] * 11_000
    file.write_text("\n".join(map(json.dumps, [*long, {"label": 1, "text": "end"}, {"label": {}, "text": "end"}])))
    assert [text for text in read_documents(file) if len(text) < 1000] == ["end", "end"]


def test_names_are_no_patterns_and_may_be_hidden(tmp_path: Path) -> None:
    file = tmp_path / ".cache" / "__a[1]*?.jsonl"
    file.parent.mkdir()
    file.write_text(lines("one"))
    assert list(read_documents(file)) == ["one"]


def test_nothing_is_kept_and_no_network_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_dataset` tells a server of each use; what reads here must not, even where the hub is not off."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    file = tmp_path / "a.jsonl"
    file.write_text(lines("one"))
    assert list(read_documents(file)) == ["one"]
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_zstandard_is_read_where_its_package_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zstandard = pytest.importorskip("zstandard")
    file = tmp_path / "a.jsonl.zst"
    file.write_bytes(zstandard.compress(lines("one").encode()))
    assert list(read_documents(file)) == ["one"]
    frames = [zstandard.compress(lines(*texts).encode()) for texts in (["one"], map(str, range(9999)))]
    file.write_bytes(frames[0] + frames[1])
    assert len(list(read_documents(file))) == 10_000
    for cut in (len(frames[0]) - 3, len(frames[0]) + len(frames[1]) // 2):
        file.write_bytes((frames[0] + frames[1])[:cut])
        with pytest.raises(DataError, match=r"a\.jsonl\.zst, after row 0: cannot be read \(cut off before its end\)"):
            list(read_documents(file))
    file.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"a\.jsonl\.zst, after row 0: cannot be read"):
        list(read_documents(file))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="needs zstandard: pip install zstandard"):
        list(read_documents(file))


def test_html_left_by_web_corpora_is_cleaned(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(lines("Good.<br /><br />Bad. <br> &quot;So&quot; &lt;b&gt;"))
    assert list(read_documents(file)) == ['Good.\n\nBad.\n"So" <b>']


@pytest.mark.parametrize("bad", ['{"text": 3}', '{"body": "x"}', '["text"]', '{"text": "x"', '"text"', "3"])
def test_a_bad_line_is_named(tmp_path: Path, bad: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(lines("good", "good") + "\n" + bad + "\n")
    with pytest.raises(DataError, match=r'a\.jsonl, row 4: expected a string "text" \(JSON: a mapping\); mend the row'):
        list(read_documents(file))


def test_a_table_without_texts_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,x\n")
    Dataset.from_dict({"body": ["x"]}).to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(
            DataError, match=rf"{name}, after row 0: cannot be read \(.*text.*\); mend it or copy it again"
        ):
            list(read_documents(tmp_path / name))
    Dataset.from_dict({"text": [3]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r'b\.parquet, row 1: expected a string "text"'):
        list(read_documents(tmp_path / "b.parquet"))


def test_bad_files_are_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match=r"No text file at .*; correct the path"):
            list(read_documents(missing))
    (tmp_path / "a.jsonl").write_bytes(lines("good").encode() + b'{"text": "\xff"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, after row \d: not UTF-8 \(invalid start byte\); convert the file"):
        list(read_documents(tmp_path / "a.jsonl"))
    for suffix, data in (
        (".xz", lzma.compress(lines("good").encode())),
        (".gz", gzip.compress(lines("good").encode())),
    ):
        file = tmp_path / f"cut.jsonl{suffix}"
        file.write_bytes(data[:-12])
        with pytest.raises(DataError, match="cannot be read"):
            list(read_documents(file))
    (tmp_path / "foreign.txt.xz").write_bytes(b"no archive")
    with pytest.raises(
        DataError, match=r"foreign\.txt\.xz, after row 0: cannot be read \(.*\); mend it or copy it again"
    ):
        list(read_documents(tmp_path / "foreign.txt.xz"))
