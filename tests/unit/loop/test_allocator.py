"""A process that keeps what large tensors took: in a process of its own, as it cannot be undone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from softprompt.loop.allocator import keep_freed_memory

kept = keep_freed_memory() if {keep} else None
for _ in range(16):  # an aligned block does not fit where one of its size was, until neighbours are free, too
    torch.ones(2**25).add_(1)  # 128 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(2**25).add_(1)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def run(*, keep: bool, **environment: str) -> tuple[str, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


def test_a_large_tensor_finds_the_memory_of_the_one_before():
    _, fresh = run(keep=False)
    kept, again = run(keep=True)
    assert kept == "True"
    assert again * 10 < fresh


@pytest.mark.parametrize("said", [{"MALLOC_MMAP_THRESHOLD_": "65536"}, {"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}])
def test_what_the_environment_says_stays(said):
    kept, faults = run(keep=True, **said)
    assert kept == "False"
    assert faults > 100
