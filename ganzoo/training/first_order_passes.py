"""The passes of first-order penalties through a discriminator of the DCGAN family: the mathematics, layer by layer.

A discriminator that judges each image alone, by layers that are linear but for the slopes of their activations and the
masks of their dropout, is for one image

    a_0 = x,   a_l = m_l · (W_l a_{l-1} + b_l),   logit = W_n a_{n-1} + b_n

with m_l the slope times the mask, which small changes of weights and image leave as they are. So these are exact:

    slopes     g_n = 1,  g_l = m_l · (W_{l+1}ᵀ g_{l+1}): the logit's gradient by what layer l adds up, before its
               activation; W_1ᵀ g_1 is its gradient by the image
    tangent    t_l = m_l · (W_l t_{l-1}): how a_l changes with the image, in a direction t_0; no bias

Let s be a loss's gradient by the logit, and t_0 a penalty's gradient by the logit's gradient by the image. That is
linear in each W_l: so the loss's gradient by W_l is s g_l ⊗ a_{l-1}, the penalty's is g_l ⊗ t_{l-1}, and both together
cost one product of g_l with s a_{l-1} + t_{l-1}. Biases are moved by the loss alone: s g_l. Four passes of the cost of
a forward pass, where automatic differentiation of the gradient takes more than six.

Classes that are appended to a layer's input are constants: they have no tangent. An image without a penalty needs no
tangent: its slopes may begin with s in place of 1, and the product is with a_{l-1} itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.architectures.dcgan import DCGANDiscriminator
from ganzoo.architectures.layers import concat_classes, one_hot
from ganzoo.training.convolutions import Pair, convolve, input_gradient, spatial, weight_gradient

Masks = Callable[[int, Tensor], Tensor]
"""Number of a convolution and its activations → what dropout multiplies them by, of their shape and dtype."""


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Args:
        weight: (out, in, kH, kW), or (out, in) of a dense one.
        bias: (out,) or None.
        geometry: stride and padding of a convolution; None for a layer that sees its whole input at once.
        slope: of its activation below zero; None for the last layer, which has none.
        width: entries of dimension 1 of the weight that belong to the layer before; classes are behind them.
        drops: whether dropout follows.
    """

    weight: Tensor
    bias: Tensor | None
    geometry: tuple[Pair, Pair] | None
    slope: float | None
    width: int
    drops: bool = False


@dataclass(frozen=True)
class Trace:
    """What a forward pass leaves for the others.

    Args:
        logits: (batch,), in the dtype of the passes.
        weights: of each layer, in that dtype.
        inputs: of each layer, (batch, …), without classes.
        masks: of each layer's dropout, None without.
        classes: (batch, classes), one-hot; None where the discriminator is not told them.
    """

    logits: Tensor
    weights: list[Tensor]
    inputs: list[Tensor]
    masks: list[Tensor | None]
    classes: Tensor | None


