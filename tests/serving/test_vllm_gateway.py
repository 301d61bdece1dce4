"""A server whose passes another one takes: vLLM's requests are real, its model is transformers' generate."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models import tiny_backbone
from tests.serving.live import FILM, Live, fill_some, listening, llama
from tests.serving.test_process import Process
from tests.serving.vllm_stub import Stub, running

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.errors import ConfigError, MismatchError, ServerError, UnreachableError, UnsupportedError
from softprompt.inference import Engine, Request, Sampling
from softprompt.prompts import PromptTuning, SoftPrompt
from softprompt.serving import ServerSettings, create_app
from softprompt.serving.vllm import VllmEngine, VllmServer
from softprompt.tasks import TextFormat

TEXTS = ["a good film", "the city centre", "very very long and boring"]
TEMPLATE = TextFormat(input="{soft:2} film : {text} {soft:3} | the film is", target="{label}")
ROOM = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`rows`, `film` with a template, `behind`, `inside` and `divided` by placement, and what does not fit."""
    folder = fill_some(tmp_path_factory.mktemp("prompts"), llama())
    for seed, (name, placement) in enumerate({"behind": "append", "inside": "middle"}.items()):
        PromptTuning(length=4, init="vocab", placement=placement).build(llama(), seed=seed).save(folder / name)
    divided = PromptTuning(length=5, init="vocab", placement="template", segments=(2, 3)).build(llama(), seed=9)
    divided.with_info(format=TEMPLATE.to_mapping()).save(folder / "divided")
    return folder


FITTING = ("rows", "film", "behind", "inside", "divided")


@pytest.fixture(scope="module")
def model(folder):
    return Prompted(llama(), {name: SoftPrompt.load(folder / name) for name in FITTING})


@contextlib.contextmanager
def gateway(url, folder, settings=None, **bounds):
    settings = settings or ServerSettings()
    with (
        VllmEngine(llama(), folder, VllmServer(url=url), **bounds) as engine,
        listening(create_app(engine, settings), settings) as port,
    ):
        yield Live(port, engine)


@pytest.fixture(scope="module")
def stub():
    return Stub(llama().model)


@pytest.fixture(scope="module")
def url(stub):
    with running(stub) as url:
        yield url


@pytest.fixture(scope="module")
def live(url, folder):
    with gateway(url, folder, ServerSettings(request_timeout_s=20)) as live:
        yield live


@pytest.fixture(autouse=True)
def sound(stub):
    """No test leaves trouble behind, and nothing that is not finite ever reached the engine."""
    stub.trouble = None
    yield
    stub.trouble = None
    assert all(bool(rows.isfinite().all()) for rows in stub.given)


def said(model, name, text, room=ROOM):
    return model.generate([text], prompts=name, max_new_tokens=room)[0]


@pytest.mark.parametrize(
    "name", ["rows", "divided", *(pytest.param(name, marks=pytest.mark.slow) for name in ("film", "behind", "inside"))]
)
def test_answers_are_the_librarys_token_for_token(live, model, name):
    """Fails if rows stand elsewhere among the embedded tokens, a template is not filled, or an end token is missed."""
    for text in TEXTS:
        ids, mask, marks = model.encode([text], name)
        for least in ({}, {"min_new_tokens": 6}):
            given = {"input_ids": ids, "attention_mask": mask, "marks": marks, "max_new_tokens": ROOM, **least}
            whole = model.generate(prompts=name, **given)
            request = Request(input=text, prompt=name, sampling=Sampling(max_new_tokens=ROOM, **least))
            answer = live.engine.submit(request).result(20)
            assert [one.token for one in answer.completions[0].tokens] == whole[0, ids.shape[1] :].tolist()
        assert live.post("/v1/completions", model=name, prompt=text, max_tokens=ROOM)["choices"][0]["text"] == said(
            model, name, text
        )
        assert (answer.input_tokens, answer.prompt_tokens) == (ids.shape[1], model.prompts[name].length)


@pytest.mark.slow
def test_openais_client_gets_the_same_texts_whole_and_as_they_grow(live, model):
    asked = {"model": "film", "max_tokens": ROOM}
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        whole = client.completions.create(prompt=TEXTS, **asked)
        assert [choice.text for choice in whole.choices] == [said(model, "film", text) for text in TEXTS]
        assert whole.usage.completion_tokens > 0
        chunks = list(client.completions.create(prompt=TEXTS[0], stream=True, **asked))
        assert "".join(chunk.choices[0].text for chunk in chunks) == said(model, "film", TEXTS[0])
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
        turn = client.chat.completions.create(messages=[{"role": "user", "content": TEXTS[0]}], **asked)
        assert turn.choices[0].message.content == said(model, "film", TEXTS[0])


