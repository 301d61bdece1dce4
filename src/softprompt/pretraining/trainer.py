"""Pre-training: text in, a small backbone with a card out; interruptible, and resumed where it stopped.

What a step sees depends on the seed and the step's number alone, so a checkpoint needs no random states, and a
resumed run ends as if it had never stopped: bit-identically on a CPU.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softprompt.config import to_mapping, write_yaml
from softprompt.errors import ConfigError, NonFiniteError, TrainingInterrupted
from softprompt.loop.checkpoints import latest_checkpoint, load_checkpoint, prune, save_checkpoint
from softprompt.loop.interrupts import Interrupts
from softprompt.loop.optimizers import build_optimizer
from softprompt.loop.progress import Bar, Progress
from softprompt.loop.schedules import build_schedule
from softprompt.pretraining.architectures import find_architecture
from softprompt.pretraining.batches import Batches
from softprompt.pretraining.card import SETTINGS, TOKENIZER, machine, read_card, write_model
from softprompt.pretraining.measure import HeldOut, batch_loss, flops_per_row, measure_held_out
from softprompt.pretraining.objectives import OBJECTIVES
from softprompt.pretraining.preparation import (
    parameter_groups,
    positions,
    prepare_model,
    prepare_text,
    prepare_tokenizer,
)
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.tokenizer import (
    piece_bytes,
    save_tokenizer,
    special_ids,
    tokenizer_digest,
    transformers_tokenizer,
)

__all__ = ["pretrain"]

# Settings that may differ between a run and its resumption: apart from rounding, which threads and compilation
# change, they do not decide what is computed. Of files only the content counts, which is compared by digest.
_FREE = {"output_dir", "cache_dir", "checkpoint_every_s", "threads", "compile", "train", "held_out", "tokenizer"}
# Schedules that do not look at the number of steps: such a run may be ended early or prolonged.
_ENDLESS = {"constant", "inverse_sqrt"}


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
        self.tokenizer = prepare_tokenizer(config, progress)
        self.corpus = prepare_text(config, self.tokenizer, progress)
        self.objective = OBJECTIVES[config.objective]
        self.special = special_ids(self.tokenizer)
        self.batches = Batches(
            self.corpus.train,
            self.objective,
            self.special,
            window=config.window,
            batch_size=config.batch_size,
            seed=config.seed,
        )
        self.model = prepare_model(config, self.tokenizer).to(self.device)
        if config.compile and self.device.type == "cpu":
            # torch fuses plain attention into a step that is faster than with the CPU's attention kernel.
            self.model.set_attn_implementation("eager")
        self.loss = batch_loss(self.model, config.precision)
        self.step_loss = torch.compile(self.loss) if config.compile else self.loss
        self.optimizer = build_optimizer(
            config.optimizer,
            parameter_groups(self.model, config),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.schedule = build_schedule(
            config.schedule, self.optimizer, warmup_steps=config.warmup_steps, total_steps=config.steps
        )
        self.counts = _Counts()
        self.history: list[dict[str, float]] = []
        self._flops: dict[tuple[int, int], int] = {}
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
        architecture = find_architecture(self.config.preset)
        config = replace(self.config, steps=self.counts.step)  # a constant rate may have gone on beyond them
        before = read_card(config.start_from) if config.start_from else None
        card = {
            "name": Path(config.output_dir).name,
            "preset": config.preset,
            "kind": architecture.kind,
            "objective": config.objective,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "steps": self.counts.step,
            "tokens_seen": self.counts.tokens,
            "tokens_seen_before": before["tokens_seen"] + before["tokens_seen_before"] if before else 0,
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
            "command": f"softprompt pretrain --config {SETTINGS}",
            "started_from": before,
            "history": self.history,
        }
        tokenizer = transformers_tokenizer(
            self.tokenizer, append_eos=architecture.kind == "encoder-decoder", max_length=positions(config)
        )
        Path(config.output_dir).mkdir(parents=True, exist_ok=True)
        write_yaml(to_mapping(config), Path(config.output_dir) / SETTINGS)
        save_tokenizer(self.tokenizer, Path(config.output_dir) / TOKENIZER)
        write_model(config.output_dir, self.model, tokenizer, card)
        shutil.rmtree(config.checkpoints, ignore_errors=True)
        return card

    def _step(self, bar: Bar) -> None:
        batch = self.batches.at(self.counts.step)
        shape = (batch.inputs.shape[1], batch.targets.shape[1])
        if shape not in self._flops:
            self._flops[shape] = flops_per_row(self.model, self.loss, inputs=shape[0], targets=shape[1])
        loss = self.step_loss(self._tensor(batch.inputs), self._tensor(batch.targets))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip).item()
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise NonFiniteError(
                f"The loss is {value} and its gradient's norm {norm} at step {self.counts.step}. Lower learning_rate;"
                f" the last checkpoint in {self.config.checkpoints} is from before."
            )
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.counts.step += 1
        self.counts.tokens += self.config.batch_size * self.config.window
        self.counts.flops += self.config.batch_size * self._flops[shape]
        bar.advance(loss=value, rate=rate)

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
        state = {
            "settings": _decisive(self.config),
            "tokenizer": tokenizer_digest(self.tokenizer),
            "sources": self._contents(),
            "counts": asdict(self.counts),
            "history": self.history,
            "parameters": dict(self.model.named_parameters()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        save_checkpoint(self.config.checkpoints, self.counts.step, state)
        prune(self.config.checkpoints, keep=2)

    def _contents(self) -> list[list[str]]:
        return [[source["use"], source["sha256"]] for source in self.corpus.sources]

    def _resume(self) -> None:
        path = latest_checkpoint(self.config.checkpoints)
        if path is None:
            return
        state = load_checkpoint(path)
        expected = {
            **_decisive(self.config),
            "tokenizer": tokenizer_digest(self.tokenizer),
            "sources": self._contents(),
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


def _decisive(config: PretrainConfig) -> dict[str, Any]:
    """The settings that decide what a run computes; of the files, only their content counts."""
    free = _FREE | ({"steps"} if config.schedule in _ENDLESS else set())
    return {name: value for name, value in to_mapping(config).items() if name not in free}
