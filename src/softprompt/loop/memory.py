"""Telling "out of memory", which smaller micro-batches mend, from every other failure."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory"]

# torch raises a bare RuntimeError for these; the texts are those of its allocators and of cuBLAS.
_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)