class Passes:
    """The passes through one discriminator.

    Args:
        discriminator: without norm.
        dtype: of activations, slopes and products; parameters keep their own.
    """

    def __init__(self, discriminator: DCGANDiscriminator, dtype: torch.dtype) -> None:
        self._discriminator, self._dtype = discriminator, dtype
        self._layers = _layers(discriminator)

    def judge(self, image: Tensor, label: Tensor | None, masks: Masks) -> Trace:
        """Return what the discriminator says of images, with what the other passes need.

        Args:
            image: (batch, C, H, W), in the dtype of the passes.
            label: (batch,) or None.
            masks: of dropout.
        """
        net = self._discriminator
        classes = None if net.conditioning == "none" else one_hot(label, net.num_classes, image)
        weights = [layer.weight.detach().to(self._dtype) for layer in self._layers]
        inputs, kept = [image], []
        for number, layer in enumerate(self._layers):
            whole = self._whole_input(layer, inputs[-1], classes)
            out = _add_bias(_product(layer, weights[number], whole), layer.bias)
            if layer.slope is not None:
                out = F.relu_(out) if layer.slope == 0.0 else F.leaky_relu_(out, layer.slope)
                mask = masks(number, out) if layer.drops else None
                inputs.append(out if mask is None else out.mul_(mask))
                kept.append(mask)
        logits = out.flatten()
        if net.embedding is not None and classes is not None:
            logits = logits + (F.linear(classes, net.embedding.weight.to(self._dtype)) * _pooled(inputs[-1])).sum(dim=1)
        return Trace(logits, weights, inputs, kept, classes)

    def slopes(self, trace: Trace, seed: Tensor) -> list[Tensor]:
        """Return the gradient by each layer's sum, before its activation, of each image's logit times a number.

        Args:
            trace: of the forward pass.
            seed: (batch,), the numbers, in the dtype of the passes.
        """
        found = [seed[:, None]]
        for number in range(len(self._layers) - 1, 0, -1):
            into = trace.inputs[number]
            slope = _transposed(self._layers[number], trace.weights[number], found[0], into)
            if number == len(self._layers) - 1:
                slope = self._add_embedding(trace, slope, seed)
            found.insert(0, self._through(trace, number - 1, slope, into))
        return found

    def of_image(self, trace: Trace, slopes: Sequence[Tensor], first: int) -> Tensor:
        """Return the gradient by the image, (batch - first, C, H, W), of images from number `first` on.

        Args:
            trace: of the forward pass.
            slopes: of the first layer on.
            first: of the images in question.
        """
        return _transposed(self._layers[0], trace.weights[0], slopes[0][first:], trace.inputs[0][first:])

    def add_gradients(self, trace: Trace, slopes: list[Tensor], tangent: Tensor, scale: Tensor) -> None:
        """Add the gradients to those of the discriminator's parameters; trace and slopes are used up.

        Args:
            trace: of the forward pass.
            slopes: of each layer.
            tangent: t_0 of the last images of the batch, (as many as have one, C, H, W), in the dtype of the passes.
            scale: (batch,), of each image what its activations are multiplied by in the product, in the dtype.
        """
        first = len(scale) - len(tangent)
        classes = None if trace.classes is None else trace.classes * scale[:, None]
        for number, layer in enumerate(self._layers):
            slope, weight, into = slopes.pop(0), trace.weights.pop(0), trace.inputs.pop(0)  # to free them one by one
            if layer.bias is not None:
                _accumulate(layer.bias, _sum(slope, scale))
            moved = None
            if len(tangent):
                if layer.slope is not None:
                    moved = _product(layer, weight, self._whole_input(layer, tangent, None))
                    moved = self._through(trace, number, moved, trace.inputs[0][first:], first)
                part = into[first:]
                torch.addcmul(tangent, part, scale[first:].view(-1, *[1] * (part.dim() - 1)), out=part)
            _accumulate(layer.weight, _weight_gradient(layer, self._whole_input(layer, into, classes), slope))
            if layer.slope is None:
                self._add_to_embedding(trace, into, slope)
            elif moved is not None:
                tangent = moved

    # ------------------------------------------------------------------------------------------ within a layer

    def _whole_input(self, layer: Layer, x: Tensor, classes: Tensor | None) -> Tensor:
        """Return a layer's input with classes, zeros in their place for None; flat where it sees all of it at once."""
        if layer.geometry is None and layer.weight.dim() == 2:
            x = x.flatten(1)
        if self._discriminator.concat:
            known = x.new_zeros(len(x), self._discriminator.num_classes) if classes is None else classes
            x = concat_classes(x, known)
        return x.flatten(1) if layer.geometry is None else x

    def _through(self, trace: Trace, number: int, change: Tensor, out: Tensor, first: int = 0) -> Tensor:
        """Turn a change of a layer's sum, in place, into one of what it gives: times the slope, times the mask.

        Args:
            trace: of the forward pass.
            number: of the layer.
            change: (batch - first, …).
            out: likewise, what the layer gives: it has the sign of what the activation was given.
            first: of the images in question.
        """
        slope, mask = self._layers[number].slope, trace.masks[number]
        if slope == 0.0:
            torch.ops.aten.threshold_backward.grad_input(change, out, 0.0, grad_input=change)
        else:
            torch.ops.aten.leaky_relu_backward.grad_input(change, out, slope, True, grad_input=change)
        return change if mask is None else change.mul_(mask[first:])

    # ------------------------------------------------------------------------------------------ classes by projection

    def _add_embedding(self, trace: Trace, slope: Tensor, seed: Tensor) -> Tensor:
        """Return the gradient by the last features with the part that goes through the class's embedding."""
        embedding = self._discriminator.embedding
        if embedding is None or trace.classes is None:
            return slope
        of_class = F.linear(trace.classes * seed[:, None], embedding.weight.to(self._dtype))  # (batch, width)
        return slope + of_class.view(*of_class.shape, *[1] * (slope.dim() - 2))

    def _add_to_embedding(self, trace: Trace, features: Tensor, seed: Tensor) -> None:
        embedding = self._discriminator.embedding
        if embedding is not None and trace.classes is not None:
            _accumulate(embedding.weight, _pooled(features).T @ (trace.classes * seed))


