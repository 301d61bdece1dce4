"""The engine in process beside transformers' own continuous batching: the same requests to the bare backbone at once.

Both run in this process, in turn. transformers' cache gets as many blocks as the requests need; its manager is started
before, and runs on from round to round, as ours does.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, PreTrainedModel
from transformers.generation.continuous_batching import ContinuousBatchingManager

import softprompt as sp
from benchmarks.lines import OURS
from benchmarks.timing import alternate, ratios, spread
from softprompt.backbones.catalogue import resolve
from softprompt.inference import Answer

__all__ = ["PEER", "EnginePlan", "Race", "measure_engines", "render_engines"]

PEER = "transformers, continuous batching"
_SHORTEST, _LONGEST = 16, 128
_PAGE = 32


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """How much is measured.

    Attributes:
        backbone: Its name.
        requests: That come at once.
        tokens: That each gets at most.
        attention: transformers' attention kernels to compare with: `sdpa`, `eager`.
        rounds: How often each way is timed.
        seed: Of the inputs.
    """

    backbone: str
    requests: int = 32
    tokens: int = 32
    attention: Sequence[str]
    rounds: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Race:
    """What all requests took together.

    Attributes:
        attention: The peer's attention kernel.
        lengths: Tokens of each input.
        tokens: That were generated, by way.
        alike: Requests whose texts are the same.
        seconds: By way, of each round.
        cpu_seconds: Likewise, of this process alone, whatever else the machine did.
    """

    attention: str
    lengths: Sequence[int]
    tokens: Mapping[str, int]
    alike: int
    seconds: Mapping[str, Sequence[float]]
    cpu_seconds: Mapping[str, Sequence[float]]


def measure_engines(plan: EnginePlan) -> list[Race]:
    """A race against each of the peer's attention kernels; none where the backbone is not decoder-only."""
    backbone = sp.Backbone.from_pretrained(plan.backbone, dtype="float32", device="cpu")
    if backbone.spec.kind != "decoder-only":
        return []
    return [_measure(plan, backbone, attention) for attention in plan.attention]


def _measure(plan: EnginePlan, backbone: sp.Backbone, attention: str) -> Race:
    texts, ids = _inputs(backbone, plan)
    peer = AutoModelForCausalLM.from_pretrained(
        resolve(plan.backbone), dtype=torch.float32, attn_implementation=attention
    ).eval()
    with sp.Engine(backbone) as engine, _manager(peer, plan, ids) as manager:
        first, second = _ours(engine, texts, plan.tokens), _theirs(manager, ids)
        if [one.input_tokens for one in first] != [len(one) for one in ids]:
            raise ValueError("The engine's inputs have other lengths than transformers'.")
        cpu: dict[str, list[float]] = {OURS: [], PEER: []}
        works = {OURS: partial(_ours, engine, texts, plan.tokens), PEER: partial(_theirs, manager, ids)}
        seconds = alternate({way: partial(_noted, cpu[way], work) for way, work in works.items()}, plan.rounds)
    said = [one.completions[0].text.strip() for one in first]
    theirs = [backbone.need_tokenizer().decode(one, skip_special_tokens=True).strip() for one in second]
    return Race(
        attention=attention,
        lengths=[len(one) for one in ids],
        tokens={OURS: sum(one.output_tokens for one in first), PEER: sum(map(len, second))},
        alike=sum(a == b for a, b in zip(said, theirs, strict=True)),
        seconds=seconds,
        cpu_seconds=cpu,
    )


def _noted(cpu_seconds: list[float], work: Callable[[], object]) -> None:
    """Work, and note the processor time that this took."""
    start_s = time.process_time()
    work()
    cpu_seconds.append(time.process_time() - start_s)


def _inputs(backbone: sp.Backbone, plan: EnginePlan) -> tuple[list[str], list[list[int]]]:
    """Texts of mixed lengths, and their ids as the engine tokenizes them."""
    tokenizer = backbone.need_tokenizer()
    generator = torch.Generator().manual_seed(plan.seed)
    lengths = torch.linspace(_SHORTEST, _LONGEST, plan.requests).int().tolist()
    words = [word for word in map(tokenizer.decode, range(len(tokenizer))) if word.isascii() and word.isalpha()]
    texts = []
    for length in lengths:
        chosen = torch.randint(len(words), (length,), generator=generator).tolist()
        texts.append(" ".join(words[index] for index in chosen))
    cut = [
        tokenizer.decode(backbone.tokenize(text)[:length]).strip() for text, length in zip(texts, lengths, strict=True)
    ]
    return cut, backbone.tokenize_all(cut)


@contextmanager
def _manager(
    model: PreTrainedModel, plan: EnginePlan, ids: Sequence[Sequence[int]]
) -> Iterator[ContinuousBatchingManager]:
    settings = copy.deepcopy(model.generation_config)
    settings.update(max_new_tokens=plan.tokens, do_sample=False)
    blocks = sum(-(-(len(one) + plan.tokens) // _PAGE) for one in ids)
    given = ContinuousBatchingConfig(page_size=_PAGE, num_blocks=2 * blocks, max_batch_tokens=512)
    with model.continuous_batching_context_manager(settings, continuous_batching_config=given) as manager:
        yield manager


def _ours(engine: sp.Engine, texts: Sequence[str], tokens: int) -> list[Answer]:
    sampling = sp.Sampling(max_new_tokens=tokens)
    tickets = [engine.submit(sp.Request(input=text, raw=True, sampling=sampling)) for text in texts]
    return [ticket.result() for ticket in tickets]


def _theirs(manager: ContinuousBatchingManager, ids: Sequence[Sequence[int]]) -> list[list[int]]:
    names = manager.add_requests([list(one) for one in ids])
    made: dict[str, list[int]] = {}
    while len(made) < len(names):
        found = manager.get_result(timeout=1)
        if found is not None and found.is_finished():
            if found.error:
                raise RuntimeError(f"transformers failed: {found.error}")
            made[found.request_id] = found.generated_tokens
        elif found is None and not manager.is_running():
            raise RuntimeError("transformers' manager has ended.")
    return [made[name] for name in names]


def render_engines(races: Sequence[Race]) -> str:
    """A Markdown table: medians over rounds, and ratios round by round."""
    if not races:
        return "transformers' continuous batching takes decoder-only models alone."
    rows = [
        "| beside | way | tokens/s | time over ours | processor time over ours | texts the same |",
        "|" + "---|" * 6,
    ]
    for race in races:
        for way, seconds in race.seconds.items():
            rate = spread([race.tokens[way] / one for one in seconds])
            over = [spread(ratios(times, way, OURS)) for times in (race.seconds, race.cpu_seconds)]
            shown = [f"{one.median:,.2f} ({one.low:,.2f} to {one.high:,.2f})" for one in over]
            cells = [race.attention, way, f"{rate.median:,.0f} ({rate.low:,.0f} to {rate.high:,.0f})", *shown]
            rows.append(f"| {' | '.join(cells)} | {race.alike} of {len(race.lengths)} |")
    return "\n".join(rows)
