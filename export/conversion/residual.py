"""From tensors named as torch-mimicry names them to ganzoo's residual family (`ganzoo.architectures.resnet`).

    l1                                      z → the first square                      project
    block2 …  .b1 .c1 .b2 .c2 .c_sc         a generator's blocks, from 2 on           blocks.0 … .norm1 .conv1 …
    b5, c5                                  the numbers after the last block's        norm, output
    block1 …  .c1 .c2 .c_sc                 a discriminator's blocks, from 1 on       blocks.0 …
    l5, l_y                                 the logit, the embedding of classes       output, embedding

A norm with classes is bN.bn, without gain and bias, and bN.embed.weight, (classes, 2 width), which holds the gains and
then the biases. Of the image's size a generator's tensors tell everything. A discriminator's tell nothing, for it
sums over positions, and of its halvings not all: a block that changes the width and the size has the same tensors as
one that changes the width alone. It is read at the generator's size, halving wherever it may, as those nets do.

What tells these nets from other ResNets is no tensor, but in their code: bilinear doubling, and in the discriminator an
activation that works in place, so that shortcuts begin after it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ganzoo.export.conversion.foreign import Names
from ganzoo.export.conversion.layers import Layer, Norm, NotRecognised, read_layers
from ganzoo.export.conversion.networks import CHANNELS, USUAL_SIZES, Reading, Role, put_layer, put_norm

_BLOCK = re.compile(r"block([1-9][0-9]?)")
_IN_BLOCK = {"c1", "c2", "c_sc", "b1", "b2"}
_ROTATIONS = "the rotations' layer l_y was left out: it is for self-supervision, and judges no image"
_LARGEST_IMAGE = 1024
_SMALLEST_SQUARE = 2

Parts = dict[str, Layer | Norm]


@dataclass(frozen=True)
class Residual:
    """A network of the family.

    Args:
        role: which side.
        parts: its layers and norms, under the family's names.
        widths: as the family's argument.
        channels: of the image.
        num_classes: 0 for none.
        latent_dim: of z; 0 for a discriminator.
        norm: "batch", "none" or "spectral".
        readings: image sizes, the likeliest first, with a discriminator's strides.
        notes: what was done to make it fit.
        guessed: whether of some block of a discriminator the tensors do not tell that it halves.
    """

    role: Role
    parts: Mapping[str, Layer | Norm]
    widths: tuple[int, ...]
    channels: int
    num_classes: int
    latent_dim: int
    norm: str
    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def family(self) -> str:
        """The registered name of its architecture."""
        return "resnet"

    @property
    def unseen(self) -> tuple[str, ...]:
        """What no tensor tells, beside the activation and z's prior."""
        if self.role == "discriminator":
            mean = " (WGAN-GP's takes the mean)" if self.norm == "none" else ""
            halving = ["halving wherever the width changes and the side is even"] if self.guessed else []
            return ("shortcuts that begin after it", f"a sum over positions{mean}", *halving)
        return ("bilinear doubling", "tanh at the end", "1e-5 in batch norm")

    def section(self, reading: Reading, activation: str) -> dict[str, Any]:
        """Return the recipe's table of this network."""
        table: dict[str, Any] = {
            "name": "resnet",
            "widths": list(self.widths),
            "activation": activation,
            "norm": self.norm,
        }
        if self.role == "generator":
            return table | {"upsample": "bilinear"}
        halves = [stride == 2 for stride in reading.strides]
        return table | {"downsample": halves, "shortcut": "activated", "pooling": "sum"}

    def mirrored(self, reading: Reading, activation: str) -> dict[str, Any]:
        """Return a discriminator's table like this generator turned round, where the real one is unknown."""
        widths = list(self.widths[:0:-1])
        halves = [stride == 2 for stride in reading.strides]
        return {"name": "resnet", "widths": widths, "downsample": halves, "activation": activation, "norm": "spectral"}

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors under the family's names."""
        state: dict[str, torch.Tensor] = {}
        for name, part in self.parts.items():
            if isinstance(part, Layer):
                put_layer(state, name, part)
            else:
                put_norm(state, name, part)
        return state

    def baked(self) -> Residual:
        """Return the network with spectral norm carried out in the weights.

        Raises:
            NotRecognised: its vectors do not fit the weights.
        """
        parts = {name: part.baked(False) if isinstance(part, Layer) else part for name, part in self.parts.items()}
        return replace(self, parts=parts, norm="none")


