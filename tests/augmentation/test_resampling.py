"""The affine resampling against one built of NumPy's padding, convolution and a loop over places, and against images
that are known everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from augmented_images import random_images
from torch import Tensor

from ganzoo.augmentation import resampling
from ganzoo.augmentation.geometry import Affine, turn
from ganzoo.augmentation.resampling import resample
from ganzoo.augmentation.wavelets import SYM6, downsampling, upsampling

Array = npt.NDArray[np.float64]
CPU = torch.device("cpu")


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def identity(batch: int = 1) -> Affine:
    return Affine.identity(batch, torch.float64, CPU)


def wild(batch: int, reach: float = 1.0) -> Affine:
    """All affine changes one after the other, each image with its own."""
    generator = torch.Generator().manual_seed(4)
    draw = torch.randn(7, batch, generator=generator, dtype=torch.float64) * reach
    affine = identity(batch).moved(draw[0], draw[1]).scaled((0.3 * draw[2]).exp(), (0.3 * draw[3]).exp())
    return (
        affine.rotated(3.0 * draw[4]).scaled((0.3 * draw[5]).exp(), 1.0 + 0.0 * draw[5]).moved(2.0 * draw[6], draw[0])
    )


def by_numpy(image: Array, matrix: Array, shift: Array) -> Array:
    """The same change of one channel, with a margin of six images' widths on every side."""
    height, width = image.shape
    margin = 6 * max(image.shape)
    origin = sum(tap * at for at, tap in enumerate(SYM6)) / math.sqrt(2.0) - 5.0
    fine = np.pad(image, margin, mode="reflect")
    for axis in (0, 1):
        stuffed = np.zeros([side * (2 if at == axis else 1) for at, side in enumerate(fine.shape)])
        stuffed[(slice(None, None, 2), slice(None)) if axis == 0 else (slice(None), slice(None, None, 2))] = fine
        # Entry n of the full convolution is the fine pixel n - 5.
        fine = np.apply_along_axis(lambda line: np.convolve(line, math.sqrt(2.0) * SYM6)[5:-6], axis, stuffed)
    out = np.zeros((2 * height + 10, 2 * width + 10))
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            # In pixels of the image from its centre; fine pixel n of a ramp has the value (n - origin) / 2.
            place = np.array([(column - 5 - origin) / 2 - (width - 1) / 2, (row - 5 - origin) / 2 - (height - 1) / 2])
            source = matrix @ place + shift + [(width - 1) / 2, (height - 1) / 2]
            x, y = 2.0 * (source + margin) + origin
            left, top = math.floor(x), math.floor(y)
            across, down = x - left, y - top
            square = fine[top : top + 2, left : left + 2]
            out[row, column] = np.array([1 - down, down]) @ square @ np.array([1 - across, across])
    for axis in (0, 1):
        out = np.apply_along_axis(lambda line: np.correlate(line, SYM6 / math.sqrt(2.0), "valid")[::2], axis, out)
    return out


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 7), (2, 3)])
def test_a_resampling_is_padding_upsampling_interpolation_and_downsampling(height: int, width: int) -> None:
    images, affine = random_images(4, 2, height, width), wild(4)
    changed = resample(images, affine)
    for index in range(4):
        for channel in range(2):
            wanted = by_numpy(images[index, channel].numpy(), affine.matrix[index].numpy(), affine.shift[index].numpy())
            np.testing.assert_allclose(changed[index, channel].numpy(), wanted, atol=1e-10)


