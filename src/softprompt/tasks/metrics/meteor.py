"""METEOR's sums: words aligned by form, stem, synonym and paraphrase, which the official program does, in Java."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from softprompt.errors import DataError, MissingDependencyError
from softprompt.tasks.metrics.words import caption_words

__all__ = ["meteor_of", "meteor_statistics"]

_JAR = "meteor-1.5.jar"
_STAGES = np.array([1.0, 0.6, 0.8, 0.6])  # weights of exact words, stems, synonyms, paraphrases
_PRECISION, _PENALTY_POWER, _PENALTY, _CONTENT = 0.85, 0.2, 0.6, 0.75
_STATISTICS = 23
_KEPT_ROWS = 100_000
_START_TIMEOUT_S, _ROW_TIMEOUT_S = 300.0, 1.0  # a hundred times what the program takes
_known: dict[tuple[str, ...], tuple[float, ...]] = {}


def meteor_statistics(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> Float[np.ndarray, "rows statistics"]:
    """What the program counts in each row's best alignment: lengths, matches by stage and kind of word, and chunks.

    Where all words match in order, there is no chunk: so the program sums them up, although it prints one. Rows that
    were aligned before, in this process, are not aligned again.

    Raises:
        MissingDependencyError: If Java or the program is not here.
        DataError: If the program gives no alignments.
    """
    rows = [
        tuple(" ".join(caption_words(text)) for text in (*several, said))
        for said, several in zip(predictions, references, strict=True)
    ]
    if len(_known) > _KEPT_ROWS:
        _known.clear()
    new = [row for row in dict.fromkeys(rows) if row not in _known]
    if new:
        _known.update(zip(new, _aligned(new), strict=True))
    statistics = np.array([_known[row] for row in rows])
    whole = (statistics[:, 20] == 1) & (statistics[:, 21] == statistics[:, 0]) & (statistics[:, 22] == statistics[:, 1])
    statistics[whole, 20] = 0
    return statistics


def meteor_of(statistics: Float[np.ndarray, " statistics"]) -> float:
    """METEOR in percent of the counts of an alignment, or their sums over rows.

    References:
        Denkowski and Lavie 2014, with its parameters for English.
    """
    (said, true, said_function, true_function), (chunks, said_matched, true_matched) = statistics[:4], statistics[20:]
    kinds = np.array([_CONTENT, _CONTENT, 1 - _CONTENT, 1 - _CONTENT])
    matched = _STAGES @ (statistics[4:20].reshape(4, 4) * kinds)  # [content said, content true, function ...]
    precision = (matched[0] + matched[2]) / (_CONTENT * (said - said_function) + (1 - _CONTENT) * said_function or 1)
    recall = (matched[1] + matched[3]) / (_CONTENT * (true - true_function) + (1 - _CONTENT) * true_function or 1)
    if not precision * recall:
        return 0.0
    mean = precision * recall / (_PRECISION * precision + (1 - _PRECISION) * recall)
    broken = 2 * chunks / (said_matched + true_matched)
    return float(100 * mean * (1 - _PENALTY * broken**_PENALTY_POWER))


def _aligned(rows: Sequence[Sequence[str]]) -> list[tuple[float, ...]]:
    """The counts of rows, each its references with the prediction last."""
    lines = "".join(" ||| ".join(["SCORE", *row]) + "\n" for row in rows)
    command = [_java(), "-Xmx2G", "-jar", str(_jar()), "-", "-", "-stdio", "-l", "en", "-norm"]
    timeout_s = _START_TIMEOUT_S + _ROW_TIMEOUT_S * len(rows)
    try:
        done = subprocess.run(
            command, input=lines, capture_output=True, encoding="utf-8", check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"METEOR did not align {len(rows)} rows within {timeout_s:.0f} s. Run {' '.join(command)} by hand to see"
            " what ails it, or leave the metric out."
        ) from error
    counts = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    if done.returncode or len(counts) != len(rows) or {*map(len, counts)} != {_STATISTICS}:
        told = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise DataError(
            f"METEOR gave {len(counts)} alignments of {len(rows)} rows, and said: {told}. Run {' '.join(command)} by "
            "hand to see what ails it, or leave the metric out."
        )
    return counts


def _java() -> str:
    found = shutil.which("java")
    if found is None:
        raise MissingDependencyError("METEOR needs Java: install a Java runtime, so that `java` is on the path")
    return found


def _jar() -> Path:
    named = os.environ.get("METEOR_JAR")
    if named is not None and Path(named).is_file():
        return Path(named)
    package = importlib.util.find_spec("pycocoevalcap")
    for folder in (package and package.submodule_search_locations) or ():
        if (jar := Path(folder, "meteor", _JAR)).is_file():
            return jar
    seen = f" (METEOR_JAR={named} is no file)" if named is not None else ""
    raise MissingDependencyError(
        f"METEOR needs {_JAR}{seen}: pip install pycocoevalcap, or set METEOR_JAR to the file, with its folder data "
        "beside it"
    )
