"""The built-in tasks: the bundled data as they are, and loaders against files in the published format."""

from __future__ import annotations

import functools
import gzip
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from softprompt.errors import DataError
from softprompt.tasks import load_task
from softprompt.tasks.builtin.bundled import DATA
from softprompt.tasks.builtin.e2e import linearise

bundled = functools.cache(load_task)
"""A bundled task, read once for all tests."""

E2E_FILES = Path(__file__).parents[2] / "fixtures" / "tasks" / "e2e"


@pytest.mark.parametrize(
    ("name", "rows", "duplicates"),
    [
        ("sentence_polarity", (6760, 845, 845), {}),
        ("subj", (7371, 921, 921), {}),
        (
            "clinc150_domains",
            (15000, 3000, 4500),
            {("train", "validation"): 3, ("train", "test"): 2},
        ),
        ("e2e_sample", (8000, 274, 273), {}),
    ],
)
def test_bundled_rows(name, rows, duplicates):
    report = bundled(name).report
    assert report.rows == dict(zip(("train", "validation", "test"), rows, strict=True))
    assert report.skipped == {}
    assert report.duplicates == duplicates


def test_bundled_text_is_exact():
    """Reviews hold characters that some readers take for line ends."""
    examples = [
        one for split in ("train", "validation", "test") for one in bundled("sentence_polarity").examples(split)
    ]
    assert sum(any("\x80" <= letter < "\xa0" for letter in one.input) for one in examples) == 55
    assert any("\u2013" in one.input for one in bundled("subj").examples("train"))
    assert any("Caf\u00e9" in one.input for one in bundled("e2e_sample").examples("test"))


def test_every_class_is_in_every_split():
    for name in ("sentence_polarity", "subj", "clinc150_domains"):
        task = bundled(name)
        for split in task.splits:
            counts = Counter(example.targets for example in task.examples(split))
            assert set(counts) == {(label,) for label in task.labels}
            assert min(counts.values()) > 0.8 * len(task.examples(split)) / len(task.labels)


def test_clinc150_domains_hold_15_intents_each():
    intents = {(one.label, one.columns["intent"]) for one in bundled("clinc150_domains").examples("train")}
    assert set(Counter(domain for domain, _ in intents).values()) == {15}
    assert "kitchen and dining" in bundled("clinc150_domains").labels


def test_the_e2e_sample_keeps_all_references_of_a_held_out_meaning():
    task = bundled("e2e_sample")
    assert {len(example.targets) for example in task.examples("train")} == {1}
    assert sum(len(one.targets) for split in ("validation", "test") for one in task.examples(split)) == 4672
    assert all(one.input == linearise(one.columns["mr"]) for one in task.examples("validation"))


def test_bundled_files_are_small_and_hold_no_time():
    files = sorted(DATA.rglob("*.jsonl.gz"))
    assert len(files) == 12
    assert sum(file.stat().st_size for file in files) < 4_000_000
    for file in files:
        head = file.read_bytes()[:10]
        assert head[3:8] == bytes(5), f"{file} carries a name or a time"
        assert f"## {file.parent.name}" in (DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("meaning", "line"),
    [
        (
            "name[The Vaults], eatType[pub], priceRange[more than £30], customer rating[low], near[Café Adriatic]",
            "name : The Vaults | Type : pub | price : more than £30 | customer rating : low | near : Café Adriatic",
        ),
        (
            "familyFriendly[no], food[Fast food], area[city centre]",
            "family friendly : no | food : Fast food | area : city centre",
        ),
    ],
)
def test_a_meaning_is_linearised_as_in_prefix_tuning(meaning, line):
    assert linearise(meaning) == line


@pytest.mark.parametrize(
    "meaning",
    ["", "name", "name[A", "name[A] near[B]", "name[A], x", "[A]", "name[A[b]]", "name [A]", "a[b],  c[d]", "a[b],"],
)
def test_a_meaning_that_is_none_is_refused(meaning):
    with pytest.raises(DataError, match=r"column 'mr' holds .*expected slots and values, as in name\[Aromi\]"):
        linearise(meaning)


