"""The engine: whatever else it does at the same time, a request gets what it would get alone."""

from __future__ import annotations

import random
import threading
import time

import pytest
import torch
import transformers as tf
from tests.models import tiny_backbone, word_tokenizer
from tests.unit.inference.test_generating import GENERATING, TEXTS

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted, collection
from softprompt.errors import (
    ArtefactError,
    ConfigError,
    DataError,
    DeadlineError,
    EngineClosedError,
    LengthError,
    NonFiniteError,
    QueueFullError,
    RequestCancelled,
    UnknownPromptError,
)
from softprompt.inference import BatchLimits, Ensemble, Query, classify, predict_texts
from softprompt.inference.engine import Engine
from softprompt.inference.lanes import Lane
from softprompt.inference.prompt_folder import PromptFolder
from softprompt.inference.requests import Request
from softprompt.inference.sampling import Chooser, Sampling
from softprompt.prompts import Members, PrefixTuning, PromptTuning, SoftPrompt

CANDIDATES = ("good", "bad", "city centre")
METHODS = {
    "rows": PromptTuning(length=3, init="vocab"),
    "longer": PromptTuning(length=7, init="random"),
    "keys": PrefixTuning(length=4, hidden=None, init="vocab"),
    "behind": PromptTuning(length=2, init="vocab", placement="append"),
    "last": PrefixTuning(length=3, hidden=None, layers=[-1]),
}
NAMES = [None, *METHODS, "vote", "mean"]


def request(**given) -> Request:
    return Request(**{"sampling": Sampling(max_new_tokens=6), **given})


@pytest.fixture(scope="module", params=GENERATING)
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, tmp_path):
    prompts = {name: method.build(tiny_backbone(kind), seed=5) for name, method in METHODS.items()}
    for name, one in prompts.items():
        one.save(tmp_path / name)
    for combine in ("vote", "mean"):
        Members([prompts["rows"], prompts["keys"], prompts["longer"]], combine).save(tmp_path / combine)
    return tmp_path


def alone(kind, folder, text, name, room=6, **options):
    """What the library says of one input by itself."""
    backbone = tiny_backbone(kind)
    if name in ("vote", "mean"):
        return Ensemble.load(backbone, folder / name).generate([text], max_new_tokens=room, **options)[0]
    prompts = {} if name is None else {name: SoftPrompt.load(folder / name)}
    (said,) = predict_texts(
        Prompted(backbone, prompts), [Query(input=text, prompt=name, max_new_tokens=room)], **options
    )
    return said


def chosen_alone(kind, folder, text, name):
    backbone = tiny_backbone(kind)
    if name in ("vote", "mean"):
        return Ensemble.load(backbone, folder / name).classify([text], CANDIDATES)[0]
    prompts = {} if name is None else {name: SoftPrompt.load(folder / name)}
    return next(classify(Prompted(backbone, prompts), [Query(input=text, prompt=name, candidates=CANDIDATES)]))


