"""What prompts cost on large backbones and for many tasks, on paper (`python -m benchmarks.scaling`).

Nothing is run: bytes and operations follow from a backbone's shape, and are held against what the library stores,
compiles and computes in `tests/benchmarks/test_scaling.py`. Times follow from a machine's published rates and from
how far the library stays behind its matrix products, which `python -m benchmarks --cases steps tasks` measured.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.lines import OURS, read_lines
from benchmarks.serving.arrivals import zipf

__all__ = ["BACKBONES", "H200", "Load", "Machine", "Shape", "Training", "che_hit_rate", "main", "serving", "training"]

STORED = 4
"""Bytes of a stored value: prompts are float32."""
KEPT = 2
"""Bytes of a value of the backbone and its caches: bfloat16."""
GATHERED = 4
"""How often a step of prompt tuning gathers a layer's parts: for the prompt and the rows, forward and back.

A prefix needs half of that. Layers that are computed anew are gathered already."""
TASKS = tuple(10**power for power in range(1, 7))


@dataclass(frozen=True)
class Shape:
    """A decoder-only backbone.

    Attributes:
        name: Of the model whose published configuration it is.
        parameters: How many values it has.
        layers: How many layers.
        dim: Width of an embedding.
        kv_heads: Heads of keys and values.
        head_dim: Width of one.
    """

    name: str
    parameters: float
    layers: int
    dim: int
    kv_heads: int
    head_dim: int

    @property
    def token_bytes(self) -> int:
        """What a token's keys and values take in the cache."""
        return 2 * self.layers * self.kv_heads * self.head_dim * KEPT

    def stored_bytes(self, length: int, *, prefix: bool) -> int:
        """A prompt's tensors on disk: rows of the embedding, or keys and values of all layers."""
        return STORED * length * (2 * self.layers * self.kv_heads * self.head_dim if prefix else self.dim)

    def compiled_bytes(self, length: int) -> int:
        """A compiled prompt in memory: keys and values of all layers, of either method."""
        return length * self.token_bytes

    def held_bytes(self, length: int, *, prefix: bool) -> int:
        """What an engine holds of a prompt that it serves: its values, and what was compiled of them."""
        return self.stored_bytes(length, prefix=prefix) + self.compiled_bytes(length)

    def pass_flops(self, tokens: float) -> float:
        """Operations of so many tokens through all layers, without those of attention among them."""
        return 2 * self.parameters * tokens


BACKBONES = (
    Shape("Llama 2 7B", 6.74e9, 32, 4096, 32, 128),
    Shape("Llama 3.1 8B", 8.03e9, 32, 4096, 8, 128),
    Shape("Llama 3.1 70B", 70.6e9, 80, 8192, 8, 128),
    Shape("Llama 3.1 405B", 405.9e9, 126, 16384, 8, 128),
)


@dataclass(frozen=True)
class Machine:
    """What a machine's maker says of one of its GPUs, and how far we stay behind it.

    Attributes:
        memory: Bytes of a GPU.
        bandwidth: Bytes a second from that memory.
        flops: Operations a second of dense bfloat16 products.
        link: Bytes a second from one GPU to the others of its machine.
        per_machine: GPUs of a machine.
        network: Bytes a second from one machine to another: eight cards of 400 Gbit/s (NVIDIA's DGX H200).
        host: Bytes a second from the machine's memory to a GPU: PCIe 5.0 with 16 lanes.
        disk: Bytes a second from the disk of prompts.
        training: Time of a training step over its products.
        serving: Time of a pass of inference over its products.
        usable: Share of the memory that weights and caches may take.
    """

    memory: float = 141e9
    bandwidth: float = 4.8e12
    flops: float = 989e12
    link: float = 450e9
    per_machine: int = 8
    network: float = 400e9
    host: float = 64e9
    disk: float = 5e9
    training: float = 1.4
    serving: float = 1.4
    usable: float = 0.9

    def gpus(self, shape: Shape) -> int:
        """GPUs that hold the weights and leave a third of their memory to caches: a power of two."""
        return 2 ** max(0, math.ceil(math.log2(shape.parameters * KEPT / (self.memory * self.usable * 2 / 3))))

    def gathering_s(self, shape: Shape, gpus: int) -> float:
        """Until each of so many GPUs has once had the others' parts of the weights."""
        rate = self.link if gpus <= self.per_machine else min(self.link, self.network)
        return shape.parameters * KEPT * (gpus - 1) / gpus / rate


