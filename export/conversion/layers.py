"""From the names and shapes of tensors to layers: which tensors belong to one convolution, dense layer or batch norm,
and in which order the layers follow each other.

Spectral norm is met in four spellings, weight norm in two:

    parametrizations.weight.original, .0._u, .0._v      torch.nn.utils.parametrizations.spectral_norm
    weight_orig, weight_u, weight_v                     torch.nn.utils.spectral_norm
    weight_bar, weight_u, weight_v                      the module that came before them, torchgan's among others
    weight, sn_u, sn_sigma                          torch-mimicry's own, which iterates in eval mode, too
    parametrizations.weight.original0, .original1       torch.nn.utils.parametrizations.weight_norm
    weight_g, weight_v                                  torch.nn.utils.weight_norm
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ganzoo.export.conversion.foreign import Names

Tensors = Mapping[Names, torch.Tensor]

_MOST_LAYERS = 64
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_MOST_GROUPS = 5

# The ends of names, without the module's own, and what each is.
_LEAVES: dict[Names, str] = {
    ("weight",): "weight",
    ("bias",): "bias",
    ("running_mean",): "running_mean",
    ("running_var",): "running_var",
    ("num_batches_tracked",): "num_batches_tracked",
    ("weight_orig",): "original",
    ("weight_bar",): "original_rows",
    ("weight_u",): "u",
    ("weight_v",): "v",
    ("sn_u",): "row_u",
    ("sn_sigma",): "sigma",
    ("weight_g",): "gain",
    ("parametrizations", "weight", "original"): "original",
    ("parametrizations", "weight", "0", "_u"): "u",
    ("parametrizations", "weight", "0", "_v"): "v",
    ("parametrizations", "weight", "original0"): "gain",
    ("parametrizations", "weight", "original1"): "v",
}


class NotRecognised(Exception):
    """Tensors that are no chain of layers of a known kind; its text is the reason."""


@dataclass(frozen=True)
class Norm:
    """A batch norm: gain and bias (both (width,), or None where it has none) and its running statistics."""

    name: Names
    running_mean: torch.Tensor
    running_var: torch.Tensor
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    batches: torch.Tensor | None

    @property
    def width(self) -> int:
        """How many channels or units it norms."""
        return self.running_mean.numel()

    @property
    def affine(self) -> bool:
        """Whether it has gain or bias."""
        return self.weight is not None or self.bias is not None


@dataclass(frozen=True)
class Layer:
    """A convolution or dense layer, with the batch norm that follows it.

    Args:
        name: of its module.
        weight: (out, in) dense, (out, in, k, k) or, transposed, (in, out, k, k); with spectral norm the raw one.
        bias: (out,) or None.
        norm: of its output, before the activation.
        u: (rows,), spectral norm's left singular vector; None without.
        v: its right one.
        rows: the dimension of `weight` that became rows for spectral norm; None: torch's, 1 for transposed
            convolutions and else 0.
    """

    name: Names
    weight: torch.Tensor
    bias: torch.Tensor | None = None
    norm: Norm | None = None
    u: torch.Tensor | None = None
    v: torch.Tensor | None = None
    rows: int | None = None

    @property
    def is_convolution(self) -> bool:
        """Whether it is one, transposed or not; else it is dense."""
        return self.weight.dim() == 4

    @property
    def spectral(self) -> bool:
        """Whether its weight is divided by its largest singular value."""
        return self.u is not None

    def baked(self, transposed: bool) -> Layer:
        """Return the layer with spectral norm carried out, as torch does it in eval mode: W / (u · W v)."""
        if self.u is None or self.v is None:
            return self
        rows = self.rows if self.rows is not None else int(transposed)
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        matrix = self.weight.to(wide).movedim(rows, 0).flatten(1)
        if matrix.shape != (self.u.numel(), self.v.numel()):
            raise NotRecognised(f"the spectral norm of {'.'.join(self.name)} does not fit its weight")
        sigma = torch.dot(self.u.to(wide), torch.mv(matrix, self.v.to(wide)))
        return replace(self, weight=(self.weight.to(wide) / sigma).to(self.weight.dtype), u=None, v=None)


def read_layers(tensors: Tensors) -> list[Layer | Norm]:
    """Return the layers that tensors make, in the order of their first names.

    Args:
        tensors: names → tensor, all of one network.

    Raises:
        NotRecognised: a tensor that no such layer has.
    """
    modules: dict[Names, dict[str, torch.Tensor]] = {}
    for names, tensor in tensors.items():
        for length in (1, 3, 4):
            if (leaf := _LEAVES.get(names[-length:])) and len(names) >= length:
                modules.setdefault(names[:-length], {})[leaf] = tensor
                break
        else:
            raise NotRecognised(f"{'.'.join(names)} {tuple(tensor.shape)} belongs to no layer that is known")
    if wrong := next((name for name, tensor in tensors.items() if not _is_plain(name, tensor)), None):
        raise NotRecognised(f"{'.'.join(wrong)} holds {tensors[wrong].dtype} numbers")
    if len(modules) > 2 * _MOST_LAYERS:
        raise NotRecognised(f"{len(modules)} layers are more than any of these networks has")
    return [_layer(name, parts) for name, parts in modules.items()]


def _is_plain(name: Names, tensor: torch.Tensor) -> bool:
    return tensor.dtype in _FLOATS or name[-1] == "num_batches_tracked"


def _layer(name: Names, parts: dict[str, torch.Tensor]) -> Layer | Norm:
    shown = ".".join(name) or "the outermost module"
    if "running_mean" in parts and "running_var" in parts:
        norm = Norm(
            name,
            parts.pop("running_mean"),
            parts.pop("running_var"),
            parts.pop("weight", None),
            parts.pop("bias", None),
            parts.pop("num_batches_tracked", None),
        )
        sides = [one.shape for one in (norm.running_mean, norm.running_var, norm.weight, norm.bias) if one is not None]
        counted = norm.batches is None or (norm.batches.numel() == 1 and not norm.batches.is_complex())
        if parts or not counted or any(side != (norm.width,) for side in sides):
            raise NotRecognised(f"{shown} is no batch norm that is known")
        return norm
    bias = parts.pop("bias", None)
    rows = 0 if "original_rows" in parts else None
    original = parts.pop("original_rows", parts.pop("original", None))
    u = v = None
    if original is not None:
        parts.pop("weight", None)  # what the hook computed last; it is computed anew
        weight, u, v = original, parts.pop("u", None), parts.pop("v", None)
        if u is None or v is None or u.dim() != 1 or v.dim() != 1:
            raise NotRecognised(f"{shown} has spectral norm of an old form that keeps no second vector")
    elif "row_u" in parts and "weight" in parts:
        weight, row_u = parts.pop("weight"), parts.pop("row_u")
        u, v = _iterated(weight, row_u, shown)
        parts.pop("sigma", None)  # of the last step of training; eval mode computes it anew
    elif "gain" in parts and "v" in parts:
        weight = _weight_normed(parts.pop("gain"), parts.pop("v"), shown)
        parts.pop("weight", None)
    else:
        found = parts.pop("weight", None)
        if found is None:
            raise NotRecognised(f"{shown} has {', '.join(parts) or 'a bias'} and no weight")
        weight = found
    if parts or weight.dim() not in (2, 4):
        raise NotRecognised(
            f"{shown} has a weight of shape {tuple(weight.shape)}"
            + (" and no running statistics" if weight.dim() == 1 else f" with {', '.join(parts)}" if parts else "")
        )
    if bias is not None and (bias.dim() != 1 or bias.numel() not in weight.shape[:2]):
        raise NotRecognised(f"{shown} has a bias of shape {tuple(bias.shape)} to a weight of {tuple(weight.shape)}")
    return Layer(name, weight, bias, None, u, v, rows)


def _iterated(weight: torch.Tensor, u: torch.Tensor, shown: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both singular vectors after one power iteration from the left one, (1, rows) (Miyato et al., arXiv
    1802.05957, algorithm 1)."""
    if weight.dim() < 2 or u.shape != (1, weight.shape[0]):
        raise NotRecognised(f"the spectral norm of {shown} does not fit its weight")
    wide = torch.promote_types(weight.dtype, torch.float32)
    matrix = weight.to(wide).flatten(1)
    right = torch.nn.functional.normalize(torch.mv(matrix.t(), u[0].to(wide)), dim=0, eps=1e-12)
    left = torch.nn.functional.normalize(torch.mv(matrix, right), dim=0, eps=1e-12)
    return left.to(u.dtype), right.to(u.dtype)


