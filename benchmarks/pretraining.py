"""`python -m benchmarks pretraining`: pre-training's arithmetic beside the machine's own matrix products.

Three things are timed in turn, so that the machine's noise falls on all: compiled training steps in bfloat16, one
large bfloat16 product, and the very products of a step, shapes and strides, by themselves. A step's operations are
those of its matrix products, forward and backward; divided by its time and by a rate that the machine reached in the
same round, they give the model FLOPs utilisation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from benchmarks.products import Products, count_products, make_factor, product_flops, replay, total_flops
from benchmarks.timing import spread, timed_s
from softprompt.loop.optimizers import build_optimizer
from softprompt.pretraining.architectures import build_model
from softprompt.pretraining.batches import Batches
from softprompt.pretraining.card import machine
from softprompt.pretraining.corpus import PackedTokens
from softprompt.pretraining.measure import batch_loss, flops_per_row
from softprompt.pretraining.objectives import OBJECTIVES, SpecialIds
from softprompt.pretraining.preparation import parameter_groups
from softprompt.pretraining.recipes import FamilyText, member_config, member_names, member_recipe
from softprompt.pretraining.settings import PretrainConfig

NAMES = ("t5-mini-span", "t5-small-span")
VOCAB = 8192
SPECIAL = SpecialIds(eos=1, sentinels=tuple(range(VOCAB - 1, VOCAB - 101, -1)))
SIDE = {"cpu": 2048, "cuda": 16384}
WARM_UP = 3


class Training:
    """A member of the family in training on random tokens, as its recipe says."""

    def __init__(self, name: str, device: torch.device) -> None:
        config = _config(name)
        self.rows, self.tokens = config.batch_size, config.batch_size * config.window
        self.model = build_model(config.preset, vocab=VOCAB, max_length=config.window, seed=0).to(device)
        if device.type == "cpu":  # as the trainer does where it compiles
            self.model.set_attn_implementation("eager")
        self.loss = batch_loss(self.model, config.precision)
        self.compiled = torch.compile(self.loss)
        self.optimizer = build_optimizer(
            config.optimizer,
            parameter_groups(self.model, config),
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.batches, self.device, self.taken = _batches(config), device, 0
        inputs, targets = self.next_batch()
        self.products = self._step_products(inputs, targets)
        per_row = flops_per_row(self.model, self.loss, inputs=inputs.shape[1], targets=targets.shape[1])
        self.flops = self.rows * per_row
        counted = total_flops(self.products)
        if abs(counted - self.flops) > 0.01 * self.flops:
            raise AssertionError(f"{name}: a step's products make {counted} operations, not {self.flops}.")

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of one step, on the device."""
        batch = self.batches.at(self.taken)
        self.taken += 1
        inputs, targets = (torch.from_numpy(np.ascontiguousarray(part)) for part in (batch.inputs, batch.targets))
        return inputs.to(self.device), targets.to(self.device)

    def step(self) -> None:
        """One step as the trainer takes it: batch, loss, gradient, clipping, optimizer."""
        loss = self.compiled(*self.next_batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        loss.item()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _step_products(self, inputs: Tensor, targets: Tensor) -> Products:
        products = count_products(lambda: self.loss(inputs, targets).backward())
        self.model.zero_grad(set_to_none=True)
        return products


def _config(name: str) -> PretrainConfig:
    text = FamilyText(train=("random",), held_out=(), licence="")
    return member_config(name, text)


def _batches(config: PretrainConfig) -> Batches:
    tokens = np.random.default_rng(0).integers(3, VOCAB - 400, size=2**20, dtype=np.uint16)
    text = PackedTokens(tokens=tokens, documents=1)
    return Batches(
        text, OBJECTIVES[config.objective], SPECIAL, window=config.window, batch_size=config.batch_size, seed=0
    )


def large_product(device: torch.device) -> tuple[Callable[[], None], int]:
    """One large product in bfloat16, and its operations."""
    side = SIDE[device.type]
    layout = (side, side), (side, 1)
    a = make_factor(layout, torch.bfloat16, device)

    def run() -> None:
        torch.matmul(a, a)

    return run, product_flops(layout, layout)


def measure(name: str, device: torch.device, *, rounds: int, steps: int) -> dict[str, list[float]]:
    """Rates of each round: tokens a second, and operations a second of steps, large product and own products."""
    training = Training(name, device)
    large, large_flops = large_product(device)
    work = {
        "training": (training.step, training.flops),
        "large": (large, large_flops),
        "own": (replay(training.products, torch.bfloat16, device), training.flops),
    }
    once_s = {}
    for what, (run, _) in work.items():
        for _ in range(WARM_UP):
            once_s[what] = timed_s(run)
    rates: dict[str, list[float]] = {what: [] for what in work}
    for _ in range(rounds):
        for what, (run, flops) in work.items():
            # As long as the steps take, so that the machine's noise falls on all alike.
            repeats = max(1, round(steps * once_s["training"] / once_s[what]))
            rates[what].append(repeats * flops / timed_s(run, times=repeats))
    tokens = [rate * training.tokens / training.flops for rate in rates["training"]]
    return {"tokens": tokens, **rates}


def shown(values: Sequence[float], scale: float = 1.0, form: str = ",.0f") -> str:
    """Median, lowest and highest."""
    found = spread([value / scale for value in values])
    return f"{found.median:{form}} ({found.low:{form}} to {found.high:{form}})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write the rates as JSON when asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks pretraining",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # The steps of a prefix LM differ in length, so no number of operations is theirs.
    known = [name for name in member_names() if member_recipe(name)["objective"] != "prefix_lm"]
    parser.add_argument("--names", nargs="+", default=NAMES, choices=known, help="members of the family of backbones")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that are timed")
    parser.add_argument("--steps", type=int, default=3, help="training steps in each round")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file for the results")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    unit, scale = ("TFLOP/s", 1e12) if device.type == "cuda" else ("GFLOP/s", 1e9)
    side = SIDE[device.type]
    print(f"Pre-training, compiled, bfloat16; median (lowest to highest) of {given.rounds} rounds.")
    print(f"torch {torch.__version__}, {machine(device)}\n")
    print(
        f"| backbone | batch | tokens/s | training, {unit} | {side} x {side} product, {unit} | own products, {unit}",
        end="",
    )
    print(" | MFU, large product | MFU, own products |\n|" + "---|" * 8)
    results = {}
    for name in given.names:
        rates = measure(name, device, rounds=given.rounds, steps=given.steps)
        recipe = member_recipe(name)
        shares = {key: [a / b for a, b in zip(rates["training"], rates[key], strict=True)] for key in ("large", "own")}
        results[name] = {"rates": rates, "utilisation": shares}
        cells = [
            f"{recipe['batch_size']} x {recipe['window']}",
            shown(rates["tokens"]),
            *(shown(rates[key], scale, ",.1f") for key in ("training", "large", "own")),
            *(shown(shares[key], 0.01) + " %" for key in ("large", "own")),
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
