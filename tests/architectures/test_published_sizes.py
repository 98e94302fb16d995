"""The recipes' networks have the layers and the numbers of parameters of their sources, counted by hand here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from ganzoo.architectures.dcgan import DCGANDiscriminator, DCGANGenerator
from ganzoo.building import build_discriminator, build_generator, load_recipe


def networks(recipe: str, *overrides: str) -> tuple[DCGANGenerator, DCGANDiscriminator]:
    """Return a recipe's networks, of shapes without memory."""
    resolved = load_recipe(recipe, overrides)
    with torch.device("meta"):
        generator, discriminator = build_generator(resolved), build_discriminator(resolved)
    assert isinstance(generator, DCGANGenerator)
    assert isinstance(discriminator, DCGANDiscriminator)
    return generator, discriminator


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def generator_shapes(generator: DCGANGenerator) -> list[tuple[int, ...]]:
    """Return the shape of z, of the square, and of each transposed convolution's output, for one image."""
    shapes: list[tuple[int, ...]] = [(generator.latent_dim,), generator.base]
    for module in (*generator.layers, generator.output):
        module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    label = torch.zeros(2, dtype=torch.int64, device="meta") if generator.num_classes else None
    generator(torch.empty(2, generator.latent_dim, device="meta"), label)
    return shapes


def discriminator_shapes(discriminator: DCGANDiscriminator, image: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shape of the image and of each convolution's output."""
    label = torch.zeros(2, dtype=torch.int64, device="meta") if discriminator.num_classes else None
    found = discriminator.features(torch.empty(2, *image, device="meta"), label)
    return [image, *(tuple(one.shape[1:]) for one in found.values())]


def test_the_papers_networks_have_18_89_and_17_23_million_parameters() -> None:
    gains = 2  # batch norm's gain and bias
    projection = 100 * 16_384 + gains * 16_384  # per unit
    layers = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3) + gains * (512 + 256 + 128)
    assert projection + layers == 18_885_760
    convolutions = 25 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024) + gains * (256 + 512 + 1024)
    assert convolutions + 16_384 == 17_232_768
    for recipe in ("dcgan-lsun", "dcgan-faces"):
        generator, discriminator = networks(recipe)
        assert (size(generator), size(discriminator)) == (18_885_760, 17_232_768)


def test_the_papers_generator_normed_per_channel_has_18_86_million_parameters() -> None:
    generator, _ = networks("dcgan-lsun", "generator.project_norm=channel")
    assert size(generator) == 18_855_040 == 18_885_760 - 2 * 16_384 + 2 * 1024


def test_the_tutorials_networks_have_3_58_and_2_77_million_parameters() -> None:
    layers = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + 2 * (512 + 256 + 128 + 64)
    convolutions = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 2 * (128 + 256 + 512)
    generator, discriminator = networks("dcgan-tutorial64")
    assert (size(generator), size(discriminator)) == (layers, convolutions) == (3_576_704, 2_765_568)


def test_the_conditional_mnist_networks_see_the_class_at_every_layer() -> None:
    ten = 10  # batch norm has neither gain nor bias
    dense = (100 + ten) * 1024 + (1024 + ten) * 128 * 49
    generator_size = dense + 25 * ((128 + ten) * 64 + (64 + ten) * 1)
    convolutions = 25 * ((1 + ten) * 64 + (64 + ten) * 128)
    discriminator_size = convolutions + (128 * 49 + ten) * 1024 + (1024 + ten)
    generator, discriminator = networks("dcgan-mnist-cond")
    assert (size(generator), size(discriminator)) == (generator_size, discriminator_size) == (6_820_538, 6_688_202)


def test_features_of_the_imagenet_discriminator_pool_to_28672_numbers() -> None:
    _, discriminator = networks("dcgan-imagenet32")
    found = discriminator.features(torch.empty(2, 3, 32, 32, device="meta"))
    pooled: list[Tensor] = [adaptive_max_pool2d(feature, 4).flatten(1) for feature in found.values()]
    assert torch.cat(pooled, 1).shape == (2, 28_672)
    assert discriminator_shapes(discriminator, (3, 32, 32)) == [
        (3, 32, 32),
        (128, 32, 32),
        (128, 16, 16),
        (256, 16, 16),
        (256, 8, 8),
        (512, 8, 8),
        (512, 4, 4),
    ]


# recipe → z and squares of the generator, squares of the discriminator, from the sources' figures
PUBLISHED: dict[str, tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = {
    "dcgan-lsun": (  # the paper's figure 1
        [(100,), (1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)],
        [(3, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4)],
    ),
    "dcgan-mnist": (
        [(64,), (128, 7, 7), (64, 14, 14), (1, 28, 28)],
        [(1, 28, 28), (64, 14, 14), (128, 7, 7)],
    ),
    "dcgan-mnist-cond": (
        [(100,), (128, 7, 7), (64, 14, 14), (1, 28, 28)],
        [(1, 28, 28), (64, 14, 14), (128, 7, 7)],
    ),
    "dcgan-mnist-tf": (
        [(100,), (256, 7, 7), (128, 7, 7), (64, 14, 14), (1, 28, 28)],
        [(1, 28, 28), (64, 14, 14), (128, 7, 7)],
    ),
    "dcgan-cifar10": (
        [(128,), (256, 8, 8), (128, 16, 16), (3, 32, 32)],
        [(3, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)],
    ),
    "dcgan-imagenet32": (
        [(256,), (512, 4, 4), (512, 8, 8), (256, 8, 8), (256, 16, 16), (128, 16, 16), (128, 32, 32), (3, 32, 32)],
        [(3, 32, 32), (128, 32, 32), (128, 16, 16), (256, 16, 16), (256, 8, 8), (512, 8, 8), (512, 4, 4)],
    ),
    "sngan-cifar10": (  # SNGAN's table 3
        [(128,), (512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 32, 32)],
        [
            (3, 32, 32),
            (64, 32, 32),
            (64, 16, 16),
            (128, 16, 16),
            (128, 8, 8),
            (256, 8, 8),
            (256, 4, 4),
            (512, 4, 4),
        ],
    ),
    "dcgan-tutorial64": (
        [(100,), (512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (3, 64, 64)],
        [(3, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)],
    ),
}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_layers_have_the_sizes_of_their_source(recipe: str) -> None:
    of_generator, of_discriminator = PUBLISHED[recipe]
    generator, discriminator = networks(recipe)
    assert generator_shapes(generator) == of_generator
    assert discriminator_shapes(discriminator, of_discriminator[0]) == of_discriminator
