"""How throughput and latency depend on the number of tasks, against other ways to serve them.

All ways get the same arrivals, round by round, and every other round goes through them backwards, so that what else the
machine does falls on all alike. Two loads: `steady` is half of what the server reaches with one task, and its latencies
count; `overload` is twice what it reaches, and its throughput counts. Processor time is that of the server's process
for each answer, and needs less of a quiet machine. Tasks are of prompt tuning and of prefix tuning in turn; so the one
task is of prompt tuning, and one of prefix tuning is measured alone besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import softprompt as sp
from benchmarks.serving.arrivals import Arrival, burst, draw_arrivals
from benchmarks.serving.client import Load, Target, measure
from benchmarks.serving.material import make_texts, name_of, write_tasks
from benchmarks.serving.processes import Server, serve_softprompt, serve_transformers
from benchmarks.timing import Spread, spread

__all__ = ["MIXED", "PEERS", "Run", "TaskPlan", "measure_tasks", "ratio", "render_tasks"]

MIXED, IN_TURNS = "softprompt", "softprompt, one task at a time"
PREFIX, BARE = "softprompt, a task of prefix tuning", "softprompt, bare backbone"
GENERATE, CLASSIFY = "up to 16 tokens", "2 labels"
STEADY, OVERLOAD = "steady", "overload"
PEERS = {
    "transformers serve, bare": (),
    "transformers serve, bare, continuous batching": (
        *("--continuous-batching", "--attn-implementation", "sdpa"),
        *("--cb-num-blocks", "64"),  # of 256 tokens; its default is six tenths of all memory
    ),
}
_SHARES = {STEADY: 0.5, OVERLOAD: 2.0}
_TOKENS = 16
_LABELS = ("good", "bad")
_TEXTS = 256
_BURST = 128
_GOAL = 0.1
"""How much worse throughput and median latency may be than those of one task."""
_COLUMNS: Mapping[str, Callable[[Run], float]] = {
    "throughput": lambda run: run.found.throughput,
    "p50": lambda run: run.found.p50_ms,
    "p99": lambda run: run.found.p99_ms,
    "processor": lambda run: run.cpu_ms,
    "tokens": lambda run: run.found.tokens_per_s / max(run.found.throughput, 1e-9),
}
_COMPARED = ("throughput", "p50", "processor")
_COUNTS = {STEADY: "p50", OVERLOAD: "throughput"}

_Request = Callable[[str, Arrival], tuple[str, dict[str, Any]]]
"""From a model's name and an arrival to the route and what is sent there."""
_Served = tuple[Server, Target]


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """How much is measured.

    Attributes:
        backbone: Its name.
        tasks: Numbers of tasks; the first is what the others are compared with.
        seconds: Of arrivals, in a load that is answered as it comes.
        rounds: How often each way is measured.
        rate: Requests a second of the steady load; None takes half of what one task reaches.
        peers: Ways in which transformers serves the backbone alone, where it is decoder-only.
        mixed_only: Whether nothing else is measured beside mixed batches: more of their rounds in the same time.
        threads: CPU threads of each server.
        seed: Of arrivals and texts.
    """

    backbone: str
    tasks: Sequence[int]
    seconds: float
    rounds: int
    rate: float | None
    peers: Sequence[str]
    mixed_only: bool
    threads: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """One load on one system.

    Attributes:
        workload: What each request asks for.
        load: How fast requests come, in a word.
        rate: Requests a second, in the mean.
        system: Who answers.
        tasks: Tasks that the load is spread over.
        round: In which round.
        cpu_ms: Processor time of the server for each answer.
        found: What came of it.
    """

    workload: str
    load: str
    rate: float
    system: str
    tasks: int
    round: int
    cpu_ms: float
    found: Load


