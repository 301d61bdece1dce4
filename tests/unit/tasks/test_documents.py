"""JSON read whole and XML read by element: well-formed, broken, and made to do harm."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import DataError
from softprompt.tasks import documents
from softprompt.tasks.documents import read_elements, read_json

LAUGHS = (
    '<!DOCTYPE a [<!ENTITY l0 "laugh">'
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    + "]><a><entry>&l9;</entry></a>"
)
LONG_ENTITY = f'<!DOCTYPE a [<!ENTITY l "{"l" * 30_000}">]><a><entry>{"&l;" * 8_000}</entry></a>'
TYPED = "1: declares a document type, which may hold entities; remove the declaration"


def refusal(read, path) -> str:
    """The message without the file, whose name it must begin with."""
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    return str(error.value).removeprefix(str(path)).lstrip(":")


def elements(path) -> list[tuple[int, str, str]]:
    """Line, name and text of each entry."""
    return [(line, element.tag, "".join(element.itertext())) for line, element in read_elements(path, "entry")]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_json_comes_back_whole(tmp_path, name):
    path = tmp_path / name
    content = b"\xef\xbb\xbf" + json.dumps({"a": ["\u0085", 1.5]}, ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert read_json(path) == {"a": ["\u0085", 1.5]}


def test_json_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "JSON_LIMIT_BYTES", 2**20)
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b" " * 2**22))
    wanted = "holds more than 1,048,576 bytes (unpacked), but a JSON document is read up to that; divide it, or write"
    assert wanted in refusal(read_json, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": [1,\n2', r"2: is not valid JSON at character 2 \(.*\); copy the file again\."),
        (b"", r"1: is not valid JSON at character 1 "),
        ('{\n"a": "é"}'.encode("latin-1"), r"2: is not valid UTF-8; save the file as UTF-8\."),
        (b"[" * 100_000, r" is not valid JSON \(.*recursion.*\); copy"),
        (b"1" * 10_000, r" is not valid JSON \(.*digits.*\); copy"),
    ],
    ids=["truncated", "empty", "latin-1", "deep", "long number"],
)
def test_bad_json_is_named(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert re.match(message, refusal(read_json, path))


def test_damaged_and_missing_json(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b"[1, 2, 3]" * 1000)[:-20])
    assert re.fullmatch(r" cannot be read \(.*\); copy it again\.", refusal(read_json, path))
    with pytest.raises(DataError, match=r"There is no file .*b\.json"):
        read_json(tmp_path / "b.json")


@given(st.lists(st.tuples(st.text("ab <&é\n", max_size=9), st.integers(0, 3)), max_size=8), st.integers(1, 40))
def test_elements_are_found_wherever_chunks_end(tmp_path_factory, entries, chunk):
    """Also between the bytes of a character, and with others of the same name inside."""
    path = tmp_path_factory.mktemp("xml") / "a.xml"
    escaped = [(text.replace("&", "&amp;").replace("<", "&lt;"), depth) for text, depth in entries]
    written = "".join(f"skip\n<entry>{'<entry>' * n}{text}{'</entry>' * n}</entry>" for text, n in escaped)
    path.write_text(f"<a>{written}</a>", encoding="utf-8", newline="\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "CHUNK_BYTES", chunk)
        found = elements(path)
    lines = [2 + index + sum(text.count("\n") for text, _ in entries[:index]) for index in range(len(entries))]
    assert found == [(line, "entry", text) for line, (text, _) in zip(lines, entries, strict=True)]


def test_the_encoding_that_the_file_declares_is_used(tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes('<?xml version="1.0" encoding="iso-8859-1"?>\n<entry>é</entry>'.encode("latin-1"))
    assert elements(path) == [(2, "entry", "é")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<a>\n<entry>text", "2: is not well-formed XML (no element found); copy the file again."),
        (b"", "1: is not well-formed XML (no element found); copy"),
        (b"<a>\n<entry></a>", "2: is not well-formed XML (mismatched tag); copy"),
        (b'{"json": 1}', "1: is not well-formed XML (not well-formed (invalid token)); copy"),
        (
            "<a>\n\n<entry>é</entry></a>".encode("latin-1"),
            "3: is not well-formed XML (not well-formed (invalid token))",
        ),
        (
            b'<?xml version="1.0" encoding="none"?><a/>',
            " is in an encoding that cannot be read (unknown encoding: none)",
        ),
        (b'<?xml version="1.0" encoding="shift_jis"?><a/>', " is in an encoding that cannot be read (multi-byte"),
        (LAUGHS.encode(), TYPED),
        (LONG_ENTITY.encode(), TYPED),
        (b'<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/hostname">]><a><entry>&f;</entry></a>', TYPED),
        (b'<!DOCTYPE a SYSTEM "http://localhost:9/a.dtd"><a/>', TYPED),
        (b"<a><entry>&l9;</entry></a>", "1: is not well-formed XML (undefined entity)"),
        (b"<a>" * 100_000, "1: nests elements more than 32 deep; it is no file of this kind."),
        (
            b"<a>\n<entry>" + (b"<b c='" + b"d" * 1000 + b"'/>") * 1200,
            "2: <entry> of line 2 is longer than 1,048,576 bytes; mend its end.",
        ),
        (b"<a>\n<entry>" + b"b" * 1_200_000, "2: <entry> of line 2 is longer than 1,048,576 bytes; mend its end."),
        (b"<a>\n<b c='" + b"d" * 2_000_000, "2: a tag or comment is longer than 1,048,576 bytes; mend its end."),
    ],
    ids=[
        *("truncated", "empty", "mismatched", "json", "latin-1", "unknown encoding", "multi-byte", "laughs"),
        *("long entity", "outer entity", "outer type", "undeclared", "deep", "many elements", "long text", "long tag"),
    ],
)
def test_bad_xml_is_named_and_does_no_harm(tmp_path, content, message):
    """Each of these is refused at once: a document of a gigabyte, a file of others, or minutes of work never come."""
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    assert refusal(elements, path).startswith(message)


def test_a_huge_file_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "XML_LIMIT_BYTES", 10)
    path = tmp_path / "a.xml"
    path.write_bytes(b"<entry/>" * 2)
    assert refusal(elements, path) == " holds 16 bytes, but XML is read up to 10; divide the file."


def test_missing_xml(tmp_path):
    with pytest.raises(DataError, match=r"There is no file .*a\.xml; check the path"):
        elements(tmp_path / "a.xml")
