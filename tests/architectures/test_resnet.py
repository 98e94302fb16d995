"""The residual family: sizes, numbers of parameters, norms, classes and initialisations are what its arguments say.

What a whole network computes is held to an independent account in `tests/training/test_resnet_against_reference.py`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import tiny_runs
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ganzoo.architectures.layers import ConditionalBatchNorm2d
from ganzoo.architectures.resnet import ResNetDiscriminator, ResNetGenerator, smallest_size
from ganzoo.building import build_discriminator, build_generator, load_recipe
from ganzoo.errors import RecipeError
from ganzoo.shapes import shapes_only
from ganzoo.testing import check_discriminator, check_generator
from ganzoo.training.ema import estimate_batch_statistics

N = TypeVar("N", bound=nn.Module)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def generator(**changes: Any) -> ResNetGenerator:
    return ResNetGenerator(**{"image_size": 8, "channels": 2, "latent_dim": 4, "widths": (5, 3, 4), **changes})


def discriminator(**changes: Any) -> ResNetDiscriminator:
    shape: dict[str, Any] = {"image_size": 8, "channels": 2, "widths": (4, 5, 5), "downsample": (True, True, False)}
    return ResNetDiscriminator(**{**shape, **changes})


def stirred(network: N) -> N:
    """Return a network in float64 of which no parameter is as it began."""
    with torch.no_grad():
        for parameter in network.double().parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


# ------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize("size", [28, 32, 36, 48, 64, 96, 128])
def test_both_networks_reach_every_multiple_of_their_doublings(size: int) -> None:
    makes, judges = generator(image_size=size), discriminator(image_size=size)
    assert makes.base == (5, size // 4, size // 4)
    image = makes(torch.randn(2, 4))
    assert image.shape == (2, 2, size, size)
    assert {name: tuple(one.shape[1:]) for name, one in judges.features(image).items()} == {
        "blocks.0": (4, size // 2, size // 2),
        "blocks.1": (5, size // 4, size // 4),
        "blocks.2": (5, size // 4, size // 4),
        "pool": (5,),
    }
    assert judges(image).shape == (2,)


@pytest.mark.parametrize(
    ("size", "steps", "advice"),
    [
        (28, 3, "make it a multiple of 8; use image_size 24 or 32, or at most 2 such blocks"),
        (50, 3, "make it a multiple of 8; use image_size 48 or 56, or at most 1 such block"),
        (33, 2, "make it a multiple of 4; use image_size 32 or 36"),
        (6, 3, "make it a multiple of 8; use image_size 8, or at most 1 such block"),
    ],
)
def test_a_size_that_is_no_multiple_is_refused_with_what_would_do(size: int, steps: int, advice: str) -> None:
    widths = (2,) * steps
    with pytest.raises(
        ValueError, match=rf"^image_size \(={size}\) cannot be reached: {steps} blocks that double {advice}$"
    ):
        generator(image_size=size, widths=(2, *widths))
    with pytest.raises(
        ValueError, match=rf"^image_size \(={size}\) cannot be reached: {steps} blocks that halve {advice}$"
    ):
        discriminator(image_size=size, widths=widths, downsample=(True,) * steps)
    for offered in advice.partition("image_size ")[2].partition(",")[0].split(" or "):
        assert smallest_size(int(offered), steps, "") == int(offered) >> steps
    if "at most" in advice:
        fewer = int(advice.split("at most ")[1][0])
        assert smallest_size(size, fewer, "") << fewer == size
        with pytest.raises(ValueError, match="cannot be reached"):
            smallest_size(size, fewer + 1, "")


def test_a_list_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"downsample \(=\[True\]\) must have one entry for each of the 3 blocks \(widths=\[4, 5, 5\]\)",
    ):
        discriminator(downsample=(True,))


def test_classes_cannot_enter_by_a_norm_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r'needs norm = "batch", not "none"; use conditioning = "concat"'):
        generator(norm="none", num_classes=3)
    assert generator(norm="none").concat is False  # there is nothing to enter


# ------------------------------------------------------------------------------------------------ published sizes
#
# Layers of the papers' tables, counted one by one. A block has two 3×3 convolutions and a 1×1 one, all with biases.


def dense(into: int, out: int, bias: bool = True) -> int:
    return into * out + bias * out


def conv(kernel: int, into: int, out: int) -> int:
    return kernel**2 * into * out + out


def up_block(into: int, out: int, classes: int = 1) -> int:
    norms = 2 * classes * (into + out)
    return norms + conv(3, into, out) + conv(3, out, out) + conv(1, into, out)


def first_block(out: int) -> int:
    return conv(3, 3, out) + conv(3, out, out) + conv(1, 3, out)


def down_block(into: int, out: int) -> int:
    return conv(3, into, into) + conv(3, into, out) + conv(1, into, out)


def plain_block(into: int, out: int) -> int:
    return conv(3, into, into) + conv(3, into, out) + (conv(1, into, out) if into != out else 0)


def last_layers(width: int) -> int:
    return 2 * width + conv(3, width, 3)


OF_TABLE_5 = (64, 128, 256, 512, 1024)
DOWN_TO_512 = first_block(64) + down_block(64, 128) + down_block(128, 256) + down_block(256, 512)

# size, widths and classes of G, the count → widths, halvings of D, the count
PUBLISHED = {
    "SNGAN table 4, 32": (
        (32, (256, 256, 256, 256), 0),
        dense(128, 16 * 256) + 3 * up_block(256, 256) + last_layers(256),
        ((128, 128, 128, 128), (True, True, False, False)),
        first_block(128) + down_block(128, 128) + 2 * plain_block(128, 128) + dense(128, 1),
    ),
    "WGAN-GP appendix F, 32": (
        (32, (128, 128, 128, 128), 0),
        dense(128, 16 * 128) + 3 * up_block(128, 128) + last_layers(128),
        ((128, 128, 128, 128), (True, True, False, False)),
        first_block(128) + down_block(128, 128) + 2 * plain_block(128, 128) + dense(128, 1),
    ),
    "SNGAN table 5, 48": (
        (48, (512, 256, 128, 64), 0),
        dense(128, 36 * 512) + up_block(512, 256) + up_block(256, 128) + up_block(128, 64) + last_layers(64),
        (OF_TABLE_5, (True, True, True, True, False)),
        DOWN_TO_512 + plain_block(512, 1024) + dense(1024, 1),
    ),
    "torch-mimicry, 64": (
        (64, (1024, 512, 256, 128, 64), 0),
        dense(128, 16 * 1024) + sum(up_block(2 * out, out) for out in (512, 256, 128, 64)) + last_layers(64),
        (OF_TABLE_5, (True,) * 5),
        DOWN_TO_512 + down_block(512, 1024) + dense(1024, 1),
    ),
    "SNGAN table 6, 128": (
        (128, (1024, 1024, 512, 256, 128, 64), 0),
        dense(128, 16 * 1024)
        + up_block(1024, 1024)
        + sum(up_block(2 * out, out) for out in (512, 256, 128, 64))
        + last_layers(64),
        ((*OF_TABLE_5, 1024), (True,) * 5 + (False,)),
        DOWN_TO_512 + down_block(512, 1024) + plain_block(1024, 1024) + dense(1024, 1),
    ),
    "projection, 128, a thousand classes": (
        (128, (1024, 1024, 512, 256, 128, 64), 1000),
        dense(128, 16 * 1024)
        + up_block(1024, 1024, 1000)
        + sum(up_block(2 * out, out, 1000) for out in (512, 256, 128, 64))
        + last_layers(64),
        ((*OF_TABLE_5, 1024), (True,) * 5 + (False,)),
        DOWN_TO_512 + down_block(512, 1024) + plain_block(1024, 1024) + dense(1024, 1) + 1000 * 1024,
    ),
}
MILLIONS = {
    "SNGAN table 4, 32": (4_276_739, 1_053_825),
    "WGAN-GP appendix F, 32": (1_204_483, 1_053_825),
    "SNGAN table 5, 48": (4_878_083, 10_141_441),
    "torch-mimicry, 64": (12_220_675, 10_141_441),
}
"""What torch-mimicry's classes have (32, 48 and 64)."""


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_have_their_numbers_of_parameters(name: str) -> None:
    (size, widths, classes), of_generator, (into, halvings), of_discriminator = PUBLISHED[name]
    shape: dict[str, Any] = {"image_size": size, "channels": 3, "num_classes": classes}
    with shapes_only():
        makes = ResNetGenerator(**shape, latent_dim=128, widths=widths)
        judges = ResNetDiscriminator(**shape, widths=into, downsample=halvings)
    assert (count(makes), count(judges)) == (of_generator, of_discriminator)
    assert MILLIONS.get(name, (of_generator, of_discriminator)) == (of_generator, of_discriminator)
    label = torch.zeros(2, dtype=torch.int64, device="meta") if classes else None
    image = makes(torch.empty(2, 128, device="meta"), label)
    assert image.shape == (2, 3, size, size)
    assert judges(image, label).shape == (2,)


