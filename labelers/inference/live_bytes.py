"""How many bytes of tensors a computation holds at once, counted as it makes and drops them.

Counted in one thread and on any device. On the `meta` device, whose tensors have a shape and no content, the count of
a pass over a large image takes neither its time nor its memory.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts, inside a `with` block, the tensors that operations of this thread make and that are still alive.

    What an operation takes for itself while it runs, such as a convolution's work space, is not seen.

    Attributes:
        now: bytes alive.
        peak: most bytes alive at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.finalize[..., Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        may_share = any(returned.alias_info is not None for returned in func._schema.returns)
        given = {_storage(part) for part in tree_leaves((args, kwargs))} if may_share else set()
        for part in tree_leaves(result):
            if isinstance(part, Tensor) and _storage(part) not in given:
                self._count(part.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, num_bytes = storage._cdata, storage.nbytes()
        if address in self._known:
            return
        self.now += num_bytes
        self.peak = max(self.peak, self.now)
        self._known[address] = weakref.finalize(storage, self._drop, address, num_bytes)

    def _drop(self, address: int, num_bytes: int) -> None:
        del self._known[address]
        self.now -= num_bytes


def _storage(value: Any) -> int | None:
    """What tells two storages apart; None for what has none."""
    return value.untyped_storage()._cdata if isinstance(value, Tensor) else None
