"""A prompt on its backbone as a model of EleutherAI's lm-evaluation-harness, for its Python API.

    lm_eval.simple_evaluate(model=HarnessModel(backbone, prompt), tasks=[…])

The harness makes the texts: its task's template should say what the prompt was trained on. Its own models take the
same tokens, so that the bare backbone scores here what it scores there. It is an extra, so it is imported by name, and
only with this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, TypeVar, final

from softprompt.backbones import Backbone
from softprompt.conditioning import Prompted
from softprompt.conditioning.splitting import start_cost
from softprompt.conditioning.texts import EncodedInput
from softprompt.errors import ConfigError, LengthError, MissingDependencyError
from softprompt.inference import BatchLimits
from softprompt.inference.batching import run_batches
from softprompt.inference.queries import EncodedQuery, collate, prompts_of
from softprompt.prompts import SoftPrompt

try:
    _models, _options, _windows = map(import_module, ("lm_eval.api.model", "lm_eval.models.utils", "lm_eval.utils"))
except ImportError as error:
    raise MissingDependencyError("This needs lm-evaluation-harness: pip install 'softprompt[lm-eval]'") from error

__all__ = ["HarnessModel"]

_NAME = "prompt"
_GENERATED_TOKENS = 256
_UNBOUNDED_TOKENS = 2048

R = TypeVar("R")


@final
class HarnessModel(_models.TemplateLM):  # type: ignore[name-defined]
    """What the harness asks for: log-likelihoods of continuations and of whole texts, and generated text.

    Contexts that are too long lose their beginning, as in the harness's own models.

    Args:
        backbone: A frozen model that generates text, with its tokenizer.
        prompt: The prompt; None for the bare backbone.
        limits: How large a batch may be.

    Raises:
        ConfigError: If the backbone is encoder-only.
        MismatchError: If the prompt was made for another backbone.
    """

    def __init__(
        self, backbone: Backbone, prompt: SoftPrompt | None = None, *, limits: BatchLimits | None = None
    ) -> None:
        super().__init__()
        if backbone.spec.kind == "encoder-only":
            raise ConfigError(f"{backbone.name} is encoder-only; the harness asks for models that generate text.")
        self._model = Prompted(backbone, {} if prompt is None else {_NAME: prompt})
        self._prompt = None if prompt is None else _NAME
        self._limits = limits or BatchLimits()
        self.backbone = backbone
        self.tokenizer = backbone.need_tokenizer()
        self.backend = "seq2seq" if backbone.spec.kind == "encoder-decoder" else "causal"

    @property
    def eot_token_id(self) -> int:
        """What stands before a text that has nothing before it."""
        end = self.backbone.end_id
        if end is None:
            raise ConfigError(f"{self.backbone.name} has no end token to begin a text with; give its tokenizer one.")
        return end

    @property
    def tokenizer_name(self) -> str:
        """By what the harness keeps its requests apart."""
        return self.backbone.name.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: Any) -> list[int]:
        """Token ids of a text; with what the tokenizer adds to a whole one, unless it is told not to."""
        return self.backbone.tokenize(string, special=add_special_tokens is not False)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The turns of a conversation as one text."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **options: Any
    ) -> list[tuple[float, bool]]:
        """By request, the log-probability of its continuation in nats, and whether greedy decoding would give it."""
        rows = [self._row(context, continuation) for _, context, continuation in requests]
        found = self._run(rows, self._judge)
        for (asked, _, _), one in zip(requests, found, strict=True):
            if asked is not None:
                self.cache_hook.add_partial("loglikelihood", asked, one)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """By text, its log-probability in nats; one that is too long is divided, and each token predicted once."""
        longest = self._longest(room=1) if self.backend == "causal" else _UNBOUNDED_TOKENS
        totals = []
        for request in requests:
            (text,) = request.args
            windows = _windows.get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=longest,
                context_len=1,
            )
            pairs = [(None, *_windows.make_disjoint_window(window)) for window in windows]
            totals.append(sum(score for score, _ in self._loglikelihood_tokens(pairs)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), totals[-1])
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """By request, the text that follows its context, up to the first of its stop sequences."""
        together: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            together.setdefault(repr(request.args[1]), []).append(index)
        said: dict[int, str] = {}
        for places in together.values():
            texts = self._generated([requests[place].args[0] for place in places], requests[places[0]].args[1])
            said |= dict(zip(places, texts, strict=True))
        for place, request in enumerate(requests):
            self.cache_hook.add_partial("generate_until", request.args, said[place])
        return [said[place] for place in range(len(requests))]

    def _generated(self, contexts: Iterable[str], asked: dict[str, Any]) -> list[str]:
        options = dict(_options.normalize_gen_kwargs(asked, _GENERATED_TOKENS))
        room = int(options.pop("max_gen_toks"))
        stops = [stop for stop in _options.handle_stop_sequences(options.pop("until"), eos=None) if stop]
        if not options.get("do_sample"):
            options = {**{name: value for name, value in options.items() if name != "temperature"}, "do_sample": False}
        rows = [self._row(self.tok_encode(context), [], room=room) for context in contexts]

        def call(batch: Sequence[EncodedQuery]) -> list[str]:
            ids, mask, marks = collate(self._model, batch)
            made = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                prompts=prompts_of(batch),
                marks=marks,
                max_new_tokens=room,
                **options,
            )
            behind = made[:, ids.shape[1] :] if self.backend == "causal" else made
            return [str(text) for text in self.tokenizer.batch_decode(behind, skip_special_tokens=True)]

        return [_until(text, stops) for text in self._run(rows, call)]

    def _judge(self, batch: Sequence[EncodedQuery]) -> list[tuple[float, bool]]:
        ids, mask, marks = collate(self._model, batch)
        targets = [row.targets for row in batch]
        scores, greedy = self._model.judge_ids(ids, mask, targets, prompts=prompts_of(batch), marks=marks)
        return list(zip(scores[:, 0].tolist(), greedy[:, 0].tolist(), strict=True))

    def _run(self, rows: Sequence[EncodedQuery], call: Callable[[Sequence[EncodedQuery]], list[R]]) -> list[R]:
        start = start_cost(self.backbone.device)
        return run_batches(rows, call, limits=self._limits, start=start, sharded=self.backbone.sharded)

    def _row(self, context: list[int], continuation: list[int], *, room: int | None = None) -> EncodedQuery:
        """A context, without its beginning where it is too long, and what follows it."""
        behind = len(continuation) if room is None else room
        longest = self._longest(room=behind)
        if longest < 1:
            raise LengthError(
                f"{behind} tokens do not fit behind any input of {self.backbone.name}; ask for fewer, or shorter ones."
            )
        kept = context[-longest:]
        length = 0 if self._prompt is None else self._model.prompts[self._prompt].length
        return EncodedQuery(
            input=EncodedInput(kept),
            prompt=self._prompt,
            tokens=len(kept) + length + behind,
            room=behind,
            targets=[continuation] if room is None else [],
            candidates=(),
        )

    def _longest(self, *, room: int) -> int:
        longest = self._model.longest_input(self._prompt, room=room)
        return _UNBOUNDED_TOKENS if longest is None else longest


def _until(text: str, stops: Iterable[str]) -> str:
    """A text up to the first of some others."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