@pytest.mark.slow
def test_many_prompts_at_once(live, model):
    """Fails if one request's rows, or its answer, become another's."""
    asked = [(name, text) for name in FITTING for text in TEXTS] * 2
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(
            lambda one: live.post("/v1/completions", model=one[0], prompt=one[1], max_tokens=ROOM), asked
        )
        got = [answer["choices"][0]["text"] for answer in answers]
    assert got == [said(model, *one) for one in asked]
    assert live.idle()


def test_labels_and_scores_are_the_librarys(live, model):
    """Candidates share beginnings, have several tokens, and end: each is asked for where it goes on."""
    targets = ["good", "so boring", "so funny", "so"]
    chosen = live.post("/v1/score", model="film", input=TEXTS, targets=targets)
    want = model.score(TEXTS, targets, prompts="film")
    got = torch.tensor([[one["logprob"] for one in row["scores"]] for row in chosen["data"]])
    torch.testing.assert_close(got, want.float(), atol=1e-4, rtol=0)
    labels = live.post("/v1/classify", model="film", input=TEXTS)
    trained = list(FILM.labels or ())
    best = model.score(TEXTS, trained, prompts="film").argmax(-1).tolist()
    assert [one["label"] for one in labels["data"]] == [trained[index] for index in best]
    bare = live.post("/v1/score", model="tiny-llama", input="good", targets=targets)["data"][0]["scores"]
    assert [one["logprob"] for one in bare] == pytest.approx(
        Prompted(llama()).score(["good"], targets, prompts=[None])[0].tolist(), abs=1e-4
    )


def test_the_bare_backbone_is_asked_by_token_ids(live, stub, model):
    answer = live.post("/v1/completions", model="tiny-llama", prompt="a good film", max_tokens=ROOM)
    assert answer["choices"][0]["text"] == model.generate(["a good film"], prompts=[None], max_new_tokens=ROOM)[0]
    assert "prompt_embeds" not in stub.bodies[-1]


