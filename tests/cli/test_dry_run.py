"""`softprompt train --dry_run`: what a training would take is printed, and nothing is trained or written."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from tests.cli.films import TEMPLATES

import softprompt as sp
from softprompt.training import Estimate
from softprompt.training.rehearsal import Pass

MIB = 2**20


def estimate(**settings) -> Estimate:
    known = {
        "device": "cpu",
        "weights_bytes": 100 * MIB,
        "process_bytes": 400 * MIB,
        "trained_bytes": MIB,
        "optimizer_bytes": 2 * MIB,
        "cached_bytes": 0,
        "update_bytes": 4 * MIB,
        "passes": (Pass(longest=32, rows=16, tokens=4512, peak_bytes=47 * MIB),),
        "evaluation_bytes": 20 * MIB,
        "taken": MappingProxyType({"film": "shared"}),
        "free_bytes": 1000 * MIB,
    }
    return Estimate(**{**known, **settings})


@pytest.fixture
def dry_run(run, backbone, files, tmp_path, monkeypatch):
    """Call it on what is then estimated."""

    def call(found: Estimate, *more: str, **wanted: object) -> tuple[int, str, str]:
        arrived, launches = [], []

        def estimated(*given: object, **launch: object) -> Estimate:
            arrived.append(given)
            launches.append(launch)
            return found

        monkeypatch.setattr(sp, "estimate_memory", estimated)
        monkeypatch.setattr(sp, "train", lambda *given: pytest.fail("it trains"))
        out = tmp_path / "out"
        called = run(
            "train", "--backbone", backbone, "--output_dir", str(out), *TEMPLATES, "--train_file", files["train"],
            "--length", "3", "--batch_size", "5", "--pass_tokens", "99", "--dry_run", "true", *more,
        )  # fmt: skip
        assert not out.exists()
        if called[0] == 0:
            ((_, (asked,), config),) = arrived
            assert (asked.batch_size, asked.method.length, config.pass_tokens) == (5, 3, 99)
            assert launches == [wanted]
        return called

    return call


def test_a_table_says_what_takes_how_much(dry_run):
    code, out, err = dry_run(estimate())
    assert code == 0, err
    *table, way, verdict, allocator = out.splitlines()
    assert [line.rsplit(maxsplit=1) for line in table if "---" not in line] == [
        ["memory on cpu", "MiB"],
        ["weights", "100.00"],
        ["the process besides", "400.00"],
        ["what is learned, and its copies", "1.00"],
        ["optimizer", "2.00"],
        ["pass of rows up to 32 long: 16 rows, 4,512 tokens", "47.00"],
        ["optimizer step", "4.00"],
        ["evaluation", "20.00"],
        ["at the peak", "550.00"],
    ]
    assert way == "film takes the pass: shared."
    assert verdict == "A training takes 50 MiB beside what is held now, and 1,000 MiB are free: it fits."
    assert "MALLOC_MMAP_THRESHOLD_" in allocator


def test_what_does_not_fit_is_said_with_what_would(dry_run):
    remedy = {"pass_tokens": 512, "gradient_checkpointing": True}
    _, out, _ = dry_run(estimate(device="cuda", free_bytes=40 * MIB, remedy=remedy))
    assert out.splitlines()[-1] == (
        "A training takes 50 MiB beside what is held now, but 40 MiB are free: it does not fit; it would with"
        " --pass_tokens 512 --gradient_checkpointing true."
    )
    _, out, _ = dry_run(estimate(device="cuda", free_bytes=40 * MIB))
    assert out.splitlines()[-1].endswith("smaller passes and recomputed layers do not help.")
    _, out, _ = dry_run(estimate(device="cuda", free_bytes=None))
    assert out.splitlines()[-1].endswith("how much is free is not known here.")


def test_what_each_of_several_processes_takes_is_asked_in_one(dry_run):
    found = estimate(processes=4, weights_bytes=25 * MIB, gathered_bytes=10 * MIB, offloaded_bytes=7 * MIB)
    asked = ("--processes", "4", "--sharded", "true", "--offload", "true")
    code, out, err = dry_run(found, *asked, processes=4, sharded=True, offload=True)
    assert code == 0, err
    assert "one process alone holds" not in err
    assert out.splitlines()[0].startswith("memory of each of 4 processes on cpu")
    rows = dict(line.rsplit(maxsplit=1) for line in out.splitlines() if line[-1].isdigit())
    assert rows["its part of the weights"] == "25.00"
    assert rows["gathered while a layer computes"] == "10.00"
    assert rows["at the peak"] == "485.00"
    assert "keeps its part of the weights in CPU memory: 7 MiB." in out
    assert "Each of 4 processes takes 485 MiB, and 1,000 MiB are free: it fits." in out
    code, _, err = dry_run(found, "--dry_run", "false", "--processes", "4")
    assert code != 0
    assert "--processes says for how many --dry_run estimates; to train, start them by torchrun" in err


def test_several_sessions_are_not_estimated(dry_run):
    code, _, err = dry_run(estimate(), "--compare", "all")
    assert code != 0
    assert "--dry_run estimates one session" in err


def test_a_search_trains_and_is_not_estimated(dry_run):
    code, _, err = dry_run(estimate(), "--settings", "search")
    assert code != 0
    assert "--settings search trains to find settings" in err
