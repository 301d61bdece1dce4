"""A study on Ray is the study of one process, whoever is killed."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.studies.grids import small_grid
from tests.studies.tables import lasting, ran

from softprompt.errors import ConfigError, MissingDependencyError, SoftpromptError

ray_tasks = pytest.importorskip("softprompt.studies.ray_tasks", reason="Ray is not installed")
ray = pytest.importorskip("ray")


def machine(cpus, gpus=0, alive=True):
    resources = {"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {}), "memory": 1e9}
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "device", "count", "expected"),
    [
        ([machine(8)], "auto", None, (1, 8, 0, 1)),
        ([machine(8)], "cpu", 3, (3, 2, 0, 1)),
        ([machine(8), machine(4)], "auto", None, (2, 4, 0, 2)),
        ([machine(8), machine(4), machine(64, alive=False)], "auto", 4, (4, 2, 0, 2)),
        ([machine(2)], "auto", 5, (5, 1, 0, 1)),
        ([machine(32, gpus=8), machine(16)], "auto", None, (8, 4, 1, 1)),
        ([machine(32, gpus=8), machine(16, gpus=2)], "cuda", None, (10, 4, 1, 2)),
        ([machine(32, gpus=8)], "cuda", 2, (2, 4, 1, 1)),
        ([machine(32, gpus=8), machine(16)], "cpu", None, (2, 16, 0, 2)),
        ([machine(0), machine(16)], "auto", None, (1, 16, 0, 1)),
    ],
)
def test_units_are_spread_evenly(nodes, device, count, expected):
    assert dataclasses.astuple(ray_tasks.seats(nodes, device, count)) == expected


def test_a_cluster_without_what_is_asked_for():
    with pytest.raises(ConfigError, match="no machine with a GPU and a CPU; take device=cpu"):
        ray_tasks.seats([machine(8)], "cuda:0", None)
    with pytest.raises(ConfigError, match="no machine with a CPU for tasks"):
        ray_tasks.seats([machine(0), machine(4, alive=False)], "auto", None)


def test_without_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "softprompt.studies.ray_tasks", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'softprompt\[ray\]'"):
        ran(small_grid(tmp_path), tmp_path / "out", ray="local")


@pytest.fixture(scope="module")
def cluster():
    """Two workers of one CPU."""
    ray.init(address="local", num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def grid(tmp_path):
    """Twelve runs in six sessions, two of which tune the model, and prompts that begin at what others learned."""
    moved = {"method": "prompt_tuning", "length": 3, "starts_from": {"task": "reviews", "method": "prompt tuning"}}
    methods = {
        **small_grid(tmp_path).methods,
        "moved": {**moved, "learning_rate": 0.1},
        "prefix": {"method": "prefix_tuning", "length": 3, "learning_rate": [0.01]},
        "bare": {"method": "text_prompt"},
    }
    return small_grid(tmp_path, methods=methods, session={"progress": False, "checkpoint_every": 1})


def at_work():
    """Processes of this test's Ray that do a unit, which Ray calls by its name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if title.startswith("ray::") and "session" in title and os.getpid() in parents(int(process.name)):
            found.append(int(process.name))
    return found


def parents(pid):
    found = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


@pytest.mark.slow
def test_two_workers_make_the_table_of_one_process(cluster, grid, tmp_path):
    one = lasting(ran(grid, tmp_path / "one"))
    said = []
    two = ran(grid, tmp_path / "two", said.append, ray="auto", workers=2)
    assert lasting(two) == one
    assert len(one) == 12
    assert "Ray: 2 at a time, each with 1 CPU; machines: 1." in said
    assert not list((tmp_path / "two" / "sessions").iterdir())


@pytest.mark.slow
def test_no_more_at_a_time_than_asked_for(cluster, grid, tmp_path, monkeypatch):
    """Ray by itself would take as many as there are processors for."""
    most, wait = [], ray.wait
    monkeypatch.setattr(ray, "wait", lambda units, **options: (most.append(len(units)), wait(units, **options))[1])
    monkeypatch.setattr(ray_tasks, "seats", lambda *given: ray_tasks.Seats(count=1, cpus=1, gpus=0, machines=1))
    ran(long(grid, steps=10), tmp_path / "out", ray="auto", workers=1)
    assert set(most) == {1}