def test_the_defaults_are_sngans_networks_for_cifar10() -> None:
    with shapes_only():
        makes = ResNetGenerator(image_size=32, channels=3, latent_dim=128)
        judges = ResNetDiscriminator(image_size=32, channels=3)
    assert (count(makes), count(judges)) == MILLIONS["SNGAN table 4, 32"]


@pytest.mark.parametrize(
    ("recipe", "name", "without"),
    [("sngan-resnet-cifar10", "SNGAN table 4, 32", 1), ("wgan-gp-cifar10", "WGAN-GP appendix F, 32", 0)],
)
def test_the_recipes_networks_are_the_published_ones(recipe: str, name: str, without: int) -> None:
    resolved = load_recipe(recipe)
    with shapes_only():
        sizes = count(build_generator(resolved)), count(build_discriminator(resolved)) + without
    assert sizes == MILLIONS[name]  # SNGAN's own net for CIFAR-10 has no bias in the last layer


@pytest.mark.parametrize(
    ("recipe", "steps"), [("sngan-resnet-cifar10", 5), ("wgan-gp-cifar10", 5), ("sngan-cifar10", 1)]
)
def test_the_recipes_do_a_hundred_thousand_updates_of_the_generator(recipe: str, steps: int) -> None:
    train = load_recipe(recipe).train
    assert train.discriminator_steps == steps
    assert train.kimg * 1000 / (train.batch_size * train.discriminator_steps) == 100_000


