"""A study with several processes is the study of one, whoever is killed."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.studies.grids import small_grid, stored_backbone
from tests.studies.tables import lasting, ran

from softprompt.errors import ConfigError, SoftpromptError, TrainingInterrupted
from softprompt.studies import workers
from softprompt.studies.folder import StudyFolder

CONTEXT = multiprocessing.get_context("forkserver")  # which imports everything once
CONTEXT.set_forkserver_preload(["softprompt.studies", "tests.studies.test_workers"])


@pytest.fixture(autouse=True)
def starts_at_once(monkeypatch):
    monkeypatch.setattr(workers, "_CONTEXT", CONTEXT)


def grid_of(tmp_path, **changes):
    """Sessions of three and two runs, and two that tune the model, on one backbone; prompt design on another."""
    methods = {
        **small_grid(tmp_path).methods,
        "moved": {
            "method": "prompt_tuning",
            "length": 3,
            "learning_rate": 0.1,
            "starts_from": {"task": "reviews", "method": "prompt tuning"},
        },
        "bare": {"method": "text_prompt"},
    }
    grid = small_grid(tmp_path, methods=methods, session={"progress": False, "checkpoint_every": 1})
    second = stored_backbone(tmp_path / "second", "encoder-decoder")
    return dataclasses.replace(grid, **{"backbones": (*grid.backbones, second), **changes})


def kill_children():
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)


@pytest.mark.slow
def test_two_processes_make_the_table_of_one(tmp_path):
    grid, said = grid_of(tmp_path), []
    one = lasting(ran(grid, tmp_path / "one"))
    two = ran(grid, tmp_path / "two", said.append, workers=2)
    assert lasting(two) == one
    assert len(one) == 20
    begun = [line for line in said if "session" in line or "-bare-" in line]
    assert {line[:10] for line in begun if line.startswith("[")} == {"[worker 1]", "[worker 2]"}
    assert not list((tmp_path / "two" / "sessions").iterdir())
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_process_that_is_killed_is_replaced(tmp_path):
    grid = grid_of(tmp_path).narrowed(backbones=[str(tmp_path / "tiny")], methods=["prompt tuning"])
    one = lasting(ran(grid, tmp_path / "one"))
    said, killed = [], []

    def say(line):
        said.append(line)
        if "session 1 of 2" in line and len(killed) < 2:
            killed.append(line)
            kill_children()

    assert lasting(ran(grid, tmp_path / "two", say, workers=2)) == one
    assert sum("ended with exit code -9; begun again" in line for line in said) >= 2


@pytest.mark.slow
def test_a_session_that_keeps_being_killed_is_named(tmp_path):
    grid = grid_of(tmp_path).narrowed(backbones=[str(tmp_path / "tiny")], methods=["prompt tuning"])

    def say(line):
        if "session 2 of 2" in line:
            kill_children()

    with pytest.raises(SoftpromptError, match=r"session . of 2, . runs?: the process that did it ended 3 times before"):
        ran(grid, tmp_path / "out", say, workers=1 + 1)
    assert multiprocessing.active_children() == []


def test_an_error_in_a_process_is_raised_here(tmp_path):
    grid = grid_of(tmp_path).narrowed(backbones=[str(tmp_path / "none")], methods=["prompt tuning"])
    with pytest.raises(SoftpromptError, match="none"):
        ran(grid, tmp_path / "out", workers=2)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_an_interrupt_stops_all_at_a_checkpoint(tmp_path):
    grid = grid_of(tmp_path).narrowed(backbones=[str(tmp_path / "tiny")], methods=["prompt tuning"])
    session = {**grid.session, "checkpoint_every": 5}
    grid = dataclasses.replace(grid, run={**grid.run, "steps": 60, "evaluate_every": 60}, session=session)
    one = lasting(ran(grid, tmp_path / "one"))
    folder = tmp_path / "two"

    def interrupt():
        while len({path.parts[-4] for path in folder.glob("sessions/*/session/checkpoints/step-*")}) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt, daemon=True)
    watcher.start()
    with pytest.raises(TrainingInterrupted, match="To go on, run the same command"):
        ran(grid, folder, workers=2)
    watcher.join()
    assert len(list(folder.glob("sessions/*/cells.json"))) == 2
    assert lasting(ran(grid, folder)) == one


def a_study(folder: Path, grid_folder: Path) -> None:
    """What a process does that is killed."""
    workers._CONTEXT = CONTEXT
    ran(grid_of(grid_folder), folder, workers=2)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def entered(folder: Path) -> int:
    """Rows in the table."""
    file = folder / "results.jsonl"
    return len(file.read_text().splitlines()) if file.is_file() else 0


@pytest.mark.slow
def test_killed_with_two_processes_a_study_goes_on(tmp_path):
    """Each time after some more rows: nothing is lost, nothing is there twice, and no process is left behind."""
    grid, folder = grid_of(tmp_path), tmp_path / "cut"
    one = lasting(ran(grid, tmp_path / "one"))
    for rows in (0, 3, 8, 12):
        study = CONTEXT.Process(target=a_study, args=(folder, tmp_path))
        study.start()
        while study.is_alive() and (
            entered(folder) < rows or not list(folder.glob("sessions/*/session/checkpoints/*"))
        ):
            time.sleep(0.01)
        study.kill()
        study.join()
        assert study.exitcode == -signal.SIGKILL
        with StudyFolder(folder).held():
            pass
    assert lasting(ran(grid, folder, workers=2)) == one
    lines = [json.loads(line)["key"] for line in (folder / "results.jsonl").read_text().splitlines()]
    assert len(lines) == len(set(lines))


def report_worker(grid_folder: Path, folder: Path, pids) -> None:
    workers._CONTEXT = CONTEXT

    def say(line):
        pids.put([child.pid for child in multiprocessing.active_children()])

    grid = grid_of(grid_folder)
    ran(dataclasses.replace(grid, run={**grid.run, "steps": 5000}), folder, say, workers=2)


@pytest.mark.slow
def test_no_process_outlives_its_study(tmp_path):
    pids = CONTEXT.Queue()
    study = CONTEXT.Process(target=report_worker, args=(tmp_path, tmp_path / "out", pids))
    study.start()
    while not (children := pids.get(timeout=120)):
        pass
    assert any(map(alive, children))
    study.kill()
    study.join()
    deadline = time.monotonic() + 30
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, children))


def test_two_studies_do_not_share_a_folder(tmp_path):
    grid = small_grid(tmp_path)
    with (
        StudyFolder(tmp_path / "out").held(),
        pytest.raises(ConfigError, match=r"Another process runs a study in .*; wait for its end, or choose another"),
    ):
        ran(grid, tmp_path / "out")
    assert not (tmp_path / "out" / "results.jsonl").exists()
    with pytest.raises(ConfigError, match="workers=0: expected at least 1"):
        ran(grid, tmp_path / "out", workers=0)