def test_mixed_requests_of_many_threads_get_what_they_get_alone(kind, folder):
    """Every mix of prompts, lengths, ways and orders of arrival, with some that are cancelled."""
    draw = random.Random(1)
    asked = [
        (text, name, draw.choice([1, 3, 6]), draw.random() < 0.3, draw.random() < 0.15)
        for text in TEXTS
        for name in NAMES
    ]
    draw.shuffle(asked)
    got: dict[int, object] = {}

    def ask(places: range) -> None:
        own = random.Random(places.start)
        for place in places:
            text, name, room, ranked, cancelled = asked[place]
            one = request(
                input=text, prompt=name, candidates=CANDIDATES if ranked else (), sampling=Sampling(max_new_tokens=room)
            )
            ticket = engine.submit(one)
            if cancelled:
                ticket.cancel()
            time.sleep(own.random() * 0.01)
            got[place] = ticket

    with Engine(tiny_backbone(kind), folder, limits=BatchLimits(rows=9, tokens=700), cache_bytes=20_000) as engine:
        threads = [threading.Thread(target=ask, args=(range(i, len(asked), 5),)) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for place, (text, name, room, ranked, cancelled) in enumerate(asked):
            if cancelled:
                try:
                    got[place].result(60)
                except RequestCancelled:
                    continue
            answer = got[place].result(60)
            if ranked:
                want = chosen_alone(kind, folder, text, name)
                assert answer.choice.label == want.label
                assert list(answer.choice.probabilities.values()) == pytest.approx(
                    list(want.probabilities.values()), abs=1e-5
                )
            else:
                assert answer.completions[0].text == alone(kind, folder, text, name, room)
        counts = engine.counts()
    assert (counts.waiting, counts.waiting_tokens, counts.running) == (0, 0, 0)
    assert counts.answered + counts.failed == len(asked)
    assert counts.answered > 70
    assert counts.rows > 1.5 * counts.passes  # they shared passes
    folder_counts = engine.folder.counts()
    assert folder_counts.bytes <= 20_000  # nothing is held any more
    assert folder_counts.evictions > 0


def test_a_draw_is_its_requests_own_whatever_its_company(kind, folder):
    sampling = Sampling(max_new_tokens=6, temperature=2.0, top_k=20, seed=4, logprobs=2)
    asked = request(input=TEXTS[0], prompt="keys", sampling=sampling, answers=3)
    with Engine(tiny_backbone(kind), folder) as engine:
        first = engine.answer(asked)
        others = [engine.submit(request(input=text, prompt="rows")) for text in TEXTS]
        again = engine.answer(asked)
        for other in others:
            other.result(60)
    assert [one.text for one in first.completions] == [one.text for one in again.completions]
    assert len({tuple(token.token for token in one.tokens) for one in first.completions}) == 3
    for one in first.completions:
        assert all(len(token.top) == 2 and token.logprob <= 0 for token in one.tokens)


def test_texts_come_as_they_grow(kind, folder):
    with Engine(tiny_backbone(kind), folder) as engine:
        ticket = engine.submit(request(input=TEXTS[1], prompt="rows", answers=2, sampling=Sampling(max_new_tokens=6)))
        pieces = list(ticket.pieces())
        answer = ticket.result()
    for index, completion in enumerate(answer.completions):
        own = [piece for piece in pieces if piece.index == index]
        assert "".join(piece.text for piece in own) == completion.text
        assert [piece.finish for piece in own] == [None] * (len(own) - 1) + [completion.finish]
        assert tuple(token for piece in own for token in piece.tokens) == completion.tokens
    assert answer.completions[0].text == alone(kind, folder, TEXTS[1], "rows")


def test_a_text_ends_before_its_stop_text(kind, folder):
    with Engine(tiny_backbone(kind), folder) as engine:
        whole = engine.answer(request(input=TEXTS[2], prompt="keys", sampling=Sampling(max_new_tokens=6)))
        words = whole.completions[0].text.split()
        stop = words[2]
        cut = engine.answer(request(input=TEXTS[2], prompt="keys", sampling=Sampling(max_new_tokens=6, stop=(stop,))))
    assert cut.completions[0].text == whole.completions[0].text.split(stop)[0]
    assert cut.completions[0].finish == "stop"
    assert cut.output_tokens <= 3


def test_what_is_counted(kind, folder):
    with Engine(tiny_backbone(kind), folder) as engine:
        answer = engine.answer(request(input="very good film", prompt="longer", sampling=Sampling(max_new_tokens=2)))
        assert (answer.input_tokens, answer.prompt_tokens) == (4 if kind == "encoder-decoder" else 3, 7)
        assert answer.output_tokens == len(answer.completions[0].tokens)
        assert answer.version == engine.folder.acquire("longer").version
        bare = engine.answer(request(input="very good film", sampling=Sampling(max_new_tokens=2)))
        assert (bare.version, bare.prompt_tokens) == (None, 0)
        mean = engine.answer(request(input="very good film", prompt="mean", candidates=CANDIDATES))
        assert mean.prompt_tokens == 3 + 4 + 7


def test_a_cancelled_text_leaves_at_the_next_step(kind, folder, monkeypatch):
    turns: list[int] = []
    turn = Lane.turn
    monkeypatch.setattr(Lane, "turn", lambda self, new: (turn(self, new), turns.append(self.rows), time.sleep(0.01)))
    with Engine(tiny_backbone(kind), folder) as engine:
        long = Sampling(max_new_tokens=60, min_new_tokens=60)
        tickets = [engine.submit(request(input=text, prompt="rows", sampling=long)) for text in TEXTS[:3]]
        next(tickets[0].pieces())
        tickets[0].cancel()
        with pytest.raises(RequestCancelled):
            tickets[0].result(10)
        assert len(turns) < 30
        texts = [ticket.result(60).completions[0].text for ticket in tickets[1:]]
        assert texts == [alone(kind, folder, text, "rows", 60, min_new_tokens=60) for text in TEXTS[1:3]]


def test_a_deadline_ends_what_is_too_late(kind, folder, monkeypatch):
    turn = Lane.turn
    monkeypatch.setattr(Lane, "turn", lambda self, new: (turn(self, new), time.sleep(0.02)))
    long = Sampling(max_new_tokens=60, min_new_tokens=60)
    with Engine(tiny_backbone(kind), folder) as engine:
        late = engine.submit(request(input=TEXTS[0], prompt="rows", sampling=long, deadline_s=0.1))
        with pytest.raises(DeadlineError):
            late.result(10)
        assert engine.answer(request(input=TEXTS[0], prompt="rows")).completions
        assert engine.counts().failed == 1


def test_a_replaced_prompt_answers_those_who_came_before(kind, folder, monkeypatch):
    turn = Lane.turn
    monkeypatch.setattr(Lane, "turn", lambda self, new: (turn(self, new), time.sleep(0.005)))
    long = Sampling(max_new_tokens=20, min_new_tokens=20)
    want = alone(kind, folder, TEXTS[0], "rows", 20, min_new_tokens=20)
    with Engine(tiny_backbone(kind), folder) as engine:
        ticket = engine.submit(request(input=TEXTS[0], prompt="rows", sampling=long))
        next(ticket.pieces())
        version = engine.folder.replace("rows", METHODS["rows"].build(tiny_backbone(kind), seed=77))
        new = engine.answer(request(input=TEXTS[0], prompt="rows", sampling=long))
        old = ticket.result(60)
        assert old.completions[0].text == want
        assert new.version == version != old.version
        assert new.completions[0].text == alone(kind, folder, TEXTS[0], "rows", 20, min_new_tokens=20) != want
        engine.folder.remove("keys")
        with pytest.raises(UnknownPromptError):
            engine.submit(request(input=TEXTS[0], prompt="keys"))


def test_what_cannot_be_answered_is_refused_at_once_by_its_own_name(kind, folder):
    with Engine(tiny_backbone(kind), folder, queue_tokens=200) as engine:
        with pytest.raises(UnknownPromptError, match="There is no prompt 'nothing'"):
            engine.submit(request(input="film", prompt="nothing"))
        if kind == "decoder-only":  # elsewhere an empty input has its end token
            with pytest.raises(DataError):
                engine.submit(request(input="", prompt="rows"))
        with pytest.raises(ConfigError, match="different candidates"):
            engine.submit(request(input="film", prompt="rows", candidates=("good", "good")))
        if kind == "decoder-only":
            with pytest.raises(LengthError):
                engine.submit(request(input="very " * 200, prompt="rows"))
        with pytest.raises(LengthError, match=r"may take \d+ tokens, but at most 200 fit"):
            engine.submit(request(input="very " * 20, prompt="rows", answers=64))
        (folder / "rows" / "prompt.safetensors").write_bytes(b"cut")
        engine.folder.reload()
        with pytest.raises(ArtefactError):
            engine.submit(request(input="film", prompt="rows"))
        assert engine.folder.counts().loaded == 0
    with Engine(tiny_backbone(kind)) as engine:
        with pytest.raises(UnknownPromptError, match="no folder of prompts"):
            engine.submit(request(input="film", prompt="rows"))
        assert engine.answer(request(input="very good film")).completions
    with pytest.raises(EngineClosedError):
        engine.submit(request(input="film"))


def test_a_queue_is_bounded(kind, folder, monkeypatch):
    go = threading.Event()
    turn = Lane.turn
    monkeypatch.setattr(Lane, "turn", lambda self, new: (go.wait(20), turn(self, new)))
    engine = Engine(tiny_backbone(kind), folder, queue_requests=3, limits=BatchLimits(rows=1))
    tickets = [engine.submit(request(input="film", prompt="rows"))]
    while engine.counts().waiting:
        time.sleep(0.001)
    tickets += [engine.submit(request(input="film", prompt="rows")) for _ in range(3)]
    with pytest.raises(QueueFullError):
        engine.submit(request(input="film", prompt="rows"))
    go.set()
    assert len({ticket.result(60).completions[0].text for ticket in tickets}) == 1
    engine.close()


def test_more_than_may_wait_at_all_is_no_matter_of_time(kind, folder):
    """100 texts for a queue of 3 were told to come later, for ever."""
    with Engine(tiny_backbone(kind), folder, queue_requests=3) as engine:
        engine.check_number(3)
        with pytest.raises(ConfigError, match="4 texts at once are more than the 3 requests that may wait"):
            engine.check_number(4)


def test_a_step_that_fails_ends_its_requests_and_no_others(kind, folder, monkeypatch):
    turn, fail = Lane.turn, [True]

    def once(self, new):
        if fail:
            fail.clear()
            raise RuntimeError("the machine")
        return turn(self, new)

    monkeypatch.setattr(Lane, "turn", once)
    with Engine(tiny_backbone(kind), folder, cache_bytes=1) as engine:
        with pytest.raises(RuntimeError, match="the machine"):
            engine.answer(request(input=TEXTS[0], prompt="rows"))
        assert engine.answer(request(input=TEXTS[0], prompt="rows", sampling=Sampling(max_new_tokens=6))).completions[
            0
        ].text == alone(kind, folder, TEXTS[0], "rows")
    assert engine.folder.counts().loaded == 0


def test_closing_finishes_what_was_taken_or_ends_it(kind, folder, monkeypatch):
    engine = Engine(tiny_backbone(kind), folder)
    tickets = [engine.submit(request(input=text, prompt="rows")) for text in TEXTS]
    assert engine.close()
    assert all(ticket.result(0).completions for ticket in tickets)
    turn = Lane.turn
    monkeypatch.setattr(Lane, "turn", lambda self, new: (turn(self, new), time.sleep(0.05)))
    engine = Engine(tiny_backbone(kind), folder)
    long = Sampling(max_new_tokens=60, min_new_tokens=60)
    ticket = engine.submit(request(input=TEXTS[0], prompt="rows", sampling=long))
    assert not engine.close(timeout=0.1)
    with pytest.raises(EngineClosedError):
        ticket.result(0)


def test_numbers_that_are_not_finite_end_one_request(kind, folder):
    """A prompt that is finite by itself may still lead a model astray."""
    backbone = tiny_backbone(kind)
    wild = METHODS["keys"].build(backbone, seed=1)
    with torch.no_grad():
        for parameter in wild.parameters():
            parameter.fill_(3e38)
    wild.save(folder / "wild")
    with Engine(backbone, folder) as engine:
        bad = [engine.submit(request(input=TEXTS[0], prompt="wild", candidates=one)) for one in ((), CANDIDATES)]
        good = [
            engine.submit(request(input=text, prompt="rows", candidates=one, sampling=Sampling(max_new_tokens=6)))
            for text in TEXTS
            for one in ((), CANDIDATES)
        ]
        for ticket in bad:
            with pytest.raises(NonFiniteError, match="'wild'"):
                ticket.result(60)
        for place, ticket in enumerate(good):
            text, answer = TEXTS[place // 2], ticket.result(60)
            if answer.choice is None:
                assert answer.completions[0].text == alone(kind, folder, text, "rows")
            else:
                assert answer.choice.label == chosen_alone(kind, folder, text, "rows").label


def slow_turns(monkeypatch, seconds=0.005):
    turn = Lane.turn
    monkeypatch.setattr(Lane, "turn", lambda self, new: (turn(self, new), time.sleep(seconds)))


def test_a_token_that_the_model_has_no_row_for_ends_its_own_request(kind, monkeypatch):
    """It fails within the pass that reads a batch, by which the others were lost."""
    tokenizer = word_tokenizer(kind)
    tokenizer.add_tokens(["<more>"])
    backbone = Backbone.from_model(tiny_backbone(kind).model, tokenizer, name="a token too many")
    texts = ["good film", "bad <more>", "the book", "a song"]
    with Engine(backbone) as engine:
        rank, begin = engine._ranker.step, threading.Event()
        monkeypatch.setattr(engine._ranker, "step", lambda: (begin.wait(60), rank()))  # so that all begin together
        tickets = [engine.submit(request(input=text)) for text in texts]
        begin.set()
        for ticket, text in zip(tickets, texts, strict=True):
            if "<more>" in text:
                with pytest.raises(RuntimeError, match="index out of range"):
                    ticket.result(60)
            else:
                assert ticket.result(60).completions[0].text == alone(kind, None, text, None)


def test_a_request_that_fails_in_a_batch_ends_no_other(kind, folder, monkeypatch):
    """One whose next token could not be chosen, or whose input could not be read, ended all texts beside it."""
    slow_turns(monkeypatch)
    read, choose = Lane._read, Chooser.choose
    unreadable = "serves pricey"

    def reading(self, decoding, voices):
        if any(voice.chooser.sampling.seed == 13 for voice in voices):
            raise RuntimeError(unreadable)
        return read(self, decoding, voices)

    def choosing(self, logits):
        if self.sampling.seed == 14 and len(self._seen) > 3:
            raise RuntimeError("cannot choose")
        return choose(self, logits)

    monkeypatch.setattr(Lane, "_read", reading)
    monkeypatch.setattr(Chooser, "choose", choosing)
    with Engine(tiny_backbone(kind), folder) as engine:
        settings = [{}, {"seed": 13}, {}, {"seed": 14, "logprobs": 1}, {}]
        tickets = [
            engine.submit(request(input=text, prompt="rows", sampling=Sampling(max_new_tokens=6, **own)))
            for own, text in zip(settings, TEXTS, strict=False)
        ]
        for ticket, own, text in zip(tickets, settings, TEXTS, strict=False):
            if own:
                with pytest.raises(RuntimeError, match=unreadable if own["seed"] == 13 else "cannot choose"):
                    ticket.result(60)
            else:
                assert ticket.result(60).completions[0].text == alone(kind, folder, text, "rows")
        assert engine.is_open
        assert engine.counts().running == 0


def test_a_listener_that_fails_harms_nobody(kind, folder):
    """It ended the engine's thread, and everybody waited for ever."""

    def broken(piece):
        raise RuntimeError("the loop is closed")

    with Engine(tiny_backbone(kind), folder) as engine:
        tickets = [engine.submit(request(input=text, prompt="rows"), broken) for text in TEXTS[:3]]
        tickets[0].cancel()
        assert engine.answer(request(input=TEXTS[0], prompt="rows"), timeout=60).completions
        assert [ticket.result(60).completions[0].text for ticket in tickets[1:]] == [
            alone(kind, folder, text, "rows") for text in TEXTS[1:3]
        ]


def test_a_prompt_is_computed_once_for_all_its_requests(kind, folder, monkeypatch):
    """Each request ran it through the model again, to ask whether its texts may join."""
    calls = []
    record = collection.record_rows
    monkeypatch.setattr(
        collection, "record_rows", lambda *given, **options: (calls.append(1), record(*given, **options))[1]
    )
    with Engine(tiny_backbone(kind), folder) as engine:
        for text in TEXTS[:4]:
            engine.answer(request(input=text, prompt="rows"))
        assert len(calls) <= 1


def test_more_than_the_backbone_or_a_batch_has_room_for_is_refused(kind, folder):
    """A target beyond an encoder-decoder's positions failed at that position, with all texts beside it."""
    with Engine(tiny_backbone(kind), folder, limits=BatchLimits(tokens=60)) as engine:
        one = request(input="film", prompt="rows", sampling=Sampling(max_new_tokens=60))
        with pytest.raises(LengthError, match="may take"):
            engine.submit(one)
        assert engine.counts().waiting_tokens == 0
    backbone = tiny_backbone(kind)
    if kind == "encoder-decoder":
        sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
        config = tf.BartConfig(vocab_size=60, max_position_embeddings=40, forced_eos_token_id=None, **sizes)
        backbone = Backbone.from_model(tf.BartForConditionalGeneration(config), word_tokenizer(kind), name="bart")
    with Engine(backbone) as engine, pytest.raises(LengthError, match=r"positions|fit"):
        engine.submit(request(input="film", sampling=Sampling(max_new_tokens=backbone.spec.max_positions + 1)))


def test_a_folder_of_another_backbone_is_refused(kind, folder):
    other = tiny_backbone("encoder-decoder" if kind == "decoder-only" else "decoder-only")
    with pytest.raises(ConfigError, match="make both for one backbone"):
        Engine(other, PromptFolder(tiny_backbone(kind), folder))


def test_a_short_text_does_not_wait_for_the_end_of_a_long_one(kind, folder, monkeypatch):
    """Where texts have to begin together, it waited until the long one had ended."""
    slow_turns(monkeypatch)
    long, name = Sampling(max_new_tokens=60, min_new_tokens=60), "last"  # prefixes of some layers begin together
    with Engine(tiny_backbone(kind), folder) as engine:
        ticket = engine.submit(request(input=TEXTS[0], prompt=name, sampling=long))
        next(ticket.pieces())
        short = engine.answer(request(input=TEXTS[1], prompt=name))
        assert not ticket.done
        assert short.completions[0].text == alone(kind, folder, TEXTS[1], name)
        assert ticket.result(60).completions[0].text == alone(kind, folder, TEXTS[0], name, 60, min_new_tokens=60)


def test_pieces_may_be_read_again(kind, folder):
    with Engine(tiny_backbone(kind), folder) as engine:
        ticket = engine.submit(request(input=TEXTS[0], prompt="rows"))
        assert list(ticket.pieces())
        assert list(ticket.pieces()) == []
