"""Loads come as they are said to, and what is reported of them is what came."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.serve import main
from benchmarks.serving.arrivals import burst, draw_arrivals, hit_rate, quantile, zipf
from benchmarks.serving.client import Address, Load, Outcome, Target, ask, measure, summed
from benchmarks.serving.many import Look, growth
from benchmarks.serving.tasks import CLASSIFY, IN_TURNS, MIXED, OVERLOAD, STEADY, Run, ratio, render_tasks
from benchmarks.serving.turns import Turns

from benchmarks import serve

DRAW = {"rate": 50.0, "count": 20_000, "inputs": 7, "seed": (1, 2)}
LOAD = Load(requests=10, failures={"503": 1}, throughput=9.0, tokens_per_s=18.0, p50_ms=10.0, p99_ms=20.0, late_ms=0.1)
RUN = Run(workload=CLASSIFY, load=STEADY, rate=5.0, system=MIXED, tasks=1, round=0, cpu_ms=4.0, found=LOAD)
LOOK = Look(at_s=0, resident_bytes=0, loaded=0, bytes=0, hits=0, misses=0, evictions=0, load_s=0)


def test_arrivals_are_the_same_whatever_the_number_of_tasks():
    few, many = draw_arrivals(tasks=4, **DRAW), draw_arrivals(tasks=64, **DRAW)
    assert few == draw_arrivals(tasks=4, **DRAW)
    assert [(one.at_s, one.input) for one in few] == [(one.at_s, one.input) for one in many]
    assert few != draw_arrivals(tasks=4, **{**DRAW, "seed": (1, 3)})


def test_arrivals_are_a_poisson_process():
    times = np.array([one.at_s for one in draw_arrivals(tasks=1, **DRAW)])
    gaps = np.diff(times)
    assert times[0] == 0
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.05)
    for bound in (0.01, 0.02, 0.05):
        assert (gaps > bound).mean() == pytest.approx(np.exp(-50 * bound), abs=0.02)
    in_a_second = np.bincount(times.astype(int))[:-1]
    assert in_a_second.var() == pytest.approx(in_a_second.mean(), rel=0.25)


def test_tasks_are_zipf_distributed():
    shares = zipf(64)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] / shares[9] == pytest.approx(10)
    asked = np.bincount([one.task for one in draw_arrivals(tasks=64, **DRAW)], minlength=64)
    assert asked / 20_000 == pytest.approx(shares, abs=0.012)
    assert {one.task for one in draw_arrivals(tasks=1, **DRAW)} == {0}
    assert [one.task for one in burst(5, tasks=2, inputs=3)] == [0, 1, 0, 1, 0]


def test_quantiles_are_values_that_came():
    assert quantile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.0
    assert quantile([float(one) for one in range(1, 101)], 0.99) == 99.0
    assert quantile([5.0], 0.99) == 5.0


def test_a_cache_finds_what_was_used_last():
    assert hit_rate([0, 1, 0, 1, 0], room=2) == 3 / 5
    assert hit_rate([0, 1, 0, 1, 0], room=1) == 0
    assert hit_rate([0, 1, 0, 2, 0, 1], room=2) == 2 / 6


@pytest.mark.parametrize("seed", range(5))
def test_one_task_is_in_flight_at_a_time_and_goes_in_order(seed):
    arrivals = draw_arrivals(rate=2000.0, count=200, tasks=5, inputs=1, seed=(seed,))
    running: list[int] = []
    begun: list[tuple[int, int]] = []

    async def one(turns: Turns, number: int) -> None:
        arrival = arrivals[number]
        await asyncio.sleep(arrival.at_s)
        queued.append((arrival.task, number))
        async with turns.turn(arrival.task):
            running.append(arrival.task)
            begun.append((arrival.task, number))
            assert set(running) == {turns.task}
            await asyncio.sleep(0.001)
            running.remove(arrival.task)

    async def play() -> None:
        turns = Turns()
        await asyncio.wait_for(asyncio.gather(*(one(turns, number) for number in range(len(arrivals)))), 30)
        assert turns.running == 0

    queued: list[tuple[int, int]] = []
    asyncio.run(play())
    for task in range(5):
        assert [one for one in begun if one[0] == task] == [one for one in queued if one[0] == task]


def test_a_turn_takes_all_that_wait_and_the_next_is_whose_request_waited_longest():
    async def play() -> None:
        turns, order, going = Turns(), [], asyncio.Event()

        async def one(task: int) -> None:
            async with turns.turn(task):
                order.append((task, turns.running))
                await going.wait()

        asked = []
        for task in (0, 0, 2, 1, 2, 0):
            asked.append(asyncio.create_task(one(task)))
            await asyncio.sleep(0)
        assert order == [(0, 1), (0, 2)]  # the third of task 0 came when others waited
        going.set()
        await asyncio.gather(*asked)
        assert [task for task, _ in order] == [0, 0, 2, 2, 1, 0]
        assert order[2] == (2, 2)

    asyncio.run(play())


def test_latencies_count_from_when_a_request_was_to_come():
    def outcome(at: float, sent: float, done: float, status: int = 200) -> Outcome:
        return Outcome(at_s=at, sent_s=sent, done_s=done, status=status, tokens=4)

    found = summed([outcome(0, 0.1, 1), outcome(1, 1, 3), outcome(2, 2, 4, 503), outcome(2, 2, 5, 0)])
    assert (found.requests, found.failures) == (4, {"0": 1, "503": 1})
    assert (found.p50_ms, found.p99_ms, found.late_ms) == (1000, 2000, 100)
    assert (found.throughput, found.tokens_per_s) == (2 / 5, 8 / 5)


def test_a_server_is_asked_and_its_answers_are_counted():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = json.dumps({"usage": {"completion_tokens": asked["tokens"]}}).encode()
            self.send_response(503 if self.path == "/full" else 200)
            self.send_header("Content-Length", str(len(said) + (self.path == "/broken")))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = Address(server.server_address[1])
        paths = ["/well", "/well", "/full", "/broken"]
        for in_turns in (False, True):
            target = Target(
                system="s",
                tasks=2,
                address=address,
                request=lambda arrival: (paths[arrival.input], {"tokens": 3}),
                in_turns=in_turns,
            )
            found = asyncio.run(measure(target, burst(4, tasks=2, inputs=4)))
            assert found.failures == {"0": 1, "503": 1}
            assert found.tokens_per_s == pytest.approx(3 * found.throughput)
        with pytest.raises(ConnectionError, match="before the answer was complete"):
            asyncio.run(ask(address, "/broken", {"tokens": 1}))
        server.shutdown()


def test_memory_is_judged_after_warm_up():
    looks = [replace(LOOK, at_s=at, resident_bytes=size) for at, size in ((0, 0), (10, 900), (20, 1000), (30, 1100))]
    assert growth(looks) == pytest.approx(10)
    assert growth(looks[:1]) == 0


def test_ratios_are_of_the_same_round_and_the_table_says_whether_goals_were_reached():
    base = [replace(RUN, round=number, found=replace(LOAD, p50_ms=10.0 * (number + 1))) for number in range(3)]
    slower = [
        replace(one, tasks=16, found=replace(one.found, p50_ms=1.05 * one.found.p50_ms), cpu_ms=8.0) for one in base
    ]
    turns = [replace(one, system=IN_TURNS, found=replace(one.found, p50_ms=30.0)) for one in slower]
    over = ratio(turns, base, lambda run: run.found.p50_ms)
    assert (over.median, over.low, over.high) == (1.5, 1.0, 3.0)
    late = [replace(one, load=OVERLOAD) for one in base]
    lost = [replace(one, tasks=64, found=replace(LOAD, throughput=7.0)) for one in late]
    table = render_tasks([*base, *late, *slower, *turns, *lost])
    assert (
        "| 2 labels | steady, 5.0 | softprompt | 16 | 9.0 | 1.00 (1.00 to 1.00) | 21.0 | 1.05 (1.05 to 1.05); met |"
        in table
    )
    assert "| 2 labels | overload, 5.0 | softprompt | 64 | 7.0 | 0.78 (0.78 to 0.78); **missed** |" in table
    assert "| softprompt, one task at a time | 16 | 9.0 | 1.00 (1.00 to 1.00) | 30.0 | 1.50 (1.00 to 3.00) |" in table
    assert "| 8.0 | 2.00 (2.00 to 2.00) | 2.0 | 3 |" in table


@pytest.mark.slow
def test_every_part_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(serve, "PEERS", {})  # what starts slowly, and is not ours
    main(["--quick", "--seconds", "1", "--tasks", "1", "2", "--prompts", "100", "--output", str(tmp_path)])
    said = capsys.readouterr().out
    for part in ("tasks", "many", "engines"):
        lines = [json.loads(line) for line in (tmp_path / f"{part}.jsonl").read_text().splitlines()]
        assert lines
        assert json.loads((tmp_path / f"{part}.json").read_text())["machine"] in said
        assert (tmp_path / f"{part}.md").read_text().count("|---|") >= 1
    runs = [json.loads(line) for line in (tmp_path / "tasks.jsonl").read_text().splitlines()]
    assert all(run["found"]["failures"] == {} for run in runs)
    many = json.loads((tmp_path / "many.jsonl").read_text())
    assert many["looks"][-1]["hits"] + many["looks"][-1]["misses"] == many["found"]["requests"]