H200 = Machine()


@dataclass(frozen=True)
class Training:
    """What it takes to train one prompt.

    Attributes:
        gpus: That hold the backbone, each a part.
        prompt_bytes: The prompt with its gradient and two moments of an optimizer.
        activation_bytes: Of a step, if each layer's input is kept and the rest computed anew: of all GPUs together.
        step_s: Computing of a step.
        gather_s: Sending each GPU's part to the others, forward and backward, in a step.
        hours: Of all GPUs together, for the whole training.
    """

    gpus: int
    prompt_bytes: float
    activation_bytes: float
    step_s: float
    gather_s: float
    hours: float


def training(
    shape: Shape, machine: Machine, *, length: int = 100, rows: int = 32, tokens: int = 130, steps: int = 3000
) -> Training:
    """A prompt of prompt tuning; each GPU computes the prompt once a step for its share of the rows.

    Forward is a pass, backward another (no gradients of weights), and what is computed anew a third.
    """
    gpus = machine.gpus(shape)
    through = rows * tokens + gpus * length
    step_s = 3 * shape.pass_flops(through) / (gpus * machine.flops) * machine.training
    gather_s = GATHERED * machine.gathering_s(shape, gpus)
    return Training(
        gpus=gpus,
        prompt_bytes=4 * length * shape.dim * STORED,
        activation_bytes=through * shape.layers * shape.dim * KEPT,
        step_s=step_s,
        gather_s=gather_s,
        hours=gpus * steps * max(step_s, gather_s) / 3600,  # what is sent overlaps with what is computed
    )


@dataclass(frozen=True)
class Load:
    """What it takes to serve so many tasks.

    Attributes:
        answers: A second, by the GPUs that hold the backbone, one after the other, if every prompt is in memory.
        room: Prompts that fit beside the weights and the texts on their way.
        hits: Share of requests whose prompt is in memory.
        disk_bytes: Of all prompts.
        read_share: Share of the disk's rate that misses take.
        compile_share: Share of the time that misses take, one after the other: of GPUs or the way to them.
    """

    answers: float
    room: int
    hits: float
    disk_bytes: float
    read_share: float
    compile_share: float


