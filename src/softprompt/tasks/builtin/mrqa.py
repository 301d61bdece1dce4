"""The sets of the shared task MRQA 2019: six to train on, and six of other domains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from softprompt.tasks.builtin.folders import files_at_hand
from softprompt.tasks.builtin.squad_format import QA_FORMAT, QA_METRICS, first_answers, read_mrqa
from softprompt.tasks.definition import TaskDefinition
from softprompt.tasks.rows import Row, not_empty

__all__ = ["MRQA"]

SHARED_TASK = "Fisch et al. 2019, MRQA 2019 Shared Task: Evaluating Generalization in Reading Comprehension, MRQA"


def read_set(wanted: Mapping[str, Sequence[str]]) -> Callable[[Path], dict[str, Iterator[Row]]]:
    """How a set is read whose splits have files of these names."""

    def read(folder: Path) -> dict[str, Iterator[Row]]:
        rows = {split: not_empty(file, read_mrqa(file)) for split, (file, *_) in files_at_hand(folder, wanted).items()}
        return {split: first_answers(several) if split == "train" else several for split, several in rows.items()}

    return read


def define_set(name: str, files: Sequence[str], texts: str, citation: str, *, trained_on: bool) -> TaskDefinition:
    """One set of the shared task.

    Args:
        name: Its part of the task's name.
        files: Its file's name, and others that it was published under, all without ending.
        texts: What is asked.
        citation: Its paper.
        trained_on: Whether it has a training split.
    """
    folders = {"train": "train", "validation": "dev"} if trained_on else {"validation": "dev"}
    wanted = {split: [f"{folder}/{file}.jsonl.gz" for file in files] for split, folder in folders.items()}
    references = (
        "Trained on each question's first answer, scored against all of them."
        if trained_on
        else "For testing on another domain alone: there is no training split."
    )
    return TaskDefinition(
        name=f"mrqa_{name}",
        summary=f"{texts}, as MRQA 2019 has it: answers are words of a passage of 800 tokens at most. {references}",
        format=QA_FORMAT,
        metrics=QA_METRICS,
        splits=tuple(folders),
        read=read_set(wanted),
        source="https://github.com/mrqa/MRQA-Shared-Task-2019, version 2 of its files",
        licence="that of the original set; the shared task states none of its own for the data",
        citation=f"{citation}; {SHARED_TASK}",
        layout=f"{' and '.join(names[0] for names in wanted.values())}, as the shared task's scripts download them.",
    )


MRQA = (
    define_set(
        "squad",
        ["SQuAD"],
        "SQuAD: questions on Wikipedia's paragraphs",
        "Rajpurkar et al. 2016, SQuAD, EMNLP",
        trained_on=True,
    ),
    define_set(
        "newsqa",
        ["NewsQA"],
        "NewsQA: questions on CNN's news, asked by people who saw the highlights alone",
        "Trischler et al. 2017, NewsQA, RepL4NLP",
        trained_on=True,
    ),
    define_set(
        "triviaqa",
        ["TriviaQA", "TriviaQA-web"],
        "TriviaQA: trivia questions with pages of the web",
        "Joshi et al. 2017, TriviaQA, ACL",
        trained_on=True,
    ),
    define_set(
        "searchqa",
        ["SearchQA"],
        "SearchQA: Jeopardy! clues with a search engine's snippets",
        "Dunn et al. 2017, SearchQA, arXiv 1704.05179",
        trained_on=True,
    ),
    define_set(
        "hotpotqa",
        ["HotpotQA"],
        "HotpotQA: questions that need two paragraphs of Wikipedia",
        "Yang et al. 2018, HotpotQA, EMNLP",
        trained_on=True,
    ),
    define_set(
        "natural_questions",
        ["NaturalQuestions", "NaturalQuestionsShort"],
        "Natural Questions: searched questions with Wikipedia's paragraphs and short answers",
        "Kwiatkowski et al. 2019, Natural Questions, TACL",
        trained_on=True,
    ),
    define_set(
        "bioasq",
        ["BioASQ"],
        "BioASQ: questions of biomedical experts with abstracts of PubMed",
        "Tsatsaronis et al. 2015, BioASQ, BMC Bioinformatics",
        trained_on=False,
    ),
    define_set(
        "drop",
        ["DROP"],
        "DROP: questions on Wikipedia that need counting and comparing, those that a span answers",
        "Dua et al. 2019, DROP, NAACL",
        trained_on=False,
    ),
    define_set(
        "duorc",
        ["DuoRC", "DuoRC.ParaphraseRC"],
        "DuoRC: questions on films, asked on one plot summary and answered in another",
        "Saha et al. 2018, DuoRC, ACL",
        trained_on=False,
    ),
    define_set(
        "race",
        ["RACE"],
        "RACE: questions of English exams, those that a span answers",
        "Lai et al. 2017, RACE, EMNLP",
        trained_on=False,
    ),
    define_set(
        "relation_extraction",
        ["RelationExtraction"],
        "Relation extraction: slots of Wikidata as questions on Wikipedia's sentences",
        "Levy et al. 2017, Zero-Shot Relation Extraction via Reading Comprehension, CoNLL",
        trained_on=False,
    ),
    define_set(
        "textbookqa",
        ["TextbookQA"],
        "TextbookQA: questions on lessons of school science",
        "Kembhavi et al. 2017, Are You Smarter Than A Sixth Grader?, CVPR",
        trained_on=False,
    ),
)