def is_residual(tensors: Mapping[Names, torch.Tensor]) -> bool:
    """Whether tensors are named like a net of blocks of this kind."""
    return any(len(name) > 2 and _BLOCK.fullmatch(name[0]) and name[1] in _IN_BLOCK for name in tensors)


def read_residual(tensors: Mapping[Names, torch.Tensor]) -> Residual:
    """Return a network of the family.

    Args:
        tensors: names → tensor, all of one network, for which `is_residual` holds.

    Raises:
        NotRecognised: it is none that ganzoo's family can express, with the reason.
    """
    if attention := next((name for name in tensors if name[0] == "attn_block"), None):
        raise NotRecognised(f"{'.'.join(attention)} is self-attention, which ganzoo's residual family has not")
    found = {part.name: part for part in read_layers(tensors)}
    numbers = sorted({int(match[1]) for name in found if (match := _BLOCK.fullmatch(name[0]))})
    first, last = numbers[0], numbers[-1]
    if numbers != list(range(first, last + 1)) or first > 2:
        raise NotRecognised(f"its blocks have the numbers {', '.join(map(str, numbers))}")
    reader = _Reader(found)
    network = _discriminator(reader, last) if first == 1 else _generator(reader, last)
    if reader.left:
        raise NotRecognised(f"{'.'.join(next(iter(reader.left)))} belongs to no net of blocks that is known")
    return network


class _Reader:
    """Layers by name, each taken once."""

    def __init__(self, found: Mapping[Names, Layer | Norm]) -> None:
        self.left = dict(found)

    def has(self, *name: str) -> bool:
        """Whether there is something of that name that was not taken."""
        return name in self.left

    def layer(self, *name: str, kernel: int = 0, biased: bool = True) -> Layer:
        """Take a convolution of that kernel, or (0) a dense layer."""
        found = self.left.pop(name, None)
        shown = ".".join(name)
        if not isinstance(found, Layer):
            raise NotRecognised(f"it has no {shown}")
        if tuple(found.weight.shape[2:]) != ((kernel, kernel) if kernel else ()):
            what = f"a kernel of {kernel}×{kernel}" if kernel else "a matrix"
            raise NotRecognised(f"{shown} has a weight of shape {tuple(found.weight.shape)}, and should have {what}")
        if (found.bias is None) is biased or (biased and found.bias.numel() != found.weight.shape[0]):  # type: ignore[union-attr]
            raise NotRecognised(f"{shown} has {'no' if biased else 'a'} bias of its width, unlike ganzoo's")
        return found

    def norm(self, *name: str, affine: bool = True) -> Norm:
        """Take a batch norm."""
        found = self.left.pop(name, None)
        if not isinstance(found, Norm) or found.affine is not affine:
            raise NotRecognised(f"it has no batch norm {'.'.join(name)} with{'' if affine else 'out'} gain and bias")
        return found


def _joined(name: str, into: int, out: int) -> None:
    if into != out:
        raise NotRecognised(f"{name} expects {into} channels and is given {out}")


# -------------------------------------------------------------------------------------------- a generator