# -------------------------------------------------------------------------------------------- conditional batch norm


def test_conditional_batch_norm_is_its_formula() -> None:
    norm = ConditionalBatchNorm2d(3, 4, eps=0.01).double()
    gain, bias = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    norm.load_state_dict({**norm.state_dict(), "gain.weight": gain, "bias.weight": bias})
    x, label = 2 + 3 * torch.randn(5, 3, 6, 6, dtype=torch.float64), torch.tensor([3, 0, 0, 2, 3])
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    out = norm(x, label)
    for index, of in enumerate(label):
        for channel in range(3):
            plain = (x[index, channel] - mean[channel]) / math.sqrt(variance[channel] + 0.01)
            torch.testing.assert_close(out[index, channel], gain[of, channel] * plain + bias[of, channel])
    torch.testing.assert_close(norm.norm.running_mean, 0.1 * mean)  # one for all classes


def test_a_class_changes_gain_and_bias_and_no_statistics() -> None:
    network = stirred(generator(num_classes=3))
    twin = stirred(generator(num_classes=3))
    twin.load_state_dict(network.state_dict())
    z = torch.randn(6, 4, dtype=torch.float64)
    first: list[Tensor] = []
    for one in (network, twin):
        one.get_submodule("blocks.0.norm1.norm").register_forward_hook(lambda _, __, out: first.append(out))
    images = network(z, torch.zeros(6, dtype=torch.int64)), twin(z, torch.tensor([0, 1, 2, 0, 1, 2]))
    torch.testing.assert_close(first[0], first[1], rtol=0, atol=0)
    for buffer in ("running_mean", "running_var"):  # of what stands before the first gain
        name = f"blocks.0.norm1.norm.{buffer}"
        torch.testing.assert_close(network.get_buffer(name), twin.get_buffer(name), rtol=0, atol=0)
    assert (images[0] - images[1]).abs().flatten(1).max(1).values[[1, 2, 4, 5]].min() > 1e-3


