"""Pre-training: text in, a small backbone with a card out; interruptible, and resumed where it stopped.

A resumed run ends as if it had never stopped: bit-identically on a CPU with as many processes as before.
"""

from __future__ import annotations

import io
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from softprompt.artefact import replace_folder
from softprompt.config import to_mapping, write_yaml
from softprompt.errors import ConfigError, NonFiniteError, TrainingInterrupted
from softprompt.loop.interrupts import Interrupts
from softprompt.loop.optimizers import build_optimizer
from softprompt.loop.processes import Processes
from softprompt.loop.progress import Bar, Progress
from softprompt.loop.schedules import build_schedule
from softprompt.pretraining.architectures import find_architecture
from softprompt.pretraining.batches import Batches
from softprompt.pretraining.card import SETTINGS, TOKENIZER, machine, read_card, write_model
from softprompt.pretraining.finished import check_finished
from softprompt.pretraining.measure import HeldOut, batch_loss, flops_per_row, measure_held_out
from softprompt.pretraining.objectives import OBJECTIVES
from softprompt.pretraining.preparation import (
    check_start,
    parameter_groups,
    positions,
    prepare_model,
    prepare_text,
    prepare_tokenizer,
)
from softprompt.pretraining.settings import PretrainConfig
from softprompt.pretraining.state import State, decisive
from softprompt.pretraining.tokenizer import (
    piece_bytes,
    save_tokenizer,
    special_ids,
    tokenizer_digest,
    transformers_tokenizer,
)

__all__ = ["pretrain"]

_COMMAND = f"softprompt pretrain --config FOLDER/{SETTINGS} --output_dir NEW"