def _layers(discriminator: DCGANDiscriminator) -> list[Layer]:
    found = []
    added = discriminator.num_classes if discriminator.concat else 0
    for block in [*discriminator.layers, *discriminator.hidden]:
        slope = float(getattr(block.activation, "negative_slope", 0.0))
        linear = block.conv if hasattr(block, "conv") else block.linear
        geometry: tuple[Pair, Pair] | None = None
        drops = False
        if isinstance(linear, nn.Conv2d):
            geometry = cast(Pair, linear.stride), cast(Pair, linear.padding)
            drops = not isinstance(block.dropout, nn.Identity)
        found.append(Layer(linear.weight, linear.bias, geometry, slope, linear.weight.shape[1] - added, drops))
    last = discriminator.output
    return [*found, Layer(last.weight, last.bias, None, None, last.weight.shape[1] - added)]


def _product(layer: Layer, weight: Tensor, x: Tensor) -> Tensor:
    """Return a layer's sum without its bias."""
    if layer.geometry is None:
        return F.linear(x, weight.flatten(1))
    return convolve(x, weight, *layer.geometry)


def _transposed(layer: Layer, weight: Tensor, change: Tensor, like: Tensor) -> Tensor:
    """Return the transposed product of a layer, of the shape of its input without classes."""
    inner = weight[:, : layer.width]
    if layer.geometry is None:
        flat = (change @ inner.flatten(1)).view(len(change), *like.shape[1:])
        return flat.contiguous(memory_format=torch.channels_last) if flat.dim() == 4 else flat
    return input_gradient(change, inner, spatial(like.shape), *layer.geometry)


def _weight_gradient(layer: Layer, x: Tensor, slope: Tensor) -> Tensor:
    if layer.geometry is None:
        return (slope.T @ x).view(layer.weight.shape)
    return weight_gradient(x, slope, spatial(layer.weight.shape), *layer.geometry)


def _add_bias(out: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return out
    return out.add_(bias.detach().to(out.dtype).view(-1, *[1] * (out.dim() - 2)))


def _sum(slope: Tensor, scale: Tensor) -> Tensor:
    """Return the sum over images and positions of what images are multiplied by: (out,), float64.

    In a relativistic loss the real images' and the fakes' parts of the last bias's gradient are opposite numbers: their
    sum must be 0, for Adam would make a step of whatever else it is.
    """
    each = slope if slope.dim() == 2 else slope.sum(dim=(2, 3))
    return scale.double() @ each.double()


def _pooled(features: Tensor) -> Tensor:
    """Return the last features summed over positions, where they have any: (batch, width)."""
    return features if features.dim() == 2 else features.sum(dim=(2, 3))


def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add to a parameter's gradient, in its dtype and layout."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    else:
        parameter.grad.add_(gradient)


__all__ = ["Layer", "Passes", "Trace"]
