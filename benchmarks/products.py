"""Matrix products: which of them some work makes, how many operations they are, and how fast they go by themselves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Layout", "Products", "count_products", "make_factor", "product_flops", "replay", "total_flops"]

_FIRST_FACTOR = {torch.ops.aten.mm.default: 0, torch.ops.aten.addmm.default: 1, torch.ops.aten.bmm.default: 0}
"""Matrix products, and which argument is their first factor."""

Layout = tuple[tuple[int, ...], tuple[int, ...]]
"""Size and strides of a factor."""
Products = Counter[tuple[Layout, Layout]]
"""How often each product is made, by the layouts of its factors."""


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.products: Products = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FIRST_FACTOR:
            first = _FIRST_FACTOR[func]
            a, b = args[first : first + 2]
            self.products[(tuple(a.shape), a.stride()), (tuple(b.shape), b.stride())] += 1
        return func(*args, **(kwargs or {}))


def count_products(work: Callable[[], object]) -> Products:
    """The products that some work makes, those of attention among them.

    Fused attention is no product that can be timed by itself; its plain form is, and is what is counted.
    """
    with sdpa_kernel(SDPBackend.MATH), _Watch() as watch:
        work()
    return watch.products


def product_flops(a: Layout, b: Layout) -> int:
    """Operations of one product, a multiplication and an addition each: `[.., m, k] x [.., k, n]`."""
    return 2 * math.prod(a[0]) * b[0][-1]


def total_flops(products: Products) -> int:
    """Operations of all of them."""
    return sum(count * product_flops(*factors) for factors, count in products.items())


def replay(products: Products, dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    """The same products, of other numbers and without what lies between them.

    Those of one layout follow each other on one pair of factors, which stays near to the processor where layers fetch
    weights of their own; attention is made in its plain form. So it is no bound: fused attention can be faster.
    """
    factors = {layout: make_factor(layout, dtype, device) for pair in products for layout in pair}
    pairs = [(factors[a], factors[b], count) for (a, b), count in products.items()]

    @torch.no_grad()
    def run() -> None:
        for a, b, count in pairs:
            for _ in range(count):
                torch.matmul(a, b)

    return run


def make_factor(layout: Layout, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random numbers in a layout."""
    size, strides = layout
    held = 1 + sum((count - 1) * stride for count, stride in zip(size, strides, strict=True))
    return torch.randn(held, dtype=dtype, device=device).as_strided(size, strides)
