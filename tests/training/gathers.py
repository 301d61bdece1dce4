"""How often a step of training gathers each layer of a sharded backbone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.training.sessions import sentiment
from torch.distributed.fsdp._fully_shard import _fsdp_param_group

from softprompt.backbones import Backbone
from softprompt.prompts import PrefixTuning, PromptTuning
from softprompt.prompts.registry import Method
from softprompt.training import Run, TrainConfig, train

CASES: dict[tuple[str, str], tuple[Method, dict[str, Any], int]] = {
    ("llama", "rows"): (PromptTuning(length=5), {}, 4),
    ("llama", "recomputed"): (PromptTuning(length=5), {"gradient_checkpointing": True}, 4),
    ("llama", "concatenated"): (PromptTuning(length=5), {"conditioning": "concatenation"}, 2),
    ("llama", "behind"): (PromptTuning(length=5, placement="append"), {}, 2),
    ("llama", "prefix"): (PrefixTuning(length=4, hidden=8), {}, 2),
    ("t5", "rows"): (PromptTuning(length=5), {}, 2),
    ("t5", "prefix"): (PrefixTuning(length=4, hidden=8), {}, 2),
}
"""By a model's family and a name: a method, settings of the session, and how often each layer is gathered in a step."""

_STEPS = 2


def count_gathers(backbone: Backbone, method: Method, **settings: Any) -> dict[str, float]:
    """By layer, how often it is gathered in a step; in every process at once."""

    def take(steps: int) -> None:
        run = Run(name="a", method=method, task=sentiment(), batch_size=4, steps=steps, evaluate_every=0)
        train(backbone, [run], TrainConfig(progress=False, **settings))

    take(1)  # looks once at what the backbone can do
    with _counted(backbone) as counts:
        take(_STEPS)
    return {name: count / _STEPS for name, count in counts.items() if any(part.isdigit() for part in name.split("."))}


@contextmanager
def _counted(backbone: Backbone) -> Iterator[Counter[str]]:
    """Counts of gathers by the first module that they bring weights of."""
    counts: Counter[str] = Counter()
    names = {id(module): name for name, module in backbone.model.named_modules()}
    gather = _fsdp_param_group.foreach_all_gather

    def counting(parameters: list[Any], *rest: Any) -> Any:
        counts[names[id(parameters[0]._module_info.module)]] += 1
        return gather(parameters, *rest)

    _fsdp_param_group.foreach_all_gather = counting
    try:
        yield counts
    finally:
        _fsdp_param_group.foreach_all_gather = gather
