"""Thousands of prompts on disk, of which a hundred fit into memory: what a server holds, finds there and reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import softprompt as sp
from benchmarks.serving.arrivals import Arrival, draw_arrivals, hit_rate
from benchmarks.serving.client import Address, Load, Target, ask, measure
from benchmarks.serving.material import make_texts, name_of, write_copies
from benchmarks.serving.processes import Server, serve_softprompt
from softprompt.inference import PromptFolder

__all__ = ["Look", "ManyPlan", "ManyResult", "growth", "measure_many", "render_many"]

_TEXTS = 256
_TOKENS = 8
_LABELS = ("good", "bad")
_WARM_UP = 1 / 3
"""Share of the time after which memory should grow no more."""


@dataclass(frozen=True, kw_only=True)
class ManyPlan:
    """How much is measured.

    Attributes:
        backbone: Its name.
        prompts: How many there are on disk.
        room: How many fit into memory.
        seconds: Of arrivals.
        rate: Requests a second.
        every_s: Seconds between two looks at the server.
        threads: CPU threads of the server.
        seed: Of arrivals, prompts and texts.
    """

    backbone: str
    prompts: int
    room: int
    seconds: float
    rate: float
    every_s: float
    threads: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a server holds and has done at a moment.

    Attributes:
        at_s: Seconds from the load's beginning.
        resident_bytes: Memory of its process.
        loaded: Prompts in its memory.
        bytes: Of these.
        hits: How often a prompt was in memory when it was asked for.
        misses: How often it had to be read.
        evictions: How often one made room.
        load_s: Spent on reading, checking and computing prompts.
    """

    at_s: float
    resident_bytes: int
    loaded: int
    bytes: int
    hits: int
    misses: int
    evictions: int
    load_s: float


@dataclass(frozen=True, kw_only=True)
class ManyResult:
    """What came of the load.

    Attributes:
        found: Latencies and failures.
        looks: At the server, in order.
        cache_bytes: Room for prompts.
        bytes_of_one: What one prompt takes up in memory.
        expected_hit_rate: Of the same requests in the same order, if memory held `room` prompts.
        prepare_ms: Of answered requests, the mean and bounds of the time for loading and tokenizing, by share.
    """

    found: Load
    looks: Sequence[Look]
    cache_bytes: int
    bytes_of_one: int
    expected_hit_rate: float
    prepare_ms: Mapping[str, float]


def measure_many(plan: ManyPlan, say: Callable[[str], object]) -> ManyResult:
    """Write the prompts, start the server, and ask it as long as planned."""
    with tempfile.TemporaryDirectory(prefix="benchmark-prompts-") as name:
        folder = Path(name)
        start_s = time.perf_counter()
        backbone = sp.Backbone.from_pretrained(plan.backbone, dtype="float32", device="cpu")
        write_copies(backbone, folder, plan.prompts, seed=plan.seed)
        say(f"{plan.prompts} prompts were written in {time.perf_counter() - start_s:.0f} s")
        texts = make_texts(backbone, _TEXTS, seed=plan.seed)
        known = PromptFolder(backbone, folder)
        with known.lease(name_of(0)):
            one = known.counts().bytes
        del backbone, known
        options = {"cache_bytes": plan.room * one}
        with serve_softprompt(plan.backbone, folder, threads=plan.threads, options=options) as server:
            count = max(1, round(plan.rate * plan.seconds))
            arrivals = draw_arrivals(
                rate=plan.rate, count=count, tasks=plan.prompts, inputs=_TEXTS, seed=(plan.seed, plan.prompts)
            )
            found, looks, prepare = asyncio.run(_load(server, arrivals, texts, plan, say))
    asked = [arrival.task for arrival in arrivals]
    return ManyResult(
        found=found,
        looks=looks,
        cache_bytes=plan.room * one,
        bytes_of_one=one,
        expected_hit_rate=hit_rate(asked, room=plan.room),
        prepare_ms=prepare,
    )


