"""What a pre-training begins with: its tokenizer, its text, and its model with the groups of parameters."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from softprompt.backbones.catalogue import resolve
from softprompt.errors import ConfigError, DataError
from softprompt.loop.progress import Progress
from softprompt.pretraining.architectures import build_model, find_architecture, find_shape
from softprompt.pretraining.card import TOKENIZER, read_card
from softprompt.pretraining.corpus import Corpus, file_digest, prepare_corpus
from softprompt.pretraining.documents import read_documents
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

__all__ = ["check_start", "parameter_groups", "positions", "prepare_model", "prepare_text", "prepare_tokenizer"]

# A tokenizer learns from this much text, taken evenly from all files: more changes little and takes minutes.
_TOKENIZER_CHARACTERS = 60_000_000


def check_start(config: PretrainConfig) -> None:
    """Refuse a start that a run cannot go on from, before anything is read.

    Raises:
        ConfigError: If `start_from` is no finished model of the same preset.
    """
    if config.start is None:
        return
    card = read_card(config.start)
    if card is None:
        raise ConfigError(f"start_from {config.start_from} holds no finished model (no card.json); finish it first.")
    if card["preset"] != config.preset:
        raise ConfigError(
            f"start_from {config.start_from} is a {card['preset']}, not a {config.preset}; give preset"
            f" {card['preset']}, or another start."
        )


def prepare_tokenizer(config: PretrainConfig, progress: Progress) -> Tokenizer:
    """The tokenizer of a run: inherited, given, found in the cache, or trained and put there.

    Raises:
        ArtefactError: If the file that is named is missing or no tokenizer.
        DataError: If the training text cannot be read.
    """
    if config.start:
        return load_tokenizer(config.start / TOKENIZER)
    if config.tokenizer:
        return load_tokenizer(_tokenizer_file(config.tokenizer))
    key = json.dumps([config.vocab_size, [file_digest(path) for path in config.train]])
    path = Path(config.cache_dir) / f"tokenizer-{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"
    if not path.is_file():
        progress.say(f"Learning a tokenizer of {config.vocab_size} pieces.")
        save_tokenizer(train_tokenizer(_sample(config.train), size=config.vocab_size), path)
    return load_tokenizer(path)


def prepare_text(config: PretrainConfig, tokenizer: Tokenizer, progress: Progress) -> Corpus:
    """The tokens to train on and to measure on.

    Raises:
        DataError: If a file cannot be read, is trained on and held out, or a part fills no window.
    """
    trained = {file_digest(path) for path in config.train}
    for path in config.held_out:
        if file_digest(path) in trained:
            raise DataError(f"{path} is trained on and held out; measure on other text, or leave held_out away.")
    progress.say("Preparing the text.")
    corpus = prepare_corpus(config.train, config.held_out, tokenizer, cache_dir=config.cache_dir)
    for part, text in (("training", corpus.train), ("held-out", corpus.held_out)):
        if not text.windows(config.window):
            raise DataError(
                f"The {part} text has {len(text.tokens)} tokens, less than one window of {config.window};"
                " give more text or a shorter window."
            )
    return corpus


def prepare_model(config: PretrainConfig, tokenizer: Tokenizer) -> PreTrainedModel:
    """The model of a run, in float32: with random weights, or with those of `start_from`.

    Raises:
        ConfigError: If there is no such preset.
    """
    if config.start is None:
        vocab = tokenizer.get_vocab_size()
        return build_model(config.preset, vocab=vocab, max_length=positions(config), seed=config.seed)
    architecture = find_architecture(config.preset)
    loader = AutoModelForCausalLM if architecture.kind == "decoder-only" else AutoModelForSeq2SeqLM
    model: PreTrainedModel = loader.from_pretrained(config.start, dtype=torch.float32)
    # T5's configuration says of every model that is loaded that its tables are tied.
    model.config.tie_word_embeddings = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    setattr(model.config, architecture.longest, positions(config))
    return model.train()


def positions(config: PretrainConfig) -> int:
    """Positions that the model states: twice the window, so that a prompt fits beside an input."""
    return 2 * config.window


def parameter_groups(model: PreTrainedModel, config: PretrainConfig) -> list[dict[str, Any]]:
    """Parameters by their settings, as torch's optimizers take them.

    Matrices decay; norms do not, and neither does a table of embeddings of size 1. Where an architecture draws its
    parameters at different sizes, each moves by steps in proportion: the table faster by `sqrt(dim)`, the ratio of
    its entries to a matrix's, and queries, which bring the missing scale of attention's logits, slower by
    `sqrt(head_dim)`.
    """
    rate, decay, shape = config.learning_rate, config.weight_decay, find_shape(config.preset)
    sizes = find_architecture(config.preset).sizes
    own: dict[str, list[nn.Parameter]] = {"table": [], "queries": [], "matrices": [], "vectors": []}
    for name, parameter in model.named_parameters():
        if sizes is not None and name == sizes.table:
            own["table"].append(parameter)
        elif sizes is not None and name.endswith(sizes.queries):
            own["queries"].append(parameter)
        else:
            own["matrices" if parameter.ndim > 1 else "vectors"].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": own["matrices"], "weight_decay": decay},
        {"params": own["vectors"], "weight_decay": 0.0},
    ]
    if sizes is not None:
        groups.append({"params": own["table"], "lr": rate * math.sqrt(shape.dim), "weight_decay": 0.0})
        groups.append({"params": own["queries"], "lr": rate / math.sqrt(shape.head_dim), "weight_decay": decay})
    return groups


def _tokenizer_file(name: str) -> Path:
    """A tokenizer's file: itself, or that of a finished model."""
    path = Path(resolve(name))
    return path / TOKENIZER if path.is_dir() else path


def _sample(paths: Sequence[str]) -> list[str]:
    """Documents spread over all files, up to a number of characters."""
    sizes = [sum(map(len, read_documents(path))) for path in paths]
    every = max(1, math.ceil(sum(sizes) / _TOKENIZER_CHARACTERS))
    return [text for path in paths for number, text in enumerate(read_documents(path)) if number % every == 0]
