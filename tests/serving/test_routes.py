"""What a server tells besides text: choices, scores, cards, counts."""

from __future__ import annotations

import json
import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.models import tiny_backbone, word_tokenizer
from tests.serving.live import FILM, backbone_of, fill_some, serving

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.inference import Ensemble, Query, classify, predict_texts
from softprompt.prompts import PromptTuning, SoftPrompt
from softprompt.serving import ServerSettings
from softprompt.tasks import TextFormat

LABELS = ("bad", "good", "so boring")


@pytest.fixture(scope="module", params=["t5", "llama"])
def backbone(request):
    return backbone_of(request.param)


@pytest.fixture(scope="module")
def folder(backbone, tmp_path_factory):
    return fill_some(tmp_path_factory.mktemp("prompts"), backbone)


@pytest.fixture(scope="module")
def live(backbone, folder):
    with serving(backbone, folder) as live:
        yield live


@pytest.fixture(scope="module")
def model(backbone, folder):
    return Prompted(backbone, {name: SoftPrompt.load(folder / name) for name in ("rows", "keys", "film")})


def test_a_choice_is_the_librarys(live, model, folder, backbone):
    said = live.post("/v1/classify", model="film", input=["very good", "so long"])
    queries = [Query(input=text, prompt="film", form=FILM, candidates=LABELS) for text in ("very good", "so long")]
    for one, query, index in zip(said["data"], queries, range(2), strict=True):
        want = next(classify(model, [query]))
        assert (one["index"], one["label"]) == (index, want.label)
        got = {share["label"]: share["probability"] for share in one["probabilities"]}
        assert got == pytest.approx(dict(want.probabilities), abs=1e-5)
    assert said["usage"]["prompt_tokens_details"] == {"virtual_tokens": 6}
    both = live.post("/v1/classify", model="both", input="very good", labels=LABELS)
    assert both["data"][0]["label"] == Ensemble.load(backbone, folder / "both").classify(["very good"], LABELS)[0].label


def test_labels_are_needed_where_none_are_stored(live):
    status, error = live.failure("POST", "/v1/classify", {"model": "rows", "input": "good"})
    assert (status, error["param"]) == (400, "labels")
    assert "was not trained with label words" in error["message"]


def test_a_score_is_the_librarys(live, model):
    targets = ["good", "city centre", "so boring"]
    said = live.post("/v1/score", model="keys", input="a film", targets=targets)
    want = model.score(["a film"], [targets], prompts="keys")[0].tolist()
    scores = said["data"][0]["scores"]
    assert [one["target"] for one in scores] == targets
    assert [one["logprob"] for one in scores] == pytest.approx(want, abs=1e-4)
    assert sum(one["probability"] for one in scores) == pytest.approx(1)
    assert said["usage"]["completion_tokens"] > 0


def test_cards_tell_how_a_prompt_was_made_and_no_places(live, folder, backbone):
    status, listed, _ = live.ask("GET", "/v1/models")
    assert status == 200
    cards = {one["id"]: one for one in listed["data"]}
    assert [one["kind"] for one in listed["data"]] == ["backbone", "ensemble", "prompt", "prompt", "prompt"]
    film = cards["film"]["card"]
    assert film["template"] == FILM.input
    assert (film["fields"], film["labels"], film["task"]) == (["text"], list(LABELS), "films")
    assert (film["method"], film["virtual_tokens"], film["placement"]) == ("prompt_tuning", 3, "prepend")
    assert film["metrics"] == {"test": {"accuracy": 0.5}}
    assert (cards["both"]["card"]["combine"], cards["both"]["card"]["members"]) == ("mean", 2)
    assert live.ask("GET", "/v1/models/film")[1]["card"] == film
    assert live.ask("GET", f"/v1/models/{listed['data'][0]['id'].replace(' ', '%20')}")[1] == listed["data"][0]
    for place in (str(folder), "/srv", ".safetensors"):
        assert place not in json.dumps(listed)