def test_with_one_gain_and_bias_for_all_classes_it_is_batch_norm() -> None:
    plain, conditional = stirred(generator()), stirred(generator(num_classes=3))
    state = plain.state_dict()
    for name in conditional.state_dict():
        if name not in state:
            *path, kind, last = name.split(".")
            own = {"norm": last, "gain": "weight", "bias": "bias"}[kind]
            value = plain.state_dict()[".".join([*path, own])]
            state[name] = value.expand(3, -1) if kind in ("gain", "bias") else value
    conditional.load_state_dict({name: state[name] for name in conditional.state_dict()})
    z, label = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 0])
    for mode in (True, False):
        plain.train(mode)
        conditional.train(mode)
        torch.testing.assert_close(conditional(z, label), plain(z), rtol=1e-12, atol=1e-12)


def test_every_block_is_conditional_and_the_last_norm_is_not() -> None:
    kinds = {name: type(one) for name, one in generator(num_classes=2).named_modules() if "norm" in name.split(".")[-1]}
    own = {f"blocks.{block}.norm{which}" for block in (0, 1) for which in (1, 2)}
    assert {name for name, kind in kinds.items() if kind is ConditionalBatchNorm2d} == own
    assert {name for name, kind in kinds.items() if kind is nn.BatchNorm2d} == {"norm"} | {f"{one}.norm" for one in own}


def test_its_statistics_are_found_and_estimated_anew() -> None:
    network = generator(num_classes=3).double().eval()
    z, label = torch.randn(64, 4, dtype=torch.float64), torch.arange(64) % 3
    estimate_batch_statistics(network, [(z, label)])
    before: list[Tensor] = []
    inside = network.get_submodule("blocks.0.norm1.norm")
    inside.register_forward_hook(lambda _, given, __: before.append(given[0]))
    network(z, label)
    torch.testing.assert_close(inside.running_mean, before[0].mean((0, 2, 3)))
    torch.testing.assert_close(inside.running_var, before[0].var((0, 2, 3)))
    assert not any(one.training for one in network.modules())


@pytest.mark.parametrize("conditioning", ["batch_norm", "concat"])
def test_labels_must_be_given_exactly_where_there_are_classes(conditioning: str) -> None:
    z, label = torch.randn(2, 4), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="draws one of 3 classes and needs labels"):
        generator(num_classes=3, conditioning=conditioning)(z)
    with pytest.raises(ValueError, match="knows no classes"):
        generator(conditioning=conditioning)(z, label)


# ------------------------------------------------------------------------------------------------ projection


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_projection_adds_the_inner_product_of_class_and_pooled_features(norm: str, pooling: str) -> None:
    network = stirred(discriminator(num_classes=3, norm=norm, pooling=pooling))
    image, label = torch.randn(4, 2, 8, 8, dtype=torch.float64), torch.tensor([2, 0, 1, 2])
    found = network.features(image, label)
    last = found["blocks.2"].clamp(min=0)
    pooled = last.sum((2, 3)) if pooling == "sum" else last.mean((2, 3))
    torch.testing.assert_close(found["pool"], pooled)
    classes, weight = network.get_parameter("embedding.weight"), network.get_parameter("output.weight")
    expected = [
        sum(pooled[i, j] * (weight[0, j] + classes[j, label[i]]) for j in range(5)) + network.output.bias[0]
        for i in range(4)
    ]
    torch.testing.assert_close(network(image, label), torch.stack(expected))


def test_without_conditioning_labels_are_ignored() -> None:
    network = discriminator(num_classes=3, conditioning="none").eval()
    image, label = torch.randn(4, 2, 8, 8), torch.tensor([2, 0, 1, 2])
    assert network.embedding is None
    torch.testing.assert_close(network(image, label), network(image), rtol=0, atol=0)


