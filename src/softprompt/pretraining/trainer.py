"""Pre-training: text in, a small backbone with a card out; interruptible, and resumed where it stopped.

What a step sees depends on the seed and the step's number alone, so a checkpoint needs no random states, and a
resumed run ends as if it had never stopped: bit-identically on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from softprompt.config import to_mapping, write_yaml
from softprompt.errors import ConfigError, DataError, NonFiniteError, TrainingInterrupted
from softprompt.loop.checkpoints import latest_checkpoint, load_checkpoint, prune, save_checkpoint
from softprompt.loop.interrupts import Interrupts
from softprompt.loop.optimizers import build_optimizer
from softprompt.loop.progress import Bar, Progress
from softprompt.loop.schedules import build_schedule
from softprompt.pretraining.architectures import build_model, find_architecture
from softprompt.pretraining.card import machine, read_card, write_model
from softprompt.pretraining.corpus import Corpus, prepare_corpus, read_documents
from softprompt.pretraining.measure import HeldOut, batch_loss, flops_per_row, measure_held_out
from softprompt.pretraining.objectives import OBJECTIVES, Batch
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.tokenizer import (
    load_tokenizer,
    piece_bytes,
    save_tokenizer,
    special_ids,
    tokenizer_digest,
    train_tokenizer,
    transformers_tokenizer,
)

__all__ = ["pretrain"]

TOKENIZER = "unigram.json"
# Settings that may differ between a run and its resumption: they do not decide what is computed. Of files, only the
# content counts, which is compared by digest.
_FREE = {"output_dir", "cache_dir", "checkpoint_every_s", "threads", "compile", "train", "held_out", "tokenizer"}
# Schedules that do not look at the number of steps: such a run may be ended early or prolonged.
_ENDLESS = {"constant", "inverse_sqrt"}
# A tokenizer learns from this much text, taken evenly from all files: more changes little and takes minutes.
_TOKENIZER_CHARACTERS = 60_000_000


@dataclass
class _Counts:
    """What a run has done so far."""

    step: int = 0
    tokens: int = 0
    """Tokens of text, each counted once whether it became input or target."""
    flops: int = 0
    seconds: float = 0.0


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Pre-train a small backbone, or go on where an interrupted run stopped.

    The output folder then holds the model (bfloat16), its tokenizer, `card.json` and the resolved settings; a
    folder that already has its card is left as it is.

    Args:
        config: The run.

    Returns:
        The card: parameters, tokens seen, held-out loss in nats per token, bits per byte, objective, corpus,
        licence, seconds, machine, settings.

    Raises:
        ConfigError: If a checkpoint in the folder was made with other settings.
        DataError: If the text cannot be read, or fills no window.
        NonFiniteError: If the loss becomes NaN or infinite; the last checkpoint stays.
        TrainingInterrupted: After Ctrl-C or SIGTERM; the state is saved.

    References:
        Raffel et al. 2020, §3.1; Lester et al. 2021, §3.2 (LM adaptation, by `start_from` and `prefix_lm`).
    """
    if card := read_card(config.output_dir):
        return card
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with Progress() as progress:
        run = _Run(config, progress)
        run.train()
        return run.finish()


