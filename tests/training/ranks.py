"""What each of several processes does in `test_several_processes`: sessions on backbones of two families.

`python -m tests.training.ranks FOLDER` does all of it, in as many processes as it was launched in. Each writes what it
found to `FOLDER/found-INDEX.json`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tests.models import END, PAD, SPECIAL, WORDS, word_tokenizer
from tests.training import gathers
from tests.training.sessions import describing, sentiment
from transformers.initialization import no_init_weights

from softprompt.backbones import Backbone
from softprompt.backbones.sharding import own_parameters
from softprompt.errors import SoftpromptError, TrainingInterrupted, UnsupportedError
from softprompt.loop.processes import Processes
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.tasks import Mixture
from softprompt.training import ModelTuning, Run, TrainConfig, session, train

STEPS = 4
FAMILIES = {"llama": "decoder-only", "tied-llama": "decoder-only", "t5": "encoder-decoder"}


def make_model(family: str) -> tf.PreTrainedModel:
    """A tiny random model whose training is calm: see `calm_backbone`."""
    ids = {"vocab_size": len(SPECIAL + WORDS), "pad_token_id": PAD, "eos_token_id": END}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        if family == "t5":
            settings = {"d_model": 24, "d_kv": 6, "d_ff": 32, "num_layers": 2, "num_heads": 4}
            model: tf.PreTrainedModel = tf.T5ForConditionalGeneration(
                tf.T5Config(**ids, **settings, decoder_start_token_id=PAD)
            )
        else:
            settings = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
            tied = {"tie_word_embeddings": family == "tied-llama", "bos_token_id": END}
            model = tf.LlamaForCausalLM(
                tf.LlamaConfig(**ids, **settings, **tied, num_key_value_heads=2, max_position_embeddings=96)
            )
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.35 if "embed" in name or "shared" in name else 0.1)
    return model


def save_models(folder: Path) -> None:
    """Every family with its tokenizer, in files of a few tensors."""
    for family, kind in FAMILIES.items():
        make_model(family).save_pretrained(folder / family, max_shard_size="20KB")
        word_tokenizer(kind).save_pretrained(folder / family)


def save_large(folder: Path) -> None:
    """A model of a hundred megabytes, in several files."""
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 8}
    with no_init_weights():
        large = tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=len(SPECIAL + WORDS), **sizes))
    for parameter in large.parameters():
        parameter.data.fill_(0.01)
    large.save_pretrained(folder / "large", max_shard_size="40MB")


def save_wide(folder: Path) -> None:
    """A model of three large layers, of 113 megabytes, with a tokenizer."""
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 3, "num_attention_heads": 8}
    ids = {"vocab_size": len(SPECIAL + WORDS), "pad_token_id": PAD, "eos_token_id": END, "bos_token_id": END}
    with no_init_weights():
        wide = tf.LlamaForCausalLM(tf.LlamaConfig(**ids, **sizes))
    for parameter in wide.parameters():
        parameter.data.fill_(0.01)
    wide.save_pretrained(folder / "wide")
    word_tokenizer("decoder-only").save_pretrained(folder / "wide")


def several_runs() -> list[Run]:
    """Runs that go through a backbone in different ways, and reach different layers; the last one diverges."""
    settings: dict[str, Any] = {"steps": STEPS}
    first, second = sentiment(), describing()
    return [
        Run(name="rows", method=PromptTuning(length=5), task=first, learning_rate=0.3, batch_size=4, **settings),
        Run(
            name="keys",
            method=PrefixTuning(length=4, hidden=8),
            task=second,
            optimizer="adamw",
            learning_rate=0.02,
            clip_norm=1.0,
            batch_size=3,
            max_new_tokens=5,
            seed=1,
            **settings,
        ),
        Run(
            name="top",
            method=PrefixTuning(length=3, hidden=None, layers=[-1]),
            task=first,
            learning_rate=0.02,
            batch_size=1,
            seed=2,
            **settings,
        ),
        Run(
            name="behind",
            method=PromptTuning(length=3, init="vocab", placement="append"),
            task=first,
            loss="rank",
            optimizer="adamw",
            learning_rate=0.05,
            batch_size=5,
            accumulate=2,
            seed=3,
            **settings,
        ),
        Run(name="wild", method=PromptTuning(length=2), task=first, learning_rate=1e38, batch_size=4, **settings),
    ]


def one_run(name: str) -> list[Run]:
    return [run for run in several_runs() if run.name == name]


CASES: dict[tuple[str, str], dict[str, Any]] = {
    ("llama", "parallel"): {},
    ("llama", "sharded"): {},
    ("tied-llama", "sharded"): {"gradient_checkpointing": True, "pass_tokens": 10},
    ("t5", "parallel"): {"pass_tokens": 30},
    ("t5", "sharded"): {},
}
"""By family and name, the settings of sessions of all runs."""

SINGLE = [("llama", "parallel", "rows"), ("t5", "sharded", "keys")]
"""Sessions of one run each."""

RESUMED = {"parallel": "llama", "sharded": "t5"}
"""By the way in which weights are held, a family whose session is stopped and gone on with."""

ROUNDED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "computed": ({}, {"precision": "bf16"}),
    "kept": ({"dtype": "bfloat16"}, {}),
}
"""What is in bfloat16, with settings of the backbone and of the session."""


def rounded_runs() -> list[Run]:
    return [*one_run("rows"), *one_run("keys")]


def special_runs() -> list[Run]:
    """Runs with a session each: of the model's weights, with fewer rows than processes; of several tasks."""
    several = Mixture([sentiment(), sentiment(seed=5, name="other")])
    few: dict[str, Any] = {"batch_size": 1, "evaluate_rows": 1, "evaluate_every": 1, "optimizer": "adamw"}
    return [
        Run(name="model", method=ModelTuning(), task=sentiment(), learning_rate=1e-3, steps=STEPS, **few),
        Run(name="mixed", method=PromptTuning(length=3), task=several, batch_size=6, steps=STEPS, evaluate_every=2),
    ]