@pytest.mark.parametrize("piece", ["a", "[", "a[", "a[b", "a[b], ", "a[b] "], ids=repr)
def test_a_long_meaning_that_is_none_takes_no_time(piece):
    """The search for slots began anew at each character: 20,000 without a bracket took six seconds."""
    start_s = time.process_time()
    with pytest.raises(DataError, match="expected slots and values"):
        linearise(piece * (100_000 // len(piece)) + "!")
    assert time.process_time() - start_s < 1


def test_e2e_from_its_own_files(tmp_path):
    task = load_task("e2e", E2E_FILES)
    assert task.report.rows == {"train": 8, "validation": 2}
    first = task.examples("validation")[0]
    assert first.input == "name : Alimentum | area : city centre | family friendly : no"
    assert first.targets[:2] == (
        "There is a place in the city centre, Alimentum, that is not family-friendly.",
        "In the city centre there is a venue name Alimentum, this is not a family-friendly venue.",
    )
    assert sum(len(example.targets) for example in task.examples("validation")) == 12
    assert task.examples("train")[0].source == f"{E2E_FILES / 'trainset_reconstructed.csv'}:2"
    shutil.copy(E2E_FILES / "trainset_reconstructed.csv", tmp_path / "trainset.csv")
    shutil.copy(E2E_FILES / "devset.csv", tmp_path / "devset.csv")
    shutil.copy(E2E_FILES / "devset.csv", tmp_path / "testset_w_refs.csv")
    assert load_task("e2e", tmp_path).report.rows == {"train": 8, "validation": 2, "test": 2}


def test_references_of_one_meaning_are_joined_wherever_they_stand(tmp_path):
    shutil.copy(E2E_FILES / "trainset_reconstructed.csv", tmp_path / "trainset.csv")
    (tmp_path / "devset.csv").write_text("mr,ref\nname[A],one\nname[B],two\nname[A],three\n")
    examples = load_task("e2e", tmp_path).examples("validation")
    assert [(one.input, one.targets, one.source.rpartition(":")[2]) for one in examples] == [
        ("name : A", ("one", "three"), "2"),
        ("name : B", ("two",), "3"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("mr,ref\nname[A],x\nname[B], \n", r"devset\.csv:3: column 'ref' is missing or empty; expected mr and ref"),
        ("mr,reference\nname[A],x\n", r"devset\.csv:2: column 'ref' is missing or empty"),
        ("mr,ref\nplain,x\n", r"devset\.csv:2: column 'mr' holds 'plain'"),
        ("mr,ref\nname[A]\n", r"devset\.csv:2: has 1 columns, but 2 were named"),
    ],
)
def test_a_bad_e2e_row_is_named(tmp_path, content, message):
    shutil.copy(E2E_FILES / "trainset_reconstructed.csv", tmp_path / "trainset.csv")
    (tmp_path / "devset.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load_task("e2e", tmp_path)


def test_a_folder_without_the_files_is_an_error(tmp_path):
    for name, file in {"e2e": "trainset.csv", "sst2": "train.tsv"}.items():
        with pytest.raises(DataError, match=f"holds none of the files {file}, .*; check the folder"):
            load_task(name, tmp_path)


def test_a_held_out_file_alone_can_be_scored(tmp_path):
    shutil.copy(E2E_FILES / "devset.csv", tmp_path)
    (tmp_path / "dev.tsv").write_text("fine\t1\n")
    assert load_task("e2e", tmp_path).report.rows == {"validation": 2}
    assert load_task("sst2", tmp_path).report.rows == {"validation": 1}


def write_sst2(folder: Path, header: str, test: str) -> Path:
    (folder / "train.tsv").write_text(header + 'a " quoted film \t1\ndull\t0\n')
    (folder / "dev.tsv").write_text(header + "fine\u0085film\t1\n")
    (folder / "test.tsv").write_text(test)
    return folder


@pytest.mark.parametrize(
    ("header", "test", "splits", "line"),
    [
        ("sentence\tlabel\n", "index\tsentence\n0\tx\n", ("train", "validation"), 2),
        ("", "bad film\t0\n", ("train", "validation", "test"), 1),
    ],
    ids=["glue", "sentence level"],
)
def test_sst2_in_both_forms(tmp_path, header, test, splits, line):
    task = load_task("sst2", write_sst2(tmp_path, header, test))
    assert task.splits == splits
    assert [(one.input, one.targets, one.label) for one in task.examples("train")] == [
        ('sentence: a " quoted film ', ("positive",), "1"),
        ("sentence: dull", ("negative",), "0"),
    ]
    (only,) = task.examples("validation")
    assert (only.input, only.source) == ("sentence: fine\u0085film", f"{tmp_path / 'dev.tsv'}:{line}")


def test_a_bad_sst2_row_is_named(tmp_path):
    write_sst2(tmp_path, "", "x\t2\n")
    with pytest.raises(DataError, match=r"test\.tsv:1: column 'label' holds '2', which has no label word; known: 0, 1"):
        load_task("sst2", tmp_path)


def test_bundled_lines_are_plain_json_lines():
    with gzip.open(DATA / "subj" / "test.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        assert all(line.startswith('{"text": ') and line.endswith('"}\n') for line in lines)
