"""What a finished backbone learned: held-out text under each objective beside a unigram model, and samples."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from softprompt.backbones.backbone import Backbone
from softprompt.errors import ConfigError, DataError
from softprompt.pretraining.architectures import find_architecture
from softprompt.pretraining.card import TOKENIZER, need_card
from softprompt.pretraining.corpus import PackedTokens, file_digest, prepare_corpus
from softprompt.pretraining.measure import HeldOut, LossFunction, batch_loss, measure_held_out
from softprompt.pretraining.objectives import OBJECTIVES, SpecialIds
from softprompt.pretraining.tokenizer import load_tokenizer, piece_bytes, special_ids

__all__ = ["Check", "Sample", "check_backbone", "stages", "unigram_nats"]

_SENTINEL = re.compile(r"<extra_id_\d+>")
_SAMPLE_SEED = 0


@final
@dataclass(frozen=True, kw_only=True)
class Check:
    """Held-out text under one objective."""

    objective: str
    trained: bool
    """Whether one of the backbone's stages had this objective."""
    tokens: int
    """Target tokens."""
    nats_per_token: float
    bits_per_byte: float
    unigram_nats_per_token: float
    unigram_bits_per_byte: float
    """See `unigram_nats`."""
    exchanged_nats_per_token: float | None
    """With the inputs of other rows: a model that predicts as well with these does not read its input. None for a
    decoder-only model, which reads the target itself, and where there is one row alone."""


@final
@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a backbone writes, greedily."""

    objective: str
    input: str
    output: str
    """The continuation, or the input with what was filled in, in brackets; they are empty where nothing was."""
    target: str
    """What the held-out text has there, in the same form."""


@torch.no_grad()
def check_backbone(
    folder: str | Path,
    held_out: Sequence[str | Path],
    *,
    windows: int | None = None,
    samples: int = 3,
    new_tokens: int = 24,
    cache_dir: str | Path = ".cache/pretraining",
) -> tuple[list[Check], list[Sample]]:
    """Measure a finished backbone on held-out text under every objective that its architecture knows.

    Windows, batches and precision are those of its last pre-training, so the figures are those of the card where
    the text is the same (but for the rounding of the stored weights). What a T5 was not trained on is measured too:
    span corruption alone leaves continuing text unlearned, and LM adaptation unlearns some of the filling.

    Args:
        folder: A folder that `pretrain` wrote.
        held_out: Text files.
        windows: Windows to measure, at most; as in the backbone's card if None.
        samples: Samples per objective.
        new_tokens: Length of a sampled continuation, in tokens.
        cache_dir: Where tokens are kept.

    Returns:
        One check per objective, and the samples.

    Raises:
        ArtefactError: If the folder holds no finished backbone.
        ConfigError: If `windows` is below 1.
        BackboneError: If its weights cannot be loaded.
        DataError: If a file cannot be read or was trained on, or the text fills no window.
    """
    if windows is not None and windows < 1:
        raise ConfigError(f"windows must be above 0, not {windows}.")
    card = need_card(folder)
    _refuse_trained(card, held_out)
    settings, tokenizer = card["settings"], load_tokenizer(Path(folder) / TOKENIZER)
    text = prepare_corpus(held_out, held_out, tokenizer, cache_dir=cache_dir).held_out
    if not text.windows(settings["window"]):
        raise DataError(
            f"The held-out text has {len(text.tokens)} tokens, less than one window of {settings['window']}; give more."
        )
    model = Backbone.from_pretrained(folder, dtype="float32").model
    learned = {stage["objective"] for stage in stages(card)}
    checks: list[Check] = []
    written: list[Sample] = []
    for objective in find_architecture(card["preset"]).objectives:
        checks.append(
            _measure(
                model,
                tokenizer,
                text,
                objective,
                settings=settings,
                windows=windows or settings["held_out_windows"],
                trained=objective in learned,
            )
        )
        written += _sample(model, tokenizer, text, objective, settings["window"], samples, new_tokens)
    return checks, written


def stages(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The cards of a backbone's pre-trainings, from the first, with random weights, to the last."""
    before = card["started_from"]
    return [*(stages(before) if before else []), card]


def unigram_nats(counts: np.ndarray) -> float:
    """Nats per token of the best unigram model: the entropy of the tokens' own frequencies.

    No model that gives each token a probability without looking at the others does better on these very tokens,
    whatever it learned from.

    Args:
        counts: How often each vocabulary entry occurs, `[vocab]`.
    """
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _refuse_trained(card: Mapping[str, Any], held_out: Sequence[str | Path]) -> None:
    seen = {source["sha256"] for stage in stages(card) for source in stage["corpus"] if source["use"] == "train"}
    for path in held_out:
        if file_digest(path) in seen:
            raise DataError(f"{path} was trained on, says the backbone's card; give text that was held out.")


