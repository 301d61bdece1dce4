"""WebNLG and DART, against files in the published form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from softprompt.errors import DataError
from softprompt.tasks import load_task
from softprompt.tasks.builtin.triples import linearise

FILES = Path(__file__).parents[2] / "fixtures" / "tasks"
TEST = Path("test") / "testdata_with_lex.xml"
DEV = "dart-v1.1.1-full-dev"


def pairs(task, split):
    """Input and targets of each row of a split."""
    return [(one.input, one.targets) for one in task.examples(split)]


def write_test(folder, entry: str) -> Path:
    """A folder of WebNLG with one entry in its test file, from line 2."""
    (folder / "test").mkdir()
    (folder / TEST).write_text(f"<benchmark><entries>\n{entry}\n</entries></benchmark>", encoding="utf-8")
    return folder


def entry(triples: str, texts: str = '<lex comment="good" lid="Id1">Said.</lex>', category: str = "City") -> str:
    return f'<entry category="{category}"><modifiedtripleset>{triples}</modifiedtripleset>{texts}</entry>'


def test_triples_are_linearised_as_in_prefix_tuning():
    triples = [["Holm_United", "NICKNAME", "Reeds"], ["Holm_United", "yearJoined", '"1903"']]
    assert linearise(triples) == 'Holm_United : NICKNAME : Reeds | Holm_United : yearJoined : "1903"'
    assert linearise(triples, lower=True) == 'Holm_United : nickname : Reeds | Holm_United : yearjoined : "1903"'


@pytest.mark.parametrize("triple", [["A", "b"], ["A", "b", "C", "D"], ["A", " ", "C"], ["A", 1, "C"], "Abc", 3])
def test_what_is_no_triple_is_refused(triple):
    with pytest.raises(DataError, match=r"is no triple; expected the texts of subject, predicate and object"):
        linearise([["A", "b", "C"], triple])
    with pytest.raises(DataError, match=r"the entry has no triples"):
        linearise([])


def test_webnlg():
    task = load_task("webnlg_2017", FILES / "webnlg_2017")
    assert task.splits == ("train", "validation", "test", "test_seen", "test_unseen")
    assert pairs(task, "train") == [
        ("Orin_Airport : cityServed : Orin,_Vale", ("Orin Airport serves Orin, Vale.",)),
        ("Orin_Airport : cityServed : Orin,_Vale", ("The airport of Orin, Vale, is Orin Airport.",)),
        (
            'Tarnbrot : country : Vale | Tarnbrot : ingredient : "Rye"',
            ("Tarnbrot, from Vale, is made of rye.",),
        ),
    ]
    assert pairs(task, "validation") == [
        ("Brell : country : Vale", ("Brell is in Vale.", "Brell are a city of Vale.", "Brell is a city of Vale.")),
        ("Brell : leaderTitle : Mayor_& council", ("Brell has a mayor & a council.",)),
    ]
    assert task.examples("validation")[1].source.endswith("1triple_allSolutions_City_dev_challenge.xml:13")


def test_webnlgs_test_set_can_be_scored_by_what_was_trained_on():
    task = load_task("webnlg_2017", FILES / "webnlg_2017")
    categories = {split: [one.columns["category"] for one in task.examples(split)] for split in task.splits[2:]}
    assert categories == {
        "test": ["Monument", "Artist", "Politician"],
        "test_seen": ["Monument"],
        "test_unseen": ["Artist", "Politician"],
    }
    assert [one.columns["seen"] for one in task.examples("test")] == [True, False, False]
    assert task.examples("test_unseen")[0].targets == (
        "Anna Weir was born in Łódź.",
        "Łódź is where Anna Weir was born.",
    )


def test_webnlg_in_parts(tmp_path):
    shutil.copytree(FILES / "webnlg_2017" / "dev", tmp_path / "dev")
    assert load_task("webnlg_2017", tmp_path).report.rows == {"validation": 2}
    shutil.rmtree(tmp_path / "dev")
    with pytest.raises(DataError, match=r"holds none of the files train/\*\*/\*\.xml, dev/.*testdata_with_lex\.xml"):
        load_task("webnlg_2017", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (entry("<mtriple>A | b</mtriple>"), r"\.xml:2: \['A', 'b'\] is no triple; expected the texts of subject"),
        (entry("<mtriple/>"), r"\.xml:2: \[''\] is no triple"),
        (entry(""), r"\.xml:2: the entry has no triples; expected a subject, predicate and object at least"),
        (
            entry("<mtriple>A | b | C</mtriple>", ""),
            r"\.xml:2: the entry has no text; expected at least one, as in the files with lexicalisations",
        ),
        (entry("<mtriple>A | b | C</mtriple>", "<lex/>"), r"\.xml:2: the target is empty \('references'\); give it"),
        ("<item/>", r"testdata_with_lex\.xml holds no <entry>; expected WebNLG's format: <benchmark>, in it <entries>"),
        ("<entry>", r"testdata_with_lex\.xml:3: is not well-formed XML \(mismatched tag\)"),
        ("<entry>&bomb;</entry>", r"testdata_with_lex\.xml:2: is not well-formed XML \(undefined entity\)"),
    ],
)
def test_a_bad_entry_of_webnlg_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        load_task("webnlg_2017", write_test(tmp_path, content))


def test_webnlg_with_a_document_type_is_refused(tmp_path):
    folder = write_test(tmp_path, "")
    bomb = '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><benchmark><entry>&b;</entry></benchmark>'
    (folder / TEST).write_text(bomb)
    with pytest.raises(DataError, match=r"testdata_with_lex\.xml:1: declares a document type, which may hold entities"):
        load_task("webnlg_2017", folder)


def test_a_view_without_rows_is_named(tmp_path):
    folder = write_test(tmp_path, entry("<mtriple>A | b | C</mtriple>"))
    with pytest.raises(DataError, match=r"The split 'test_unseen' of the task 'webnlg_2017' has no usable row"):
        load_task("webnlg_2017", folder)


def test_dart():
    task = load_task("dart", FILES / "dart")
    assert task.splits == ("train", "validation", "test")
    assert pairs(task, "train") == [
        ("Holm United : nickname : Reeds | Holm United : year_joined : 1903", (text,))
        for text in ("Holm United, the Reeds, joined in 1903.", "The Reeds of Holm United joined in 1903.")
    ] + [("Holm : country : Vale", ("Holm lies in Vale.",))]
    assert pairs(task, "validation") == [
        ("Orin Rovers : coach : Jo Weir", ("Jo Weir coaches the Orin Rovers.", "The coach of Orin Rovers is Jo Weir.")),
        ("The Reed : food : Fish | The Reed : area : riverside", ("The Reed serves fish by the river.",)),
    ]
    assert pairs(task, "test") == [("Tarn : population : 812", ("Tarn has 812 people.",))]


@pytest.mark.parametrize("part", ["", "v1.1.1"])
def test_dart_is_the_same_in_json_and_xml(tmp_path, part):
    read = []
    for form in ("json", "xml"):
        folder = tmp_path / form
        (folder / part).mkdir(parents=True)
        shutil.copy(FILES / "dart" / f"{DEV}.{form}", folder / part)
        read.append(load_task("dart", folder))
    assert pairs(read[0], "validation") == pairs(read[1], "validation")
    sources = [Path(task.examples("validation")[1].source).name for task in read]
    assert sources == [f"{DEV}.json:[1]", f"{DEV}.xml:10"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"dev\.json holds a JSON dict; expected DART's list of entries"),
        (
            '[{"tripleset": [["A", "b", "C"]]}]',
            r"dev\.json:\[0\]: is no entry of DART; expected the lists tripleset and",
        ),
        ("[3]", r"dev\.json:\[0\]: is no entry of DART"),
        ('[{"tripleset": [["A", "b"]], "annotations": []}]', r"dev\.json:\[0\]: \['A', 'b'\] is no triple"),
        ('[{"tripleset": [["A", "b", "C"]], "annotations": []}]', r"dev\.json:\[0\]: the entry has no text"),
        ('[{"tripleset": [["A", "b", "C"]], "annotations": [7]}]', r"dev\.json:\[0\]: the target is empty"),
        ('[\n{"tripleset"', r"dev\.json:2: is not valid JSON"),
        ("[]", r"dev\.json holds no row; copy it again"),
    ],
)
def test_a_bad_entry_of_dart_is_named(tmp_path, content, message):
    (tmp_path / f"{DEV}.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_task("dart", tmp_path)


def test_a_bad_entry_of_dart_can_be_skipped(tmp_path):
    entries = json.loads((FILES / "dart" / f"{DEV}.json").read_text(encoding="utf-8"))
    (tmp_path / f"{DEV}.json").write_text(json.dumps([*entries, {"tripleset": [], "annotations": []}]))
    report = load_task("dart", tmp_path, on_bad_row="skip").report
    assert (report.rows, len(report.skipped["validation"])) == ({"validation": 2}, 1)