def test_templates_fields_and_raw_texts(live, model):
    def text(query):
        return next(predict_texts(model, [query]))

    asked = {"model": "film", "max_tokens": 5}
    filled = text(Query(input="very long", prompt="film", form=FILM, max_new_tokens=5))
    assert live.post("/v1/completions", prompt="very long", **asked)["choices"][0]["text"] == filled
    assert live.post("/v1/completions", prompt={"text": "very long"}, **asked)["choices"][0]["text"] == filled
    whole = live.post("/v1/completions", prompt="very long", raw=True, **asked)
    assert whole["choices"][0]["text"] == text(Query(input="very long", prompt="film", max_new_tokens=5))
    status, error = live.failure("POST", "/v1/completions", {"prompt": {"other": "a"}, **asked})
    assert (status, error["code"]) == (400, "invalid_input")
    assert "text" in error["message"]


def test_a_text_that_is_too_long_is_refused_or_cut(tmp_path):
    backbone = tiny_backbone("decoder-only")  # 96 positions
    with serving(backbone, fill_some(tmp_path, backbone)) as live:
        asked = {"model": "rows", "prompt": "good " * 200, "max_tokens": 2}
        status, error = live.failure("POST", "/v1/completions", asked)
        assert (status, error["code"]) == (400, "context_length_exceeded")
        cut = live.post("/v1/completions", truncate=True, **asked)
        assert cut["usage"]["prompt_tokens"] == 96 - 3 - 2


def test_usage_and_version(live):
    said = live.post("/v1/completions", model="both", prompt="a good film", max_tokens=2)
    usage = said["usage"]
    assert usage["prompt_tokens_details"] == {"virtual_tokens": 7}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    with live.engine.folder.lease("both") as lease:
        assert said["system_fingerprint"] == lease.version
    bare = live.ask("GET", "/v1/models")[1]["data"][0]["id"]
    said = live.post("/v1/completions", model=bare, prompt="a good film", max_tokens=2)
    assert said["system_fingerprint"] is None
    assert said["usage"]["prompt_tokens_details"] == {"virtual_tokens": 0}


def test_a_prompt_called_like_the_backbone_is_no_answer(tmp_path):
    backbone = backbone_of("llama")
    folder = fill_some(tmp_path, backbone)
    (folder / "rows").rename(folder / "tiny-llama")
    with serving(backbone, folder) as live:
        status, error = live.failure("POST", "/v1/completions", {"model": "tiny-llama", "prompt": "good"})
        assert status == 409
        assert "rename the prompt" in error["message"]


def settled(live):
    """The load, once nothing runs and all that was answered is counted: an answer is there before."""
    assert live.idle()
    before, load = None, live.ask("GET", "/v1/load")[1]
    while before != load:
        time.sleep(0.2)
        before, load = load, live.ask("GET", "/v1/load")[1]
    return load


def test_what_there_is_to_do(live):
    before = settled(live)["engine"]
    live.post("/v1/completions", model="rows", prompt=["a", "film"], max_tokens=2)
    load = settled(live)
    assert load["engine"]["answered"] == before["answered"] + 2
    assert (load["engine"]["waiting"], load["engine"]["running"]) == (0, 0)
    assert load["prompts"]["loaded"] >= 1


def test_the_bare_backbone_alone():
    with serving(backbone_of("llama"), None) as live:
        assert [one["id"] for one in live.ask("GET", "/v1/models")[1]["data"]] == ["tiny-llama"]
        assert live.post("/v1/completions", model="tiny-llama", prompt="good", max_tokens=2)["choices"]
        assert live.ask("GET", "/v1/load")[1]["prompts"] is None
        assert live.failure("POST", "/v1/completions", {"model": "rows", "prompt": "good"})[0] == 404
        assert live.ask("GET", "/metrics")[0] == 200


