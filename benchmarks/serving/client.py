"""Sends a load to a server and keeps when each answer came.

Every request has a connection of its own, as requests of different people do, and its latency counts from the moment at
which it was to come, whatever held it up since.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.arrivals import Arrival, quantile
from benchmarks.serving.turns import Turns

__all__ = ["Address", "Load", "Outcome", "Target", "ask", "measure", "send", "summed"]

_LEAD_S = 0.05
"""Between the making of a load and its first request."""


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is asked, and how.

    Attributes:
        system: Its name in tables.
        tasks: Tasks that the load is spread over.
        address: Of the server.
        request: From an arrival to the route and what is sent there.
        in_turns: Whether requests of only one task are in flight at a time.
    """

    system: str
    tasks: int
    address: Address
    request: Callable[[Arrival], tuple[str, Mapping[str, Any]]]
    in_turns: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a request; times in seconds from the load's beginning.

    Attributes:
        at_s: When it was to come.
        sent_s: When it was sent.
        done_s: When its answer was there.
        status: Of the answer; 0 where there was none.
        tokens: That were generated or scored.
    """

    at_s: float
    sent_s: float
    done_s: float
    status: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a load led to.

    Attributes:
        requests: That were sent.
        failures: By status, those that were not answered; 0 where the connection failed.
        throughput: Answers a second, from the first arrival to the last answer.
        tokens_per_s: Tokens generated or scored in that time.
        p50_ms: Half of all latencies do not exceed it.
        p99_ms: Likewise, 99 in a hundred.
        late_ms: How late the client sent, of 99 in a hundred at most; not known where requests wait for their turn.
    """

    requests: int
    failures: Mapping[str, int]
    throughput: float
    tokens_per_s: float
    p50_ms: float
    p99_ms: float
    late_ms: float | None


async def ask(address: Address, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
    """Post JSON, or get what is at a path where there is none; the status and the answer's body.

    Raises:
        OSError: If there is no connection, or it ends before the answer is complete.
    """
    content = b"" if body is None else json.dumps(body).encode()
    head = [
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
        f"Host: {address.host}:{address.port}",
        "Connection: close",
        *([] if body is None else ["Content-Type: application/json", f"Content-Length: {len(content)}"]),
    ]
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write("\r\n".join([*head, "", ""]).encode() + content)
        answer = await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return _parsed(answer)


def _parsed(answer: bytes) -> tuple[int, bytes]:
    head, found, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if not found or headers.get("content-length") != str(len(body)):
        raise ConnectionError("The connection ended before the answer was complete.")
    return int(lines[0].split()[1]), body


async def send(target: Target, arrivals: Sequence[Arrival]) -> list[Outcome]:
    """Send each request at its time, whether or not those before it are answered."""
    clock = asyncio.get_running_loop().time
    turns = Turns() if target.in_turns else None
    start = clock() + _LEAD_S

    async def one(arrival: Arrival) -> Outcome:
        async with turns.turn(arrival.task) if turns else contextlib.nullcontext():
            sent_s = clock() - start
            try:
                status, answer = await ask(target.address, *target.request(arrival))
            except OSError:
                status, answer = 0, b""
        tokens = json.loads(answer)["usage"].get("completion_tokens", 0) if status == 200 else 0
        return Outcome(at_s=arrival.at_s, sent_s=sent_s, done_s=clock() - start, status=status, tokens=tokens)

    sending = []
    for arrival in arrivals:
        await asyncio.sleep(max(0.0, start + arrival.at_s - clock()))
        sending.append(asyncio.create_task(one(arrival)))
    return await asyncio.gather(*sending)


async def measure(target: Target, arrivals: Sequence[Arrival]) -> Load:
    """Send a load, and sum up what it led to."""
    return summed(await send(target, arrivals), in_turns=target.in_turns)


def summed(outcomes: Sequence[Outcome], *, in_turns: bool = False) -> Load:
    """What a load led to; latencies are those of answers."""
    answered = [one for one in outcomes if one.status == 200]
    failed = [str(one.status) for one in outcomes if one.status != 200]
    seconds = max(one.done_s for one in outcomes) - min(one.at_s for one in outcomes)
    latencies = [1000 * (one.done_s - one.at_s) for one in answered] or [float("inf")]
    return Load(
        requests=len(outcomes),
        failures={status: failed.count(status) for status in sorted(set(failed))},
        throughput=len(answered) / seconds,
        tokens_per_s=sum(one.tokens for one in answered) / seconds,
        p50_ms=quantile(latencies, 0.5),
        p99_ms=quantile(latencies, 0.99),
        late_ms=None if in_turns else quantile([1000 * (one.sent_s - one.at_s) for one in outcomes], 0.99),
    )