async def _load(
    server: Server, arrivals: Sequence[Arrival], texts: Sequence[str], plan: ManyPlan, say: Callable[[str], object]
) -> tuple[Load, list[Look], dict[str, float]]:
    """Generate for every other text, and classify the rest, while the server is looked at."""
    looks: list[Look] = []
    start_s = time.perf_counter()

    async def watch() -> None:
        while True:
            looks.append(await look(server, time.perf_counter() - start_s))
            last = looks[-1]
            say(f"{last.at_s:.0f} s: {last.resident_bytes / 2**20:.1f} MiB, {last.hits} hits, {last.misses} misses")
            await asyncio.sleep(plan.every_s)

    def request(arrival: Arrival) -> tuple[str, dict[str, Any]]:
        model, text = name_of(arrival.task), texts[arrival.input]
        if arrival.input % 2:
            return "/v1/classify", {"model": model, "input": text, "labels": _LABELS}
        return "/v1/completions", {"model": model, "prompt": text, "max_tokens": _TOKENS}

    watching = asyncio.create_task(watch())
    try:
        target = Target(system=server.name, tasks=plan.prompts, address=server.address, request=request)
        found = await measure(target, arrivals)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    looks.append(await look(server, time.perf_counter() - start_s))
    return found, looks, await prepare_ms(server.address)


async def look(server: Server, at_s: float) -> Look:
    """Memory by the operating system, the rest by the server itself."""
    _, answer = await ask(server.address, "/v1/load")
    told = json.loads(answer)["prompts"]
    kept = {name: told[name] for name in ("loaded", "bytes", "hits", "misses", "evictions")}
    return Look(at_s=at_s, resident_bytes=server.resident_bytes(), load_s=told["load_seconds"], **kept)


async def prepare_ms(address: Address) -> dict[str, float]:
    """The mean time for loading and tokenizing, and what so large a share of answered requests does not exceed."""
    _, answer = await ask(address, "/metrics")
    text = answer.decode()
    stage = r'^softprompt_stage_seconds_{}\{{{}stage="prepare"\}} (\S+)$'
    total, count = (
        float(re.search(stage.format(part, ""), text, re.MULTILINE).group(1))  # type: ignore[union-attr]
        for part in ("sum", "count")
    )
    bucket = re.compile(r'^softprompt_stage_seconds_bucket\{le="([^"]+)",stage="prepare"\} (\S+)$', re.MULTILINE)
    bounds = [(float(bound), float(below)) for bound, below in bucket.findall(text)]
    within = {f"p{share:g}": next(b for b, below in bounds if below >= share / 100 * count) for share in (50, 90, 99)}
    return {"mean": 1000 * total / count, **{name: 1000 * bound for name, bound in within.items()}}


def growth(looks: Sequence[Look], *, warm_up: float = _WARM_UP) -> float:
    """Bytes a second by which memory grows after warm-up, by least squares; 0 of fewer than two looks."""
    after = [one for one in looks if one.at_s >= warm_up * looks[-1].at_s]
    if len(after) < 2:
        return 0.0
    return float(np.polyfit([one.at_s for one in after], [one.resident_bytes for one in after], 1)[0])


def render_many(plan: ManyPlan, result: ManyResult) -> str:
    """A Markdown table of what was found."""
    looks, found = result.looks, result.found
    last = looks[-1]
    warm = [one for one in looks if one.at_s >= _WARM_UP * last.at_s]
    mib = [one.resident_bytes / 2**20 for one in (looks[0], warm[0], last)]
    rows = {
        "prompts on disk": f"{plan.prompts:,}",
        "room in memory": f"{plan.room} of {result.bytes_of_one:,} bytes",
        "load": f"{found.requests:,} requests in {plan.seconds:g} s, Zipf",
        "failed": f"{sum(found.failures.values())} {dict(found.failures) or ''}".strip(),
        "answers/s": f"{found.throughput:.1f}",
        "latency, p50 and p99": f"{found.p50_ms:.0f} and {found.p99_ms:.0f} ms",
        "memory at the start, after warm-up, at the end": " ".join(f"{one:.1f}" for one in mib) + " MiB",
        "growth after warm-up": f"{60 * growth(looks) / 2**10:,.0f} KiB a minute",
        "most memory after warm-up": f"{max(one.resident_bytes for one in warm) / 2**20:.1f} MiB",
        "hit rate": f"{last.hits / max(1, last.hits + last.misses):.3f}",
        "hit rate of as large a cache, worked out": f"{result.expected_hit_rate:.3f}",
        "prompts read": f"{last.misses:,}, {1000 * last.load_s / max(1, last.misses):.1f} ms each",
        "loading and tokenizing of a request": ", ".join(
            f"{name} {'up to ' * (name != 'mean')}{value:.1f} ms" for name, value in result.prepare_ms.items()
        ),
        "prompts in memory at the end": f"{last.loaded}, {last.bytes:,} of {result.cache_bytes:,} bytes",
    }
    return "\n".join(["| what | found |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
