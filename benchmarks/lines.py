"""What a benchmark finds: one line for each thing that was done in several ways."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.products import count_products, replay, total_flops
from benchmarks.profile import profile
from benchmarks.shapes import DEFAULT_SHAPES, Weights
from benchmarks.timing import Spread, alternate, ratios, spread

__all__ = ["BEST", "DEFAULT", "LIMIT", "OURS", "Line", "Plan", "compare", "merge_lines", "read_lines", "write_lines"]

OURS = "softprompt"
DEFAULT, BEST = "PEFT, default use", "PEFT, best use"
LIMIT = "matrix products alone"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: How often each way is timed.
        quick: Whether few cases of the small shapes are enough.
        peers: Whether PEFT is compared with.
        only: The shapes to measure, also where few are enough; None measures those that every machine can.
        words: Only settings that hold these words are measured.
        weights: Where they lie, and in how many bits.
        profiled: Whether to look where the time goes, instead of at how much it is.
    """

    rounds: int
    quick: bool
    peers: bool
    only: Collection[str] | None = None
    words: str = ""
    weights: Weights = field(default_factory=Weights)
    profiled: bool = False

    def rows(self, batch: int) -> int:
        """Rows of a batch; half of them where that is enough."""
        return batch // 2 if self.quick else batch

    def shapes(self, names: Sequence[str], *, quick: int = 1) -> tuple[str, ...]:
        """The shapes to measure; so many of them where few are enough and none is asked for, the small one first."""
        if self.only is not None:
            return tuple(name for name in names if name in self.only)
        return tuple(name for name in names if name in DEFAULT_SHAPES)[: quick if self.quick else None]

    def wants(self, setting: str) -> bool:
        """Whether a setting is to be measured."""
        return self.words in setting


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing, done by softprompt and in other ways.

    Attributes:
        case: Of which case it is.
        shape: The backbone's shape.
        setting: What was done, in words.
        base: The way that the others are compared with.
        seconds: By way, of each round.
        flops: By way, operations of its matrix products.
        memory: By way, bytes at the peak beside the model.
        profiles: By way and class of operations, seconds of it once.
        x: Where the line stands on the axis of a plot, if it is in one.
        run: The command that measured it, and where.
    """

    case: str
    shape: str
    setting: str
    base: str = OURS
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    flops: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    profiles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    x: float | None = None
    run: str = ""

    def ratios(self, way: str) -> list[float]:
        """How many times as long another way took, round by round."""
        return ratios(self.seconds, way, self.base)

    def ratio(self, way: str) -> Spread:
        """The middle, the lowest and the highest of them."""
        return spread(self.ratios(way))

    def predicted(self, way: str) -> float | None:
        """The same by counted work."""
        return self.flops[way] / self.flops[self.base] if way in self.flops else None

    @property
    def ratios_over_limit(self) -> list[float]:
        """How many times as long it took as its matrix products alone, round by round; none where these were not."""
        return ratios(self.seconds, self.base, LIMIT) if LIMIT in self.seconds else []

    @property
    def over_limit(self) -> Spread | None:
        """The middle, the lowest and the highest of them."""
        return spread(self.ratios_over_limit) if self.ratios_over_limit else None


def compare(
    ways: Mapping[str, Callable[[], object]],
    plan: Plan,
    *,
    case: str,
    shape: str,
    setting: str,
    x: float | None = None,
) -> Line:
    """Do the same in several ways, in turn, and the first one's matrix products by themselves.

    Before that, each is done once while its products are counted.
    """
    products = {way: count_products(work) for way, work in ways.items()}
    base = next(iter(ways))
    flops = {way: total_flops(found) for way, found in products.items()}
    line = Line(case=case, shape=shape, setting=setting, base=base, flops=flops, x=x)
    if plan.profiled:
        return replace(line, profiles={way: profile(work) for way, work in ways.items()})
    alone = replay(products[base], plan.weights.torch_dtype, torch.device(plan.weights.device))
    alone()
    return replace(line, seconds=alternate({**ways, LIMIT: alone}, plan.rounds))


def write_lines(file: Path, lines: Sequence[Line]) -> None:
    """Write lines as JSON, one on each line of the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines), encoding="utf-8")


def read_lines(file: Path) -> list[Line]:
    """Read what `write_lines` wrote; no lines where there is no file."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [Line(**json.loads(one)) for one in text.splitlines()]


def merge_lines(file: Path, lines: Sequence[Line]) -> None:
    """Add lines to a file; one takes the place of the line of the same case, shape and setting, if there is one."""
    merged = {(line.case, line.shape, line.setting): line for line in (*read_lines(file), *lines)}
    write_lines(file, list(merged.values()))