class _Run:
    """One pre-training from its first or its last saved step to the finished folder."""

    def __init__(self, config: PretrainConfig, progress: Progress) -> None:
        self.config, self.progress = config, progress
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = _tokenizer(config, progress)
        self.corpus = _corpus(config, self.tokenizer, progress)
        self.objective = OBJECTIVES[config.objective]
        self.special = special_ids(self.tokenizer)
        self.model = _model(config, self.tokenizer).to(self.device)
        if config.compile and self.device.type == "cpu":
            # torch fuses plain attention into a step that is faster than with the CPU's attention kernel.
            self.model.set_attn_implementation("eager")
        self.loss = batch_loss(self.model, config.precision)
        self.step_loss = torch.compile(self.loss) if config.compile else self.loss
        self.optimizer = build_optimizer(
            config.optimizer,
            _groups(self.model, config),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.schedule = build_schedule(
            config.schedule, self.optimizer, warmup_steps=config.warmup_steps, total_steps=config.steps
        )
        self.counts = _Counts()
        self.history: list[dict[str, float]] = []
        self._flops: dict[tuple[int, int], int] = {}
        self._epoch: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))
        self._resume()

    def train(self) -> None:
        """Take the steps that are left."""
        config, counts = self.config, self.counts
        bar = self.progress.add(Path(config.output_dir).name, total=config.steps, done=counts.step)
        began_s = saved_s = time.monotonic()
        seconds_before = counts.seconds
        with Interrupts() as interrupts:
            while counts.step < config.steps:
                self._step(bar)
                now_s = time.monotonic()
                counts.seconds = seconds_before + now_s - began_s
                if counts.step % config.evaluate_every == 0 and counts.step < config.steps:
                    self._measure()
                if interrupts.requested or now_s - saved_s >= config.checkpoint_every_s:
                    self._save()
                    saved_s = now_s
                if interrupts.requested and counts.step < config.steps:
                    raise TrainingInterrupted(
                        f"Stopped after step {counts.step} of {config.steps}; the state is saved in"
                        f" {config.checkpoints}. Run the same command again to go on."
                    )

    def finish(self) -> dict[str, Any]:
        """Measure the trained model and write its folder."""
        held_out = self._measure()
        config, architecture = self.config, find_architecture(self.config.preset)
        card = {
            "name": Path(config.output_dir).name,
            "preset": config.preset,
            "kind": architecture.kind,
            "objective": config.objective,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "steps": self.counts.step,
            "tokens_seen": self.counts.tokens,
            "flops": self.counts.flops,
            "held_out_loss_nats_per_token": round(held_out.loss, 4),
            "held_out_bits_per_byte": round(held_out.bits_per_byte, 4),
            "held_out_tokens": held_out.tokens,
            "corpus": list(self.corpus.sources),
            "licence": config.licence,
            "tokenizer_sha256": tokenizer_digest(self.tokenizer),
            "seconds": round(self.counts.seconds),
            "machine": machine(self.device),
            "torch": torch.__version__,
            "settings": to_mapping(config),
            "started_from": read_card(config.start_from) if config.start_from else None,
            "history": self.history,
        }
        tokenizer = transformers_tokenizer(
            self.tokenizer, append_eos=architecture.kind == "encoder-decoder", max_length=_positions(config)
        )
        Path(config.output_dir).mkdir(parents=True, exist_ok=True)
        write_yaml(to_mapping(config), Path(config.output_dir) / "pretrain.yaml")
        save_tokenizer(self.tokenizer, Path(config.output_dir) / TOKENIZER)
        write_model(config.output_dir, self.model, tokenizer, card)
        prune(config.checkpoints, keep=0)
        return card

    def _step(self, bar: Bar) -> None:
        batch = self._batch(self.counts.step)
        shape = (batch.inputs.shape[1], batch.targets.shape[1])
        if shape not in self._flops:
            self._flops[shape] = flops_per_row(self.model, self.loss, inputs=shape[0], targets=shape[1])
        loss = self.step_loss(self._tensor(batch.inputs), self._tensor(batch.targets))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteError(
                f"The loss is {value} at step {self.counts.step}. Lower learning_rate; the last checkpoint in"
                f" {self.config.checkpoints} is from before."
            )
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.counts.step += 1
        self.counts.tokens += self.config.batch_size * self.config.window
        self.counts.flops += self.config.batch_size * self._flops[shape]
        bar.advance(loss=value, rate=rate)

    def _batch(self, step: int) -> Batch:
        """The batch of a step: windows in an order shuffled anew each epoch, spans and points by the step."""
        config, text = self.config, self.corpus.train
        windows = text.windows(config.window)
        positions = np.arange(step * config.batch_size, (step + 1) * config.batch_size)  # [batch]
        numbers = np.empty_like(positions)
        for epoch in np.unique(positions // windows).tolist():
            if self._epoch[0] != epoch:
                self._epoch = (epoch, np.random.default_rng([config.seed, 0, epoch]).permutation(windows))
            here = positions // windows == epoch
            numbers[here] = self._epoch[1][positions[here] % windows]
        rng = np.random.default_rng([config.seed, 1, step])
        return self.objective(text.window(numbers, config.window), self.special, rng)

    def _tensor(self, tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(tokens)).to(self.device)

    def _measure(self) -> HeldOut:
        held_out = measure_held_out(
            self.loss,
            self.corpus.held_out,
            self.objective,
            self.special,
            bytes_of=piece_bytes(self.tokenizer),
            window=self.config.window,
            windows=self.config.held_out_windows,
            batch_size=self.config.batch_size,
            device=self.device,
        )
        self.history.append(
            {
                "step": self.counts.step,
                "tokens": self.counts.tokens,
                "loss": held_out.loss,
                "bits_per_byte": held_out.bits_per_byte,
            }
        )
        self.progress.say(
            f"step {self.counts.step}: held-out loss {held_out.loss:.4f} nats per token,"
            f" {held_out.bits_per_byte:.4f} bits per byte"
        )
        return held_out

    def _save(self) -> None:
        counts = self.counts
        state = {
            "settings": _decisive(self.config),
            "tokenizer": tokenizer_digest(self.tokenizer),
            "sources": [dict(source) for source in self.corpus.sources],
            "counts": {"step": counts.step, "tokens": counts.tokens, "flops": counts.flops, "seconds": counts.seconds},
            "history": self.history,
            "parameters": dict(self.model.named_parameters()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        save_checkpoint(self.config.checkpoints, counts.step, state)
        prune(self.config.checkpoints, keep=2)

    def _resume(self) -> None:
        path = latest_checkpoint(self.config.checkpoints)
        if path is None:
            return
        state = load_checkpoint(path)
        expected = {
            **_decisive(self.config),
            "tokenizer": tokenizer_digest(self.tokenizer),
            "sources": list(self.corpus.sources),
        }
        found = {**state["settings"], "tokenizer": state["tokenizer"], "sources": state["sources"]}
        for name, value in expected.items():
            if found.get(name) != value:
                raise ConfigError(
                    f"{path} was made with {name} = {found.get(name)!r}, not {value!r}; use the same settings to go"
                    " on, or another output_dir to start anew."
                )
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.counts = _Counts(**state["counts"])
        self.history = state["history"]
        self.progress.say(f"Going on from step {self.counts.step} ({path}).")


def _tokenizer(config: PretrainConfig, progress: Progress) -> Tokenizer:
    """The tokenizer of the run: given, inherited, found in the cache, or trained and put there."""
    if config.start_from:
        return load_tokenizer(Path(config.start_from) / TOKENIZER)
    if config.tokenizer:
        return load_tokenizer(config.tokenizer)
    path = Path(config.output_dir) / TOKENIZER
    if not path.is_file():
        progress.say(f"Learning a tokenizer of {config.vocab_size} pieces.")
        save_tokenizer(train_tokenizer(_sample(config.train), size=config.vocab_size), path)
    return load_tokenizer(path)


def _sample(paths: Sequence[str]) -> list[str]:
    """Documents spread over all files, up to a number of characters."""
    sizes = [sum(map(len, read_documents(path))) for path in paths]
    every = max(1, round(sum(sizes) / _TOKENIZER_CHARACTERS))
    return [text for path in paths for number, text in enumerate(read_documents(path)) if number % every == 0]


def _corpus(config: PretrainConfig, tokenizer: Tokenizer, progress: Progress) -> Corpus:
    progress.say("Preparing the text.")
    corpus = prepare_corpus(config.train, config.held_out, tokenizer, cache_dir=config.cache_dir)
    for part, text in (("training", corpus.train), ("held-out", corpus.held_out)):
        if not text.windows(config.window):
            raise DataError(
                f"The {part} text has {len(text.tokens)} tokens, less than one window of {config.window};"
                " give more text or a shorter window."
            )
    return corpus


def _model(config: PretrainConfig, tokenizer: Tokenizer) -> PreTrainedModel:
    if config.start_from is None:
        vocab = tokenizer.get_vocab_size()
        return build_model(config.preset, vocab=vocab, max_length=_positions(config), seed=config.seed)
    card = read_card(config.start_from)
    if card is None:
        raise ConfigError(f"start_from {config.start_from} holds no finished model (no card.json); finish it first.")
    if card["preset"] != config.preset:
        raise ConfigError(f"start_from {config.start_from} is a {card['preset']}, not a {config.preset}.")
    decoder_only = find_architecture(config.preset).kind == "decoder-only"
    loader = AutoModelForCausalLM if decoder_only else AutoModelForSeq2SeqLM
    return loader.from_pretrained(config.start_from, dtype=torch.float32).train()


def _positions(config: PretrainConfig) -> int:
    """Positions that the model states: twice the window, so that a prompt fits beside an input."""
    return 2 * config.window


def _groups(model: PreTrainedModel, config: PretrainConfig) -> list[dict[str, Any]]:
    """Parameters by their settings: matrices decay, norms and embeddings of size 1 do not."""
    table = model.get_input_embeddings().weight
    unit = find_architecture(config.preset).unit_embeddings
    others = [parameter for parameter in model.parameters() if not (unit and parameter is table)]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    if unit:
        rate = config.learning_rate * math.sqrt(table.shape[1])
        groups.append({"params": [table], "lr": rate, "weight_decay": 0.0})
    return groups


def _decisive(config: PretrainConfig) -> dict[str, Any]:
    """The settings that decide what a run computes; of the files, only their content counts."""
    free = _FREE | ({"steps"} if config.schedule in _ENDLESS else set())
    return {name: value for name, value in to_mapping(config).items() if name not in free}
