"""Several processes train what one does, hear of each other's end, and go on in another number.

All comparisons with two processes stand on one launch (`ranks`), because starting processes takes longest.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from benchmarks.scaling import GATHERED
from tests.launching import launch, workers
from tests.training import gathers, processes, ranks
from tests.training.sessions import difference

from softprompt.backbones import Backbone
from softprompt.cli import main
from softprompt.loop.checkpoints import latest_checkpoint, load_checkpoint
from softprompt.prompts import SoftPrompt
from softprompt.training import TrainConfig, TrainResult, estimate_memory, train

pytestmark = pytest.mark.slow

CLOSE = 1e-5
ROUNDED_CLOSE = 0.03
"""Of prompts of bfloat16 whose rows shared other passes: they move by more than their own size."""
NAMES = ["rows", "keys", "top", "behind"]
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "TQDM_DISABLE": "1"}
"""Freed memory goes back at once, so that what is held can be measured."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainResult]:
    """By family, what one process makes of all runs."""
    folder = tmp_path_factory.mktemp("alone")
    ranks.save_models(folder)
    return {
        family: train(Backbone.from_pretrained(folder / family), ranks.several_runs(), TrainConfig(progress=False))
        for family in ranks.FAMILIES
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left; before, one had begun the session that they went on with."""
    folder = tmp_path_factory.mktemp("pair")
    ranks.save_models(folder)
    ranks.save_large(folder)
    ranks.save_wide(folder)
    for way, family in ranks.RESUMED.items():
        one = Backbone.from_pretrained(folder / family)
        assert "Stopped after step 1;" in ranks.train_until(one, folder / "resumed" / way, stop=1, signalled=0)
    pair = launch("tests.training.ranks", str(folder), count=2, **GIVES_BACK)
    try:
        said, _ = pair.communicate(timeout=300)
    finally:
        if pair.poll() is None:
            os.killpg(pair.pid, signal.SIGKILL)
    assert pair.returncode == 0, said
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """What each of the two processes found."""
    return [json.loads((folder / f"found-{index}.json").read_text()) for index in range(2)]


def history(folder: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "runs" / f"{name}.jsonl").read_text().splitlines()]


def assert_same(folder: Path, name: str, alone: TrainResult) -> None:
    """A run's prompt and history are those of one process, but for the rounding of sums in another order."""
    assert difference(SoftPrompt.load(folder / "prompts" / name), alone[name].prompt) < CLOSE
    for entry, other in zip(history(folder, name), alone[name].history, strict=True):
        assert entry == pytest.approx(other, rel=CLOSE)


@pytest.mark.parametrize(("family", "case"), ranks.CASES)
def test_two_processes_train_what_one_does(family, case, folder, alone):
    for name in NAMES:
        assert_same(folder / family / case, name, alone[family])


@pytest.mark.parametrize(("family", "case", "name"), ranks.SINGLE)
def test_a_single_run_is_shared_too(family, case, name, folder, alone):
    assert_same(folder / family / f"{case}-{name}", name, alone[family])


@pytest.mark.parametrize("run", ranks.special_runs(), ids=lambda run: run.name)
def test_weights_mixtures_and_fewer_rows_than_processes_are_shared_too(run, folder):
    """Losses after the first step are those of what the steps before have trained."""
    alone = train(Backbone.from_pretrained(folder / "llama"), [run], TrainConfig(progress=False))[run.name]
    found = history(folder / "special" / run.name, run.name)
    assert len(found) == ranks.STEPS
    for entry, other in zip(found, alone.history, strict=True):
        assert entry == pytest.approx(other, rel=CLOSE)


@pytest.mark.parametrize(("family", "case"), ranks.CASES)
def test_all_processes_have_the_same_result(family, case, found, alone):
    """A run that diverges is given up by all of them, or the others would wait for it for ever."""
    first, second = (each["results"][f"{family} {case}"] for each in found)
    assert first == second
    for name, (status, best_step, metrics) in first.items():
        wanted = alone[family][name]
        assert (status, best_step, metrics) == (wanted.status, wanted.best_step, wanted.metrics)
    assert first["wild"][0] == "failed"


@pytest.mark.parametrize(("way", "family"), ranks.RESUMED.items())
def test_a_session_goes_on_in_another_number_of_processes(way, family, folder, found, alone):
    """One process takes a step, two take one more, and one takes the rest."""
    resumed = folder / "resumed" / way
    assert all("Stopped after step 2;" in each["stopped"][way] for each in found)
    assert load_checkpoint(latest_checkpoint(resumed / "checkpoints"))["step"] == 2
    train(Backbone.from_pretrained(folder / family), ranks.several_runs(), ranks.quiet(resumed))
    for name in NAMES:
        assert_same(resumed, name, alone[family])


@pytest.mark.parametrize("case", ranks.ROUNDED)
def test_sharded_training_in_bfloat16_is_that_of_one_process(case, folder, alone):
    """To the rounding of bfloat16, which has to be there."""
    loading, settings = ranks.ROUNDED[case]
    backbone = Backbone.from_pretrained(folder / "llama", **loading)
    runs = ranks.rounded_runs()
    one = train(backbone, runs, TrainConfig(progress=False, **settings))
    for run in runs:
        found = SoftPrompt.load(folder / "rounded" / case / "prompts" / run.name)
        assert difference(found, one[run.name].prompt) < ROUNDED_CLOSE
        assert difference(found, alone["llama"][run.name].prompt) > 10 * CLOSE
        assert difference(found, run.method.build(backbone, run.task, run.seed).fold()) > 1
        losses = [entry["loss"] for entry in history(folder / "rounded" / case, run.name)]
        assert losses == pytest.approx([entry["loss"] for entry in one[run.name].history], rel=3e-3)


@pytest.mark.parametrize(("family", "case"), gathers.CASES)
def test_layers_are_gathered_as_often_as_is_reckoned_with(family, case, found):
    """Forward and back, of rows before inputs twice: one more is time that is missing in `docs/scaling.md`."""
    *_, wanted = gathers.CASES[family, case]
    for each in found:
        by_layer = each["gathers"][f"{family} {case}"]
        assert len(by_layer) == {"llama": 3, "t5": 4}[family]
        assert set(by_layer.values()) == {wanted}
    assert gathers.CASES["llama", "rows"][-1] == GATHERED == 2 * gathers.CASES["llama", "prefix"][-1]


def test_a_sharded_backbone_is_known_by_its_fingerprint(found):
    assert [each["fingerprints"] for each in found] == [dict.fromkeys(ranks.FAMILIES, True)] * 2


def test_loading_takes_less_memory_than_the_whole_of_a_sharded_model(found):
    for large in (each["large"] for each in found):
        assert large["local"] == pytest.approx(large["whole"] / 2, rel=0.02)
        assert large["local"] + large["most"] < 0.75 * large["whole"]


def test_what_a_sharded_training_takes_is_known_before(found, folder):
    """In each process: its part, and at the peak what of layers is gathered; by the bytes that are resident."""
    backbone = Backbone.from_pretrained(folder / "wide")
    settings = TrainConfig(progress=False)
    known = estimate_memory(backbone, [ranks.wide_run()], settings, processes=2, sharded=True)
    assert known.gathered_bytes > 0.9 * known.added_bytes
    for wide in (each["wide"] for each in found):
        assert known.weights_bytes == pytest.approx(wide["local"], rel=0.01)
        assert known.added_bytes == pytest.approx(wide["most"], rel=0.15)


def test_what_a_sharded_backbone_does_not_do(found):
    for each in found:
        weights, quantised = each["refused"]
        assert "is spread over processes, which hold no weights of their own to train" in weights
        assert "a sharded backbone can neither be quantised" in quantised


def test_what_differs_between_processes_is_not_trained(found):
    """Seeds, or rows to score: all of them say so, and none waits for another."""
    for each in found:
        seeds, rows = each["differing"]
        assert seeds.startswith("ConfigError: 2 processes share a training, but were not given the same: run 'a'.")
        assert "not given the same: the rows that 'sentiment' is scored on." in rows


def test_a_tracker_that_cannot_be_opened_is_told_of_in_all(found):
    """The first one alone said so, and the others that it had died."""
    for each in found:
        assert each["untracked"].startswith("ConfigError: ")
        assert "none such" in each["untracked"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_a_killed_process_ends_all_and_the_last_checkpoint_is_good(tmp_path, capsys):
    """The one that is left says so; the same command goes on, here in one process."""
    ranks.save_models(tmp_path)
    rows = [json.dumps({"text": f"great {word}", "label": str(n % 2)}) for n, word in enumerate(ranks.WORDS[:24])]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    command = [
        *("train", "--backbone", str(tmp_path / "llama"), "--train_file", str(tmp_path / "rows.jsonl")),
        *("--input", "{text}", "--target", "{label}", "--label_words", '{"0": "bad", "1": "good"}', "--name", "a"),
        *("--length", "3", "--batch_size", "4", "--steps", "60", "--learning_rate", "0.01", "--checkpoint_every", "5"),
        *("--evaluate_every", "0"),
    ]
    output = tmp_path / "killed"
    pair = launch("softprompt", *command, "--output_dir", str(output), count=2)
    try:
        deadline_s = time.monotonic() + 120
        while latest_checkpoint(output / "checkpoints") is None and time.monotonic() < deadline_s:
            time.sleep(0.01)
        os.kill(sorted(workers(pair.pid))[1], signal.SIGKILL)
        killed_s = time.monotonic()
        said, _ = pair.communicate(timeout=60)
    finally:
        if pair.poll() is None:
            os.killpg(pair.pid, signal.SIGKILL)
    assert time.monotonic() - killed_s < 60
    assert pair.returncode != 0
    last = latest_checkpoint(output / "checkpoints")
    assert "softprompt: Another of 2 processes died or hangs after step" in said, said
    assert f"The last checkpoint is good: {last}. To go on, in as many processes as you like, run" in said, said
    assert said.count("Data of rows:") == 1, said
    assert 0 < load_checkpoint(last)["step"] < 60
    assert main([*command, "--output_dir", str(output)]) == 0
    assert main([*command, "--output_dir", str(tmp_path / "whole")]) == 0
    prompts = [SoftPrompt.load(path / "prompts" / "a") for path in (output, tmp_path / "whole")]
    assert difference(*prompts) < 1e-3  # up to sixty steps of sums in another order, where `CLOSE` is for four


@pytest.mark.parametrize(("moment", "count"), [("before the rename", 3), (processes.GATHERING, 200)])
def test_where_the_first_of_sharded_processes_dies_the_other_ends_and_the_run_goes_on(moment, count, tmp_path):
    """The first holds a part of every layer, and alone writes. No launcher ends the other here."""
    ranks.save_models(tmp_path)
    output = tmp_path / "killed"
    first, second = processes.start_pair(output, tmp_path / "llama", moment=moment, count=count)
    try:
        assert processes.finish(first) == -signal.SIGKILL
        second.join(timeout=60)
        assert second.exitcode == 0
    finally:
        second.kill()
    last = latest_checkpoint(output / "checkpoints")
    assert 0 < load_checkpoint(last)["step"] < 12
    told = (output / "lost-1.txt").read_text(encoding="utf-8")
    assert told.startswith("Another of 2 processes died or hangs after step ")
    assert f"The last checkpoint is good: {last}. To go on, in as many processes as you like" in told
    backbone, runs = Backbone.from_pretrained(tmp_path / "llama"), processes.two_runs(12, 5)
    resumed = train(backbone, runs, ranks.quiet(output))
    whole = train(backbone, runs, TrainConfig(progress=False))
    for run in runs:
        assert difference(resumed[run.name].prompt, whole[run.name].prompt) < CLOSE