def quiet(folder: Path | str, **settings: Any) -> TrainConfig:
    return TrainConfig(**{"output_dir": str(folder), "progress": False, **settings})


def train_until(backbone: Backbone, folder: Path, *, stop: int, signalled: int) -> str:
    """Train until a signal comes to one process after a step; what the interruption says."""
    take = session._Session._step

    def step(self: Any, reports: Any) -> None:
        take(self, reports)
        if self.step == stop and self.processes.index == signalled:
            os.kill(os.getpid(), signal.SIGTERM)

    session._Session._step = step
    try:
        train(backbone, several_runs(), quiet(folder))
    except TrainingInterrupted as interruption:
        return str(interruption)
    finally:
        session._Session._step = take
    return ""


class Private:
    """The most private memory that this process takes up in a block, beside what it had before, in bytes."""

    def __enter__(self) -> Private:
        self._before = self.most = _private_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self.most = max(self.most, _private_bytes())

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self.most -= self._before


def _private_bytes() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def load_large(folder: Path) -> dict[str, Any]:
    """Load a sharded model whose weights are most of what a process holds."""
    with Private() as private:
        backbone = Backbone.from_pretrained(folder / "large", sharded=True)
    weights = own_parameters(backbone.model).values()
    local = sum(weight.to_local().nbytes for weight in weights)
    return {"local": local, "whole": sum(weight.nbytes for weight in weights), "most": private.most}


def wide_run() -> Run:
    method = PrefixTuning(length=4, hidden=None)
    return Run(name="a", method=method, task=sentiment(), batch_size=4, steps=2, evaluate_every=0)


