"""ADA against its matrices composed by NumPy in the paper's order, and each change's law over many numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from augmented_images import COLOR, CORRUPTION, GEOMETRY, always, even_numbers, only, random_images, random_numbers
from scipy import stats
from torch import Tensor

from ganzoo.augmentation.ada import ADA
from ganzoo.augmentation.geometry import Affine
from ganzoo.augmentation.resampling import resample
from ganzoo.augmentation.uniforms import Uniforms

Array = npt.NDArray[np.float64]

# ------------------------------------------------------------------------------------- composed independently


class Numbers:
    """An image's numbers, one after the other."""

    def __init__(self, numbers: Array, probability: float) -> None:
        self.left, self.probability = list(numbers), probability

    def take(self) -> float:
        return float(self.left.pop(0))

    def happens(self, probability: float | None = None) -> bool:
        return self.take() < (self.probability if probability is None else probability)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.take()

    def normal(self) -> float:
        return float(stats.norm.ppf(self.take()))


def moved(right: float, down: float) -> Array:
    return np.array([[1, 0, right], [0, 1, down], [0, 0, 1]], dtype=np.float64)


def scaled(width: float, height: float) -> Array:
    return np.diag([width, height, 1.0])


def rotated(angle: float) -> Array:
    turn = np.eye(3)
    turn[:2, :2] = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    return turn


def geometry(numbers: Numbers, size: int) -> tuple[bool, int, Array]:
    """Whether mirrored, quarter turns, and the forward matrix of all else, each change multiplied on from the left."""
    mirror = numbers.happens(numbers.probability / 2)
    happens = numbers.happens()
    quarters = int(4 * numbers.take()) * happens
    happens = numbers.happens()
    forward = moved(*(round(numbers.between(-size / 8, size / 8)) * happens for _ in range(2)))
    happens = numbers.happens()
    factor = 2.0 ** (0.2 * numbers.normal() * happens)
    forward = scaled(factor, factor) @ forward
    each = 1.0 - math.sqrt(1.0 - numbers.probability)
    happens = numbers.happens(each)
    forward = rotated(numbers.between(-math.pi, math.pi) * happens) @ forward
    happens = numbers.happens()
    factor = 2.0 ** (0.2 * numbers.normal() * happens)
    forward = scaled(factor, 1.0 / factor) @ forward
    happens = numbers.happens(each)
    forward = rotated(numbers.between(-math.pi, math.pi) * happens) @ forward
    happens = numbers.happens()
    forward = moved(*(size / 8 * numbers.normal() * happens for _ in range(2))) @ forward
    return mirror, quarters, forward


