"""Bytes that tensors take up while a block runs, counted where torch hands an operation to a kernel.

Tensors may be those of `weightless`: they have shapes and no values, so the count is had without the memory. What an
operation chooses by values that nobody knows is then answered in their place: truth, zero, some token of the middle.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

__all__ = ["Allocations", "storages"]

_ATEN, _DEVICE = torch.ops.aten, torch.ops.prim.device.default

_ROUNDED = {"cuda": 512}
"""A device's allocator gives multiples of so many bytes."""


@final
class Allocations(TorchDispatchMode):
    """Within a block, bytes of the tensors that were made in it and are still held.

    Attributes:
        live_bytes: What is held now.
        peak_bytes: The most that was held at once, since the start or `begin_peak`.

    Args:
        device: Tensors on other devices are not counted.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device.type
        self._rounded = _ROUNDED.get(device.type, 1)
        self._known: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()
        self.live_bytes = self.peak_bytes = 0

    def begin_peak(self) -> None:
        """Let the peak be what is held now."""
        self.peak_bytes = self.live_bytes

    def __enter__(self) -> Allocations:
        self._silence = warnings.catch_warnings()
        self._silence.__enter__()
        for asked in ("The .grad attribute of a Tensor that is not a leaf", "Accessing the data pointer of FakeTensor"):
            warnings.filterwarnings("ignore", message=asked)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._silence.__exit__(None, None, None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is _DEVICE:  # asked of every tensor without values, most of all calls
            return func(*args, **kwargs)
        given = _tensors((args, kwargs))
        if any(map(is_traceable_wrapper_subclass, given)):
            return NotImplemented  # a quantised weight computes with the tensors that it is made of, which come here
        for tensor in given:
            self._known.setdefault(tensor.untyped_storage())
        unreal = any(isinstance(tensor, FakeTensor) for tensor in given)
        made = _answer(func, args, kwargs) if unreal else func(*args, **kwargs)
        for tensor in _tensors(made):
            self._count(tensor)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = None
        if tensor.device.type != self._device:
            return
        size = -(-storage.nbytes() // self._rounded) * self._rounded
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.live_bytes -= size


def storages(tensor: Tensor) -> Iterator[torch.UntypedStorage]:
    """Where a tensor's values are kept: in one place, or for a quantised weight in those of what it is made of."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor.untyped_storage()
        return
    for part in tensor.__tensor_flatten__()[0]:
        yield from storages(getattr(tensor, part))


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _answer(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operation on tensors without values gives."""
    if func is _ATEN._local_scalar_dense.default:
        return args[0].dtype == torch.bool or torch.zeros((), dtype=args[0].dtype).item()
    if func is _ATEN.equal.default:
        return False
    if func is _ATEN.argmax.default:
        shape = func(*args, **kwargs)
        return torch.full(shape.shape, args[0].shape[-1] // 2, dtype=shape.dtype, device=shape.device)
    if func in (_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._index_put_impl_.default):
        args = (args[0], _by_number(args[1]), *args[2:])
    return func(*args, **kwargs)


def _by_number(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Indices with masks, whose values are known, as numbers: how many they choose is known then."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            found.extend(index.nonzero().unbind(1))
        else:
            found.append(index)
    return found
