"""R3GAN's family: sizes counted by hand, its resampling against NumPy, its initialisation measured, its conditions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo.architectures.r3gan import R3GANDiscriminator, R3GANGenerator, _Downsample, _Upsample
from ganzoo.building import build_discriminator, build_generator
from ganzoo.errors import RecipeError
from ganzoo.recipes import value_at
from ganzoo.shapes import shapes_only

SMALL: dict[str, Any] = {"widths": (12, 8, 4), "cardinality": (3, 2, 4), "blocks": (1, 2, 1)}
MIRRORED: dict[str, Any] = {key: tuple(reversed(value)) for key, value in SMALL.items()}


def generator(**options: Any) -> R3GANGenerator:
    torch.manual_seed(0)
    return R3GANGenerator(**{"image_size": 16, "channels": 3, "latent_dim": 5, **SMALL, **options})


def discriminator(**options: Any) -> R3GANDiscriminator:
    torch.manual_seed(0)
    return R3GANDiscriminator(**{"image_size": 16, "channels": 3, **MIRRORED, **options})


def stirred(network: nn.Module) -> Any:
    """Return a network whose blocks do something, as after training."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


# ---------------------------------------------------------------------------------------------------------- sizes


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def stage(width: int) -> int:
    """Two blocks of one resolution: W1 and W3, W2 of groups of 16 channels, two biases."""
    return 2 * (2 * (width * 2 * width) + 2 * width * 16 * 9 + 2 * 2 * width)


def test_the_papers_networks_for_256_have_23_06_and_23_01_million_parameters() -> None:
    widths, cardinality = (768, 768, 768, 768, 384, 192, 96), (96, 96, 96, 96, 48, 24, 12)
    inside = 4 * stage(768) + stage(384) + stage(192) + stage(96) + 768 * 384 + 384 * 192 + 192 * 96
    with shapes_only():
        made = R3GANGenerator(image_size=256, channels=3, latent_dim=64, widths=widths, cardinality=cardinality)
        judge = R3GANDiscriminator(image_size=256, channels=3, widths=widths[::-1], cardinality=cardinality[::-1])
    assert size(made) == inside + 64 * 768 + 768 * 16 + 96 * 3 == 23_057_952
    assert size(judge) == inside + 3 * 96 + 768 * 16 + 768 == 23_009_568


def test_the_conditional_networks_for_cifar_have_42_million_parameters() -> None:
    recipe = ganzoo.load_recipe("r3gan-cifar10")
    with shapes_only():
        made, judge = build_generator(recipe), build_discriminator(recipe)
    inside = 4 * stage(768)
    embeddings = 10 * 64, 10 * 768
    assert size(made) == inside + embeddings[0] + (64 + 64) * 768 + 768 * 16 + 768 * 3 == 20_781_952
    assert size(judge) == inside + embeddings[1] + 3 * 768 + 768 * 16 + 768 * 768 == 21_280_512


def test_the_networks_for_64_have_22_4_million_parameters_each() -> None:
    recipe = ganzoo.load_recipe("r3gan-64")
    with shapes_only():
        made, judge = build_generator(recipe), build_discriminator(recipe)
    inside = 4 * stage(768) + stage(384) + 768 * 384
    assert size(made) == inside + 64 * 768 + 768 * 16 + 384 * 3 == 22_429_824
    assert size(judge) == inside + 3 * 384 + 768 * 16 + 768 == 22_381_440


