"""Consistency (bCR, CR) and latent consistency (zCR) against NumPy: the changed images, the terms, their slopes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from regularizer_views import LATENT, LATENTS, REALS, SEED, SHAPE, Array, Step, assert_slopes, surroundings

from ganzoo.objectives.regularizers.consistency import Consistency, LatentConsistency, flip_and_shift
from ganzoo.randomness import Stream, draw_normal, draw_uniform

SHIFT = 3


def changed(image: Array, numbers: Array, shift: int = SHIFT) -> Array:
    """Turn each image or not, pad it with its mirror image, cut out a window."""
    out = []
    for one, (turned, down, across) in zip(image, numbers, strict=True):
        whole = one[:, :, ::-1] if turned < 0.5 else one
        padded = np.pad(whole, ((0, 0), (shift, shift), (shift, shift)), mode="reflect")
        top, left = int(down * (2 * shift + 1)), int(across * (2 * shift + 1))
        out.append(padded[:, top : top + image.shape[2], left : left + image.shape[3]])
    return np.stack(out)


def test_flip_and_shift_is_a_window_of_the_mirrored_picture() -> None:
    image = np.random.default_rng(0).normal(size=(64, 2, 6, 5))
    numbers = np.random.default_rng(1).uniform(size=(64, 3))
    found = flip_and_shift(torch.from_numpy(image), torch.from_numpy(numbers), SHIFT).numpy()
    np.testing.assert_array_equal(found, changed(image, numbers))
    assert 20 < sum(numbers[:, 0] < 0.5) < 44


def test_flip_and_shift_reaches_every_shift_and_none_beyond_even_of_rounded_numbers() -> None:
    image = torch.arange(7.0).view(1, 1, 1, 7).expand(1, 1, 7, 7)
    middles = []
    for number in [*np.linspace(0.01, 0.99, 50), 1.0]:  # float32 rounds the greatest words to 1
        moved = flip_and_shift(image, torch.tensor([[0.9, 0.5, number]]), 3)
        middles.append(float(moved[0, 0, 3, 3]))
    assert set(middles) == set(range(7))
    assert middles == sorted(middles)


def test_no_shift_and_no_flip_is_the_image_itself() -> None:
    image = torch.randn(3, *SHAPE)
    assert torch.equal(flip_and_shift(image, torch.tensor([[0.7, 0.3, 0.9]] * 3), 0), image)


def test_flip_and_shift_has_a_gradient() -> None:
    image = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    numbers = torch.tensor([[0.2, 0.1, 0.9], [0.8, 0.6, 0.3]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: flip_and_shift(x, numbers, 2), image)


@pytest.mark.parametrize(
    "weights", [(10.0, 10.0), (10.0, 0.0), (0.0, 2.0), (1.0, 3.0)], ids=lambda pair: f"{pair[0]:g}-{pair[1]:g}"
)
def test_bcr_is_the_papers(weights: tuple[float, float]) -> None:
    step = Step()
    loss = Consistency(real_weight=weights[0], fake_weight=weights[1], shift=SHIFT).discriminator_loss(
        step.discriminator()
    )
    expected, label = 0.0, step.label.numpy()
    for weight, stream, numbers, image in (
        (weights[0], Stream.CONSISTENCY_REAL, REALS, step.real.numpy()),
        (weights[1], Stream.CONSISTENCY_FAKE, LATENTS, step.numpy_generate(step.z.numpy())),
    ):
        other = changed(image, draw_uniform(SEED, stream, numbers, 3))
        expected += weight * np.mean((step.numpy_judge(image, label) - step.numpy_judge(other, label)) ** 2)
    assert loss is not None
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert expected > 0.1


def test_bcrs_slopes_are_the_finite_differences() -> None:
    step, regularizer = Step(), Consistency(shift=SHIFT)
    for parameter in (step.w, step.v):
        assert_slopes(lambda: regularizer.discriminator_loss(step.discriminator()), parameter)  # type: ignore[arg-type, return-value]


def test_a_discriminator_blind_to_flips_and_shifts_loses_nothing() -> None:
    step = Step()
    step.v.data.zero_()
    step.w.data.zero_()
    loss = Consistency().discriminator_loss(step.discriminator())
    assert loss is not None
    assert loss.item() == 0.0


def test_unlabelled_real_images_are_judged_without_a_label() -> None:
    step, asked = Step(labelled=False), []

    def judge(image: Any, label: Any) -> Any:
        asked.append(label)
        return step.judge(image, label)

    Consistency().discriminator_loss(step.discriminator(judge=judge))
    assert asked[0] is None
    assert asked[1] is step.label


def test_zcr_is_the_papers_and_the_generators_term_is_negative() -> None:
    step, regularizer = Step(), LatentConsistency(sigma=0.2)
    z = step.z.numpy()
    noise = draw_normal(SEED, Stream.CONSISTENCY_LATENT, LATENTS, LATENT)
    image, near = step.numpy_generate(z), step.numpy_generate(z + 0.2 * noise)
    label = step.label.numpy()
    of_discriminator = regularizer.discriminator_loss(step.discriminator())
    of_generator = regularizer.generator_loss(step.generator())
    assert of_discriminator is not None
    assert of_generator is not None
    expected = 5.0 * np.mean((step.numpy_judge(image, label) - step.numpy_judge(near, label)) ** 2)
    assert of_discriminator.item() == pytest.approx(expected, rel=1e-12)
    assert of_generator.item() == pytest.approx(-0.5 * np.mean((image - near) ** 2), rel=1e-12)
    assert of_generator.item() < 0.0 < of_discriminator.item()


def test_zcrs_slopes_are_the_finite_differences() -> None:
    step, regularizer = Step(), LatentConsistency(sigma=0.2)
    for parameter in (step.w, step.v):
        assert_slopes(lambda: regularizer.discriminator_loss(step.discriminator()), parameter)  # type: ignore[arg-type, return-value]
    for parameter in (step.a, step.b):
        assert_slopes(lambda: regularizer.generator_loss(step.generator()), parameter)  # type: ignore[arg-type, return-value]


def test_a_generators_step_down_zcr_makes_near_latents_differ_more() -> None:
    step, regularizer = Step(), LatentConsistency(sigma=0.2)
    before = regularizer.generator_loss(step.generator())
    assert before is not None
    (slope,) = torch.autograd.grad(before, step.a)
    step.a.data -= 0.5 * slope
    after = regularizer.generator_loss(step.generator())
    assert after is not None
    assert after.item() < before.item()


def test_zcr_without_one_of_its_terms_leaves_that_network_alone() -> None:
    step = Step()
    assert LatentConsistency(generator_weight=0.0).generator_loss(step.generator()) is None
    assert LatentConsistency(discriminator_weight=0.0).discriminator_loss(step.discriminator()) is None


def test_what_asks_nothing_of_a_network_is_refused() -> None:
    with pytest.raises(ValueError, match="both 0"):
        Consistency(real_weight=0.0, fake_weight=0.0)
    with pytest.raises(ValueError, match="both 0"):
        LatentConsistency(discriminator_weight=0.0, generator_weight=0.0)


def test_a_shift_of_the_whole_image_is_refused() -> None:
    Consistency(shift=4).prepare(surroundings())
    with pytest.raises(ValueError, match=r"shift \(=5\) must be less than the image's 5 pixels"):
        Consistency(shift=5).prepare(surroundings())