def measure_tasks(plan: TaskPlan, say: Callable[[str], object]) -> Iterator[Run]:
    """Start the servers, and measure each workload on all of them."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-prompts-")))
        backbone = sp.Backbone.from_pretrained(plan.backbone, dtype="float32", device="cpu")
        write_tasks(backbone, folder, max(plan.tasks))
        texts = make_texts(backbone, _TEXTS, seed=plan.seed)
        peers = plan.peers if backbone.spec.kind == "decoder-only" and not plan.mixed_only else ()
        del backbone
        server = stack.enter_context(serve_softprompt(plan.backbone, folder, threads=plan.threads))
        workloads = {
            GENERATE: _served(plan, server, _completion(texts)),
            CLASSIFY: _served(plan, server, _labels(texts)),
        }
        bare = plan.backbone.partition(":")[2] or Path(plan.backbone).name
        if not plan.mixed_only:
            workloads[GENERATE].append(_of_one(BARE, server, bare, _completion(texts)))
        for system in peers:
            serving = serve_transformers(plan.backbone, threads=plan.threads, options=PEERS[system])
            workloads[GENERATE].append(_peer(system, stack.enter_context(serving), texts))
        for workload, served in workloads.items():
            yield from _measure(plan, workload, served, say)


def _measure(plan: TaskPlan, workload: str, served: Sequence[_Served], say: Callable[[str], object]) -> Iterator[Run]:
    for _, target in served:
        asyncio.run(measure(target, burst(2 * target.tasks, tasks=target.tasks, inputs=_TEXTS)))
    reached = asyncio.run(measure(served[0][1], burst(_BURST, tasks=1, inputs=_TEXTS))).throughput
    steady = plan.rate or _SHARES[STEADY] * reached
    say(f"{workload}: {_BURST} at once for one task: {reached:.1f} requests/s; the steady load is {steady:.1f}")
    for number, load in itertools.product(range(plan.rounds), _SHARES):
        rate = steady * _SHARES[load] / _SHARES[STEADY]
        # An overload has as many requests as are answered in the time, so that it takes no longer.
        count = max(1, round(plan.seconds * min(rate, steady / _SHARES[STEADY])))
        for server, target in served[:: 1 if number % 2 == 0 else -1]:
            seed = plan.seed, number, list(_SHARES).index(load)
            arrivals = draw_arrivals(rate=rate, count=count, tasks=target.tasks, inputs=_TEXTS, seed=seed)
            before_s = server.cpu_seconds()
            found = asyncio.run(measure(target, arrivals))
            run = Run(
                workload=workload,
                load=load,
                rate=rate,
                system=target.system,
                tasks=target.tasks,
                round=number,
                cpu_ms=1000 * (server.cpu_seconds() - before_s) / max(1, count - sum(found.failures.values())),
                found=found,
            )
            say(
                f"{workload}, {load}, round {number}: {run.system}, {run.tasks}: {found.throughput:.1f}/s, "
                f"p50 {found.p50_ms:.0f} ms, p99 {found.p99_ms:.0f} ms, processor {run.cpu_ms:.1f} ms each"
            )
            yield run


def _served(plan: TaskPlan, server: Server, request: _Request) -> list[_Served]:
    """Each number of tasks in mixed batches, then the same one task at a time."""
    ways = [(MIXED, False, count) for count in plan.tasks]
    if not plan.mixed_only:
        ways += [(IN_TURNS, True, count) for count in plan.tasks[1:]]
    served = []
    for system, in_turns, count in ways:
        target = Target(
            system=system,
            tasks=count,
            address=server.address,
            request=lambda arrival: request(name_of(arrival.task), arrival),
            in_turns=in_turns,
        )
        served.append((server, target))
    return served if plan.mixed_only else [*served, _of_one(PREFIX, server, name_of(1), request)]


def _of_one(system: str, server: Server, model: str, request: _Request) -> _Served:
    target = Target(system=system, tasks=1, address=server.address, request=lambda arrival: request(model, arrival))
    return server, target


def _completion(texts: Sequence[str]) -> _Request:
    def request(model: str, arrival: Arrival) -> tuple[str, dict[str, Any]]:
        return "/v1/completions", {"model": model, "prompt": texts[arrival.input], "max_tokens": _TOKENS}

    return request


def _labels(texts: Sequence[str]) -> _Request:
    def request(model: str, arrival: Arrival) -> tuple[str, dict[str, Any]]:
        return "/v1/classify", {"model": model, "input": texts[arrival.input], "labels": _LABELS}

    return request


def _peer(system: str, server: Server, texts: Sequence[str]) -> _Served:
    def request(arrival: Arrival) -> tuple[str, dict[str, Any]]:
        return "/v1/completions", {"prompt": texts[arrival.input], "max_tokens": _TOKENS, "temperature": 0}

    return server, Target(system=system, tasks=1, address=server.address, request=request)


def ratio(runs: Sequence[Run], base: Sequence[Run], value: Callable[[Run], float]) -> Spread:
    """How many times as much runs have of something as others of the same rounds."""
    by_round = {run.round: value(run) for run in base}
    return spread([value(run) / by_round[run.round] for run in runs])


def render_tasks(runs: Sequence[Run]) -> str:
    """A Markdown table: medians over rounds, and ratios to the first of each load, round by round."""
    groups: dict[tuple[str, str, str, int], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.workload, list(_SHARES).index(run.load))):
        groups.setdefault((run.workload, run.load, run.system, run.tasks), []).append(run)
    lines = [
        "| request | load, requests/s | served by | tasks | answers/s | over the first's | p50, ms | over the first's "
        "| p99, ms | processor, ms an answer | over the first's | tokens an answer | failed |",
        "|" + "---|" * 13,
    ]
    for (workload, load, system, tasks), some in groups.items():
        base = next(group for key, group in groups.items() if key[:2] == (workload, load))
        cells = [workload, f"{load}, {some[0].rate:.1f}", system, f"{tasks}"]
        for name, value in _COLUMNS.items():
            cells.append(f"{spread([value(run) for run in some]).median:,.1f}")
            if name in _COMPARED:
                over = ratio(some, base, value)
                counts = system == MIXED and some is not base and name == _COUNTS[load]
                cells.append(f"{over.median:.2f} ({over.low:.2f} to {over.high:.2f}){_verdict(name, over) * counts}")
        cells.append(str(sum(sum(run.found.failures.values()) for run in some)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdict(name: str, found: Spread) -> str:
    worse = 1 / found.median if name == "throughput" else found.median
    return "; met" if worse <= 1 + _GOAL else "; **missed**"