def train_wide(folder: Path) -> dict[str, int]:
    """Train on a sharded model of which a gathered layer is most of what a process comes to hold."""
    backbone = Backbone.from_pretrained(folder / "wide", sharded=True)
    train(backbone, [wide_run()], TrainConfig(progress=False))  # looks once at what the backbone can do
    local = sum(weight.to_local().nbytes for weight in own_parameters(backbone.model).values())
    with Private() as private:
        train(backbone, [wide_run()], TrainConfig(progress=False))
    return {"local": local, "most": private.most}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    index = Processes().index
    found: dict[str, Any] = {"fingerprints": {}, "results": {}}
    whole = {family: Backbone.from_pretrained(folder / family) for family in FAMILIES}
    spread = {family: Backbone.from_pretrained(folder / family, sharded=True) for family in FAMILIES}
    found["large"] = load_large(folder)  # behind the others, which import what any model needs
    for family in FAMILIES:
        found["fingerprints"][family] = spread[family].fingerprint == whole[family].fingerprint
    for (family, case), settings in CASES.items():
        backbones = spread if case.startswith("sharded") else whole
        result = train(backbones[family], several_runs(), quiet(folder / family / case, **settings))
        found["results"][f"{family} {case}"] = {
            name: [run.status, run.best_step, dict(run.metrics)] for name, run in result.items()
        }
    for family, case, name in SINGLE:
        backbones = spread if case == "sharded" else whole
        train(backbones[family], one_run(name), quiet(folder / family / f"{case}-{name}"))
    for run in special_runs():
        train(whole["llama"], [run], quiet(folder / "special" / run.name))
    found["stopped"] = {
        way: train_until((spread if way == "sharded" else whole)[family], folder / "resumed" / way, stop=2, signalled=1)
        for way, family in RESUMED.items()
    }
    for case, (loading, settings) in ROUNDED.items():
        rounded = Backbone.from_pretrained(folder / "llama", sharded=True, **loading)
        train(rounded, rounded_runs(), quiet(folder / "rounded" / case, **settings))
    found["gathers"] = {
        f"{family} {case}": gathers.count_gathers(spread[family], method, **settings)
        for (family, case), (method, settings, _) in gathers.CASES.items()
    }
    found["wide"] = train_wide(folder)
    found["refused"] = refused(spread["llama"])
    found["differing"] = differing(whole["llama"], index)
    found["untracked"] = untracked(whole["llama"], folder / "untracked")
    (folder / f"found-{index}.json").write_text(json.dumps(found))
    Processes().wait()


def differing(backbone: Backbone, index: int) -> list[str]:
    """What is said of runs, and of rows to score, that are not the same in every process."""
    task = sentiment()
    run = Run(name="a", method=PromptTuning(length=2), task=task, steps=1)
    kept = {"train": task.examples("train"), "validation": task.examples("validation")[index:]}
    fewer = replace(task, _examples=kept)
    return [
        said_of(lambda one=one: train(backbone, [one], TrainConfig(progress=False)))
        for one in (replace(run, seed=index), replace(run, task=fewer))
    ]


def untracked(backbone: Backbone, folder: Path) -> str:
    """What is said of a tracker that the first process alone cannot open."""
    run = Run(name="a", method=PromptTuning(length=2), task=sentiment(), steps=1)
    return said_of(lambda: train(backbone, [run], quiet(folder, trackers=("none such",))))


def said_of(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except SoftpromptError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def refused(backbone: Backbone) -> list[str]:
    """What a sharded backbone does not do."""
    said = []
    run = Run(name="all", method=ModelTuning(), task=sentiment(), steps=1)
    for attempt in (
        lambda: train(backbone, [run], TrainConfig(progress=False)),
        lambda: Backbone.from_pretrained(backbone.name, sharded=True, quantize="int8"),
    ):
        try:
            attempt()
        except UnsupportedError as error:
            said.append(str(error))
    return said


if __name__ == "__main__":
    main(Path(sys.argv[1]))
