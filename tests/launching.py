"""Several processes of this machine, started as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["launch", "workers"]


def launch(*module: str, count: int, **environment: str) -> subprocess.Popen[str]:
    """Run a module in a number of processes, in a process group of their own; what they say comes in one stream."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), "-m"]
    return subprocess.Popen(
        [sys.executable, *launcher, *module],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def workers(launcher: int) -> list[int]:
    """The processes that a launcher started, as Linux tells them."""
    return [int(child) for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]
