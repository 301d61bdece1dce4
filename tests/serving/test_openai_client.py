"""OpenAI's own client, as it is, against a server: what works there works here."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from tests.models import WORDS
from tests.serving.live import ROWS, backbone_of, fill, serving

from softprompt.conditioning import Prompted
from softprompt.errors import QueueFullError
from softprompt.inference import BatchLimits, Ensemble, Query, Request, Sampling, classify, predict_texts
from softprompt.prompts import SoftPrompt
from softprompt.serving import ServerSettings, add_key
from softprompt.tasks import TextFormat

DRAW = random.Random(2)
TASKS = [f"task-{number}" for number in range(ROWS)]
TEXTS = [" ".join(DRAW.choices(WORDS[:30], k=DRAW.randint(1, 12))) for _ in range(10)]


class World:
    def __init__(self, live, folder, backbone):
        self.live, self.folder, self.backbone = live, folder, backbone
        self.model = Prompted(backbone, {name: SoftPrompt.load(folder / name) for name in TASKS})
        self.client = openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)

    def query(self, name, text, **more):
        form = None
        if name is not None and (stored := self.model.prompts[name].info.format):
            form = TextFormat.from_mapping(stored)
        return Query(input=text, prompt=name, form=form, **more)

    def text(self, name, text, room=6):
        """What the library says, of this input by itself."""
        if name == "both":
            return Ensemble.load(self.backbone, self.folder / name).generate([text], max_new_tokens=room)[0]
        return next(predict_texts(self.model, [self.query(name, text, max_new_tokens=room)]))


@pytest.fixture(scope="module", params=["t5", "llama"])
def world(request, tmp_path_factory):
    backbone = backbone_of(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    fill(folder, backbone)
    with serving(backbone, folder) as live:
        world = World(live, folder, backbone)
        with world.client:
            yield world


@pytest.fixture
def client(world):
    return world.client


@pytest.fixture
def bare(world):
    return world.backbone.name.rpartition("/")[2]


def test_all_prompts_are_models(client, bare):
    found = list(client.models.list())
    assert found[0].id == bare
    assert {one.id for one in found[1:]} == {"both", *TASKS}
    one = client.models.retrieve("task-4")
    assert (one.id, one.object, one.owned_by) == ("task-4", "model", "softprompt")
    assert one.card["template"] == "film : {text} | the film is"


def test_each_prompt_says_what_the_library_says(world, bare):
    for name in [None, "both", *TASKS]:
        said = world.client.completions.create(model=name or bare, prompt=TEXTS[0], max_tokens=4)
        assert said.choices[0].text == world.text(name, TEXTS[0], 4), name
        if name in TASKS[2:]:
            continue
        turns = [{"role": "user", "content": TEXTS[0]}]
        turn = world.client.chat.completions.create(model=name or bare, messages=turns, max_completion_tokens=4)
        assert turn.choices[0].message.content == said.choices[0].text
        assert turn.choices[0].message.role == "assistant"


def test_a_list_of_inputs_has_its_answers_in_order(world, client):
    said = client.completions.create(model="task-3", prompt=TEXTS, max_tokens=5)
    assert [choice.text for choice in said.choices] == [world.text("task-3", text, 5) for text in TEXTS]
    assert [choice.index for choice in said.choices] == list(range(len(TEXTS)))
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens


def test_draws_are_repeatable_and_differ(client):
    def ask(seed):
        said = client.completions.create(
            model="task-2", prompt=TEXTS[:2], max_tokens=8, n=3, temperature=1.5, top_p=0.9, seed=seed
        )
        return [choice.text for choice in said.choices]

    first = ask(1)
    assert len(first) == 6
    assert first == ask(1) != ask(2)
    assert len(set(first[:3])) > 1


def test_a_text_ends_before_a_stop_text(world, client):
    whole = world.text("task-5", TEXTS[1], 8)
    stop = whole.split()[2]
    said = client.completions.create(model="task-5", prompt=TEXTS[1], max_tokens=8, stop=[stop, "nowhere"])
    assert said.choices[0].text == whole.split(stop)[0]
    assert said.choices[0].finish_reason == "stop"
    short = client.completions.create(model="task-5", prompt=TEXTS[1], max_tokens=2)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 2


def test_log_probabilities(client):
    asked = {"model": "task-7", "max_tokens": 4}
    said = client.completions.create(prompt=TEXTS[2], logprobs=3, **asked).choices[0]
    assert said.logprobs.tokens
    lengths = {len(part) for part in (said.logprobs.tokens, said.logprobs.token_logprobs, said.logprobs.text_offset)}
    assert lengths == {len(said.logprobs.top_logprobs)}
    for chosen, top in zip(said.logprobs.token_logprobs, said.logprobs.top_logprobs, strict=True):
        assert chosen == max(top.values())  # greedy
        assert len(top) <= 3
    turn = client.chat.completions.create(
        messages=[{"role": "user", "content": TEXTS[2]}], logprobs=True, top_logprobs=2, **asked
    ).choices[0]
    assert [one.logprob for one in turn.logprobs.content] == said.logprobs.token_logprobs
    assert all(len(one.top_logprobs) == 2 for one in turn.logprobs.content)
    assert client.completions.create(prompt=TEXTS[2], **asked).choices[0].logprobs is None


def test_completions_stream(world, client):
    asked = {"model": "task-1", "prompt": TEXTS[:2], "max_tokens": 6}
    whole = client.completions.create(n=2, temperature=1.0, seed=3, logprobs=1, **asked)
    texts: dict[int, str] = {}
    tokens: dict[int, list[str]] = {}
    ends = {}
    *chunks, last = client.completions.create(
        n=2, temperature=1.0, seed=3, logprobs=1, stream=True, stream_options={"include_usage": True}, **asked
    )
    for chunk in chunks:
        (choice,) = chunk.choices
        texts[choice.index] = texts.get(choice.index, "") + choice.text
        tokens.setdefault(choice.index, []).extend(choice.logprobs.tokens)
        ends[choice.index] = choice.finish_reason
    assert texts == {choice.index: choice.text for choice in whole.choices}
    assert tokens == {choice.index: choice.logprobs.tokens for choice in whole.choices}
    assert ends == {choice.index: choice.finish_reason for choice in whole.choices}
    assert (last.choices, last.usage) == ([], whole.usage)
    assert len({chunk.id for chunk in [*chunks, last]}) == 1


def test_chat_streams(world, client):
    asked = {"model": "both", "messages": [{"role": "user", "content": TEXTS[3]}], "max_tokens": 6}
    whole = client.chat.completions.create(**asked)
    first, *chunks, last = client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked)
    assert first.choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert (last.choices, last.usage) == ([], whole.usage)
    with client.chat.completions.stream(**asked) as events:  # the client's own way to put chunks together
        *_, end = (event for event in events if event.type == "content.done")
    assert end.content == whole.choices[0].message.content


def test_errors_are_those_of_the_client(world, client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="nowhere", prompt="good")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nowhere")
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        client.completions.create(model="task-1", prompt="good", max_tokens=0)
    with pytest.raises(openai.BadRequestError, match="best_of"):
        client.completions.create(model="task-1", prompt="good", best_of=3)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="task-4", messages=[{"role": "system", "content": "good"}])
    assert caught.value.param == "messages"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="task-1", input="good")


def test_a_client_needs_a_key_and_is_told_when_too_much_waits(world, tmp_path):
    key = add_key(tmp_path / "keys", "one")
    settings = ServerSettings(keys=str(tmp_path / "keys"))
    with contextlib.ExitStack() as closing:
        live = closing.enter_context(
            serving(world.backbone, world.folder, settings, queue_requests=2, limits=BatchLimits(rows=1))
        )
        client = openai.OpenAI(base_url=f"{live.url}/v1", api_key=key, max_retries=0)
        closing.enter_context(client)
        assert len(list(client.models.list())) == ROWS + 2
        with pytest.raises(openai.AuthenticationError) as caught:
            client.with_options(api_key="sp-other").models.list()
        assert caught.value.code == "invalid_api_key"
        with pytest.raises(openai.BadRequestError, match="100 texts at once are more than the 2 requests"):
            client.completions.create(model="task-1", prompt=["good"] * 100, max_tokens=64)
        long = Request(input="good", sampling=Sampling(max_new_tokens=64, min_new_tokens=64), answers=64)
        with contextlib.suppress(QueueFullError):
            while True:
                live.engine.submit(long)
        with pytest.raises(openai.RateLimitError) as limited:
            client.completions.create(model="task-1", prompt="good", max_tokens=64)
        assert limited.value.response.headers["retry-after"] == "1"
        live.engine.close(0)


def test_many_threads_in_mixed_tasks_get_what_they_get_alone(world):
    draw = random.Random(4)
    names = ["both", *TASKS]
    asked = [(draw.choice(names), draw.choice(TEXTS), draw.choice([1, 4, 6]), draw.random()) for _ in range(30)]

    def ask(one):
        name, text, room, kind = one
        if kind < 0.3:
            parts = world.client.completions.create(model=name, prompt=text, max_tokens=room, stream=True)
            return "".join(part.choices[0].text for part in parts)
        if kind < 0.5 and name != "both":
            body = world.live.post("/v1/classify", model=name, input=text, labels=["bad", "good", "so boring"])
            return body["data"][0]["label"]
        return world.client.completions.create(model=name, prompt=text, max_tokens=room).choices[0].text

    with ThreadPoolExecutor(12) as threads:
        got = list(threads.map(ask, asked))
    for said, (name, text, room, kind) in zip(got, asked, strict=True):
        if 0.3 <= kind < 0.5 and name != "both":
            query = world.query(name, text, candidates=("bad", "good", "so boring"))
            assert said == next(classify(world.model, [query])).label
        else:
            assert said == world.text(name, text, room)
    assert world.live.idle()
