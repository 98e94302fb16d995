"""The factors of a room: what may differ from one picture to the next, each a label of the picture.

They are drawn independently of each other, so that two of them never go together by chance of the design; the number
of a room and the seed give its factors, whatever the count of rooms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ganzoo.data.rooms.arithmetic import Doubles
from ganzoo.data.rooms.camera import View
from ganzoo.errors import UsageError
from ganzoo.randomness import Stream, uniforms, words

Factors = dict[str, npt.NDArray[Any]]

WINDOW_BOTTOM, WINDOW_TOP = 1.08, 2.16  # metres above the floor
_CASING = 0.07  # the window's frame, metres


@dataclass(frozen=True)
class Factor:
    """One factor.

    Args:
        low, high: its range; of a circular factor `high` is `low` again; of a discrete one both are taken.
        default: where it is not given.
        meaning: for people.
        values: names of a discrete factor's values 0, 1, …; empty for a continuous one.
    """

    low: float
    high: float
    default: float
    meaning: str
    values: tuple[str, ...] = ()


def _choice(meaning: str, *values: str, default: int = 0) -> Factor:
    return Factor(0, len(values) - 1, default, meaning, values)


# Each factor's place is the number of its random word: append only, or every picture changes.
FACTORS: Mapping[str, Factor] = {
    "camera_angle": Factor(-24.0, 24.0, 0.0, "degrees from the middle; negative: from the left, looking to the right"),
    "wall_hue": Factor(0.0, 360.0, 90.0, "degrees on OKLCh's circle"),
    "wall_lightness": Factor(0.66, 0.92, 0.82, "OKLCh's lightness"),
    "floor": _choice("what it is made of", "wood", "carpet", "tiles"),
    "floor_hue": Factor(0.0, 360.0, 60.0, "degrees on OKLCh's circle; of wood: a circle of light and dark woods"),
    "wood": Factor(0.0, 1.0, 0.6, "of the bed: 0 dark, 1 light"),
    "window": _choice("whether there is one in the back wall", "no window", "window", default=1),
    "window_x": Factor(-0.2, 0.9, 0.2, "metres from the back wall's middle"),
    "window_width": Factor(1.0, 1.7, 1.4, "metres"),
    "daylight": Factor(0.0, 1.0, 0.8, "0 dusk, 1 noon; seen through the window, and what falls through it"),
    "bed_x": Factor(-0.5, 0.5, 0.0, "metres from the room's middle"),
    "bed": _choice("its size", "single", "double", default=1),
    "blanket_hue": Factor(0.0, 360.0, 250.0, "degrees on OKLCh's circle"),
    "blanket_lightness": Factor(0.48, 0.86, 0.68, "OKLCh's lightness"),
    "lamp": _choice("what kind", "no lamp", "floor lamp", "hanging lamp", default=1),
    "lamp_on": _choice("whether it shines; 0 where there is none", "lamp off", "lamp on", default=1),
    "lamp_side": _choice("where a floor lamp stands", "left", "right", default=1),
    "rug": _choice("whether one lies below the bed", "no rug", "rug", default=1),
    "rug_hue": Factor(0.0, 360.0, 30.0, "degrees on OKLCh's circle"),
    "picture": _choice("whether one hangs on the back wall", "no picture", "picture", default=1),
    "picture_hue": Factor(0.0, 360.0, 150.0, "degrees on OKLCh's circle"),
    "light": Factor(0.7, 1.0, 0.9, "of the whole room"),
}
WINDOW_BOX = "window_box"  # derived from the others


def draw(numbers: npt.NDArray[np.int64], *, seed: int = 0) -> Factors:
    """Return the factors of rooms: continuous ones uniform in their range, float64; discrete ones even, int64; (N,)
    each, and the derived ones, as `complete`.

    Args:
        numbers: (N,) of the rooms, from 0.
        seed: in [0, 2^64).
    """
    word = words(seed, Stream.ROOMS, numbers, len(FACTORS))
    drawn: Factors = {}
    for column, (name, factor) in enumerate(FACTORS.items()):
        if factor.values:
            drawn[name] = (word[:, column] * len(factor.values)) >> 32
        else:
            drawn[name] = factor.low + (factor.high - factor.low) * uniforms(word[:, column])
    return complete(drawn)


def complete(given: Mapping[str, Any]) -> Factors:
    """Return all factors of rooms: those given, the default for each other, `lamp_on` 0 where there is no lamp, and
    `window_box` (N, 4), which is derived: x0, y0, x1, y1 in units of the image's side, from the left and the top, zeros
    where there is no window.

    Args:
        given: factors by name, each a number or (N,); `window_box` is not looked at.

    Raises:
        UsageError: there is no factor of a name, a value is outside of its range, or the lengths differ.
    """
    arrays = {name: np.atleast_1d(np.asarray(value)) for name, value in given.items() if name != WINDOW_BOX}
    if unknown := sorted(arrays.keys() - FACTORS.keys()):
        raise UsageError(f"Rooms have no factor {unknown[0]!r}.", f"They have {', '.join(FACTORS)}.")
    for name, array in arrays.items():
        if array.dtype.kind not in "iufb" or array.ndim != 1:
            raise UsageError(f"The factor {name!r} is given as {array.dtype} {array.shape}.", "Give a number or (N,).")
    try:
        (count,) = np.broadcast_shapes((1,), *(array.shape for array in arrays.values()))
    except ValueError as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UsageError(f"The factors differ in shape: {shapes}.", "Give each as a number or (N,).") from error
    full: Factors = {}
    for name, factor in FACTORS.items():
        array = _checked(name, factor, arrays.get(name, np.array([factor.default])))
        full[name] = np.array(np.broadcast_to(array, (count,)))
    full["lamp_on"] = np.where(full["lamp"] > 0, full["lamp_on"], 0)
    full[WINDOW_BOX] = _window_boxes(full)
    return full


def window_edges(factors: Factors) -> tuple[Doubles, Doubles, float, float]:
    """Return the window's casing on the back wall, in metres: (left (N,), right (N,), bottom, top)."""
    half = factors["window_width"] / 2 + _CASING
    middle = factors["window_x"]
    return middle - half, middle + half, WINDOW_BOTTOM - _CASING, WINDOW_TOP + _CASING


def _window_boxes(factors: Factors) -> Doubles:
    left, right, bottom, top = window_edges(factors)
    view = View.of(factors["camera_angle"], 1)
    corners = np.stack([view.project(x, y, 0.0) for x in (left, right) for y in (bottom, top)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    boxes = np.stack((low[:, 0] + 0.5, low[:, 1], high[:, 0] + 0.5, high[:, 1]), axis=-1)
    box: Doubles = np.where(factors["window"][:, None] > 0, np.clip(boxes, 0.0, 1.0), 0.0)
    return box


def _checked(name: str, factor: Factor, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    whole = not factor.values or bool((values == np.floor(values)).all())
    if not (whole and bool(((values >= factor.low) & (values <= factor.high)).all())):
        range_ = f"a whole number from 0 to {factor.high:g}" if factor.values else f"{factor.low:g} to {factor.high:g}"
        raise UsageError(f"The factor {name!r} has a value outside of its range.", f"Its values are {range_}.")
    return values.astype(np.int64 if factor.values else np.float64)
