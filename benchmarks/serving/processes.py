"""Server processes: started on a free port of this machine, looked at from outside, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.client import Address, ask
from softprompt.backbones.catalogue import resolve

__all__ = ["Server", "ServerError", "serve_softprompt", "serve_transformers"]

_START_S = 180.0
_END_S = 60.0
_LOOK_S = 0.2
_USER = 11
"""Where a process's time stands behind its name in `/proc/PID/stat`: its own, then the system's for it."""
_ROOM = ("--max_connections", "16384", "--queue_requests", "16384", "--queue_tokens", str(2**24))
"""A load that comes faster than it is answered has to wait here, not to be refused."""
_PATIENCE = ("--request_timeout_s", "3600")


class ServerError(RuntimeError):
    """A server did not start, or did not end in order."""


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        name: What it is.
        address: Where it listens.
        process: Its process.
    """

    name: str
    address: Address
    process: subprocess.Popen[bytes]

    def resident_bytes(self) -> int:
        """Memory that its process holds at this moment."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))

    def cpu_seconds(self) -> float:
        """Processor time that its process has taken, whatever else the machine did."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[_USER : _USER + 2])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serve_softprompt(
    backbone: str, prompts: Path, *, threads: int, options: Mapping[str, object] | None = None
) -> Iterator[Server]:
    """`softprompt serve` with a folder of prompts, which accepts all that comes.

    Raises:
        ServerError: If it does not start, or does not exit with 0 when it is told to end.
    """
    port = _free_port()
    given = [part for name, value in (options or {}).items() for part in (f"--{name}", str(value))]
    command = ["softprompt", "serve", "--backbone", backbone, "--prompts", str(prompts), "--port", str(port)]
    command += ["--dtype", "float32", "--device", "cpu", *_ROOM, *_PATIENCE, *given]
    with _running("softprompt serve", command, port, "/health/ready", threads, codes=(0,)) as server:
        yield server


@contextlib.contextmanager
def serve_transformers(backbone: str, *, threads: int, options: Sequence[str] = ()) -> Iterator[Server]:
    """`transformers serve` with a backbone alone.

    Raises:
        ServerError: If it does not start or does not end.
    """
    port = _free_port()
    command = ["transformers.cli.transformers", "serve", resolve(backbone), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--device", "cpu", "--log-level", "error", *options]
    # Uvicorn raises the signal again when it has ended in order, and nothing here keeps the process from dying of it.
    codes = (0, -signal.SIGTERM)
    with _running("transformers serve", command, port, "/health", threads, codes=codes) as server:
        yield server


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(
    name: str, command: Sequence[str], port: int, ready: str, threads: int, *, codes: Sequence[int]
) -> Iterator[Server]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )
        server = Server(name, Address(port), process)
        try:
            _wait_until(server, ready)
            yield server
        except BaseException:
            _end(process)
            sys.stderr.write(f"{name}, at the end:\n{_tail(said)}\n")
            raise
        code = _end(process)
        if code not in codes:
            raise ServerError(f"{name} ended with {code} when it was told to:\n{_tail(said)}")


def _wait_until(server: Server, ready: str) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if server.process.poll() is not None:
            raise ServerError(f"{server.name} ended with {server.process.returncode} before it was ready.")
        with contextlib.suppress(OSError):
            if asyncio.run(ask(server.address, ready))[0] == 200:
                return
        time.sleep(_LOOK_S)
    raise ServerError(f"{server.name} was not ready after {_START_S:g} seconds.")


def _end(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _tail(said: tempfile._TemporaryFileWrapper[bytes]) -> str:
    said.seek(0)
    return said.read()[-2000:].decode(errors="replace")