@pytest.mark.parametrize(
    ("name", "gamma", "half_life", "augmented"), [("r3gan-cifar10", 0.05, 5e6, 0.55), ("r3gan-64", 2.0, 5e5, 0.3)]
)
def test_schedules_are_the_authors_who_count_each_step_once(
    name: str, gamma: float, half_life: float, augmented: float
) -> None:
    recipe = ganzoo.load_recipe(name)
    steps = 2e7 / recipe.train.batch_size  # until all schedules end
    for share in (0.0, 0.3, 1.0, 2.0):
        left = (1 + math.cos(math.pi * min(share, 1.0))) / 2
        kimg = share * steps * 2 * recipe.train.batch_size / 1000  # a step draws two batches
        assert value_at(recipe.optimizer.lr, kimg) == pytest.approx(5e-5 + 1.5e-4 * left)
        assert value_at(recipe.optimizer.betas[1], kimg) == pytest.approx(0.99 - 0.09 * left)
        for penalty in recipe.penalty:
            assert value_at(penalty.weight, kimg) == pytest.approx((0.1 + 0.9 * left) * gamma / 2)
        # In steps, both ways of counting have the same half-life.
        half = value_at(recipe.ema.half_life_kimg, kimg) * 1000 / (2 * recipe.train.batch_size)
        assert half == pytest.approx((1 - left) * half_life / recipe.train.batch_size)
        assert recipe.augmentation is not None
        probability: Any = recipe.augmentation.probability
        assert value_at(probability, kimg) == pytest.approx((1 - left) * augmented)


# ---------------------------------------------------------------------------------------------------------- resampling


def along(image: npt.NDArray[Any], axis: int, change: Any) -> npt.NDArray[Any]:
    return np.apply_along_axis(change, axis, image)


