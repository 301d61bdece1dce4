"""What a check measures and shows, on tiny backbones made here."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch import Tensor

from softprompt.errors import ArtefactError, ConfigError, DataError
from softprompt.pretraining.checking import Check, _exchanging, _fill, check_backbone, stages, unigram_nats
from softprompt.pretraining.corpus import prepare_corpus
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.tokenizer import piece_bytes
from softprompt.pretraining.trainer import pretrain


def made(folder: Path, corpus_dir: Path, preset: str, objective: str, start_from: Path | None = None) -> dict[str, Any]:
    settings = {"steps": 30, "batch_size": 4, "window": 32, "warmup_steps": 3, "learning_rate": 5e-3, "threads": 1}
    return pretrain(
        PretrainConfig(
            output_dir=str(folder),
            train=[str(corpus_dir / "train.jsonl")],
            held_out=[str(corpus_dir / "held_out.jsonl")],
            cache_dir=str(corpus_dir / "cache"),
            tokenizer=None if start_from else str(corpus_dir / "tokenizer.json"),
            start_from=str(start_from) if start_from else None,
            preset=preset,
            objective=objective,
            held_out_windows=8,
            **settings,
        )
    )


@pytest.fixture(scope="module")
def span(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("span") / "t5"
    made(folder, corpus_dir, "t5-tiny", "span_corruption")
    return folder


@pytest.fixture(scope="module")
def causal(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causal") / "gpt"
    made(folder, corpus_dir, "gpt-tiny", "causal_lm")
    return folder


def check(folder: Path, corpus_dir: Path, **options: Any) -> tuple[dict[str, Check], Any]:
    checks, samples = check_backbone(folder, [corpus_dir / "held_out.jsonl"], cache_dir=corpus_dir / "cache", **options)
    return {one.objective: one for one in checks}, samples


def test_the_figures_are_the_cards_and_the_unigram_models(causal: Path, corpus_dir: Path, tokenizer: Tokenizer) -> None:
    checks, _ = check(causal, corpus_dir, samples=0)
    card = json.loads((causal / "card.json").read_text())
    (found,) = checks.values()
    assert (found.objective, found.trained, found.tokens) == ("causal_lm", True, card["held_out_tokens"])
    assert found.nats_per_token == pytest.approx(card["held_out_loss_nats_per_token"], rel=0.01)
    assert found.bits_per_byte == pytest.approx(card["held_out_bits_per_byte"], rel=0.01)
    files = [corpus_dir / "held_out.jsonl"]
    text = prepare_corpus(files, files, tokenizer, cache_dir=corpus_dir / "cache").held_out
    places = np.linspace(0, text.windows(32) - 1, 8).round().astype(int)
    targets = [token for row in text.window(places, 32) for token in row[1:].tolist()]
    nats = -sum(n * math.log(n / len(targets)) for n in Counter(targets).values())
    assert found.unigram_nats_per_token == pytest.approx(nats / len(targets))
    assert found.unigram_bits_per_byte == pytest.approx(nats / math.log(2) / piece_bytes(tokenizer)[targets].sum())
    assert found.exchanged_nats_per_token is None


def test_an_encoder_decoder_is_measured_under_both_of_its_objectives(
    span: Path, corpus_dir: Path, tmp_path: Path
) -> None:
    checks, samples = check(span, corpus_dir, samples=2, new_tokens=5)
    assert [(one.objective, one.trained) for one in checks.values()] == [
        ("span_corruption", True),
        ("prefix_lm", False),
    ]
    assert [sample.objective for sample in samples] == ["span_corruption"] * 2 + ["prefix_lm"] * 2
    made(tmp_path / "adapted", corpus_dir, "t5-tiny", "prefix_lm", span)
    adapted, _ = check(tmp_path / "adapted", corpus_dir, samples=0)
    assert all(one.trained for one in adapted.values())
    for one in (*checks.values(), *adapted.values()):
        assert one.exchanged_nats_per_token is not None
        assert one.exchanged_nats_per_token != one.nats_per_token
        assert one.exchanged_nats_per_token == pytest.approx(one.nats_per_token, rel=0.2)
    assert adapted["prefix_lm"].bits_per_byte < checks["prefix_lm"].bits_per_byte
    assert adapted["prefix_lm"].unigram_bits_per_byte == checks["prefix_lm"].unigram_bits_per_byte


@pytest.mark.parametrize(("batches", "expected"), [([3, 2], [2, 0, 1, 4, 3]), ([2, 1], [1, 0, 1]), ([1, 1], [1, 0])])
def test_every_row_is_given_another_rows_input(batches: list[int], expected: list[int]) -> None:
    """A row that was alone in its batch once kept its own input, as if it could not tell it from another."""
    rows = list(torch.arange(sum(batches))[:, None].split(batches))
    given: list[int] = []

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        given.extend(inputs.flatten().tolist())
        return targets.float().mean()

    exchanged = _exchanging(loss, rows)
    for batch in rows:
        exchanged(batch, batch)
    assert given == expected


def test_one_row_alone_has_no_other(span: Path, corpus_dir: Path) -> None:
    assert [one.exchanged_nats_per_token for one in check(span, corpus_dir, windows=1, samples=0)[0].values()] == [
        None,
        None,
    ]


def test_samples_show_what_is_written_in_its_place(span: Path, causal: Path, corpus_dir: Path) -> None:
    _, samples = check(span, corpus_dir, samples=1)
    filled = samples[0]
    assert "<extra_id_0>" in filled.input
    assert "<extra_id_" not in filled.target
    pieces = filled.input.replace("<extra_id_1>", "<extra_id_0>").split("<extra_id_0>")
    for text in (filled.output, filled.target):
        assert text.startswith(f"{pieces[0]}[")
        assert all(piece in text for piece in pieces)
    _, samples = check(causal, corpus_dir, samples=3, new_tokens=6)
    assert len({sample.input for sample in samples}) == 3
    text = (corpus_dir / "held_out.jsonl").read_text(encoding="utf-8").replace('"}\n{"text": "', "</s>")
    for sample in samples:
        assert f"{sample.input} {sample.target}" in text or f"{sample.input}{sample.target}" in text
    assert check(causal, corpus_dir, samples=3, new_tokens=6)[1] == samples, "a sample is no draw"


@pytest.mark.parametrize(
    ("filling", "expected"),
    [
        ("<extra_id_0> b<extra_id_1> d", "a[ b] c[ d]."),
        ("<extra_id_1> d<extra_id_0> b", "a[ b] c[ d]."),
        ("lost<extra_id_0> b", "a[ b] c[]."),
        ("<extra_id_0> b<extra_id_0> again", "a[ b] c[]."),
        ("nothing named", "a[] c[]."),
        ("", "a[] c[]."),
    ],
)
def test_spans_go_where_their_sentinels_stand(filling: str, expected: str) -> None:
    assert _fill("a<extra_id_0> c<extra_id_1>.", filling) == expected


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 2**31))
def test_no_other_unigram_model_does_better_on_these_tokens(tokens: list[int], seed: int) -> None:
    counts = np.bincount(tokens, minlength=10)
    other = np.random.default_rng(seed).dirichlet(np.ones(10)) + 1e-12
    assert unigram_nats(counts) <= -(counts / len(tokens) * np.log(other)).sum() + 1e-9


def test_stages_run_from_the_first_to_the_last() -> None:
    cards: dict[str, Any] = {"name": "c", "started_from": {"name": "b", "started_from": {"name": "a"}}}
    cards["started_from"]["started_from"]["started_from"] = None
    assert [stage["name"] for stage in stages(cards)] == ["a", "b", "c"]


def test_what_cannot_be_checked_is_refused(causal: Path, corpus_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"holds no finished backbone \(no card\.json\); finish its pre-training"):
        check(tmp_path, corpus_dir)
    with pytest.raises(ConfigError, match="windows must be above 0, not 0"):
        check(causal, corpus_dir, windows=0)
    with pytest.raises(DataError, match=r"train\.jsonl was trained on, says the backbone's card; give text that was"):
        check_backbone(causal, [corpus_dir / "train.jsonl"], cache_dir=tmp_path)
    (tmp_path / "short.txt").write_text("Bana lo.", encoding="utf-8")
    with pytest.raises(DataError, match=r"The held-out text has \d+ tokens, less than one window of 32; give more"):
        check_backbone(causal, [tmp_path / "short.txt"], cache_dir=tmp_path)