def test_settings_reach_the_engine_and_none_is_left_to_it(live, stub, model):
    """vLLM takes what a request leaves out from the model's own files; stop texts end an answer here."""
    text = model.generate([TEXTS[0]], prompts="rows", max_new_tokens=ROOM, min_new_tokens=6)[0]
    stop = text.split()[2]
    asked = {"model": "rows", "prompt": TEXTS[0], "max_tokens": ROOM, "min_tokens": 6}
    cut = live.post("/v1/completions", stop=stop, **asked)["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == (text[: text.index(stop)], "stop")
    bare = stub.bodies[-1]
    assert (bare["temperature"], bare["top_p"], bare["top_k"], bare["min_p"]) == (0, 1, 0, 0)
    assert (bare["repetition_penalty"], bare["ignore_eos"], bare["stop_token_ids"]) == (1, True, [1])
    live.post("/v1/completions", temperature=0.5, top_p=0.9, top_k=7, seed=-4, n=2, logprobs=2, **asked)
    bodies = sorted(stub.bodies[-2:], key=lambda body: body["seed"])
    assert [body["seed"] for body in bodies] == [2**63 - 4, 2**63 - 3]
    assert {(body["temperature"], body["top_p"], body["top_k"], body["min_tokens"]) for body in bodies} == {
        (0.5, 0.9, 7, 6)
    }


def test_log_probabilities_are_the_librarys_engines(live, folder):
    request = Request(input=TEXTS[0], prompt="rows", sampling=Sampling(max_new_tokens=ROOM, logprobs=2))
    got = live.engine.submit(request).result(20).completions[0]
    with Engine(llama(), folder) as engine:
        want = engine.answer(request).completions[0]
    assert (got.text, got.finish) == (want.text, want.finish)
    for mine, other in zip(got.tokens, want.tokens, strict=True):
        assert (mine.token, [token for token, _ in mine.top]) == (other.token, [token for token, _ in other.top])
        assert mine.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [value for _, value in mine.top] == pytest.approx([value for _, value in other.top], abs=1e-4)


def test_a_penalty_is_refused_because_the_engine_knows_no_tokens(live, stub, monkeypatch):
    before = len(stub.bodies)
    asked = {"model": "rows", "prompt": "good", "repetition_penalty": 1.3, "max_tokens": 4}
    status, error = live.failure("POST", "/v1/completions", asked)
    assert (status, error["code"]) == (400, "unsupported")
    assert "RepetitionPenalty" in error["message"]
    monkeypatch.setattr(llama().model.generation_config, "repetition_penalty", 1.2)
    own = {"model": "rows", "prompt": "good", "max_tokens": 4}
    assert live.failure("POST", "/v1/completions", own)[1]["code"] == "unsupported"
    assert len(stub.bodies) == before
    assert live.post("/v1/completions", repetition_penalty=1, **own)["choices"]


def test_ready_is_what_reaches_the_server_behind(live, stub, monkeypatch):
    assert live.ask("GET", "/health/ready")[:2] == (200, {"status": "ready"})
    monkeypatch.setattr(stub, "trouble", "starting")
    assert live.ask("GET", "/health/ready")[:2] == (503, {"status": "unreachable"})


def test_what_does_not_fit_is_listed_so_and_refused_with_the_reason(live, stub):
    before = len(stub.bodies)
    cards = {one["id"]: one["card"] for one in live.ask("GET", "/v1/models")[1]["data"]}
    for name, reason in (("keys", "it is a prefix"), ("both", "it is an ensemble")):
        assert cards[name]["unfit"].startswith(reason)
        status, error = live.failure("POST", "/v1/completions", {"model": name, "prompt": "good"})
        assert (status, error["code"]) == (400, "unsupported")
        assert reason in error["message"]
    assert "unfit" not in cards["rows"]
    status, error = live.failure("POST", "/v1/completions", {"model": "nobody", "prompt": "good"})
    assert (status, error["code"]) == (404, "model_not_found")
    assert len(stub.bodies) == before


def test_a_broken_prompt_reaches_nobody_and_others_go_on(url, stub, tmp_path):
    """NaN rows stay in the memory of a real vLLM and spoil answers to others, as was seen of 0.32."""
    folder = fill_some(tmp_path, llama())
    for name, value in {"nan": float("nan"), "huge": 1e5}.items():
        SoftPrompt.load(folder / "rows").save(folder / name)
        tensors = load_file(folder / name / "prompt.safetensors")
        tensors["rows"][1, 3] = value
        save_file(tensors, folder / name / "prompt.safetensors")
    PromptTuning(length=3, init="random").build(tiny_backbone("decoder-only"), seed=1).save(folder / "foreign")
    SoftPrompt.load(folder / "rows").save(folder / "narrow")
    tensors = load_file(folder / "narrow" / "prompt.safetensors")
    save_file({"rows": tensors["rows"][:, :5].contiguous()}, folder / "narrow" / "prompt.safetensors")
    with gateway(url, folder) as live:
        before = len(stub.bodies)
        for name in ("nan", "foreign", "narrow"):
            status, error = live.failure("POST", "/v1/completions", {"model": name, "prompt": "good", "max_tokens": 4})
            assert (status, error["code"]) == (503, "prompt_unusable"), name
        status, error = live.failure("POST", "/v1/completions", {"model": "huge", "prompt": "good"})
        assert (status, error["code"]) == (400, "unsupported")
        cards = {one["id"]: one["card"] for one in live.ask("GET", "/v1/models")[1]["data"]}
        assert "beyond the 65504 that float16 can hold" in cards["huge"]["unfit"]
        with pytest.raises(UnsupportedError, match="'rows' cannot be used here: it has values beyond"):
            live.engine.folder.replace("rows", SoftPrompt.load(folder / "huge"))
        assert len(stub.bodies) == before
        assert live.post("/v1/completions", model="rows", prompt="good", max_tokens=2)["choices"]


@pytest.mark.slow
def test_a_prompt_that_is_replaced_answers_from_then_on(url, tmp_path):
    folder = fill_some(tmp_path, llama())
    with gateway(url, folder) as live:
        asked = {"model": "rows", "prompt": TEXTS[0], "max_tokens": ROOM}
        first = live.post("/v1/completions", **asked)
        new = PromptTuning(length=6, init="vocab").build(llama(), seed=77)
        version = live.engine.folder.replace("rows", new)
        second = live.post("/v1/completions", **asked)
        assert (second["system_fingerprint"], first["system_fingerprint"]) == (version, first["system_fingerprint"])
        assert second["system_fingerprint"] != first["system_fingerprint"]
        want = Prompted(llama(), {"p": new}).generate([TEXTS[0]], max_new_tokens=ROOM)[0]
        assert second["choices"][0]["text"] == want != first["choices"][0]["text"]
        with pytest.raises(UnsupportedError, match="it is a prefix"):
            live.engine.folder.replace("rows", SoftPrompt.load(folder / "keys"))


TROUBLES = {
    "busy": (429, "queue_full"),
    "starting": (503, "engine_unreachable"),
    "refused": (502, "engine_failed"),
    "failed": (502, "engine_failed"),
    "page": (502, "engine_failed"),
    "broken": (502, "engine_failed"),
    "error": (502, "engine_failed"),
    "ended": (502, "engine_failed"),
    "foreign": (502, "engine_failed"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_troubles_behind_are_told_in_openais_shape_without_addresses(live, stub, trouble):
    stub.trouble = trouble
    asked = {"model": "rows", "prompt": "a good film", "max_tokens": 6, "min_tokens": 6}
    status, answer, headers = live.ask("POST", "/v1/completions", asked)
    assert (status, answer["error"]["code"]) == TROUBLES[trouble]
    assert ("retry-after" in headers) == (status in (429, 503))
    assert "10.0.0.7" not in json.dumps(answer)
    assert "127.0.0.1" not in json.dumps(answer)
    stub.trouble = None
    assert live.post("/v1/completions", **asked)["choices"]
    assert live.idle()


def test_scores_that_are_not_all_there_are_a_failure(live, stub):
    stub.trouble = "short"
    asked = {"model": "rows", "input": "good", "targets": ["so good", "bad"]}
    status, error = live.failure("POST", "/v1/score", asked)
    assert (status, error["code"]) == (502, "engine_failed")


def test_a_stream_that_breaks_ends_in_the_failure(live, stub):
    stub.trouble = "broken"
    asked = {"model": "rows", "prompt": "a good film", "max_tokens": 6, "min_tokens": 6, "stream": True}
    status, text, _ = live.ask("POST", "/v1/completions", asked)
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert status == 200
    assert json.loads(events[0])["choices"][0]["text"] is not None
    assert json.loads(events[-1])["error"]["code"] == "engine_failed"


@pytest.mark.slow
def test_an_engine_that_is_too_slow_is_a_deadline(url, folder, stub):
    with gateway(url, folder, ServerSettings(request_timeout_s=0.3)) as live:
        stub.trouble = "slow"
        asked = {"model": "rows", "prompt": "a good film", "max_tokens": 6, "min_tokens": 6}
        status, error = live.failure("POST", "/v1/completions", asked)
        assert (status, error["code"]) == (504, "deadline")
        assert live.idle()


@pytest.mark.slow
def test_an_engine_that_is_gone_is_told_and_found_again(folder):
    stub = Stub(llama().model)
    with running(stub) as url:
        live = contextlib.ExitStack()
        server = live.enter_context(gateway(url, folder))
    with live:
        asked = {"model": "rows", "prompt": "good", "max_tokens": 4}
        status, answer, headers = server.ask("POST", "/v1/completions", asked)
        assert (status, answer["error"]["code"]) == (503, "engine_unreachable")
        assert headers["retry-after"]
        assert url.rpartition(":")[2] not in json.dumps(answer)


def test_a_client_that_leaves_ends_the_request_behind(live, stub):
    """Fails if the connection to the engine is kept: it would go on computing for nobody."""
    stub.trouble = "stuck"
    before = stub.left
    with contextlib.closing(live.connect()) as connection:
        asked = {"model": "rows", "prompt": "a good film", "max_tokens": 60, "min_tokens": 60, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"})
        with connection.getresponse() as answer:
            assert answer.read(10)
    assert live.idle(5)
    assert ended(stub, before)


def test_a_stop_text_ends_the_request_behind(live, stub, model):
    """The engine does not know stop texts; fails if it goes on to the longest answer."""
    text = model.generate([TEXTS[0]], prompts="rows", max_new_tokens=ROOM, min_new_tokens=6)[0]
    stub.trouble = "stuck"
    before = stub.left
    asked = {"model": "rows", "prompt": TEXTS[0], "max_tokens": 60, "min_tokens": 60, "stop": text.split()[1]}
    assert live.post("/v1/completions", **asked)["choices"][0]["finish_reason"] == "stop"
    assert ended(stub, before)


def ended(stub, before, within_s=5.0):
    """Whether one more stream ended because nobody read on."""
    until = time.monotonic() + within_s
    while stub.left == before and time.monotonic() < until:
        time.sleep(0.02)
    return stub.left == before + 1


@pytest.mark.slow
def test_more_requests_than_may_be_on_their_way_are_told_to_come_later(url, folder, stub):
    with gateway(url, folder, most_requests=1) as live:
        stub.trouble = "stuck"
        asked = {"model": "rows", "prompt": "a good film", "max_tokens": 30, "min_tokens": 30}
        waiting = threading.Thread(target=live.ask, args=("POST", "/v1/completions", asked))
        waiting.start()
        while not live.engine.counts().running:
            time.sleep(0.005)
        status, answer, headers = live.ask("POST", "/v1/completions", asked)
        assert (status, answer["error"]["code"]) == (429, "queue_full")
        assert headers["retry-after"]
        assert not live.engine.close(timeout=0.1)
        waiting.join(10)
        status, error = live.failure("POST", "/v1/completions", asked)
        assert (status, error["code"]) == (503, "shutting_down")


@pytest.mark.slow
def test_a_shorter_engine_shortens_what_fits(folder):
    backbone = copy.copy(llama())
    with running(Stub(llama().model, most=20)) as url, VllmEngine(backbone, folder, VllmServer(url=url)) as engine:
        request = Request(input="good " * 30, prompt="rows", sampling=Sampling(max_new_tokens=4), truncate=True)
        assert engine.submit(request).result(10).input_tokens == 20 - 3 - 4


@pytest.mark.slow
def test_the_command_serves_and_ends_in_order(url, tmp_path):
    backbone = llama()
    fill_some(tmp_path / "prompts", backbone)
    backbone.model.save_pretrained(tmp_path / "backbone")
    backbone.tokenizer.save_pretrained(tmp_path / "backbone")
    process = Process(tmp_path, "--vllm", url)
    try:
        asked = {"model": "rows", "prompt": TEXTS[0], "max_tokens": ROOM}
        status, answer = process.ask("POST", "/v1/completions", asked)
        rows = SoftPrompt.load(tmp_path / "prompts" / "rows")
        want = Prompted(backbone, {"rows": rows}).generate([TEXTS[0]], max_new_tokens=ROOM)[0]
        assert (status, answer["choices"][0]["text"]) == (200, want)
        assert process.end() == 0
    finally:
        process.close()


def otherwise(change):
    model = copy.deepcopy(llama().model)
    with torch.no_grad():
        change(model)
    return Stub(model)


def test_another_model_behind_is_found_out_at_the_start(folder):
    """The table alone would be alike, as in a sibling that was tuned further."""
    with (
        running(otherwise(lambda model: model.model.layers[0].mlp.down_proj.weight.mul_(-1))) as url,
        pytest.raises(MismatchError, match="continues an input otherwise"),
    ):
        VllmEngine(llama(), folder, VllmServer(url=url))
    with (
        running(otherwise(lambda model: model.get_input_embeddings().weight.mul_(3))) as url,
        pytest.raises(MismatchError, match="does not continue the embeddings"),
    ):
        VllmEngine(llama(), folder, VllmServer(url=url))


def test_what_cannot_begin_says_why(folder, stub, url):
    with pytest.raises(UnsupportedError, match="encoder-decoder"):
        VllmEngine(tiny_backbone("encoder-decoder"), None, VllmServer(url=url))
    with pytest.raises(ServerError, match="does not list the model 'other'"):
        VllmEngine(llama(), folder, VllmServer(url=url, model="other"))
    with pytest.raises(UnreachableError, match="cannot be reached"):
        VllmEngine(llama(), folder, VllmServer(url="http://127.0.0.1:9"))
    stub.trouble = "refused"
    with pytest.raises(ServerError, match="refused the request"):
        VllmEngine(llama(), folder, VllmServer(url=url))
    with pytest.raises(ConfigError, match="no server's address"):
        VllmServer(url="localhost:8000")
    with pytest.raises(ConfigError, match="most_requests=0"):
        VllmEngine(llama(), folder, VllmServer(url=url), most_requests=0)


def test_the_embedding_table_alone_is_enough(folder, url, model):
    backbone = Backbone.from_model(copy.deepcopy(llama().model), llama().tokenizer, name="copied")
    held = [name for name, weight in backbone.model.named_parameters() if weight.device.type != "meta"]
    with VllmEngine(backbone, folder, VllmServer(url=url)) as engine:
        backbone.drop_layers()
        kept = [name for name, weight in backbone.model.named_parameters() if weight.device.type != "meta"]
        assert kept == ["model.embed_tokens.weight"] != held
        answer = engine.submit(Request(input=TEXTS[0], prompt="rows", sampling=Sampling(max_new_tokens=ROOM)))
        assert answer.result(10).completions[0].text == said(model, "rows", TEXTS[0])