def _generator(reader: _Reader, last: int) -> Residual:
    """Return the generator whose last block has this number; its layers are taken from the reader."""
    project = reader.layer("l1")
    parts: Parts = {"project": project}
    widths: list[int] = []
    classes: set[int] = set()
    for index, number in enumerate(range(2, last + 1)):
        at, to = f"block{number}", f"blocks.{index}"
        convolutions = [reader.layer(at, one, kernel=3) for one in ("c1", "c2")]
        shortcut = reader.layer(at, "c_sc", kernel=1)
        into, out = convolutions[0].weight.shape[1], convolutions[1].weight.shape[0]
        _joined(at, into, widths[-1] if widths else into)
        _joined(f"{at}.c2", convolutions[1].weight.shape[1], convolutions[0].weight.shape[0])
        _joined(f"{at}.c_sc", shortcut.weight.shape[1], into)
        hidden = convolutions[0].weight.shape[0]
        if len({hidden, out, shortcut.weight.shape[0]}) > 1:
            raise NotRecognised(f"{at} has {hidden} channels within and gives {out}; ganzoo's have one width")
        for one, width in (("1", into), ("2", out)):
            norms, known = _norm(reader, (at, f"b{one}"), f"{to}.norm{one}", width)
            parts |= norms
            classes.add(known)
        parts |= {f"{to}.conv1": convolutions[0], f"{to}.conv2": convolutions[1], f"{to}.shortcut": shortcut}
        widths += [into, out] if not widths else [out]
    norm, output = reader.norm(f"b{last + 1}"), reader.layer(f"c{last + 1}", kernel=3)
    _joined(f"b{last + 1}", norm.width, widths[-1])
    _joined(f"c{last + 1}", output.weight.shape[1], widths[-1])
    if len(classes) > 1:
        raise NotRecognised(f"its norms know {' and '.join(map(str, sorted(classes)))} classes")
    parts |= {"norm": norm, "output": output}
    parts, notes = _without_spectral_norm(parts)
    units, latent_dim = project.weight.shape
    side = math.isqrt(units // widths[0])
    if side * side * widths[0] != units or not side:
        raise NotRecognised(f"l1 gives {units} units, which make no square of {widths[0]} channels")
    size = side << (last - 1)
    if size > _LARGEST_IMAGE:
        raise NotRecognised(f"its images would have {size} pixels a side")
    channels = _image_channels(output.weight.shape[0])
    reading = Reading(size, (2,) * (last - 1), size in USUAL_SIZES)
    return Residual("generator", parts, tuple(widths), channels, classes.pop(), latent_dim, "batch", (reading,), notes)


def _norm(reader: _Reader, at: Names, to: str, width: int) -> tuple[Parts, int]:
    """Take a norm of a block, with or without classes; return it under ganzoo's names, and the number of classes."""
    shown = ".".join(at)
    if not reader.has(*at, "bn"):
        norm = reader.norm(*at)
        _joined(shown, norm.width, width)
        return {to: norm}, 0
    norm, embed = reader.norm(*at, "bn", affine=False), reader.layer(*at, "embed", biased=False)
    _joined(shown, norm.width, width)
    classes, both = embed.weight.shape
    if both != 2 * width or embed.spectral:
        raise NotRecognised(f"{shown}.embed holds {both} numbers for each class, not {width} gains and biases")
    gain, bias = (replace(embed, weight=half) for half in (embed.weight[:, :width], embed.weight[:, width:]))
    return {f"{to}.norm": norm, f"{to}.gain": gain, f"{to}.bias": bias}, classes


def _without_spectral_norm(parts: Parts) -> tuple[Parts, tuple[str, ...]]:
    normed = [name for name, part in parts.items() if isinstance(part, Layer) and part.spectral]
    if not normed:
        return parts, ()
    baked = {name: part.baked(False) if isinstance(part, Layer) else part for name, part in parts.items()}
    note = f"spectral norm of {len(normed)} of the generator's layers was carried out in the weights (W / sigma)"
    return baked, (note,)


def _image_channels(channels: int) -> int:
    if channels not in CHANNELS:
        raise NotRecognised(f"its images have {channels} channels, and ganzoo's have 1 or 3")
    return channels


# -------------------------------------------------------------------------------------------- a discriminator


def _discriminator(reader: _Reader, last: int) -> Residual:
    """Return the discriminator whose last block has this number; its layers are taken from the reader."""
    parts: Parts = {}
    widths: list[int] = []
    halves: list[bool | None] = []  # None: the tensors do not tell
    for index in range(last):
        at, to = f"block{index + 1}", f"blocks.{index}"
        convolutions = [reader.layer(at, one, kernel=3) for one in ("c1", "c2")]
        into, out = convolutions[0].weight.shape[1], convolutions[1].weight.shape[0]
        hidden = convolutions[0].weight.shape[0]
        _joined(at, into, widths[-1] if widths else into)
        _joined(f"{at}.c2", convolutions[1].weight.shape[1], hidden)
        if hidden != (into if index else out):
            raise NotRecognised(f"{at} has {hidden} channels within; ganzoo's has {into if index else out}")
        parts |= {f"{to}.conv1": convolutions[0], f"{to}.conv2": convolutions[1]}
        changes = reader.has(at, "c_sc")
        if changes:
            shortcut = reader.layer(at, "c_sc", kernel=1)
            _joined(f"{at}.c_sc", shortcut.weight.shape[1], into)
            _joined(at, shortcut.weight.shape[0], out)
            parts[f"{to}.shortcut"] = shortcut
        elif not index or into != out:
            raise NotRecognised(f"it has no {at}.c_sc")
        halves.append(True if not index or (changes and into == out) else None if changes else False)
        widths.append(out)
    number = next((name[0] for name in reader.left if re.fullmatch(r"l[1-9][0-9]?", name[0])), f"l{last + 1}")
    output = reader.layer(number)  # its number is the last block's or the next
    _joined(number, output.weight.shape[1], widths[-1])
    _joined("the logit", output.weight.shape[0], 1)
    parts["output"] = output
    notes, classes = [], 0
    if reader.has("l_y"):
        judged = reader.left[("l_y",)]
        if isinstance(judged, Layer) and judged.bias is not None:
            reader.layer("l_y")
            notes.append(_ROTATIONS)
        else:
            embedding = reader.layer("l_y", biased=False)
            classes, width = embedding.weight.shape
            _joined("l_y", width, widths[-1])
            # Ours is a matrix on one-hot classes: (width, classes).
            parts["embedding"] = replace(embedding, weight=embedding.weight.t(), u=embedding.v, v=embedding.u)
    channels = _image_channels(parts["blocks.0.conv1"].weight.shape[1])  # type: ignore[union-attr]
    layers = [part for part in parts.values() if isinstance(part, Layer)]
    spectral = sum(part.spectral for part in layers)
    network = Residual(
        "discriminator",
        parts,
        tuple(widths),
        channels,
        classes,
        0,
        "spectral" if spectral else "none",
        _readings(halves),
        tuple(notes),
        None in halves,
    )
    if 0 < spectral < len(layers):
        baked = f"spectral norm of {spectral} of {len(layers)} layers was carried out in the weights (W / sigma)"
        network = replace(network.baked(), notes=(*notes, baked))
    return network


def _readings(halves: list[bool | None]) -> tuple[Reading, ...]:
    """Return the usual image sizes that a discriminator can judge; blocks that may halve do where the side is even."""
    found = []
    for size in USUAL_SIZES:
        side, strides = size, []
        for half in halves:
            halved = side % 2 == 0 if half is None else half
            if halved and side % 2:
                break
            strides.append(2 if halved else 1)
            side //= strides[-1]
        if len(strides) == len(halves) and side >= _SMALLEST_SQUARE:
            found.append(Reading(size, tuple(strides), True))
    if not found:
        raise NotRecognised(f"its {len(halves)} blocks fit no image of a usual size")
    return tuple(found)
