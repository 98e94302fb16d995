"""Batch norms and spectral norms of a chain, made those that ganzoo's DCGAN family has.

The family has batch norm after every layer but a generator's last and a discriminator's first and last, or spectral
norm on every layer, or none. What a net has elsewhere is carried out in its weights: in eval mode both are constant
factors (and a constant shift), so that its images stay the same.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ganzoo.export.conversion.chains import Chain, is_transposed
from ganzoo.export.conversion.layers import Layer, Norm, NotRecognised


def normed(chain: Chain) -> Chain:
    """Return a chain with the kind of norm that the family has; batch norms and spectral norms that it does not have in
    these places are carried out in the weights, which changes nothing in eval mode."""
    generator = chain.role == "generator"
    layers = list(chain.layers)
    wanted = set(range(len(layers) - 1)) - (set() if generator else {0})
    have = {index for index, layer in enumerate(layers) if layer.norm is not None}
    spectral = [layer.spectral for layer in layers]
    embedding, notes, kind = chain.embedding, [], "none"
    if any(spectral):
        whole = all(spectral) and not have and (embedding is None or embedding.spectral)
        if whole and all(_as_torch(layer, is_transposed(chain, index)) for index, layer in enumerate(layers)):
            kind = "spectral"
        else:
            layers = [layer.baked(is_transposed(chain, index)) for index, layer in enumerate(layers)]
            embedding = None if embedding is None else embedding.baked(False)
            notes.append(
                f"spectral norm of {sum(spectral)} of {len(spectral)} layers was carried out in the weights (W / sigma)"
            )
    if have:
        alien = have - wanted if wanted <= have else have
        if wanted <= have and wanted:
            kind = "batch"
        for index in alien:
            layers[index] = _folded(layers[index], is_transposed(chain, index))
        if alien:
            which = ", ".join(".".join(chain.layers[index].name) for index in sorted(alien))
            notes.append(f"batch norm after {which} was folded into the weights: the family has none there")
    project = layers[len(chain.hidden)].norm if generator else None
    unit = (
        chain.unit_norm
        if project is None
        else project.width != chain.widths[0] or (chain.unit_norm and chain.side == 1)
    )
    for index in wanted & {index for index, layer in enumerate(layers) if layer.norm is not None}:
        _check_width(chain, index, layers[index])
    mixed = {layer.norm.affine for layer in layers if layer.norm is not None}
    if len(mixed) > 1:
        layers = [replace(layer, norm=_affine(layer.norm)) if layer.norm else layer for layer in layers]
        notes.append("batch norms without gain and bias got gains of 1 and biases of 0, as others have them")
    return replace(chain, layers=tuple(layers), embedding=embedding, norm=kind, unit_norm=unit, notes=tuple(notes))


def _affine(norm: Norm) -> Norm:
    ones, zeros = torch.ones_like(norm.running_mean), torch.zeros_like(norm.running_mean)
    return replace(
        norm,
        weight=ones if norm.weight is None else norm.weight,
        bias=zeros if norm.bias is None else norm.bias,
    )


def _out(layer: Layer, transposed: bool) -> int:
    return layer.weight.shape[1] if transposed else layer.weight.shape[0]


def _as_torch(layer: Layer, transposed: bool) -> bool:
    """Whether a spectral norm is torch's own: over these rows, with vectors of these lengths."""
    rows = int(transposed)
    there = (layer.u.numel(), layer.v.numel()) if layer.u is not None and layer.v is not None else None
    sides = layer.weight.movedim(rows, 0).flatten(1).shape
    return layer.rows in (None, rows) and there == tuple(sides)


def _check_width(chain: Chain, index: int, layer: Layer) -> None:
    assert layer.norm is not None
    transposed = is_transposed(chain, index)
    allowed = {_out(layer, transposed)}
    if chain.role == "generator" and index == len(chain.hidden):
        allowed = {chain.widths[0], chain.widths[0] * chain.side**2}
    if layer.norm.width not in allowed:
        raise NotRecognised(
            f"the batch norm {'.'.join(layer.norm.name)} of {layer.norm.width} does not fit "
            f"{'.'.join(layer.name)} with {_out(layer, transposed)} outputs"
        )


def _folded(layer: Layer, transposed: bool) -> Layer:
    """Return a layer whose batch norm, as it is in eval mode, is part of its weight and bias; computed in float64."""
    norm = layer.norm
    assert norm is not None
    out = _out(layer, transposed)
    if out % norm.width or (layer.bias is not None and layer.bias.numel() != out):
        raise NotRecognised(f"the batch norm {'.'.join(norm.name)} of {norm.width} does not fit its layer")
    wide = [
        None if one is None else one.double().repeat_interleave(out // norm.width)
        for one in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    ]
    mean, var, gain, shift = wide
    assert mean is not None
    assert var is not None
    scale = torch.rsqrt(var + 1e-5) * (1.0 if gain is None else gain)
    sides = [1] * layer.weight.dim()
    sides[int(transposed)] = out
    bias = (-mean if layer.bias is None else layer.bias.double() - mean) * scale + (0.0 if shift is None else shift)
    dtype = layer.weight.dtype
    weight = (layer.weight.double() * scale.view(sides)).to(dtype)
    return replace(layer, weight=weight, bias=bias.to(dtype), norm=None)