def doubled(row: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Zeros put between pixels, then the filter [1, 2, 1] * [1, 1], which passes a constant."""
    spread = np.zeros(2 * len(row))
    spread[::2] = row
    return np.convolve(spread, np.array([1, 3, 3, 1]) / 4)[1:-2]


def halved(row: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.convolve(row, np.array([1, 3, 3, 1]) / 8)[2:-1:2]


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (7, 7)])
def test_doubling_is_the_filter_over_zeros_put_between_pixels(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, *shape))
    upsample = _Upsample(3, 3, shape[0]).double()
    expected = along(along(image, 2, doubled), 3, doubled)
    np.testing.assert_allclose(upsample(torch.from_numpy(image)).numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("side", [2, 4, 6, 14])
def test_halving_is_the_filter_at_each_second_pixel(side: int) -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, side, side))
    expected = along(along(image, 2, halved), 3, halved)
    np.testing.assert_allclose(_Downsample(3, 3)(torch.from_numpy(image)).numpy(), expected, atol=1e-14)


def test_halving_is_a_quarter_of_doublings_adjoint() -> None:
    small, large = torch.randn(1, 2, 5, 5).double(), torch.randn(1, 2, 10, 10).double()
    up, down = _Upsample(2, 2, 5).double(), _Downsample(2, 2)
    assert (up(small) * large).sum().item() == pytest.approx(4 * (small * down(large)).sum().item(), rel=1e-12)


def test_where_widths_change_channels_are_mixed_at_the_smaller_size() -> None:
    sizes: list[torch.Size] = []
    for resample, side in ((_Upsample(4, 2, 3), 3), (_Downsample(4, 2), 6)):
        resample.conv.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape))
        resample(torch.randn(1, 4, side, side))
    assert sizes == [(1, 4, 3, 3), (1, 4, 3, 3)]
    assert isinstance(_Upsample(4, 4, 3).conv, nn.Identity)


def test_what_is_fixed_is_not_saved() -> None:
    assert not any("edge" in name for name in generator().state_dict())


def test_the_discriminators_second_derivative_is_that_of_finite_differences() -> None:
    network = stirred(discriminator(image_size=8, channels=1, widths=(4, 2), cardinality=(2, 1), blocks=1)).double()
    image = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (image,))
    parameter = network.stages[0].blocks[0].conv.weight

    def squared_slope(weight: Tensor) -> Tensor:
        judged = torch.func.functional_call(network, {"stages.0.blocks.0.conv.weight": weight}, (image,))
        (gradient,) = torch.autograd.grad(judged.sum(), image, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(squared_slope, (parameter.detach().requires_grad_(),))


# ------------------------------------------------------------------------------------------------------- initialisation


@contextmanager
def outputs(network: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """Within it, outputs of submodules are kept."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, __, out: seen.update({name: out.detach()})

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    yield seen
    for hook in hooks:
        hook.remove()


def mean_square(x: Tensor) -> float:
    return float(x.square().mean())


WIDE: dict[str, Any] = {"image_size": 8, "widths": (256, 256), "cardinality": 16, "blocks": (3, 5)}


def test_every_block_begins_as_the_identity() -> None:
    network: Any = generator(image_size=16)
    blocks = [block for one in network.stages for block in one.blocks]
    assert len(blocks) == 4
    for block in blocks:
        x = torch.randn(2, block.reduce.out_channels, 4, 4)
        assert torch.equal(block(x), x)


def test_a_blocks_branch_begins_with_its_inputs_mean_square_over_the_number_of_blocks() -> None:
    network = generator(latent_dim=64, **WIDE)
    names = [f"stages.{number}.blocks.{index}" for number, count in enumerate((3, 5)) for index in range(count)]
    with outputs(network, *(f"{name}.conv" for name in names), *names) as seen, torch.no_grad():
        network(torch.randn(64, 64))
    for name in names:
        branch = mean_square(nn.functional.leaky_relu(seen[f"{name}.conv"], 0.2))
        # The edge is darker: zeros lie beyond it.
        assert branch / mean_square(seen[name]) == pytest.approx(1 / 8, rel=0.35), name


def test_weights_begin_with_the_gains_of_the_paper() -> None:
    network: Any = discriminator(num_classes=50, **WIDE)
    for number, count in enumerate((3, 5)):
        for index in range(count):
            block = network.stages[number].blocks[index]
            gain = math.sqrt(2 / 1.04) * 8 ** (-1 / 4)
            assert block.expand.weight.std().item() == pytest.approx(gain / math.sqrt(256), rel=0.03)
            assert block.conv.weight.std().item() == pytest.approx(gain / math.sqrt(32 * 9), rel=0.03)
            assert block.reduce.weight.abs().max() == 0 == block.expand.bias.abs().max() + block.conv.bias.abs().max()
    assert network.basis.weight.std().item() == pytest.approx(1 / 4, rel=0.05)
    assert network.output.weight.std().item() == pytest.approx(1 / 16, rel=0.03)
    assert network.embedding.weight.std().item() == pytest.approx(1 / 16 / math.sqrt(50), rel=0.05)
    assert generator(latent_dim=64, **WIDE).basis.std().item() == pytest.approx(1.0, rel=0.05)


def test_the_learnt_square_begins_with_unit_variance() -> None:
    network = generator(latent_dim=64, num_classes=10, image_size=4, widths=(256,), cardinality=16, blocks=1)
    with outputs(network, "stages.0.blocks.0") as seen, torch.no_grad():
        network(torch.randn(256, 64), torch.arange(256) % 10)
    # Half of what meets in the projection is z, of variance 1; the other half the embedding, of variance 1 / classes.
    assert mean_square(seen["stages.0.blocks.0"]) == pytest.approx((1 + 1 / 10) / 2, rel=0.15)


def test_only_what_precedes_an_activation_has_a_bias() -> None:
    names = [*generator().state_dict(), *discriminator().state_dict()]
    assert {name.split(".")[-2] for name in names if name.endswith("bias")} == {"expand", "conv"}


# ------------------------------------------------------------------------------------------------------------- networks


def test_images_are_clamped_in_eval_mode_only() -> None:
    network = generator()
    with torch.no_grad():
        network.output.weight.mul_(10)
        z = torch.randn(8, 5)
        free, shown = network.train()(z), network.eval()(z)
    assert free.abs().max() > 2
    assert torch.equal(shown, free.clamp(-1, 1))


def test_features_are_every_blocks_output_from_the_image_on() -> None:
    network = stirred(discriminator(num_classes=3)).eval()
    label = torch.tensor([0, 2])
    found = network.features(torch.randn(2, 3, 16, 16), label)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "stages.0.blocks.0": (2, 4, 16, 16),
        "stages.1.blocks.0": (2, 8, 8, 8),
        "stages.1.blocks.1": (2, 8, 8, 8),
        "stages.2.blocks.0": (2, 12, 4, 4),
        "basis": (2, 12, 1, 1),
    }
    assert list(found)[-1] == "basis"