def _measure(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    text: PackedTokens,
    objective: str,
    *,
    settings: Mapping[str, Any],
    windows: int,
    trained: bool,
) -> Check:
    bytes_of = piece_bytes(tokenizer)
    counts = np.zeros(len(bytes_of), dtype=np.int64)  # [vocab]
    batches: list[Tensor] = []
    loss = batch_loss(model, settings["precision"])

    def measure(loss: LossFunction) -> HeldOut:
        return measure_held_out(
            loss,
            text,
            OBJECTIVES[objective],
            special_ids(tokenizer),
            bytes_of=bytes_of,
            window=settings["window"],
            windows=windows,
            batch_size=settings["batch_size"],
            device=model.device,
        )

    measured = measure(_noting(loss, counts, batches))
    has_others = model.config.is_encoder_decoder and sum(map(len, batches)) > 1
    exchanged = measure(_exchanging(loss, batches)) if has_others else None
    nats = unigram_nats(counts)
    text_bytes = max(1, int((counts * bytes_of).sum()))
    return Check(
        objective=objective,
        trained=trained,
        tokens=measured.tokens,
        nats_per_token=measured.loss,
        bits_per_byte=measured.bits_per_byte,
        unigram_nats_per_token=nats,
        unigram_bits_per_byte=nats * measured.tokens / math.log(2) / text_bytes,
        exchanged_nats_per_token=None if exchanged is None else exchanged.loss,
    )


def _noting(loss: LossFunction, counts: np.ndarray, batches: list[Tensor]) -> LossFunction:
    """The same loss, adding the targets that it is given to `counts`, `[vocab]`, and the inputs to `batches`."""

    def noted(inputs: Tensor, targets: Tensor) -> Tensor:
        counts[:] += np.bincount(targets.flatten().cpu().numpy(), minlength=len(counts))
        batches.append(inputs)
        return loss(inputs, targets)

    return noted


def _exchanging(loss: LossFunction, batches: Sequence[Tensor]) -> LossFunction:
    """The same loss on the same batches, each row with the input of the one before it.

    The first row of a batch has the last one's; where it is alone, that of the batch before, of whatever length.
    """
    before = iter([batches[-1], *batches[:-1]])

    def exchanged(inputs: Tensor, targets: Tensor) -> Tensor:
        previous = next(before)[-1:]  # [1, seq]
        return loss(inputs.roll(1, dims=0) if len(inputs) > 1 else previous, targets)

    return exchanged


def _sample(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    text: PackedTokens,
    objective: str,
    window: int,
    samples: int,
    new_tokens: int,
) -> Iterator[Sample]:
    special = special_ids(tokenizer)
    # From the middle of equal parts, so that few samples are not the text's very beginning and end.
    places = (np.arange(samples) + 0.5) * text.windows(window) / samples
    rng = np.random.default_rng(_SAMPLE_SEED)
    for row in text.window(places.astype(np.int64), window):
        if objective == "span_corruption":
            batch = OBJECTIVES[objective](row[None], special, rng)
            written = _generate(model, batch.inputs, 2 * batch.targets.shape[1], special)
            given = _decode(tokenizer, batch.inputs[0, :-1].tolist())
            output = _fill(given, _decode(tokenizer, written))
            target = _fill(given, _decode(tokenizer, batch.targets[0, :-1].tolist()))
        else:
            beginning, rest = row[: window // 2], row[window // 2 :][:new_tokens].tolist()
            ending = [special.eos] if objective == "prefix_lm" else []
            inputs = np.array([[*beginning, *ending]], dtype=np.int64)
            given = _decode(tokenizer, beginning.tolist())
            output = _decode(tokenizer, _generate(model, inputs, new_tokens, special))
            target = _decode(tokenizer, rest)
        yield Sample(objective=objective, input=given, output=output, target=target)


def _generate(model: PreTrainedModel, inputs: np.ndarray, new_tokens: int, special: SpecialIds) -> list[int]:
    """The likeliest next tokens one by one, up to `</s>`: `[1, seq]` -> tokens."""
    ids = torch.from_numpy(inputs).to(model.device)  # [1, seq]
    written = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False
    )[0]
    skipped = 1 if model.config.is_encoder_decoder else ids.shape[1]
    tokens: list[int] = written[skipped:].tolist()
    return tokens[: tokens.index(special.eos)] if special.eos in tokens else tokens


def _decode(tokenizer: Tokenizer, tokens: list[int]) -> str:
    text: str = tokenizer.decode(tokens, skip_special_tokens=False)
    return text


def _fill(given: str, filling: str) -> str:
    """The text with each sentinel replaced by what follows it in the filling, in brackets."""
    names, texts = _SENTINEL.findall(filling), _SENTINEL.split(filling)[1:]
    spans = dict(zip(reversed(names), reversed(texts), strict=True))  # of a name that comes twice, its first span
    return _SENTINEL.sub(lambda name: f"[{spans.get(name.group(), '')}]", given)
