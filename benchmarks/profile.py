"""Where the time of some work goes: by classes of operations, as torch's profiler sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

__all__ = ["ATTENTION", "CLASSES", "PRODUCTS", "profile"]

PRODUCTS, ATTENTION, COPIES, OPTIMIZER = "matrix products", "attention", "copies", "optimizer"
ELSEWHERE, PYTHON = "other operations", "Python"
CLASSES = (PRODUCTS, ATTENTION, COPIES, OPTIMIZER, ELSEWHERE, PYTHON)

_OPERATIONS: Mapping[str, Sequence[str]] = {
    PRODUCTS: ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_int_mm", "aten::_weight_int8pack_mm"),
    ATTENTION: ("aten::_scaled_dot_product", "aten::_flash_attention", "aten::_efficient_attention"),
    COPIES: (
        "aten::copy_",
        "aten::cat",
        "aten::gather",
        "aten::index",
        "aten::scatter",
        "aten::fill_",
        "aten::slice_backward",
        "aten::constant_pad_nd",
    ),
}
"""How the names of each class's operations begin."""


def profile(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of some work, by class; what no operation takes is Python, with what the profiler itself takes.

    Of work on a GPU they are the GPU's, and what it waits for is Python.
    """
    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=activities) as found:
        start_s = time.perf_counter()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        whole_s = time.perf_counter() - start_s
    seconds = dict.fromkeys(CLASSES, 0.0)
    for event in found.events():
        taken_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if event.name.startswith("aten::"):
            seconds[_class_of(event)] += taken_us / 1e6
    seconds[PYTHON] = max(0.0, whole_s - sum(seconds.values()))
    return seconds


def _class_of(event: FunctionEvent) -> str:
    above = event
    while above is not None:
        if above.name.startswith("Optimizer.step"):
            return OPTIMIZER
        above = above.cpu_parent
    for name, begins in _OPERATIONS.items():
        if event.name.startswith(tuple(begins)):
            return name
    return ELSEWHERE
