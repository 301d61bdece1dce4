"""Rows are shared and gradients averaged; several processes are in `tests/pretraining` and `tests/training`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import PartialState

from softprompt.backbones.launch import lost_one
from softprompt.errors import ConfigError, LostProcessError
from softprompt.loop import processes as processes_module
from softprompt.loop.processes import Processes


def test_a_program_started_alone_is_the_only_one() -> None:
    alone = Processes()
    assert (alone.count, alone.first) == (1, True)
    rows = np.arange(12).reshape(6, 2)
    assert alone.share(rows).tolist() == rows.tolist()
    assert [alone.any(flag) for flag in (True, False)] == [True, False]
    assert alone.from_first({"a": 1}) == {"a": 1}
    with alone.first_alone():
        alone.wait()


NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "PMI_SIZE", "PMI_RANK")


@pytest.mark.parametrize(
    "given",
    [
        {"LOCAL_RANK": "0"},
        {"WORLD_SIZE": "2"},
        {"PMI_SIZE": "2", "PMI_RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
    ],
    ids=" ".join,
)
def test_variables_of_other_programs_are_no_launch(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    """A program that a cluster manager had started alone waited for others, or ended in accelerate's own error."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes_module, "PartialState", lambda **settings: pytest.fail("asked accelerate"))
    before = dict(os.environ)
    alone = Processes()
    assert (alone.count, alone.index, alone.first) == (1, 0, True)
    assert (alone.from_first("a"), alone.gather("a")) == ("a", ["a"])
    alone.wait()
    assert dict(os.environ) == before


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As the first of two processes; what accelerate knew before is forgotten for the test."""
    told = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    for name, value in {**told, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "none"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(PartialState, "_shared_state", {})
    return monkeypatch


def test_processes_that_do_not_meet_are_told_so(launched: pytest.MonkeyPatch) -> None:
    """Also the second time: accelerate keeps the half of a state that an error left."""
    for _ in range(2):
        with pytest.raises(ConfigError, match="2 processes were started together, but do not find each other"):
            Processes()
    launched.setenv("WORLD_SIZE", "two")
    with pytest.raises(ConfigError, match="WORLD_SIZE='two' is no number of processes"):
        Processes()


def test_a_group_that_accelerate_does_not_know_is_refused(launched: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        launched.delenv(name)
    launched.setattr(torch.distributed, "is_initialized", lambda: True)
    launched.setattr(torch.distributed, "get_world_size", lambda: 3)
    with pytest.raises(ConfigError, match="has a group of 3 processes, but accelerate knows of 1"):
        Processes()


def test_alone_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flattening and averaging would be a pass over all gradients for nothing."""
    monkeypatch.setattr(processes_module, "reduce", lambda *args: pytest.fail("reduced"))
    loss = torch.tensor(3.0)
    assert Processes().average(torch.nn.Linear(2, 2), loss) is loss


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_shares_are_a_partition(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    rows = np.arange(12).reshape(6, 2)
    one = Processes()
    monkeypatch.setattr(one, "count", count)
    shares = []
    for index in range(count):
        monkeypatch.setattr(one, "index", index)
        shares.append(one.share(rows))
    assert np.concatenate(shares).tolist() == rows.tolist()
    assert {len(share) for share in shares} == {6 // count}


def test_gradients_and_loss_are_averaged_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process has twice this one's gradients and loss; a weight without a gradient stays without."""
    calls: list[tuple[torch.Size, str]] = []

    def reduce(tensor: torch.Tensor, reduction: str) -> Any:
        calls.append((tensor.shape, reduction))
        return (tensor + 2 * tensor) / 2

    monkeypatch.setattr(processes_module, "reduce", reduce)
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(3, 2), "idle": torch.nn.Linear(2, 2)})
    loss = model["used"](torch.ones(1, 3)).square().sum()
    loss.backward()
    alone = [parameter.grad.clone() for parameter in model["used"].parameters()]
    both = Processes()
    monkeypatch.setattr(both, "count", 2)
    assert both.average(model, loss).item() == pytest.approx(1.5 * loss.item())
    for parameter, gradient in zip(model["used"].parameters(), alone, strict=True):
        torch.testing.assert_close(parameter.grad, 1.5 * gradient)
    assert all(parameter.grad is None for parameter in model["idle"].parameters())
    assert calls == [(torch.Size([3 * 2 + 2 + 1]), "mean")]


def test_what_the_first_does_fails_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the others would wait for it for ever; an error of another library is told in words."""
    sent: list[Any] = []
    first, other = Processes(), Processes()
    for one in (first, other):
        monkeypatch.setattr(one, "count", 2)
        monkeypatch.setattr(one, "from_first", lambda value: sent.append(value) or sent[0])
    monkeypatch.setattr(other, "first", False)
    assert first.first_does(lambda: 3) == other.first_does(lambda: pytest.fail("called")) == 3
    for error, kind in ((ConfigError("so not"), ConfigError), (OSError("disk full"), LostProcessError)):
        sent.clear()

        def fail(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error), match=str(error)):
            first.first_does(fail)
        with pytest.raises(kind, match=str(error)):
            other.first_does(fail)


def test_a_lost_process_is_told_from_other_errors() -> None:
    closed = "[third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:4781: Connection reset by peer."
    assert lost_one(RuntimeError(closed))
    assert lost_one(torch.distributed.DistBackendError("NCCL communicator was aborted"))
    assert not lost_one(RuntimeError("CUDA out of memory"))
    assert not lost_one(ConfigError("gloo"))