def _weight_normed(gain: torch.Tensor, direction: torch.Tensor, shown: str) -> torch.Tensor:
    """Return g v / |v|, the norm taken over all dimensions but those that g has (Salimans and Kingma, arXiv 1602.07868,
    equation 2)."""
    if gain.dim() != direction.dim():
        raise NotRecognised(f"the weight norm of {shown} does not fit its weight")
    over = [index for index, side in enumerate(gain.shape) if side == 1]
    length = torch.linalg.vector_norm(direction, dim=over, keepdim=True)
    if length.shape != gain.shape:
        raise NotRecognised(f"the weight norm of {shown} does not fit its weight")
    normed: torch.Tensor = direction * (gain / length)
    return normed


def orders(layers: Sequence[Layer | Norm]) -> Iterator[list[Layer | Norm]]:
    """Give the orders in which layers may follow each other, the likeliest first: the file's, that of the numbers in
    their names, and, where the outermost modules have names without numbers, these in any order (a class may define
    them as it likes)."""
    yield list(layers)
    natural = sorted(layers, key=lambda layer: [_natural(part) for part in layer.name])
    yield natural
    shared = len(common_prefix([layer.name for layer in layers]))
    groups: dict[Names, list[Layer | Norm]] = {}
    for layer in natural:
        groups.setdefault(layer.name[shared : shared + 1], []).append(layer)
    # Numbers are an order already, and the other way round a chain of convolutions would pass for transposed ones.
    numbered = any(sign.isdecimal() for name in groups for part in name for sign in part)
    if 1 < len(groups) <= _MOST_GROUPS and not numbered:
        for order in itertools.permutations(groups.values()):
            yield list(itertools.chain.from_iterable(order))