def samples(live):
    status, text, headers = live.ask("GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def test_metrics_have_few_labels(live):
    live.post("/v1/completions", model="rows", prompt="good", max_tokens=2)
    live.ask("GET", "/v1/load")
    live.ask("GET", "/v1/models/unknown")
    samples(live)
    known = {(sample.name, tuple(sample.labels.items())) for sample in samples(live)}
    for number in range(20):
        live.ask("GET", f"/nowhere/{number}")
        live.ask("GET", f"/page/{number}")
        live.ask("GET", f"/v1/models/unknown-{number}")
        live.ask("POST", "/v1/completions", {"model": f"unknown-{number}", "prompt": "a"})
        live.ask("GET", "/v1/load", headers={"X-Request-Id": f"r{number}"})
    found = samples(live)
    new = {(sample.name, tuple(sample.labels.items())) for sample in found} - known
    told = {value for _, labels in new for name, value in labels if name not in ("le", "status")}
    assert told <= {"other", "/page", "/v1/completions"}
    assert not re.search(r"unknown|nowhere|req-|'rows'", str(found))
    values = {(sample.name, sample.labels.get("route"), sample.labels.get("status")): sample.value for sample in found}
    assert values["softprompt_http_requests_total", "other", "404"] >= 20
    assert values["softprompt_http_requests_total", "/v1/models/{name}", "404"] >= 20
    assert values["softprompt_requests_answered_total", None, None] >= 1
    assert values["softprompt_prompts_loaded", None, None] >= 1


def test_metrics_count_stages(live):
    def count(stage):
        return next(
            sample.value
            for sample in samples(live)
            if sample.name == "softprompt_stage_seconds_count" and sample.labels["stage"] == stage
        )

    live.post("/v1/completions", model="rows", prompt="good", max_tokens=2)
    before = [count(stage) for stage in ("prepare", "wait", "run")]
    live.ask("POST", "/v1/completions", {"model": "rows", "prompt": "good", "max_tokens": 2, "stream": True})
    live.post("/v1/classify", model="rows", input="good", labels=["bad", "good"])
    assert [count(stage) for stage in ("prepare", "wait", "run")] == [one + 2 for one in before]


def test_health(tmp_path):
    backbone = backbone_of("llama")
    with serving(backbone, None) as live:
        assert live.ask("GET", "/health/live")[1] == {"status": "live"}
        assert live.ask("GET", "/health/ready")[1] == {"status": "ready"}
        live.engine.close()
        assert live.ask("GET", "/health/live")[0] == 200
        assert live.ask("GET", "/health/ready")[:2] == (503, {"status": "closing"})
        status, error = live.failure("POST", "/v1/completions", {"model": "tiny-llama", "prompt": "good"})
        assert (status, error["code"]) == (503, "shutting_down")


def test_a_deadline(tmp_path):
    backbone = backbone_of("llama")
    with serving(backbone, None, ServerSettings(request_timeout_s=0.001)) as live:
        asked = {"model": "tiny-llama", "prompt": "good", "max_tokens": 60, "min_tokens": 60}
        status, error = live.failure("POST", "/v1/completions", asked)
        assert (status, error["code"]) == (504, "deadline")
        _, said, _ = live.ask("POST", "/v1/completions", {**asked, "stream": True})  # before or in the stream
        assert "deadline passed" in str(said)


TURNS = [{"role": "system", "content": "so"}, {"role": "user", "content": "good"}]


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    tokenizer = word_tokenizer("decoder-only")
    tokenizer.chat_template = (
        "{% for turn in messages %}| {{ turn['role'] }} : {{ turn['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}| Answer :{% endif %}"
    )
    backbone = Backbone.from_model(backbone_of("llama").model, tokenizer, name="talking")
    folder = fill_some(tmp_path_factory.mktemp("talking"), backbone)
    with serving(backbone, folder) as live:
        yield live


def test_turns_fill_the_chat_template(talking):
    asked = {"model": "rows", "max_tokens": 4}
    said = talking.post("/v1/chat/completions", messages=TURNS, **asked)
    written = "| system : so | user : good | Answer :"
    want = talking.post("/v1/completions", prompt=written, raw=True, **asked)
    assert said["choices"][0]["message"]["content"] == want["choices"][0]["text"]
    assert said["usage"] == want["usage"]
    parts = [{"role": "user", "content": [{"type": "text", "text": "go"}, {"type": "text", "text": "od"}]}]
    whole = [{"role": "user", "content": "good"}]
    assert (
        talking.post("/v1/chat/completions", messages=parts, **asked)["choices"]
        == talking.post("/v1/chat/completions", messages=whole, **asked)["choices"]
    )


def test_a_template_of_a_prompts_own_takes_one_turn(talking):
    one = [{"role": "user", "content": "very good"}]
    said = talking.post("/v1/chat/completions", model="film", messages=one, max_tokens=4)
    want = talking.post("/v1/completions", model="film", prompt="very good", max_tokens=4)
    assert said["choices"][0]["message"]["content"] == want["choices"][0]["text"]
    status, error = talking.failure("POST", "/v1/chat/completions", {"model": "film", "messages": TURNS})
    assert (status, error["param"]) == (400, "messages")
    assert "fills its template with one input" in error["message"]


def test_without_a_chat_template_one_turn_is_taken(live):
    status, error = live.failure("POST", "/v1/chat/completions", {"model": "rows", "messages": TURNS})
    assert status == 400
    assert "has no chat template" in error["message"]
    status, error = live.failure(
        "POST", "/v1/chat/completions", {"model": "rows", "messages": TURNS[1:], "top_logprobs": 2}
    )
    assert error["param"] == "top_logprobs"


def test_the_models_own_settings_count_where_a_request_says_nothing(backbone, model, live, monkeypatch):
    """A repetition penalty that was left out was 1, and not the model's own, so that answers were not the library's."""

    def text(**given):
        asked = {"model": "keys", "prompt": "a good film", "max_tokens": 12, "min_tokens": 12}
        return live.post("/v1/completions", **asked, **given)["choices"][0]["text"]

    before = text()
    monkeypatch.setattr(backbone.model.generation_config, "repetition_penalty", 5.0)
    query = Query(input="a good film", prompt="keys", max_new_tokens=12)
    assert text() == next(predict_texts(model, [query], min_new_tokens=12)) != before
    assert text(repetition_penalty=1.0) == before


def test_labels_are_those_of_the_version_that_answers(tmp_path):
    """A prompt in memory chose among the labels of another that had been put in its place on disk."""
    backbone = backbone_of("llama")
    folder = fill_some(tmp_path, backbone)

    def said():
        answer = live.post("/v1/classify", model="film", input="very good")
        return answer["version"], tuple(share["label"] for share in answer["data"][0]["probabilities"])

    with serving(backbone, folder) as live:
        first = said()
        assert first[1] == LABELS
        other = TextFormat(input="{text} :", target="{label}", label_words={0: "long", 1: "short"})
        SoftPrompt.load(folder / "film").with_info(format=other.to_mapping()).save(folder / "film")
        assert said() == first
        live.engine.folder.reload()
        second = said()
    assert second[0] != first[0]
    assert second[1] == ("long", "short")


@pytest.mark.parametrize("route", ["classify", "completions"])
def test_one_request_is_answered_by_one_version(tmp_path, monkeypatch, route):
    """Inputs of one request could be answered by two versions, of which the first alone was named."""
    backbone = backbone_of("llama")
    folder = fill_some(tmp_path, backbone)
    inputs = ["very good", "very bad", "good"]
    with serving(backbone, folder) as live:
        if route == "classify":
            ask = {"path": "/v1/classify", "model": "film", "input": inputs}
        else:
            ask = {"path": "/v1/completions", "model": "film", "prompt": inputs, "max_tokens": 4}
        live.post(**ask)
        submit, versions = live.engine.submit, []

        def replacing(request, listener=None):
            ticket = submit(request, listener)
            versions.append(ticket.version)
            new = PromptTuning(length=3, init="vocab").build(backbone, seed=len(versions))
            old = live.engine.folder.find("film")
            live.engine.folder.replace("film", new.with_info(format=old.info.format))
            live.engine.folder.release(old)
            live.engine.folder.acquire("film")
            return ticket

        monkeypatch.setattr(live.engine, "submit", replacing)
        said = live.post(**ask)
    assert len(versions) == 3
    assert set(versions) == {said.get("version") or said["system_fingerprint"]}
