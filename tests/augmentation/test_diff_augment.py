"""DiffAugment against NumPy: colours by the formula, translations and cutouts as slices; and its laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from augmented_images import always, even_numbers, random_images, random_numbers

from ganzoo.augmentation.diff_augment import DiffAugment
from ganzoo.augmentation.flip import Flip


def one(policy: str, **options: Any) -> DiffAugment:
    return DiffAugment(policy=(policy,), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_is_brightness_then_saturation_then_contrast(channels: int) -> None:
    images, numbers = random_images(7, channels, 5, 6), random_numbers(7, 4)
    changed = one("color")(images, numbers, always())
    for image, (_, brightness, saturation, contrast), seen in zip(
        images.numpy(), numbers.numpy(), changed.numpy(), strict=True
    ):
        wanted = image + (brightness - 0.5)
        pixel = wanted.mean(axis=0)
        wanted = (wanted - pixel) * (2.0 * saturation) + pixel if channels == 3 else wanted
        wanted = (wanted - wanted.mean()) * (contrast + 0.5) + wanted.mean()
        np.testing.assert_allclose(seen, wanted, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 20)])
def test_translation_is_a_slice_of_the_image_padded_with_zeros(height: int, width: int) -> None:
    images, numbers = random_images(40, 3, height, width), random_numbers(40, 3)
    most = int(height / 8 + 0.5), int(width / 8 + 0.5)
    changed = one("translation")(images, numbers, always())
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (most[0],) * 2, (most[1],) * 2))
    shifts = set()
    for index, (_, u, v) in enumerate(numbers.numpy()):
        down, right = int(u * (2 * most[0] + 1)), int(v * (2 * most[1] + 1))
        shifts.add((down - most[0], right - most[1]))
        first = 2 * most[0] - down, 2 * most[1] - right
        wanted = padded[index, :, first[0] : first[0] + height, first[1] : first[1] + width]
        np.testing.assert_array_equal(changed[index].numpy(), wanted)
    assert {down for down, _ in shifts} == set(range(-most[0], most[0] + 1))  # every shift, the largest included
    assert {right for _, right in shifts} == set(range(-most[1], most[1] + 1))


@pytest.mark.parametrize("size", [8, 10, 32])
def test_a_cutout_is_half_a_side_wide_and_its_centre_anywhere_in_the_image(size: int) -> None:
    side = int(size / 2 + 0.5)
    places = size + 1 - side % 2  # of the centre: between pixels where the side is even
    images, numbers = random_images(places * 3, 3, size), even_numbers(places * 3, 3)
    changed = one("cutout")(images, numbers, always())
    firsts = set()
    for image, (_, u, v), seen in zip(images.numpy(), numbers.numpy(), changed.numpy(), strict=True):
        top, left = int(u * places) - side // 2, int(v * places) - side // 2
        wanted = image.copy()
        wanted[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0.0
        np.testing.assert_array_equal(seen, wanted)
        firsts.add(top)
    assert firsts == set(range(-(side // 2), size - side // 2 + (1 - side % 2)))


def test_shares_of_the_side_can_be_chosen() -> None:
    images = torch.ones(200, 1, 8, 8)
    moved = one("translation", shift=0.25)(images, random_numbers(200, 3), always())
    assert {int((image != 0).any(dim=1).sum()) for image in moved[:, 0]} == {6, 7, 8}
    cut = one("cutout", cutout=0.25)(images, random_numbers(200, 3), always())
    assert int((cut == 0).flatten(1).sum(dim=1).max()) == 4
    assert torch.equal(one("cutout", cutout=0.0)(images, random_numbers(200, 3), always()), images)


def test_each_change_happens_with_the_probability_by_itself() -> None:
    augmentation, images = DiffAugment(policy=("color", "cutout")), random_images(400, 3, 8)
    changed = augmentation(images, even_numbers(400, 7), torch.tensor(0.3))
    cut = (changed == 0).flatten(1).any(dim=1)
    outside = changed != 0
    colored = ((changed != images) & outside).flatten(1).any(dim=1)
    assert int(colored.sum()) == 120
    assert 110 <= int(cut.sum()) <= 120  # a cutout may show just outside
    assert 24 <= int((cut & colored).sum()) <= 48  # 36 where the two do not know of each other


def test_changes_come_in_the_order_of_the_policy() -> None:
    images = torch.full((60, 3, 8, 8), 0.5, dtype=torch.float64)
    numbers = random_numbers(60, 7)
    color_first = DiffAugment(policy=("color", "cutout"))(images, numbers, always())
    color_last = DiffAugment(policy=("cutout", "color"))(images, numbers[:, [4, 5, 6, 0, 1, 2, 3]], always())
    cut = DiffAugment(policy=("cutout",))(images, numbers[:, 4:], always()) == 0
    assert bool((color_first[cut] == 0).all())
    assert not bool((color_last[cut] == 0).any())


@pytest.mark.parametrize("augmentation", [Flip(), one("flip")])
def test_a_flip_mirrors_half_of_the_images_that_it_happens_to(augmentation: Any) -> None:
    images = random_images(400, 1, 3, 4)
    changed = augmentation(images, even_numbers(400, 1), torch.tensor(0.5))
    pairs = list(zip(changed.numpy(), images.numpy(), strict=True))
    mirrored = np.array([np.array_equal(seen, image[:, :, ::-1]) for seen, image in pairs])
    same = np.array([np.array_equal(seen, image) for seen, image in pairs])
    assert mirrored.sum() == 100
    assert same.sum() == 300


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"policy": ()}, "at least one"),
        ({"policy": ("color", "color")}, "twice"),
        ({"policy": ("colour",)}, "color, translation, cutout, flip, not 'colour'"),
        ({"shift": 1.5}, "shift"),
        ({"cutout": -0.1}, "cutout"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DiffAugment(**options)


def test_bfloat16_images_are_coloured_in_float32() -> None:
    images, numbers = random_images(5, 3, 8).bfloat16(), random_numbers(5, 4)
    changed = one("color")(images, numbers, always())
    assert changed.dtype == torch.bfloat16
    assert torch.equal(changed, one("color")(images.float(), numbers.float(), always()).bfloat16())
