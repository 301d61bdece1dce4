"""Memory that can still be had, and what is taken between two moments."""

from __future__ import annotations

import pytest
import torch

from softprompt.loop import memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 4096 * 1024),
        ({"memory.max": "max", "memory.current": "10"}, 4096 * 1024),
        ({"memory.max": "1000", "memory.current": "400"}, 600),
        ({"memory/memory.limit_in_bytes": "3000", "memory/memory.usage_in_bytes": "1000"}, 2000),
        ({"memory.max": "99999999999", "memory.current": "0"}, 4096 * 1024),
    ],
)
def test_what_is_free_on_a_cpu_is_free_in_its_container(files, free, tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9999 kB\nMemAvailable: 4096 kB\n")
    for name, text in files.items():
        (tmp_path / "group" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "group" / name).write_text(f"{text}\n")
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "group")
    assert memory.free_memory(CPU) == free


@pytest.mark.skipif(not memory._CLEAR.exists(), reason="Linux tells the peak of a process, others do not")
def test_what_was_taken_before_is_not_in_a_peak():
    """A small session behind a large one was told the large one's memory, which was freed but kept by the process."""
    freed = [torch.ones(2**14) for _ in range(2**12)]  # 256 MiB in blocks that malloc keeps
    freed.append(freed)  # and a cycle
    del freed
    before = memory.reset_memory(CPU)
    torch.ones(2**24).sum()  # 64 MiB
    assert before is not None
    assert 60 * 2**20 < memory.peak_memory(CPU) - before < 128 * 2**20


def test_where_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "none")
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "none")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    assert memory.free_memory(CPU) is None
    assert memory.reset_memory(CPU) is None