def long(grid, steps=60):
    """Two sessions of many steps."""
    session = {**grid.session, "checkpoint_every": 5}
    run = {**grid.run, "steps": steps, "evaluate_every": steps}
    return dataclasses.replace(grid.narrowed(methods=["prompt tuning"]), run=run, session=session)


def when_begun(folder, act):
    """Act once a session has a checkpoint; another may have no worker yet."""

    def watch():
        while not list(folder.glob("sessions/*/session/checkpoints/step-*")):
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_loses_nothing(cluster, grid, tmp_path, number):
    """By a machine that fails, or by one that is taken away in order."""
    grid = long(grid, steps=200)
    one = lasting(ran(grid, tmp_path / "one"))
    said, killed = [], []

    def kill():
        for pid in at_work():
            killed.append(pid)
            os.kill(pid, number)

    watcher = when_begun(tmp_path / "two", kill)
    table = ran(grid, tmp_path / "two", said.append, ray="auto", workers=2)
    watcher.join()
    assert killed
    assert any("its worker was lost" in line for line in said)
    assert lasting(table) == one
    assert any(row["session_seconds"] is None for row in table)  # it went on, and did not begin anew


@pytest.mark.slow
def test_workers_that_keep_being_killed_are_named(cluster, grid, tmp_path):
    done = threading.Event()

    def kill_all():
        while not done.is_set():
            for pid in at_work():
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    killer = threading.Thread(target=kill_all, daemon=True)
    killer.start()
    try:
        with pytest.raises(SoftpromptError, match=r"of 2, . runs?: the workers that did it were lost 3 times"):
            ran(long(grid), tmp_path / "out", ray="auto", workers=2)
    finally:
        done.set()
        killer.join()


@pytest.mark.slow
def test_an_error_in_a_worker_is_raised_here(cluster, grid, tmp_path):
    missing = dataclasses.replace(long(grid), backbones=(str(tmp_path / "none"),))
    with pytest.raises(SoftpromptError, match="none"):
        ran(missing, tmp_path / "out", ray="auto")


@pytest.mark.slow
def test_a_folder_that_is_not_shared(cluster, grid, tmp_path, monkeypatch):
    """A worker that sees another grid there, or none, begins nothing."""
    monkeypatch.setattr(ray_tasks, "_grid_text", lambda output_dir: "something that no worker sees")
    with pytest.raises(ConfigError, match=r"a machine of the Ray cluster, is not that of the machine that began"):
        ran(long(grid), tmp_path / "out", ray="auto")


PROGRAM = """
import sys
from pathlib import Path
from tests.studies.grids import small_grid
from tests.studies.tables import ran
from tests.studies.test_ray_tasks import long
folder = Path(sys.argv[1])
ran(long(small_grid(folder), steps=300), folder / "out", ray=sys.argv[2])
"""


@pytest.mark.slow
def test_a_study_that_is_told_to_stop_goes_on(tmp_path):
    """By SIGTERM, for which Ray has a handler too; with a Ray of its own, and then without any."""
    folder = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), "local"], stderr=subprocess.PIPE) as study:
        when_begun(folder, study.terminate).join(100)
        _, err = study.communicate(timeout=60)
    assert "TrainingInterrupted: Stopped; what was done is kept in" in err.decode()
    assert list(folder.glob("sessions/*/session/checkpoints/step-*"))
    assert not (folder / "results.jsonl").exists()
    grid = long(small_grid(tmp_path), steps=300)
    assert lasting(ran(grid, folder)) == lasting(ran(grid, tmp_path / "one"))


@pytest.mark.slow
def test_no_cluster_at_the_address(tmp_path):
    program = [sys.executable, "-c", PROGRAM, str(tmp_path), "127.0.0.1:1"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert "UnreachableError: No Ray at '127.0.0.1:1'" in done.stderr
    assert "start one with `ray start --head`" in done.stderr
