"""Rebuild the bundled tasks (src/softprompt/tasks/data) from the original files; the same input gives the same bytes.

python scripts/bundle_tasks.py --sentence-polarity DIR --subj FILE --clinc150 DIR --e2e DIR [--out DIR]
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.errors import DataError
from softprompt.tasks import Row, read_rows
from softprompt.tasks.builtin.bundled import DATA
from softprompt.tasks.builtin.e2e import as_pairs
from softprompt.tasks.builtin.references import group_references

Rows = Sequence[Mapping[str, Any]]

SEED = 0
E2E_TRAIN_ROWS = 8000
SUBJ_CLASSES = {"0": "subjective", "1": "objective"}


def sentence_polarity(folder: Path) -> dict[str, Rows]:
    """The three splits as they are: `train.jsonl`, `validation.jsonl`, `test.jsonl` with text and label."""
    return {split: columns(read_rows(folder / f"{split}.jsonl")) for split in ("train", "validation", "test")}


def subj(file: Path) -> dict[str, Rows]:
    """Lines `CLASS SENTENCE` in Windows-1252, shuffled and split into 80, 10 and 10 %."""
    with open(file, "rb") as lines:
        pairs = [line.decode("cp1252").rstrip("\n").split(" ", 1) for line in lines]
    rows = [{"text": text.strip(" "), "label": SUBJ_CLASSES[key]} for key, text in pairs]
    random.Random(SEED).shuffle(rows)
    tenth = len(rows) // 10
    return {"train": rows[2 * tenth :], "validation": rows[:tenth], "test": rows[tenth : 2 * tenth]}


def clinc150(folder: Path) -> dict[str, Rows]:
    """The original splits of `data_full.json`, each intent with its domain of `domains.json`; in-scope queries only."""
    queries = json.loads((folder / "data_full.json").read_text(encoding="utf-8"))
    domains = json.loads((folder / "domains.json").read_text(encoding="utf-8"))
    home = {intent: domain for domain, intents in domains.items() for intent in intents}
    return {
        ours: [{"text": text, "domain": home[intent], "intent": intent} for text, intent in queries[theirs]]
        for ours, theirs in {"train": "train", "validation": "val", "test": "test"}.items()
    }


def e2e_sample(folder: Path) -> dict[str, Rows]:
    """Rows drawn from the training set, and the development set's meaning representations in two halves."""
    train = columns(as_pairs(read_rows(folder / "trainset_reconstructed.csv")))
    drawn = sorted(random.Random(SEED).sample(range(len(train)), E2E_TRAIN_ROWS))
    held_out = columns(group_references(as_pairs(read_rows(folder / "devset.csv")), by="mr"))
    random.Random(SEED).shuffle(held_out)
    middle = (len(held_out) + 1) // 2
    return {"train": [train[index] for index in drawn], "validation": held_out[:middle], "test": held_out[middle:]}


def columns(rows: Iterable[Row]) -> list[Mapping[str, Any]]:
    """The rows' columns; a bad row is an error.

    Raises:
        DataError: If a row is bad.
    """
    good = []
    for row in rows:
        if row.problem:
            raise DataError(f"{row.source}: {row.problem}")
        good.append(row.columns)
    return good


def write(rows: Rows, path: Path) -> None:
    """Write gzipped JSON lines that hold no time and no name of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as file:
        for row in rows:
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def main() -> None:
    """Read the originals, write the bundled files, and print what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentence-polarity", type=Path, required=True, help="folder with train.jsonl and the others")
    parser.add_argument("--subj", type=Path, required=True, help="the file subj.all")
    parser.add_argument("--clinc150", type=Path, required=True, help="folder with data_full.json and domains.json")
    parser.add_argument("--e2e", type=Path, required=True, help="folder with trainset_reconstructed.csv and devset.csv")
    parser.add_argument("--out", type=Path, default=DATA, help="where the folders go (default: the package's own data)")
    options = parser.parse_args()
    tasks = {
        "sentence_polarity": sentence_polarity(options.sentence_polarity),
        "subj": subj(options.subj),
        "clinc150_domains": clinc150(options.clinc150),
        "e2e_sample": e2e_sample(options.e2e),
    }
    for name, splits in tasks.items():
        for split, rows in splits.items():
            path = options.out / name / f"{split}.jsonl.gz"
            write(rows, path)
            print(f"{path}: {len(rows):,} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