def test_the_last_layer_may_be_without_bias() -> None:
    assert discriminator(output_bias=False).output.bias is None
    assert discriminator().output.bias is not None


# ------------------------------------------------------------------------------------------------ norms and features


def test_layer_norm_is_over_an_images_values_with_gain_and_bias_per_channel() -> None:
    norm = discriminator(norm="layer", norm_eps=0.1).get_submodule("blocks.1.norm2").double()
    gain, bias = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    norm.load_state_dict({"weight": gain, "bias": bias})
    x = torch.randn(3, 4, 4, 4, dtype=torch.float64)
    expected = layer_norm(x, (4, 4, 4), eps=0.1) * gain[:, None, None] + bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_norms_of_the_discriminator_begin_with_the_second_block(norm: str) -> None:
    kind = nn.GroupNorm if norm == "layer" else nn.BatchNorm2d
    own = [name for name, one in discriminator(norm=norm).named_modules() if isinstance(one, kind)]
    assert own == ["blocks.1.norm1", "blocks.1.norm2", "blocks.2.norm1", "blocks.2.norm2"]


@pytest.mark.parametrize("norm", ["none", "spectral", "layer", "batch"])
def test_per_sample_says_whether_a_logit_hangs_on_batch_mates(norm: str) -> None:
    network = discriminator(norm=norm).double()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    image = torch.randn(4, 2, 8, 8, dtype=torch.float64)
    other = torch.cat((image[:1], torch.randn(3, 2, 8, 8, dtype=torch.float64)))
    logits = []
    for batch in (image, other):
        network.load_state_dict(state)
        logits.append(network(batch)[0])
    assert network.per_sample is (norm != "batch")
    assert network.per_sample is bool((logits[0] - logits[1]).abs() < 1e-12)


def test_a_network_of_one_block_judges_each_image_by_itself_in_any_case() -> None:
    assert discriminator(norm="batch", widths=(4,), downsample=(True,)).per_sample is True


@pytest.mark.parametrize("changes", [{}, {"num_classes": 3}, {"num_classes": 3, "conditioning": "none"}])
def test_features_are_outputs_of_the_submodules_that_they_are_called_by(changes: dict[str, Any]) -> None:
    network = discriminator(norm="none", **changes)
    seen: dict[str, Tensor] = {}
    label = torch.tensor([0, 2]) if changes else None
    image = torch.randn(2, 2, 8, 8)
    names = list(network.features(image, label))
    for name in names:
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out))
    network(image, label)
    assert list(seen) == names == ["blocks.0", "blocks.1", "blocks.2", "pool"]
    seen, on_the_way = {}, dict(seen)
    for name, one in network.features(image, label).items():
        torch.testing.assert_close(one, on_the_way[name], rtol=0, atol=0)


@pytest.mark.parametrize("classes", [0, 3])
def test_spectral_norm_brings_every_layer_to_1(classes: int) -> None:
    network = discriminator(norm="spectral", num_classes=classes)
    label = torch.tensor([0, 1]) if classes else None
    for _ in range(200):
        network(torch.randn(2, 2, 8, 8), label)
    layers = [one for one in network.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    # the shortcut of the last block is the identity
    assert len(layers) == 3 + 3 + 2 + 1 + (1 if classes else 0)
    for layer in layers:
        largest = float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2))
        assert largest == pytest.approx(1.0, abs=2e-3)


# ------------------------------------------------------------------------------------------------ initialisation


def is_uniform(weight: Tensor, bound: float) -> None:
    """Hold a sample to U(-bound, bound): its ends, and the mean of its squares to five standard errors."""
    weight = weight.detach()
    assert bound * (1 - 20 / weight.numel()) < float(weight.abs().max()) <= bound * (1 + 1e-6)
    assert float(weight.square().mean()) == pytest.approx(bound**2 / 3, rel=5 * math.sqrt(0.8 / weight.numel()))