def test_the_filter_is_an_orthogonal_wavelets_so_that_up_and_down_is_the_identity() -> None:
    assert SYM6.sum() == pytest.approx(math.sqrt(2.0), abs=1e-12)
    for shift in range(0, 12, 2):
        assert SYM6[shift:] @ SYM6[: 12 - shift] == pytest.approx(float(shift == 0), abs=1e-11)
    moments = [(SYM6 * (-1.0) ** np.arange(12)) @ (np.arange(12) - 5.5) ** order for order in range(6)]
    assert moments == pytest.approx([0.0] * 6, abs=1e-10)  # six vanishing moments: a symlet of that order
    images = random_images(2, 3, 7, 9)
    assert torch.allclose(resample(images, identity(2)), images, atol=1e-10)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_the_matrices_upsample_a_periodic_image_and_downsample_what_surrounds_it(size: int) -> None:
    up = upsampling(size, torch.float64, CPU)
    assert torch.equal(up[0], up[-1])
    period = len(up) - 1
    surroundings = torch.arange(-5, 2 * size + 5) % period
    assert torch.allclose(
        downsampling(size, torch.float64, CPU) @ up[surroundings], torch.eye(size, dtype=torch.float64), atol=1e-11
    )


def test_a_shift_by_whole_pixels_is_exact_and_continues_by_reflection() -> None:
    images = random_images(30, 1, 8)
    generator = torch.Generator().manual_seed(0)
    right, down = torch.randint(-20, 21, (2, 30), generator=generator)
    changed = resample(images, identity(30).moved(right.double(), down.double()))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (20, 20), (20, 20)), mode="reflect")
    for index in range(30):
        first = 20 - int(down[index]), 20 - int(right[index])
        wanted = padded[index, :, first[0] : first[0] + 8, first[1] : first[1] + 8]
        np.testing.assert_allclose(changed[index].numpy(), wanted, atol=1e-10)


def test_a_quarter_turn_is_exact_and_counterclockwise() -> None:
    images = random_images(4, 3, 5)
    turned = turn(images, torch.arange(4))
    for quarters, (image, seen) in enumerate(zip(images.numpy(), turned.numpy(), strict=True)):
        np.testing.assert_array_equal(seen, np.rot90(image, quarters, axes=(1, 2)))


# A smooth image that is known between pixels, too: x to the right and y downwards, from the centre.
def smooth(x: Array, y: Array) -> Array:
    return np.exp(-((x - 2.0) ** 2) / 60.0 - (y + 1.0) ** 2 / 30.0) * np.cos(0.15 * x + 0.1 * y)


ANGLE, FACTOR = 0.7, 1.3
TURN = np.array([[math.cos(ANGLE), math.sin(ANGLE)], [-math.sin(ANGLE), math.cos(ANGLE)]])  # counterclockwise, y down


@pytest.mark.parametrize(
    ("change", "forward", "offset"),
    [
        (lambda affine: affine.rotated(numbers(ANGLE)), TURN, [0.0, 0.0]),
        (lambda affine: affine.scaled(numbers(FACTOR), numbers(FACTOR)), FACTOR * np.eye(2), [0.0, 0.0]),
        (lambda affine: affine.scaled(numbers(FACTOR), numbers(1 / FACTOR)), np.diag([FACTOR, 1 / FACTOR]), [0.0, 0.0]),
        (lambda affine: affine.moved(numbers(1.3), numbers(-0.6)), np.eye(2), [1.3, -0.6]),
        (
            lambda affine: affine.rotated(numbers(ANGLE)).moved(numbers(1.3), numbers(-0.6)),
            TURN,
            [1.3, -0.6],
        ),
        (
            lambda affine: affine.moved(numbers(1.3), numbers(-0.6)).rotated(numbers(ANGLE)),
            TURN,
            list(TURN @ [1.3, -0.6]),
        ),
    ],
    ids=["rotated", "scaled", "stretched", "moved", "rotated, then moved", "moved, then rotated"],
)
def test_a_smooth_image_is_seen_where_it_was_moved_to(
    change: Callable[[Affine], Affine], forward: Array, offset: list[float]
) -> None:
    size, border = 24, 6
    y, x = np.mgrid[:size, :size] - (size - 1) / 2.0
    image = torch.from_numpy(smooth(x, y))[None, None]
    changed = resample(image, change(identity()))[0, 0].numpy()
    back = np.linalg.inv(forward)
    x, y = x - offset[0], y - offset[1]
    wanted = smooth(back[0, 0] * x + back[0, 1] * y, back[1, 0] * x + back[1, 1] * y)
    inside = slice(border, size - border)
    np.testing.assert_allclose(changed[inside, inside], wanted[inside, inside], atol=8e-3)
    assert np.abs(wanted - smooth(*np.mgrid[:size, :size])).max() > 0.1


