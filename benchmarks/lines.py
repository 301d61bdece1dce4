"""What a benchmark finds: one line for each thing that was done in several ways."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.products import count_products, replay, total_flops
from benchmarks.timing import Spread, alternate, ratios, spread

__all__ = ["LIMIT", "OURS", "Line", "Plan", "compare", "read_lines", "write_lines"]

OURS = "softprompt"
LIMIT = "matrix products alone"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: How often each way is timed.
        quick: Whether few cases of the small shapes are enough.
        peers: Whether PEFT is compared with.
        only: The shapes to measure.
    """

    rounds: int
    quick: bool
    peers: bool
    only: Collection[str]

    def rows(self, batch: int) -> int:
        """Rows of a batch; half of them where that is enough."""
        return batch // 2 if self.quick else batch

    def shapes(self, names: Sequence[str], *, quick: int = 1) -> tuple[str, ...]:
        """The shapes to measure; so many of them where few are enough, the small one first."""
        return tuple(name for name in (names[:quick] if self.quick else names) if name in self.only)


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
        goals: By way, how many times as long (or as much memory) it should take.
        x: Where the line stands on the axis of a plot, if it is in one.
    """

    case: str
    shape: str
    setting: str
    base: str = OURS
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    flops: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    goals: Mapping[str, float] = field(default_factory=dict)
    x: float | None = None

    def ratio(self, way: str) -> Spread:
        """How many times as long another way took, round by round."""
        return spread(ratios(self.seconds, way, self.base))

    def predicted(self, way: str) -> float | None:
        """The same by counted work."""
        return self.flops[way] / self.flops[self.base] if way in self.flops else None

    @property
    def over_limit(self) -> Spread | None:
        """How many times as long it took as its matrix products alone."""
        return spread(ratios(self.seconds, self.base, LIMIT)) if LIMIT in self.seconds else None


def compare(
    ways: Mapping[str, Callable[[], object]],
    plan: Plan,
    *,
    case: str,
    shape: str,
    setting: str,
    goals: Mapping[str, float] | None = None,
    x: float | None = None,
) -> Line:
    """Do the same in several ways, in turn, and the first one's matrix products by themselves.

    Before that, each is done once while its products are counted.
    """
    products = {way: count_products(work) for way, work in ways.items()}
    base = next(iter(ways))
    alone = replay(products[base], torch.float32, torch.device("cpu"))
    alone()
    return Line(
        case=case,
        shape=shape,
        setting=setting,
        base=base,
        seconds=alternate({**ways, LIMIT: alone}, plan.rounds),
        flops={way: total_flops(found) for way, found in products.items()},
        goals=goals or {},
        x=x,
    )


def write_lines(file: Path, lines: Sequence[Line]) -> None:
    """Write lines as JSON, one on each line of the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines), encoding="utf-8")


def read_lines(file: Path) -> list[Line]:
    """Read what `write_lines` wrote."""
    return [Line(**json.loads(text)) for text in file.read_text(encoding="utf-8").splitlines()]