def test_residual_initialisation_is_glorots_and_twice_its_variance_in_the_branches() -> None:
    for network in (
        generator(widths=(24, 16, 12), latent_dim=30, num_classes=2),
        discriminator(widths=(16, 20, 24), norm="none", num_classes=30),
    ):
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                area = layer.kernel_size[0] ** 2 if isinstance(layer, nn.Conv2d) else 1
                gain = math.sqrt(2.0) if name.endswith((".conv1", ".conv2")) else 1.0
                is_uniform(layer.weight, gain * math.sqrt(6 / (area * (layer.weight.shape[0] + layer.weight.shape[1]))))
                assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("init", ["he", "orthogonal", "glorot_uniform", "glorot_residual", "normal_0.1"])
def test_gains_begin_at_1_and_biases_at_0_whatever_the_class(init: str) -> None:
    network = generator(widths=(200, 100), num_classes=5, init=init)
    for norm in network.modules():
        if isinstance(norm, ConditionalBatchNorm2d):
            gain = norm.gain.weight.detach()
            if init == "normal_0.1":  # as batch norm's gains
                assert float(gain.std()) == pytest.approx(0.1, rel=5 / math.sqrt(2 * gain.numel()))
                assert abs(float(gain.mean()) - 1) < 5 * 0.1 / math.sqrt(gain.numel())
            else:
                assert torch.equal(gain, torch.ones_like(gain))
            assert not norm.bias.weight.any()


def test_an_unknown_initialisation_is_refused_by_the_schema() -> None:
    with pytest.raises(RecipeError, match=r"generator\.init"):
        load_recipe("sngan-resnet-cifar10", ["generator.init=glorot"])


# -------------------------------------------------------------------------------------------- contract and training

GENERATORS: list[dict[str, Any]] = [
    {},
    {"upsample": "bilinear", "activation": "leaky_relu_0.2", "init": "normal_0.02"},
    {"norm": "none", "conditioning": "concat", "init": "he"},
]
DISCRIMINATORS: list[dict[str, Any]] = [
    {},
    {"norm": "none", "pooling": "mean", "shortcut": "activated", "init": "orthogonal"},
    {"norm": "layer", "conditioning": "none", "activation": "leaky_relu_0.2"},
    {"norm": "batch", "output_bias": False, "downsample": (False, True, False)},
]


@pytest.mark.parametrize("options", GENERATORS, ids=str)
def test_the_generator_keeps_the_contract(options: dict[str, Any]) -> None:
    check_generator(ResNetGenerator, image_size=12, latent_dim=6, options={"widths": (6, 4, 4), **options})


@pytest.mark.parametrize("options", DISCRIMINATORS, ids=str)
def test_the_discriminator_keeps_the_contract(options: dict[str, Any]) -> None:
    shape = {"widths": (4, 6, 6), "downsample": (True, True, False)}
    check_discriminator(ResNetDiscriminator, image_size=12, options={**shape, **options})


CLASSES = {
    "data__num_classes": 3,
    "generator": {"name": "resnet", "latent_dim": 4, "widths": [4, 4, 4]},
    "discriminator": {"name": "resnet", "widths": [4, 4], "downsample": [True, True]},
    "objective__name": "hinge",
}


def test_a_conditional_training_resumes_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_runs.quick(monkeypatch)
    data = tiny_runs.labelled()
    straight = tiny_runs.train(tiny_runs.table(**CLASSES), tmp_path / "straight", data)
    shorter = tiny_runs.table(**CLASSES, train__kimg=0.008)
    stopped = tiny_runs.train(shorter, tmp_path / "stopped", data)
    assert stopped.step < straight.step
    resumed = tiny_runs.train(tiny_runs.table(**CLASSES), tmp_path / "stopped", data)
    assert resumed.step == straight.step
    weights = tiny_runs.weights(tmp_path / "straight")
    assert tiny_runs.weights(tmp_path / "stopped") == weights
    assert any("norm1.gain.weight" in name for name in weights)


def test_labels_are_drawn_into_images_of_their_own() -> None:
    network = stirred(generator(num_classes=3)).eval()
    z = torch.randn(1, 4, dtype=torch.float64).expand(3, -1)
    images = network(z, torch.arange(3)).detach().numpy()
    assert min(np.abs(images[one] - images[other]).max() for one, other in ((0, 1), (0, 2), (1, 2))) > 1e-3