def pretrain(config: PretrainConfig, *, command: str | None = None) -> dict[str, Any]:
    """Pre-train a small backbone, or go on where an interrupted run stopped.

    The output folder then holds the model (bfloat16), its tokenizer, `card.json` and the resolved settings, and
    `snapshots/step-N` with the same of the moments that were asked for; a folder that is finished already, with the
    same settings and text, is left as it is. Started by `accelerate launch` or `torchrun`, several processes share
    each batch.

    Args:
        config: The run.
        command: What makes this model again, for the card; `softprompt pretrain` with the settings in its folder if not
            given.

    Returns:
        The card: parameters, tokens seen, held-out loss in nats per token, bits per byte, objective, corpus,
        licence, seconds, tokens per second, machine, processes, settings, losses on the way.

    Raises:
        ConfigError: If the folder holds a checkpoint or a finished model of other settings or other text, `start_from`
            is no finished model of the same preset, or processes cannot share a batch evenly.
        DataError: If the text cannot be read, is trained on and held out, or fills no window.
        NonFiniteError: If the loss becomes NaN or infinite; the last checkpoint stays.
        TrainingInterrupted: After Ctrl-C or SIGTERM, in every process; the state is saved.

    References:
        Raffel et al. 2020, §3.1; Lester et al. 2021, §3.2 (LM adaptation, by `start_from` and `prefix_lm`).
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    processes = Processes()
    with Progress(stream=None if processes.first else io.StringIO()) as progress:
        if card := read_card(config.output_dir):
            check_finished(card, config, progress)
            progress.say(f"{config.output_dir} is finished already.")
            return card
        run = _Run(config, progress, processes, command or _COMMAND)
        run.train()
        return run.finish()


@final
class _Run:
    """One pre-training from its first or its last saved step to the finished folder."""

    def __init__(self, config: PretrainConfig, progress: Progress, processes: Processes, command: str) -> None:
        if config.batch_size % processes.count:
            raise ConfigError(
                f"{processes.count} processes cannot share a batch of {config.batch_size} evenly; give a batch_size"
                " that their number divides."
            )
        check_start(config)
        self.config, self.progress, self.processes, self.command = config, progress, processes, command
        with processes.first_alone():
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
        model = prepare_model(config, self.tokenizer).to(processes.device)
        if config.compile and processes.device.type == "cpu":
            # torch fuses plain attention into a step that is faster than with the CPU's attention kernel.
            model.set_attn_implementation("eager")
        self.loss = batch_loss(model, config.precision)
        self.step_loss = torch.compile(self.loss) if config.compile else self.loss
        optimizer = build_optimizer(
            config.optimizer,
            parameter_groups(model, config),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        schedule = build_schedule(
            config.schedule, optimizer, warmup_steps=config.warmup_steps, total_steps=config.steps
        )
        self.state = State(model=model, optimizer=optimizer, schedule=schedule)
        self._flops: dict[tuple[int, int], int] = {}
        self._made_with = decisive(config, self.corpus, self.tokenizer)
        if path := self.state.resume(config, self._made_with):
            progress.say(f"Going on from step {self.state.counts.step} ({path}).")

    def train(self) -> None:
        """Take the steps that are left."""
        config, counts = self.config, self.state.counts
        bar = self.progress.add(Path(config.output_dir).name, total=config.steps, done=counts.step)
        began_s = saved_s = time.monotonic()
        seconds_before = counts.seconds
        with Interrupts() as interrupts:
            while counts.step < config.steps:
                self._step(bar)
                now_s = time.monotonic()
                counts.seconds = seconds_before + now_s - began_s
                self._look(counts.step)
                stop = self.processes.any(interrupts.requested)
                if stop or now_s - saved_s >= config.checkpoint_every_s:
                    self._save()
                    saved_s = now_s
                if stop and counts.step < config.steps:
                    self.processes.wait()  # a process that ends first may take the one that saves with it
                    raise TrainingInterrupted(
                        f"Stopped after step {counts.step} of {config.steps}; the state is saved in"
                        f" {config.checkpoints}. Run the same command again to go on."
                    )

    def finish(self) -> dict[str, Any]:
        """Measure the trained model and write its folder."""
        return self.processes.from_first(self._finish() if self.processes.first else {})

    def _finish(self) -> dict[str, Any]:
        folder = Path(self.config.output_dir)
        config = replace(self.config, steps=self.state.counts.step)  # a constant rate may have gone on beyond them
        card = self._write(folder, self._measure(), name=folder.name, config=config)
        shutil.rmtree(self.config.checkpoints, ignore_errors=True)
        return card

    def _step(self, bar: Bar) -> None:
        config, state, began_s = self.config, self.state, time.monotonic()
        batch = self.batches.at(state.counts.step)
        shape = (batch.inputs.shape[1], batch.targets.shape[1])
        if shape not in self._flops:
            self._flops[shape] = flops_per_row(state.model, self.loss, inputs=shape[0], targets=shape[1])
        loss = self.step_loss(self._rows(batch.inputs), self._rows(batch.targets))
        loss.backward()
        value = self.processes.average(state.model, loss).item()
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.gradient_clip).item()
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise NonFiniteError(
                f"The loss is {value} and its gradient's norm {norm} at step {state.counts.step}. Lower learning_rate;"
                f" the last checkpoint in {config.checkpoints} is from before."
            )
        rate = state.optimizer.param_groups[0]["lr"]
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.schedule.step()
        state.losses.append(value)
        state.counts.add(
            tokens=config.batch_size * config.window,
            flops=config.batch_size * self._flops[shape],
            seconds=time.monotonic() - began_s,
        )
        bar.advance(loss=value, rate=rate)

    def _rows(self, tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.processes.share(tokens))).to(self.processes.device)

    def _look(self, step: int) -> None:
        """Measure, and write a snapshot, where either is due."""
        is_snapshot = step in self.config.snapshots
        due = is_snapshot or (step % self.config.evaluate_every == 0 and step < self.config.steps)
        if not (due and self.processes.first):
            return
        held_out = self._measure()
        if is_snapshot:
            self._write_snapshot(self.config.snapshot(step), held_out)

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
            device=self.processes.device,
        )
        self.state.record(held_out)
        self.progress.say(
            f"step {self.state.counts.step}: held-out loss {held_out.loss:.4f} nats per token,"
            f" {held_out.bits_per_byte:.4f} bits per byte"
        )
        return held_out

    def _save(self) -> None:
        if self.processes.first:
            self.state.save(self.config, self._made_with)

    def _write_snapshot(self, folder: Path, held_out: HeldOut) -> None:
        """Write the model of this moment; the folder appears whole, also where one is replaced."""
        draft = folder.with_name(f".{folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        self._write(draft, held_out, name=f"{Path(self.config.output_dir).name}-{folder.name}", config=self.config)
        replace_folder(draft, folder)

    def _write(self, folder: Path, held_out: HeldOut, *, name: str, config: PretrainConfig) -> dict[str, Any]:
        """Write the model of this moment with its card, which is returned."""
        counts, architecture = self.state.counts, find_architecture(config.preset)
        before = read_card(config.start) if config.start else None
        card = {
            "name": name,
            "preset": config.preset,
            "kind": architecture.kind,
            "objective": config.objective,
            "parameters": sum(parameter.numel() for parameter in self.state.model.parameters()),
            "steps": counts.step,
            "tokens_seen": counts.tokens,
            "tokens_seen_before": before["tokens_seen"] + before["tokens_seen_before"] if before else 0,
            "flops": counts.flops,
            "held_out_loss_nats_per_token": round(held_out.loss, 4),
            "held_out_bits_per_byte": round(held_out.bits_per_byte, 4),
            "held_out_tokens": held_out.tokens,
            "corpus": list(self.corpus.sources),
            "licence": config.licence,
            "tokenizer_sha256": tokenizer_digest(self.tokenizer),
            "seconds": round(counts.seconds),
            "tokens_per_second": round(counts.tokens_per_second),
            "machine": machine(self.processes.device),
            "processes": self.processes.count,
            "torch": torch.__version__,
            "settings": to_mapping(config),
            "command": self.command,
            "started_from": before,
            "history": self.state.history,
        }
        tokenizer = transformers_tokenizer(
            self.tokenizer, append_eos=architecture.kind == "encoder-decoder", max_length=positions(config)
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(to_mapping(config), folder / SETTINGS)
        save_tokenizer(self.tokenizer, folder / TOKENIZER)
        write_model(folder, self.state.model, tokenizer, card)
        return card