def _natural(part: str) -> tuple[tuple[int, str], ...]:
    return tuple(
        (int(piece), "") if piece.isdecimal() and len(piece) < 10 else (1 << 40, piece)
        for piece in re.split(r"([0-9]+)", part)
        if piece
    )


def common_prefix(names: Sequence[Names]) -> Names:
    """Return what all names begin with."""
    shared: list[str] = []
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return tuple(shared)


def with_norms(order: Sequence[Layer | Norm], last: str) -> list[Layer]:
    """Return the layers with each batch norm at the layer whose output it norms.

    A norm belongs to the layer before it. Where a class defines all its layers first and then all its norms, they are
    given out in order, and never to the layer that makes the image or looks at it.

    Args:
        order: layers and norms.
        last: "output" for a generator, whose last layer has no norm; "ends" for a discriminator, whose first and last
            have none.

    Raises:
        NotRecognised: norms that no layer fits, or that several could.
    """
    layers: list[Layer] = []
    norms = [one for one in order if isinstance(one, Norm)]
    interleaved = True
    for one in order:
        if isinstance(one, Layer):
            layers.append(one)
        elif layers and layers[-1].norm is None and _fits(layers[-1], one):
            layers[-1] = replace(layers[-1], norm=one)
        else:
            interleaved = False
    if interleaved:
        return layers
    bare = [replace(layer, norm=None) for layer in layers]
    within = bare[:-1] if last == "output" else bare[1:-1]
    if len(norms) != len(within) or not all(_fits(layer, norm) for layer, norm in zip(within, norms, strict=True)):
        raise NotRecognised(f"its {len(norms)} batch norms cannot be told to belong to its {len(layers)} layers")
    first = 0 if last == "output" else 1
    for index, norm in enumerate(norms):
        bare[first + index] = replace(bare[first + index], norm=norm)
    return bare


def _fits(layer: Layer, norm: Norm) -> bool:
    """Whether a norm may follow a layer: as wide as its output, or as the channels that a dense output is made of."""
    if layer.is_convolution:
        return norm.width in layer.weight.shape[:2] or norm.width == math.prod(layer.weight.shape[1:])
    return layer.weight.shape[0] % norm.width == 0
