"""A stand-in for a CUDA graph on the CPU: it records each of torch's operations with the very tensors that it read and
wrote, and does them again.

Like a graph it bakes in every number that the host gave, and every address; a capture changes no tensor; and reading a
tensor back is refused. What a step does by a graph and by the tape is the same, but for the time that it takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READ_BACK = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.equal.default,
}
"""Operations for which a host waits for its device, so that no graph can hold them."""

_UNDECLARED = {torch.ops.aten.native_batch_norm.default: (3, 4)}
"""Arguments that an operation changes though its schema does not say so: batch norm's running statistics."""


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.tape: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # storage → a tensor of it, its bytes before
        self._made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _READ_BACK:
            raise RuntimeError(f"{func} reads a tensor back")
        self._remember(func, args, kwargs)
        out = func(*args, **kwargs)
        given = {one.untyped_storage()._cdata for one in _tensors((args, kwargs))}
        self._made |= {one.untyped_storage()._cdata for one in _tensors(out)} - given
        self.tape.append((func, args, kwargs, out))
        return out

    def _remember(self, func: Any, args: Any, kwargs: Any) -> None:
        """Keep what was in storages, not made on the tape itself, that an operation is about to change."""
        for index, argument in enumerate(func._schema.arguments):
            declared = argument.alias_info is not None and argument.alias_info.is_write
            if not declared and index not in _UNDECLARED.get(func, ()):
                continue
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            for tensor in _tensors(value):
                key = tensor.untyped_storage()._cdata
                if key not in self._made and key not in self.before:
                    self.before[key] = (tensor.detach(), tensor.untyped_storage().clone())


class Tape:
    """Captures as `ganzoo.training.graph.CudaCapturer` does."""

    def __init__(self) -> None:
        self.replays = 0
        self.recovered = 0

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        yield

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        recording = _Recording()
        try:
            with recording:
                work()
        finally:
            for tensor, content in recording.before.values():
                tensor.untyped_storage().copy_(content)
        tape = recording.tape

        def replay() -> None:
            self.replays += 1
            with torch.no_grad():
                for func, args, kwargs, out in tape:
                    again = func(*args, **kwargs)
                    for old, new in zip(_tensors(out), _tensors(again), strict=True):
                        if old.untyped_storage()._cdata != new.untyped_storage()._cdata:
                            old.detach().copy_(new)

        return replay

    def recover(self) -> None:
        self.recovered += 1
