"""Painting with exact edges: how much of a pixel a shape covers, and laying colours over each other from back to
front. So one sample a pixel does what supersampling does, without its cost and its grain.

A half-plane covers of a pixel what a box filter as wide as the edge's normal allows; a strip between two edges what
both cover less one, so that a lamp's pole thinner than a pixel keeps its weight at every size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ganzoo.data.rooms.arithmetic import Doubles, Floats, Values, planes
from ganzoo.data.rooms.camera import View

_ONE, _HALF, _ZERO = np.float32(1), np.float32(0.5), np.float32(0)


@dataclass
class Canvas:
    """The images of a chunk while they are painted.

    Args:
        radiance: (3, N, H, W), linear sRGB.
    """

    radiance: Floats

    def paint(self, view: View, coverage: Floats, colour: Floats) -> None:
        """Lay a colour over a part of the images.

        Args:
            view: which part.
            coverage: (N, H, W) or what broadcasts to it, in [0, 1].
            colour: (3, N, H, W) or what broadcasts to it.
        """
        under = self.radiance[:, :, view.rows, view.columns]
        change = colour - under
        change *= coverage
        under += change


def blend(under: Floats, coverage: Floats, over: Values) -> Floats:
    """Return `over` laid upon `under`, both (3, N, ...), with a coverage in [0, 1]."""
    mixed: Floats = under + (over - under) * coverage
    return mixed


def ramp(distance: Floats, width: Values) -> Floats:
    """Return how much of a pixel lies on an edge's positive side: from 0 to 1 over one width.

    Args:
        distance: of the pixel's middle from the edge.
        width: of the pixel, in the same unit.
    """
    return _unit(distance / width + _HALF)


def between(value: Floats, low: Values, high: Values, width: Values) -> Floats:
    """Return how much of a pixel lies between two parallel edges.

    Args:
        value: coordinate of the pixel's middle.
        low, high: of the edges.
        width: of the pixel, in the same unit.
    """
    return strip(ramp(value - low, width), ramp(high - value, width))


def strip(one: Floats, other: Floats) -> Floats:
    """Return what two half-planes that face each other cover together."""
    both = one + other
    both -= _ONE
    np.maximum(both, _ZERO, out=both)
    return both


def half_plane(view: View, start: Doubles, end: Doubles) -> Floats:
    """Return how much of each pixel lies on the right-hand side of a line, walking from start to end: (N, H, W).

    Args:
        view: the part of the images.
        start, end: (N, 2), u and v.
    """
    along = end - start
    normal_u, normal_v = -along[:, 1], along[:, 0]
    scale = view.size / np.maximum(np.abs(normal_u) + np.abs(normal_v), 1e-9)
    normal_u, normal_v = normal_u * scale, normal_v * scale
    offset = 0.5 - normal_u * start[:, 0] - normal_v * start[:, 1]
    distance: Floats = (planes(normal_u) * view.u + planes(offset)) + planes(normal_v) * view.v
    return _unit(distance)


def quad(view: View, corners: tuple[Doubles, Doubles, Doubles, Doubles]) -> Floats:
    """Return how much of each pixel a convex quadrilateral covers: (N, H, W); 0 where its corners run the other way.

    Args:
        view: the part of the images.
        corners: top left, top right, bottom right, bottom left, each (N, 2).
    """
    a, b, c, d = corners
    covered = strip(half_plane(view, d, a), half_plane(view, b, c))
    covered *= strip(half_plane(view, a, b), half_plane(view, c, d))
    # Edges that meet at a sharp angle blur far beyond their corner, so nothing outside of the corners is covered.
    least, most = np.stack(corners).min(axis=0), np.stack(corners).max(axis=0)
    low, high, pixel = planes(least.T), planes(most.T), np.float32(1 / view.size)
    covered *= between(view.u, low[0], high[0], pixel) > _ZERO
    covered *= between(view.v, low[1], high[1], pixel) > _ZERO
    return covered


def _unit(values: Floats) -> Floats:
    np.minimum(np.maximum(values, _ZERO, out=values), _ONE, out=values)
    return values