@pytest.mark.parametrize(("size", "stages", "square"), [(32, 4, 4), (28, 3, 7), (12, 3, 3), (4, 1, 4), (2, 2, 1)])
def test_any_size_that_doubling_reaches_can_be_drawn(size: int, stages: int, square: int) -> None:
    options: dict[str, Any] = {"image_size": size, "widths": (4,) * stages, "cardinality": 2, "blocks": 1}
    made, judge = generator(**options), discriminator(**options)
    assert made.basis.shape == (4, square, square)
    image = made(torch.randn(2, 5))
    assert image.shape == (2, 3, size, size)
    assert judge(image).shape == (2,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 30}, r"image_size \(=30\) cannot be halved 2 times, .* use image_size 28 or 32, or at most 2"),
        ({"image_size": 2}, r"image_size \(=2\) .* use image_size 4, or at most 2 widths"),
        ({"cardinality": 5}, r"cardinality \(=5\) must divide the expanded width \(="),
        ({"cardinality": (2, 2)}, r"cardinality \(=\[2, 2\]\) must have one entry for each of the 3 widths"),
        ({"blocks": (1, 1, 1, 1)}, r"blocks \(=\[1, 1, 1, 1\]\) must have one entry"),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_can(options: dict[str, Any], message: str) -> None:
    for build in (generator, discriminator):
        with pytest.raises(ValueError, match=message):
            build(**options)


def test_a_recipe_with_too_many_blocks_is_refused_before_it_is_built() -> None:
    with pytest.raises(RecipeError, match=r"generator\.blocks"):
        ganzoo.load_recipe("r3gan-cifar10", ["generator.blocks=1000000"])


def test_the_class_is_an_embedding_beside_z() -> None:
    network = stirred(generator(num_classes=3)).double()
    z = torch.randn(1, 5, dtype=torch.float64).expand(3, -1)
    label = torch.arange(3)
    images = network(z, label)
    assert len(torch.unique(images.detach().flatten(1), dim=0)) == 3
    network.embedding.weight.data[:, 1] = network.embedding.weight.data[:, 2]
    images = network(z, label)
    torch.testing.assert_close(images[1], images[2])
    assert not torch.allclose(images[0], images[1])


def test_projection_is_the_inner_product_with_the_classs_embedding() -> None:
    network = stirred(discriminator(num_classes=3))
    image, label = torch.randn(4, 3, 16, 16), torch.tensor([2, 0, 1, 2])
    with outputs(network, "output") as seen, torch.no_grad():
        logits = network(image, label)
    columns = network.embedding.weight.detach().T[label]
    torch.testing.assert_close(logits, (seen["output"] * columns).sum(1))


def test_labels_are_ignored_where_there_is_no_conditioning_and_needed_where_there_is() -> None:
    image, label = torch.randn(3, 3, 16, 16), torch.arange(3)
    network = stirred(discriminator(num_classes=3, conditioning="none"))
    assert torch.equal(network(image), network(image, label))
    with pytest.raises(ValueError, match="needs labels"):
        discriminator(num_classes=3)(image)
    with pytest.raises(ValueError, match="knows no classes"):
        discriminator()(image, label)
    with pytest.raises(ValueError, match="needs labels"):
        generator(num_classes=3)(torch.randn(3, 5))


def test_under_autocast_the_smallest_square_stays_in_float32() -> None:
    made, judge = stirred(generator(num_classes=3)), stirred(discriminator(num_classes=3))
    names = ["stages.0.blocks.0", "stages.1.blocks.0", "stages.1.blocks.1", "stages.2.blocks.0"]
    label = torch.tensor([0, 1])
    with (
        outputs(made, *names) as drawn,
        outputs(judge, *names, "output") as seen,
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        logits = judge(made(torch.randn(2, 5), label), label)
    half, full = torch.bfloat16, torch.float32
    assert [drawn[name].dtype for name in names] == [full, half, half, half]
    assert [seen[name].dtype for name in (*names, "output")] == [half, half, half, full, full]
    assert logits.dtype == full