def serving(
    shape: Shape,
    machine: Machine,
    tasks: int,
    *,
    prefix: bool = False,
    length: int = 100,
    texts: int = 256,
    asked: int = 128,
    written: int = 64,
) -> Load:
    """Requests by Zipf's law, so many at once, each of so many tokens asked and written.

    A step reads the weights once and each text's keys and values, its prompt's among them. The GPUs are of one machine,
    and compute one after the other (`device_map`): their memory adds up, their rates do not.
    """
    gpus = min(machine.gpus(shape), machine.per_machine)
    held = texts * (length + asked + written) * shape.token_bytes
    free = gpus * machine.memory * machine.usable - shape.parameters * KEPT - held
    room = max(0, int(free // shape.held_bytes(length, prefix=prefix)))
    read_s = shape.parameters * KEPT / machine.bandwidth
    step_s = read_s + held / machine.bandwidth
    rate = machine.flops / machine.serving
    answer_s = (written * step_s) / texts + shape.pass_flops(asked) / rate
    hits = 1.0 if room >= tasks else che_hit_rate(zipf(tasks), room)
    misses = (1 - hits) / answer_s
    sent_s = shape.stored_bytes(length, prefix=prefix) / machine.host
    compile_s = sent_s if prefix else sent_s + max(shape.pass_flops(length) / rate, read_s)
    return Load(
        answers=1 / answer_s,
        room=room,
        hits=hits,
        disk_bytes=tasks * shape.stored_bytes(length, prefix=prefix),
        read_share=misses * shape.stored_bytes(length, prefix=prefix) / machine.disk,
        compile_share=misses * compile_s,
    )


def che_hit_rate(shares: np.ndarray, room: int) -> float:
    """The hit rate of a cache of the `room` tasks used last, in the long run (Che et al. 2002).

    Args:
        shares: Of requests, by task, `[tasks]`.
        room: Tasks that fit, fewer than there are.
    """
    if room == 0:
        return 0.0
    low, high = 0.0, 1.0
    while _held(shares, high) < room:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _held(shares, middle) < room else (low, middle)
    return float((shares * -np.expm1(-shares * high)).sum())


def _held(shares: np.ndarray, requests: float) -> float:
    """Tasks that are asked at all among so many requests, in the mean."""
    return float(-np.expm1(-shares * requests).sum())


def measured(folder: Path, case: str) -> float | None:
    """The median, over the lines of a case, of our time over that of the matrix products alone."""
    file = folder / f"{case}.jsonl"
    if not file.is_file():
        return None
    found = [line.over_limit.median for line in read_lines(file) if line.over_limit and line.base in (OURS, "mixed")]
    return statistics.median(found) if found else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and draw the plot."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("docs/results/benchmarks"), help="lines of `benchmarks`")
    parser.add_argument("--length", type=int, default=100, help="rows of a prompt")
    parser.add_argument("--plot", type=Path, help="an SVG file for the plot")
    given = parser.parse_args(arguments)
    machine = Machine(
        training=measured(given.results, "steps") or H200.training,
        serving=measured(given.results, "tasks") or H200.serving,
    )
    print(
        f"Time over products: training {machine.training:.2f}, serving {machine.serving:.2f}; length {given.length}\n"
    )
    print(_table(("backbone", "GPUs", "prompt", "prefix", "compiled"), _sizes(machine, given.length)))
    print(_table(("backbone", "prompt and optimizer", "activations", "computing", "gathering", "GPU hours"),
                 _trainings(machine, given.length)))  # fmt: skip
    print(_table(("backbone", "tasks", "answers/s", "room", "hits", "on disk", "disk's rate", "misses' time"),
                 _loads(machine, given.length)))  # fmt: skip
    if given.plot:
        plot(machine, given.length, given.plot)


def _sizes(machine: Machine, length: int) -> Iterable[Sequence[str]]:
    for shape in BACKBONES:
        stored = [_bytes(shape.stored_bytes(length, prefix=prefix)) for prefix in (False, True)]
        yield shape.name, str(machine.gpus(shape)), *stored, _bytes(shape.compiled_bytes(length))


def _trainings(machine: Machine, length: int) -> Iterable[Sequence[str]]:
    for shape in BACKBONES:
        one = training(shape, machine, length=length)
        yield (
            shape.name, _bytes(one.prompt_bytes), _bytes(one.activation_bytes), f"{1000 * one.step_s:,.0f} ms",
            f"{1000 * one.gather_s:,.0f} ms", f"{one.hours:,.2f}",
        )  # fmt: skip


def _loads(machine: Machine, length: int) -> Iterable[Sequence[str]]:
    for shape in BACKBONES:
        for tasks in TASKS[::2] + TASKS[-1:]:
            ways = [serving(shape, machine, tasks, length=length, prefix=prefix) for prefix in (False, True)]
            yield (
                shape.name, f"{tasks:,}", f"{ways[0].answers:,.0f}",
                " / ".join(f"{way.room:,}" for way in ways), " / ".join(f"{way.hits:.2f}" for way in ways),
                " / ".join(_bytes(way.disk_bytes) for way in ways),
                " / ".join(f"{way.read_share:.1%}" for way in ways),
                " / ".join(f"{way.compile_share:.1%}" for way in ways),
            )  # fmt: skip


def plot(machine: Machine, length: int, file: Path) -> None:
    """Hits, and the disk's load, against the number of tasks."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "softprompt"
    import matplotlib.pyplot as plt

    figure, (hits, disk) = plt.subplots(1, 2, figsize=(9, 3.4), layout="tight")
    for shape in BACKBONES:
        found = [serving(shape, machine, tasks, length=length) for tasks in TASKS]
        hits.plot(TASKS, [one.hits for one in found], marker="o", label=shape.name)
        (line,) = disk.plot(TASKS, [one.read_share for one in found], marker="o", label=f"{shape.name}, rows")
        heavy = [serving(shape, machine, tasks, length=length, prefix=True).read_share for tasks in TASKS]
        disk.plot(TASKS, heavy, marker="s", linestyle="--", color=line.get_color(), label=f"{shape.name}, prefix")
    hits.set(xscale="log", xlabel="tasks", ylabel="requests whose prompt is in memory", ylim=(0, 1.05))
    disk.set(xscale="log", xlabel="tasks", ylabel="share of the disk's rate", yscale="symlog")
    disk.set_yscale("symlog", linthresh=0.01)
    disk.axhline(1, color="black", linewidth=0.8)
    for axes in (hits, disk):
        axes.legend(fontsize=7, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if count < 1000 else f"{count / 1000:.3g} PB"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    main()