def colors(numbers: Numbers) -> Array:
    """The 4×4 matrix of all changes of colour, each multiplied on from the left."""
    axis = np.array([1.0, 1.0, 1.0, 0.0]) / math.sqrt(3.0)
    luma, unit = np.outer(axis, axis), np.eye(4)
    happens = numbers.happens()
    change = np.eye(4)
    change[:3, 3] = 0.2 * numbers.normal() * happens
    happens = numbers.happens()
    change = np.diag([2.0 ** (0.5 * numbers.normal() * happens)] * 3 + [1.0]) @ change
    change = (unit - 2.0 * luma * numbers.happens(numbers.probability / 2)) @ change
    happens = numbers.happens()
    angle = numbers.between(-math.pi, math.pi) * happens
    x, y, z = axis[:3]
    across = np.zeros((4, 4))
    across[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    turn = unit + math.sin(angle) * across + (1.0 - math.cos(angle)) * across @ across  # Rodrigues' formula
    change = turn @ change
    happens = numbers.happens()
    factor = 2.0 ** (numbers.normal() * happens)
    greys = luma + np.diag([0.0, 0.0, 0.0, 1.0])
    return (greys + (unit - greys) * factor) @ change


@pytest.mark.parametrize("probability", [0.4, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_papers_chain_of_matrices(channels: int, probability: float) -> None:
    ada, images = ADA(), random_images(40, channels, 8)
    drawn = random_numbers(40, ada.numbers)
    changed = ada(images, drawn, torch.tensor(probability, dtype=torch.float64))
    for image, row, seen in zip(images.numpy(), drawn.numpy(), changed, strict=True):
        numbers = Numbers(row, probability)
        mirror, quarters, forward = geometry(numbers, 8)
        color = colors(numbers)
        assert not numbers.left
        turned = np.rot90(image[:, :, ::-1] if mirror else image, quarters, axes=(1, 2)).copy()
        back = torch.from_numpy(np.linalg.inv(forward))
        wanted = resample(torch.from_numpy(turned)[None], Affine(back[None, :2, :2], back[None, :2, 2]))[0].numpy()
        if channels == 3:
            wanted = np.einsum("ij,jhw->ihw", color[:3, :3], wanted) + color[:3, 3][:, None, None]
        else:  # the mean of the three that a grey image would become
            wanted = color[:3, :3].sum() / 3.0 * wanted + color[:3, 3].mean()
        np.testing.assert_allclose(seen.numpy(), wanted, atol=1e-8)


# -------------------------------------------------------------------------------------------------- laws


def assert_follows(values: Tensor | Array, law: Any, precision: float = 1e-6) -> None:
    """Values made of even numbers lie at the quantiles of their law, one in each of equal parts of probability."""
    found = np.sort(np.asarray(values, dtype=np.float64))
    levels = (np.arange(len(found)) + 0.5) / len(found)
    np.testing.assert_allclose(law.cdf(found), levels, atol=precision)


MANY = 400


def test_brightness_contrast_and_saturation_are_normal_or_log_normal() -> None:
    zeros, ones = torch.zeros(MANY, 3, 2, 2, dtype=torch.float64), torch.ones(MANY, 3, 2, 2, dtype=torch.float64)
    numbers = even_numbers(MANY, 2)
    assert_follows(only("brightness")(zeros, numbers, always())[:, 0, 0, 0], stats.norm(scale=0.2))
    assert_follows(only("contrast")(ones, numbers, always())[:, 0, 0, 0].log2(), stats.norm(scale=0.5))
    red = zeros.clone()
    red[:, 0] = 1.0
    saturated = only("saturation")(red, numbers, always())
    assert_follows((saturated[:, 0, 0, 0] - saturated[:, 1, 0, 0]).log2(), stats.norm(scale=1.0))
    assert torch.allclose(saturated.mean(dim=1), red.mean(dim=1))


def test_hue_turns_colours_by_any_angle_and_keeps_luma_and_saturation() -> None:
    red = torch.zeros(MANY, 3, 2, 2, dtype=torch.float64)
    red[:, 0] = 0.9
    turned = only("hue")(red, even_numbers(MANY, 2), always())
    assert torch.allclose(turned.mean(dim=1), red.mean(dim=1), atol=1e-12)
    assert torch.allclose(turned.square().sum(dim=1), red.square().sum(dim=1), atol=1e-12)
    pixel = turned[:, :, 0, 0]
    angle = torch.atan2((pixel[:, 1] - pixel[:, 2]) * math.sqrt(3.0), 2.0 * pixel[:, 0] - pixel[:, 1] - pixel[:, 2])
    assert_follows(angle, stats.uniform(-math.pi, 2.0 * math.pi))


def test_a_luma_flip_inverts_brightness_alone_in_half_of_the_images_that_it_happens_to() -> None:
    images = random_images(MANY, 3, 4)
    changed = only("lumaflip")(images, even_numbers(MANY, 1), torch.tensor(0.5))
    inverted = images - 2.0 * images.mean(dim=1, keepdim=True)
    assert int(torch.isclose(changed, inverted).flatten(1).all(dim=1).sum()) == MANY // 4
    assert int((changed == images).flatten(1).all(dim=1).sum()) == MANY * 3 // 4


def measured(ada: ADA, numbers: Tensor, size: int = 32, probability: float = 1.0) -> tuple[Tensor, Tensor]:
    """Matrix and shift of each image's map, seen in what becomes of ramps at the image's centre."""
    ramp = torch.arange(size, dtype=torch.float64) - (size - 1) / 2.0
    image = torch.stack((ramp.expand(size, size), ramp[:, None].expand(size, size)))  # 2 channels: columns, rows
    channels = torch.stack((*image, torch.zeros(size, size, dtype=torch.float64)))
    changed = ada(channels.expand(len(numbers), -1, -1, -1), numbers, torch.tensor(probability, dtype=torch.float64))
    last = size // 2
    square = changed[:, :2, last - 1 : last + 1, last - 1 : last + 1]
    matrix = torch.stack(((square[..., 1] - square[..., 0]).mean(-1), (square[:, :, 1] - square[:, :, 0]).mean(-1)), -1)
    return matrix, square.mean(dim=(-2, -1))


def test_scale_and_stretch_are_log_normal() -> None:
    numbers = even_numbers(MANY, 2)
    matrix, shift = measured(only("scale"), numbers)
    assert_follows(-matrix[:, 0, 0].log2(), stats.norm(scale=0.2))
    assert torch.allclose(matrix, matrix[:, :1, :1] * torch.eye(2, dtype=torch.float64), atol=1e-8)
    assert torch.allclose(shift, torch.zeros_like(shift), atol=1e-8)
    matrix, _ = measured(only("aniso"), numbers)
    assert_follows(-matrix[:, 0, 0].log2(), stats.norm(scale=0.2))
    assert torch.allclose(matrix[:, 0, 0] * matrix[:, 1, 1], torch.ones(MANY, dtype=torch.float64), atol=1e-8)
    assert float(matrix[:, 0, 1].abs().max()) < 1e-8


def test_a_rotation_is_by_any_angle_and_happens_at_least_once_with_the_probability() -> None:
    matrix, shift = measured(only("rotate"), even_numbers(MANY, 4))
    assert torch.allclose(matrix @ matrix.transpose(1, 2), torch.eye(2, dtype=torch.float64), atol=1e-8)
    assert torch.allclose(shift, torch.zeros_like(shift), atol=1e-8)
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])
    assert stats.kstest(angle, stats.uniform(-math.pi, 2.0 * math.pi).cdf).pvalue > 0.01  # of a sum of two
    assert_follows(measured_angle(only("rotate"), 0), stats.uniform(-math.pi, 2.0 * math.pi))
    assert_follows(measured_angle(only("rotate"), 2), stats.uniform(-math.pi, 2.0 * math.pi))
    numbers = random_numbers(4 * MANY, 4)
    matrix, _ = measured(only("rotate"), numbers, size=16, probability=0.36)
    share = (matrix - torch.eye(2, dtype=torch.float64)).abs().amax(dim=(1, 2)).gt(1e-6).double().mean()
    assert float(share) == pytest.approx(0.36, abs=0.03)
    each = (numbers[:, [0, 2]] < 0.2).double().mean(dim=0)
    assert each.tolist() == pytest.approx([0.2, 0.2], abs=0.03)


def measured_angle(ada: ADA, kept: int) -> Tensor:
    """The angle of one of the two rotations, the other not happening."""
    numbers = even_numbers(MANY, 4)
    numbers[:, [0, 2]] = 0.99
    numbers[:, kept] = 0.0
    matrix, _ = measured(ada, numbers, probability=0.9)
    return torch.atan2(-matrix[:, 0, 1], matrix[:, 0, 0])


def test_shifts_are_uniform_whole_pixels_and_normal_fractions() -> None:
    matrix, shift = measured(only("xint"), even_numbers(MANY, 3))
    assert torch.allclose(matrix, torch.eye(2, dtype=torch.float64).expand(MANY, 2, 2), atol=1e-8)
    assert torch.allclose(shift, shift.round(), atol=1e-8)
    for axis in (0, 1):
        values, counts = np.unique(shift[:, axis].round().numpy(), return_counts=True)
        assert values.tolist() == list(range(-4, 5))
        assert counts.tolist() == [25, *[50] * 7, 25]  # -4 and 4 have half a pixel each to be rounded from
    _, shift = measured(only("xfrac"), even_numbers(MANY, 3))
    for axis in (0, 1):
        found = -shift[:, axis] / 32
        assert_follows(found, stats.norm(scale=0.125), precision=1e-5)  # the largest come near the border


def test_quarter_turns_and_mirrors_are_exact_and_as_likely_as_they_should_be() -> None:
    images = random_images(MANY, 3, 5)
    turned = only("rot90")(images, even_numbers(MANY, 2), always()).numpy()
    counts = [
        sum(
            np.array_equal(seen, np.rot90(image, quarters, axes=(1, 2)))
            for seen, image in zip(turned, images.numpy(), strict=True)
        )
        for quarters in range(4)
    ]
    assert counts == [MANY // 4] * 4
    mirrored = only("xflip")(images, even_numbers(MANY, 1), torch.tensor(0.5))
    assert int((mirrored == images.flip(-1)).flatten(1).all(dim=1).sum()) == MANY // 4


@pytest.mark.parametrize("change", [*GEOMETRY, *COLOR, *CORRUPTION])
def test_an_image_is_changed_with_its_changes_share_of_the_probability_else_it_is_the_same_to_the_bit(
    change: str,
) -> None:
    ada, images = only(change, share=0.8), random_images(MANY, 3, 8)
    changed = ada(images, even_numbers(MANY, ada.numbers), torch.tensor(0.5, dtype=torch.float64))
    count = int((changed != images).flatten(1).any(dim=1).sum())
    happened = round(0.8 * 0.5 * MANY)
    if change in ("xflip", "lumaflip"):
        assert count == happened // 2
    elif change == "rot90":
        assert count == pytest.approx(happened * 3 / 4, abs=MANY / 20)
    elif change == "rotate":
        assert count == pytest.approx(happened, abs=MANY / 20)
    elif change == "filter":
        assert count == pytest.approx((1 - 0.6**4) * MANY, abs=MANY / 20)
    else:
        assert count == happened


def test_geometric_changes_are_linear_in_the_image() -> None:
    ada = only("xflip", "rot90", "xint", "scale", "rotate", "aniso", "xfrac")
    one, other, numbers = random_images(6, 3, 8), random_images(6, 3, 8, seed=9), random_numbers(6, ada.numbers)
    both = ada(one - 2.0 * other, numbers, always())
    assert torch.allclose(both, ada(one, numbers, always()) - 2.0 * ada(other, numbers, always()), atol=1e-12)


# ---------------------------------------------------------------------------------------- derivatives, refusals


@pytest.mark.parametrize("channels", [1, 3])
def test_first_and_second_derivatives_are_right(channels: int) -> None:
    ada = ADA(filter=1.0, noise=1.0, cutout=1.0)
    images, numbers = random_images(3, channels, 4).requires_grad_(), random_numbers(3, ada.numbers)

    def changed(image: Tensor) -> Tensor:
        return torch.tanh(ada(image, numbers, torch.tensor(0.7)))

    assert torch.autograd.gradcheck(changed, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(changed, images, fast_mode=True)


def test_changes_left_out_take_no_numbers() -> None:
    assert ADA().numbers == 26
    assert only("xflip").numbers == 1
    assert ADA(filter=0.5, noise=0.5, cutout=0.5).numbers == 26 + 8 + 4 + 3
    for change in (*GEOMETRY, *COLOR):
        one = only(change)
        draws = Uniforms(random_numbers(2, one.numbers), always())
        one._turn(torch.zeros(2, 3, 4, 4), draws)
        one._affine(4, 4, draws)
        one._color_change(draws)
        assert draws._next == one.numbers


def test_the_number_type_makes_no_difference() -> None:
    ada, images = ADA(cutout=1.0), random_images(20, 3, 8)
    numbers = random_numbers(20, ada.numbers).float()
    precise = ada(images, numbers.double(), always())
    assert torch.allclose(ada(images.float(), numbers, always().float()).double(), precise, atol=1e-4)
    lowered = ada(images.bfloat16(), numbers, always())
    assert lowered.dtype == torch.bfloat16
    assert torch.equal(lowered, ada(images.bfloat16().float(), numbers, always()).bfloat16())


@pytest.mark.parametrize(
    ("options", "shape", "reason"),
    [
        ({"scale": 1.2}, None, "scale"),
        ({"hue": -0.1}, None, "hue"),
        (dict.fromkeys((*GEOMETRY, *COLOR), 0.0), None, "at least one"),
        ({}, (2, 3, 4, 6), "4×6 cannot be turned by quarters"),
        ({"rot90": 0.0}, (2, 2, 4, 6), "1 or 3 channels, not 2"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, float], shape: tuple[int, ...] | None, reason: str) -> None:
    def changed() -> Tensor:
        ada = ADA(**options)
        return ada(torch.zeros(shape or ()), torch.zeros(2, ada.numbers), always())

    with pytest.raises(ValueError, match=reason):
        changed()


def test_images_need_not_be_square_where_they_are_not_turned_by_quarters() -> None:
    ada = ADA(rot90=0.0, cutout=1.0, filter=1.0)
    images = random_images(4, 3, 5, 8)
    assert ada(images, random_numbers(4, ada.numbers), always()).shape == images.shape
