"""Replicas without a Ray: what is refused before one is asked for, what Serve is told, what an answer brings."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from softprompt.errors import ConfigError, MissingDependencyError
from softprompt.inference import BatchLimits
from softprompt.inference.backlog import EngineCounts
from softprompt.serving import ServerSettings
from softprompt.serving.replicas import EnginePlan, Replicas, application, deployment, gauges, serve_on_ray
from softprompt.serving.replicas.proxied import answered
from softprompt.serving.replicas.running import http_options


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"least": 0}, "expected at least 1"),
        ({"least": 2, "most": 2}, "expected more at most"),
        ({"target_ongoing": 3.0}, "how many replicas there may be"),
        ({"most": 3, "target_ongoing": 0.0}, "a number above 0"),
        ({"fronts": 0}, "0 fronts"),
        ({"cpus": 0.0}, "expected some of either"),
        ({"cpus": -1.0, "gpus": 2.0}, "expected some of either"),
    ],
)
def test_replicas_that_cannot_be(given, told):
    with pytest.raises(ConfigError, match=told):
        Replicas(**given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"prompts": "prompts", "hub": ("me/one",)}, "not from both"),
        ({"hub": ("one",)}, "expected user/name"),
        ({"hub": ("me/one@",)}, "expected user/name"),
        ({"hub": ("me/one/two",)}, "expected user/name"),
        ({"hub": ("me/.hidden",)}, "expected user/name"),
        ({"hub": ("me/one", "you/one@v2")}, "have the same name"),
    ],
)
def test_prompts_that_cannot_be(given, told):
    with pytest.raises(ConfigError, match=told):
        EnginePlan(backbone="bundled:gpt-mini", **given)


def test_prompts_of_the_hub_are_not_changed_in_one_replica(tmp_path):
    (tmp_path / "keys").touch()
    with pytest.raises(ConfigError, match="would reach one replica alone"):
        EnginePlan(backbone="x", hub=("me/one",), settings=ServerSettings(admin_keys=str(tmp_path / "keys")))


def test_prompts_of_the_hub_lie_under_their_names(tmp_path, monkeypatch):
    pulled = []
    monkeypatch.setattr(deployment, "pull_prompt", lambda *given, revision: pulled.append((*given, revision)))
    plan = EnginePlan(backbone="x", hub=("me/films", "you/food@1a2b"))
    assert deployment.pull_all(plan, tmp_path) == tmp_path
    assert pulled == [("me/films", tmp_path / "films", None), ("you/food", tmp_path / "food", "1a2b")]


def test_serve_lets_an_engine_refuse_before_it_refuses_itself():
    plan = EnginePlan(backbone="x", queue_requests=100, limits=BatchLimits(rows=8))
    told = deployment.options(plan, Replicas(least=3, cpus=2.0, gpus=0.5))
    assert told["max_ongoing_requests"] > 100 + 3 * 8
    assert told["max_queued_requests"] > 100
    assert told["graceful_shutdown_timeout_s"] == plan.settings.shutdown_timeout_s
    assert told["ray_actor_options"] == {"num_cpus": 2.0, "num_gpus": 0.5}
    assert told["num_replicas"] == 3
    assert "autoscaling_config" not in told


def test_the_front_takes_what_replicas_take_and_more_is_refused_by_a_status_that_clients_know():
    plan = EnginePlan(backbone="x", queue_requests=100)
    for replicas in (Replicas(least=3, fronts=2), Replicas(least=1, most=3, fronts=2)):
        engine, told = deployment.options(plan, replicas), deployment.front_options(plan, replicas)
        assert told["num_replicas"] == 2
        assert told["max_ongoing_requests"] > 3 * engine["max_ongoing_requests"] + engine["max_queued_requests"]
        assert told["backpressure_config"] == {"status_code": 429, "retry_after_s": 1.0}
        assert told["ray_actor_options"] == {"num_cpus": 0}


def test_a_replica_without_a_gpu_computes_on_a_cpu_unless_it_is_told_otherwise():
    def device(replicas: Replicas, **loading: str) -> object:
        return deployment.completed(EnginePlan(backbone="x", loading=loading), replicas).loading.get("device")

    assert device(Replicas()) == "cpu"
    assert device(Replicas(), device="auto") == "cpu"
    assert device(Replicas(), device="cuda:1") == "cuda:1"
    assert device(Replicas(gpus=0.5), device="auto") == "auto"


def test_serve_is_told_between_how_many_replicas_it_may_choose():
    plan = EnginePlan(backbone="x")
    told = deployment.options(plan, Replicas(least=2, most=6, target_ongoing=10.0))
    assert told["autoscaling_config"] == {"min_replicas": 2, "max_replicas": 6, "target_ongoing_requests": 10.0}
    assert "num_replicas" not in told
    assert deployment.options(plan, Replicas(most=2))["autoscaling_config"]["target_ongoing_requests"] == 32.0


def test_serve_listens_as_the_settings_say(tmp_path):
    for name in ("certificate", "key", "keys"):
        (tmp_path / name).touch()
    settings = ServerSettings(
        host="0.0.0.0",
        port=8443,
        keys=str(tmp_path / "keys"),
        tls_certificate=str(tmp_path / "certificate"),
        tls_key=str(tmp_path / "key"),
    )
    assert http_options(settings) == {
        "host": "0.0.0.0",
        "port": 8443,
        "ssl_certfile": str(tmp_path / "certificate"),
        "ssl_keyfile": str(tmp_path / "key"),
    }


def test_ray_that_is_not_there_is_told_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for ask in (
        lambda: application(EnginePlan(backbone="x")),
        lambda: serve_on_ray(EnginePlan(backbone="x"), Replicas(), "local"),
    ):
        with pytest.raises(MissingDependencyError, match=r"pip install 'softprompt\[ray,serve\]'"):
            ask()


async def respond(scope, receive, send):
    headers = [(b"X-Request-Id", b"mine"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": (await receive())["body"].upper()})


def messages_of(app, body=b"said"):
    async def collect():
        return [message async for message in answered(app, {"type": "http"}, body, "r1")]

    return asyncio.run(collect())


def test_an_answer_names_its_replica_and_leaves_the_request_s_name_to_the_proxy():
    head, body = messages_of(respond)
    assert head["headers"] == [(b"content-type", b"text/plain"), (b"x-replica", b"r1")]
    assert body["body"] == b"SAID"


def test_what_an_application_fails_with_comes_after_what_it_sent():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("broken")

    async def collect():
        messages = answered(app, {"type": "http"}, b"", "r1")
        assert (await anext(messages))["status"] == 200
        await anext(messages)

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(collect())


@pytest.mark.parametrize("how", ["cancelled", "not asked for"])
def test_an_answer_that_nobody_waits_for_is_a_client_that_has_left(how):
    """A call that was cancelled was counted as a server that ends: 503."""
    came = []

    async def app(scope, receive, send):
        came.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        came.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"late"})

    async def leave():
        messages = answered(app, {"type": "http"}, b"", "r1")
        await anext(messages)
        if how == "not asked for":
            await messages.aclose()
            return
        call = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(leave())
    assert came == ["http.request", "http.disconnect"]


class Counting:
    """An engine that has answered one more whenever it is asked."""

    backbone = folder = None
    is_open = True

    def __init__(self):
        self.answered = 0
        self.asked = threading.Event()

    def is_reachable(self):
        return True

    def check_number(self, requests):
        raise AssertionError("nobody asks")

    def submit(self, request, listener=None):
        raise AssertionError("nobody asks")

    def close(self, timeout=None):
        return True

    def counts(self):
        self.answered += 1
        if self.answered == 3:
            self.asked.set()
        rest = ("waiting_tokens", "running", "failed", "input_tokens", "output_tokens", "passes", "rows")
        return EngineCounts(waiting=7, answered=self.answered, **dict.fromkeys(rest, 0))


def test_ray_s_counters_get_what_came_since(monkeypatch):
    told = []

    class Series:
        def __init__(self, name, description):
            self.name = name

        def inc(self, value):
            told.append((self.name, "inc", value))

        def set(self, value):
            told.append((self.name, "set", value))

    monkeypatch.setattr(gauges, "_EVERY_S", 0.001)
    monkeypatch.setattr(gauges, "ray_series", lambda kind: Series)
    engine = Counting()
    reporter = gauges.Reporter(engine)
    assert engine.asked.wait(5)
    reporter.close()
    added = [value for name, how, value in told if (name, how) == ("softprompt_requests_answered", "inc")]
    assert added == [1] * engine.answered
    assert {value for name, how, value in told if (name, how) == ("softprompt_requests_waiting", "set")} == {7}


def test_places_are_told_as_a_replica_finds_them(tmp_path, monkeypatch):
    """A replica runs in another folder than the command."""
    from softprompt.cli import main
    from softprompt.serving import replicas

    plans = []
    monkeypatch.setattr(replicas, "serve_on_ray", lambda plan, *rest, started: plans.append((plan, *rest)))
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    Path("keys").touch()
    command = ["serve", "--backbone", "model", "--prompts", "prompts", "--keys", "keys", "--ray", "auto"]
    assert main([*command, "--replicas", "2", "--most-replicas", "4", "--queue-requests", "9"]) == 0
    ((plan, many, address),) = plans
    assert (plan.backbone, plan.prompts) == (str(tmp_path / "model"), str(tmp_path / "prompts"))
    assert plan.settings.keys == str(tmp_path / "keys")
    assert (many, plan.queue_requests, address) == (Replicas(least=2, most=4), 9, "auto")
