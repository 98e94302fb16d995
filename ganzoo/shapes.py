"""Building networks as shapes alone: on torch's meta device, where a tensor takes no memory, whatever its size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

_RANDOM = {
    getattr(torch.Tensor, name)
    for name in ("normal_", "uniform_", "random_", "exponential_", "bernoulli_", "log_normal_", "cauchy_", "geometric_")
}


class _NothingDrawn(TorchFunctionMode):
    """Leaves out random initialisation and spectral norm's power iterations: on the meta device they draw and
    compute nothing, but torch imports its compiler for them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if (func in _RANDOM or func is F.normalize) and args[0].is_meta:
            return args[0]
        if func in (torch.mv, torch.vdot) and args[0].is_meta:  # a number for each row, or one
            return args[0].new_empty(args[0].shape[:-1])
        if func is torch.Tensor.div and args[0].is_meta and getattr(args[1], "ndim", 1) == 0:
            return args[0].new_empty(args[0].shape)
        return func(*args, **kwargs or {})


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Make what is built within the block of shapes alone, in a few milliseconds.

    For a network that draws its first weights this is seconds quicker than `torch.device("meta")` by itself.
    """
    with torch.device("meta"), _NothingDrawn():
        yield
