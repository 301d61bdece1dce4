"""Summaries of news and of papers: XSum, CNN/DailyMail and SciTLDR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from softprompt.errors import DataError
from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.hub_files import HUB_FILES, read_hub_files
from softprompt.tasks.builtin.references import one_row_each
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.format import TextFormat
from softprompt.tasks.hub import HubSource
from softprompt.tasks.rows import Row, not_empty, read_rows

__all__ = ["CNN_DAILYMAIL", "SCITLDR", "SUMMARY_METRICS", "XSUM", "read_scitldr"]

SUMMARY_METRICS = ("rougeL", "rouge1", "rouge2")


def read_scitldr(folder: Path) -> dict[str, Iterator[Row]]:
    """The splits at hand: a row per summary to train on, one per paper with all of its summaries elsewhere."""
    wanted = {"train": ["train.jsonl"], "validation": ["dev.jsonl"], "test": ["test.jsonl"]}
    splits = {
        split: with_abstract(not_empty(file, read_rows(file)))
        for split, (file, *_) in files_at_hand(folder, wanted).items()
    }
    return {split: one_row_each(rows, column="target") if split == "train" else rows for split, rows in splits.items()}


def with_abstract(rows: Iterable[Row]) -> Iterator[Row]:
    """Add the source's sentences as one text, the column `abstract`; spaces around sentences and summaries go."""
    for row in rows:
        if row.problem:
            yield row
            continue
        try:
            sentences, summaries = (_stripped(row, name) for name in ("source", "target"))
            yield replace(row, columns={**row.columns, "abstract": " ".join(sentences), "target": summaries})
        except DataError as problem:
            yield replace(row, problem=str(problem))


def _stripped(row: Row, name: str) -> list[str]:
    texts = row.columns.get(name)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"column {name!r} is missing or no list of texts; expected sentences in source and target")
    return [text.strip() for text in texts]


_SAME_SPLITS = {split: split for split in ("train", "validation", "test")}

XSUM = TaskDefinition(
    name="xsum",
    summary="XSum: an article of the BBC in, its first sentence out, which says what it is about.",
    format=TextFormat(input="{document}", target="{summary}"),
    metrics=SUMMARY_METRICS,
    splits=("train", "validation", "test"),
    read=read_hub_files,
    source="https://huggingface.co/datasets/EdinburghNLP/xsum; https://github.com/EdinburghNLP/XSum",
    licence="none stated; the articles are the BBC's",
    citation=(
        "Narayan, Cohen and Lapata 2018, Don't Give Me the Details, Just the Summary! Topic-Aware Convolutional Neural "
        "Networks for Extreme Summarization, EMNLP"
    ),
    layout=f"{HUB_FILES}. Columns: document and summary.",
    hub=HubSource(path="EdinburghNLP/xsum", splits=_SAME_SPLITS),
)

CNN_DAILYMAIL = TaskDefinition(
    name="cnn_dailymail",
    summary="CNN and Daily Mail: an article of news in, the highlights that its editors wrote out, a line each.",
    format=TextFormat(input="{article}", target="{highlights}"),
    metrics=("rougeLsum", "rouge1", "rouge2"),
    splits=("train", "validation", "test"),
    read=read_hub_files,
    source="https://huggingface.co/datasets/abisee/cnn_dailymail, configuration 3.0.0",
    licence="Apache-2.0, as the hub's card states; the articles are their publishers'",
    citation=(
        "Hermann et al. 2015, Teaching Machines to Read and Comprehend, NeurIPS; See, Liu and Manning 2017, Get To The "
        "Point: Summarization with Pointer-Generator Networks, ACL"
    ),
    layout=f"{HUB_FILES}. Columns: article and highlights.",
    hub=HubSource(path="abisee/cnn_dailymail", subset="3.0.0", splits=_SAME_SPLITS),
)

SCITLDR = TaskDefinition(
    name="scitldr",
    summary=(
        "SciTLDR: a paper's abstract in, one sentence out. A row per summary to train on; elsewhere one per paper with "
        "all of its summaries, by authors and by readers."
    ),
    format=TextFormat(input="{abstract}", target="{target}"),
    metrics=SUMMARY_METRICS,
    splits=("train", "validation", "test"),
    read=read_scitldr,
    source="https://github.com/allenai/scitldr (SciTLDR-Data, one of its folders)",
    licence="Apache-2.0",
    citation="Cachola et al. 2020, TLDR: Extreme Summarization of Scientific Documents, Findings of EMNLP",
    layout="train.jsonl, dev.jsonl and test.jsonl of SciTLDR-A, or those of them that are at hand.",
)