def test_it_is_linear_keeps_constants_and_its_gradient_is_its_adjoint() -> None:
    affine = wild(3)
    one, other, along = (random_images(3, 2, 9, seed=seed) for seed in (5, 6, 7))
    both = resample(2.0 * one - 3.0 * other, affine)
    assert torch.allclose(both, 2.0 * resample(one, affine) - 3.0 * resample(other, affine), atol=1e-12)
    assert torch.allclose(resample(torch.ones_like(one), affine), torch.ones_like(one), atol=1e-10)
    one.requires_grad_()
    (gradient,) = torch.autograd.grad((resample(one, affine) * along).sum(), one, create_graph=True)
    assert float((gradient * other).sum().detach()) == pytest.approx(float((resample(other, affine) * along).sum()))
    small = random_images(3, 1, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda image: resample(image, affine), small)
    assert torch.autograd.gradgradcheck(lambda image: resample(image, affine), small)


def test_large_batches_are_worked_on_in_parts_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    images, affine = random_images(7, 2, 6).requires_grad_(), wild(7)
    weights = random_images(7, 2, 6, seed=8)
    whole = resample(images, affine)
    (gradient,) = torch.autograd.grad((whole * weights).sum(), images)
    monkeypatch.setattr(resampling, "_PART_BYTES", 2 * 21 * 21 * 2 * 8)  # two images
    parts = resample(images, affine)
    assert torch.allclose(parts, whole, atol=1e-13)
    assert torch.allclose(torch.autograd.grad((parts * weights).sum(), images)[0], gradient, atol=1e-13)


def test_the_way_of_a_fixed_order_gives_what_grid_sample_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    images, affine = random_images(4, 3, 7, 5).requires_grad_(), wild(4, reach=2.0)
    weights = random_images(4, 3, 7, 5, seed=8)
    fast = resample(images, affine)
    (gradient,) = torch.autograd.grad((fast * weights).sum(), images)
    monkeypatch.setattr(resampling, "_in_fixed_order", lambda image: True)
    fixed = resample(images, affine)
    assert torch.allclose(fixed, fast, atol=1e-12)
    assert torch.allclose(torch.autograd.grad((fixed * weights).sum(), images)[0], gradient, atol=1e-12)


def test_a_place_rounded_onto_the_end_of_the_period_is_still_in_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    period = float(resampling.fine_period(4))
    image = random_images(1, 1, int(period) + 1)
    columns, rows = [[[period, 0.0, period]]], [[[0.0, period, period]]]
    ends = torch.tensor(columns, dtype=torch.float64), torch.tensor(rows, dtype=torch.float64)
    for fixed in (False, True):
        monkeypatch.setattr(resampling, "_in_fixed_order", lambda image, fixed=fixed: fixed)
        seen = resampling._interpolate(image, ends)[0, 0, 0]
        corners = image[0, 0, [0, -1, -1], [-1, 0, -1]]
        assert torch.allclose(seen, corners, atol=1e-12)


def test_autocast_does_not_blur() -> None:
    images, affine = random_images(2, 3, 8).float().requires_grad_(), wild(2).to(torch.float32)
    plain = resample(images, affine)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = resample(images, affine)
        (gradient,) = torch.autograd.grad(lowered.square().sum(), images)
    assert torch.equal(plain, lowered)
    assert torch.equal(gradient, torch.autograd.grad(plain.square().sum(), images)[0])


def test_an_image_of_one_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="1×4 are too small"):
        resample(torch.zeros(1, 1, 1, 4), identity().to(torch.float32))
