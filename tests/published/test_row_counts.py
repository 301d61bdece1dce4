"""Row counts of the full sets as published, which are not part of the repository: `SOFTPROMPT_DATA` names their folder.

Each set lies there in a folder of its own, as its authors published it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from softprompt.tasks import load_task

FOLDER = os.environ.get("SOFTPROMPT_DATA")
FEW_SHOT = "superglue/FewGLUE_32dev"

COUNTS = {
    "sst2": ("sst2/glue", {"train": 67_334, "validation": 872}),
    # Each file has one line feed less: its last line ends without.
    "sst2, sentences alone": ("sst2/sentence_level", {"train": 6_916, "validation": 872}),
    "mrpc": ("glue/MRPC_rebuilt", {"train": 3_668, "validation": 408}),
    "rte": ("glue", {"train": 2_490, "validation": 277}),
    # 32 rows train and 32 validate; the official validation file, where it is complete, is the test split.
    "cb": (FEW_SHOT, {"train": 32, "validation": 32, "test": 56}),
    "copa": (FEW_SHOT, {"train": 32, "validation": 32, "test": 100}),
    "boolq, 32 rows": (FEW_SHOT, {"train": 32, "validation": 32}),
    "wic, 32 rows": (FEW_SHOT, {"train": 32, "validation": 32}),
    "wsc, 32 rows": (FEW_SHOT, {"train": 32, "validation": 32, "test": 104}),
    # A row per right answer: 32 queries have 44 to train on; those that validate have one row each.
    "record, 32 rows": (FEW_SHOT, {"train": 44, "validation": 32}),
    "rte, 32 rows": (FEW_SHOT, {"train": 32, "validation": 32}),
    # A row per answer: 32 questions have 154 and 167, the 953 of the official validation file 4,848.
    "multirc": (FEW_SHOT, {"train": 154, "validation": 167, "test": 4_848}),
    "boolq, parts of its validation file": ("superglue", {"train": 1_800, "validation": 400}),
    "copa, joined labels": ("superglue", {"train": 400}),
    "wic, joined labels": ("superglue", {"train": 5_029}),
    # Of 7,046 questions 20 have a blank answer, which the conversion to SQuAD's format did not find.
    "qed_nq": ("qed_nq", {"train": 7_026, "validation": 1_263}),
    "squadshifts_new_wiki": ("squadshifts", {"test": 7_938}),
    "squadshifts_amazon": ("squadshifts", {"test": 9_885}),
    "squadshifts_new_wiki_split": ("squadshifts", {"train": 4_767, "validation": 1_837, "test": 1_334}),
    # A row per meaning representation; TEXTS has their references.
    "e2e": ("e2e", {"train": 42_061, "validation": 547}),
    # 872 entries, two of which have the same triples.
    "webnlg_2017": ("webnlg_2017", {"validation": 871}),
    # 2,768 entries, 47 of which have the triples of an earlier one.
    "dart": ("dart", {"validation": 2_721}),
    "scitldr": ("scitldr", {"train": 1_992, "validation": 619}),
    "ag_news": ("ag_news", {"train": 5_600, "validation": 800}),
    # Published in one piece of 5,452, and of 2,000 for each kind of product.
    "trec": ("trec", {"train": 4_908, "validation": 544}),
    "amazon_books": ("amazon", {"train": 1_608, "validation": 197, "test": 195}),
    "amazon_electronics": ("amazon", {"train": 1_574, "validation": 217, "test": 209}),
    "imdb_original": ("counterfactual_imdb", {"train": 1_707, "validation": 245}),
    "imdb_revised": ("counterfactual_imdb", {"train": 1_707, "validation": 245}),
}
TEXTS = {"e2e": 4_672, "webnlg_2017": 2_268, "dart": 6_980}


@pytest.mark.skipif(FOLDER is None, reason="SOFTPROMPT_DATA names no folder of published data")
@pytest.mark.parametrize("case", COUNTS)
def test_all_rows_are_read(case):
    name = case.partition(",")[0]
    folder, rows = COUNTS[case]
    task = load_task(name, Path(FOLDER or "") / folder)
    assert task.report.rows == rows
    if case in TEXTS:
        assert sum(len(example.targets) for example in task.examples("validation")) == TEXTS[case]
