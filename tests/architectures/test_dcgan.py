"""The DCGAN family: sizes, norms, initialisations, classes, dropout and spectral norm are what its arguments say."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganzoo.architectures.dcgan import DCGANDiscriminator, DCGANGenerator, layer_sizes
from ganzoo.architectures.layers import Dropout, dropout_draws
from ganzoo.randomness import Draws, Stream

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def generator(**changes: Any) -> DCGANGenerator:
    arguments: dict[str, Any] = {"image_size": 8, "channels": 2, "latent_dim": 4, "widths": (5, 3), "kernel_size": 3}
    return DCGANGenerator(**{**arguments, **changes})


def discriminator(**changes: Any) -> DCGANDiscriminator:
    arguments: dict[str, Any] = {"image_size": 8, "channels": 2, "widths": (3, 5), "kernel_size": 3}
    return DCGANDiscriminator(**{**arguments, **changes})


def linear_layers(network: nn.Module) -> list[nn.Linear | nn.Conv2d | nn.ConvTranspose2d]:
    return [one for one in network.modules() if isinstance(one, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]


# ------------------------------------------------------------------------------------------------ sizes

SIZES = [(size, kernel) for size in (28, 32, 48, 64, 96, 128) for kernel in (3, 4, 5)]
ODD_SIZES = [(size, kernel) for size in (7, 9, 13, 27, 31, 33, 65) for kernel in (3, 5)]


@pytest.mark.parametrize(("size", "kernel"), SIZES + ODD_SIZES)
def test_both_networks_reach_every_size(size: int, kernel: int) -> None:
    makes = generator(image_size=size, kernel_size=kernel)
    judges = discriminator(image_size=size, kernel_size=kernel)
    halves = [size, math.ceil(size / 2), math.ceil(math.ceil(size / 2) / 2)]
    image = makes(torch.randn(2, 4))
    assert image.shape == (2, 2, size, size)
    assert makes.base == (5, halves[2], halves[2])
    assert [one.shape[-1] for one in judges.features(image).values()] == halves[1:]
    assert judges(image).shape == (2,)


ADJOINTS = [(*one, stride) for one in (*ODD_SIZES[:4], (8, 3), (8, 5), (28, 5)) for stride in (1, 2)]


@pytest.mark.parametrize(("size", "kernel", "stride"), [*ADJOINTS, (8, 4, 2), (28, 4, 2)])
def test_a_generators_layer_is_the_adjoint_of_the_discriminators(size: int, kernel: int, stride: int) -> None:
    shape: dict[str, Any] = {"image_size": size, "kernel_size": kernel, "strides": (stride,), "widths": (3,)}
    up, down = generator(**shape).double().output, discriminator(**shape).double().layers[0].conv
    assert isinstance(down, nn.Conv2d)
    up.weight = down.weight
    x = torch.randn(1, 2, size, size, dtype=torch.float64)
    y = torch.randn(1, 3, *[math.ceil(size / stride)] * 2, dtype=torch.float64)
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum(), rtol=1e-12, atol=1e-12)


def test_layer_sizes_halve_and_round_up() -> None:
    assert layer_sizes(28, [5, 5, 3], [2, 2, 2]) == [28, 14, 7, 4]
    assert layer_sizes(32, [3] * 6, [1, 2, 1, 2, 1, 2]) == [32, 32, 16, 16, 8, 8, 4]


@pytest.mark.parametrize(
    ("size", "layers", "why"),
    [
        (30, 2, r"an odd side \(=15\); use kernel_size 3 or 5, or image_size 28 or 32"),
        (33, 1, r"an odd side \(=33\); use kernel_size 3 or 5, or image_size 32 or 34"),
        (5, 3, r"an odd side \(=5\); use kernel_size 3 or 5, or image_size 8 or 16"),
    ],
)
def test_kernel_4_refuses_an_odd_side_and_says_which_sizes_would_do(size: int, layers: int, why: str) -> None:
    widths = (2,) * layers
    for network in (generator, discriminator):
        with pytest.raises(ValueError, match=rf"image_size \(={size}\) cannot be reached: .* {why}"):
            network(image_size=size, kernel_size=4, widths=widths)
        for offered in why.rsplit("image_size ", 1)[1].split(" or "):
            assert network(image_size=int(offered), kernel_size=4, widths=widths)
        for kernel in (3, 5):
            assert network(image_size=size, kernel_size=kernel, widths=widths)


def test_kernel_4_refuses_stride_1_and_says_what_would_do() -> None:
    for network in (generator, discriminator):
        with pytest.raises(
            ValueError, match=r"kernel_size 4 cannot be centred on a stride of 1; use kernel_size 3 or 5"
        ):
            network(kernel_size=(4, 4), strides=(1, 2))
        assert network(kernel_size=(3, 4), strides=(1, 2))


@pytest.mark.parametrize("argument", ["kernel_size", "strides"])
def test_a_list_of_the_wrong_length_is_refused(argument: str) -> None:
    value = (3, 3, 3) if argument == "kernel_size" else (2, 2, 2)
    for network in (generator, discriminator):
        with pytest.raises(ValueError, match=rf"{argument} \(=.*\) must have one entry for each of the 2 layers"):
            network(**{argument: value})


def test_biases_may_be_said_layer_by_layer_in_the_order_of_the_data() -> None:
    makes = generator(bias=(True, False, True, False), hidden=(6,))
    judges = discriminator(bias=(True, False, False, True), hidden=(6,))
    assert [name for name, _ in makes.named_parameters() if name.endswith("bias") and "norm" not in name] == [
        "hidden.0.linear.bias",
        "layers.0.conv.bias",
    ]
    assert [name for name, _ in judges.named_parameters() if name.endswith("bias") and "norm" not in name] == [
        "layers.0.conv.bias",
        "output.bias",
    ]


@pytest.mark.parametrize("bias", [True, False])
def test_the_same_bias_for_every_layer_is_the_same_network(bias: bool) -> None:
    for network in (generator, discriminator):
        torch.manual_seed(0)
        one = network(bias=bias).state_dict()
        torch.manual_seed(0)
        each = network(bias=(bias,) * 3).state_dict()
        assert list(one) == list(each)
        assert all(torch.equal(one[name], each[name]) for name in one)


def test_biases_for_another_number_of_layers_are_refused_with_their_order() -> None:
    with pytest.raises(
        ValueError, match=r"bias \(=\[True\]\) must have one entry for each of the 3 layers with weights: hi"
    ):
        generator(bias=(True,))
    with pytest.raises(ValueError, match=r"the 4 layers with weights: convolutions, hidden, last layer"):
        discriminator(bias=(True,), hidden=(6,))


def test_a_convolution_as_head_cannot_follow_dense_layers() -> None:
    with pytest.raises(
        ValueError, match=r'head = "conv" cannot follow dense layers \(hidden=\(4,\)\); use head = "dense"'
    ):
        discriminator(head="conv", hidden=(4,))


# ------------------------------------------------------------------------------------------------ same functions


def test_a_dense_projection_and_a_transposed_convolution_are_the_same_function() -> None:
    dense, conv = (generator(projection=kind, project_norm="channel", bias=True) for kind in ("dense", "conv"))
    state = dense.state_dict()
    state["project.weight"] = state["project.weight"].T.reshape(4, 5, 2, 2)
    state["project.bias"] = torch.randn(5)
    conv.load_state_dict(state)
    with torch.no_grad():
        dense.get_parameter("project.bias").copy_(state["project.bias"].repeat_interleave(4))
    z = torch.randn(3, 4)
    torch.testing.assert_close(conv(z), dense(z))


def test_a_dense_head_and_a_convolution_over_all_are_the_same_function() -> None:
    dense, conv = (discriminator(head=kind, bias=True) for kind in ("dense", "conv"))
    state = dense.state_dict()
    state["output.weight"] = state["output.weight"].view(1, 5, 2, 2)
    conv.load_state_dict(state)
    image = torch.randn(3, 2, 8, 8)
    torch.testing.assert_close(conv(image), dense(image))


@pytest.mark.parametrize("changes", [{}, {"num_classes": 3}, {"num_classes": 3, "conditioning": "projection"}])
def test_features_are_what_forward_computes_on_its_way(changes: dict[str, Any]) -> None:
    network = discriminator(norm="none", bias=True, **changes)
    seen: list[Tensor] = []
    for layer in network.layers:
        layer.register_forward_hook(lambda _, __, out: seen.append(out))
    image = torch.randn(4, 2, 8, 8)
    label = torch.tensor([0, 2, 1, 1]) if changes else None
    network(image, label)
    on_the_way, seen = seen, []
    found = network.features(image, label)
    assert list(found) == ["layers.0", "layers.1"]
    for one, other in zip(found.values(), on_the_way, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert on_the_way[0].shape == (4, 3, 4, 4)


# ------------------------------------------------------------------------------------------------ batch norm


def normed_projection(**changes: Any) -> Tensor:
    """Return what comes out of the projection's norm: (batch, width, n, n)."""
    network = generator(norm_affine=False, norm_eps=1e-12, init="he", **changes)
    seen: list[Tensor] = []
    network.project_norm.register_forward_hook(lambda _, __, out: seen.append(out))
    network(torch.randn(64, 4))
    return seen[0].view(64, 5, 2, 2)


def test_the_projections_norm_per_unit_takes_each_unit_by_itself() -> None:
    out = normed_projection(project_norm="unit")
    torch.testing.assert_close(out.mean(0), torch.zeros(5, 2, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.var(0, correction=0), torch.ones(5, 2, 2), rtol=1e-4, atol=0)


def test_the_projections_norm_per_channel_takes_all_units_of_a_channel_together() -> None:
    out = normed_projection(project_norm="channel")
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.var((0, 2, 3), correction=0), torch.ones(5), rtol=1e-4, atol=0)
    assert (out.var(0, correction=0) - 1).abs().max() > 0.05  # a unit alone is not normed


def batch_norms(network: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d]:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return {name: one for name, one in network.named_modules() if isinstance(one, kinds)}


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_everywhere_but_at_the_generators_output_and_the_discriminators_first_layer(affine: bool) -> None:
    changes: dict[str, Any] = {"hidden": (6,), "norm_affine": affine, "norm_eps": 0.01}
    makes, judges = batch_norms(generator(**changes)), batch_norms(discriminator(**changes))
    assert list(makes) == ["hidden.0.norm", "project_norm", "layers.0.norm"]
    assert list(judges) == ["layers.1.norm", "hidden.0.norm"]
    for norm in (*makes.values(), *judges.values()):
        assert norm.affine is affine
        assert (len(list(norm.parameters())) == 2) is affine
        assert norm.eps == 0.01


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_other_norms_have_no_batch_norm(norm: str) -> None:
    assert not batch_norms(generator(norm=norm, hidden=(4,)))
    assert not batch_norms(discriminator(norm=norm, hidden=(4,)))


@pytest.mark.parametrize("changes", [{}, {"widths": (3,)}, {"widths": (3,), "hidden": (4,)}, {"dropout": 0.5}])
@pytest.mark.parametrize("norm", ["batch", "none", "spectral"])
def test_per_sample_says_whether_a_logit_hangs_on_batch_mates(norm: str, changes: dict[str, Any]) -> None:
    network = discriminator(norm=norm, init="he", **changes).double()
    image = torch.randn(4, 2, 8, 8, dtype=torch.float64)
    other = torch.cat((image[:1], torch.randn(3, 2, 8, 8, dtype=torch.float64)))
    draws = Draws(0, np.arange(4), CPU, torch.float64)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    logits = []
    for batch in (image, other):
        network.load_state_dict(state)
        with dropout_draws(network, draws, Stream.DROPOUT_REAL):
            logits.append(network(batch))
    alone = bool((logits[0][0] - logits[1][0]).abs() < 1e-12)
    assert network.per_sample is alone
    assert network.per_sample is not bool(batch_norms(network))
    assert (logits[0][1:] - logits[1][1:]).abs().min() > 1e-6


# ------------------------------------------------------------------------------------------------ initialisation


def deviation_is(weight: Tensor, expected: float) -> None:
    """Hold a sample's mean and standard deviation to a normal distribution's, to five standard errors."""
    weight, count = weight.detach(), weight.numel()
    assert abs(float(weight.mean())) < 5 * expected / math.sqrt(count)
    assert float(weight.std()) == pytest.approx(expected, rel=5 / math.sqrt(2 * count))


WIDE: dict[str, Any] = {"hidden": (50,), "bias": True}


def test_normal_initialisation_is_the_authors() -> None:
    for network in (generator(widths=(64, 32), **WIDE), discriminator(widths=(32, 64), **WIDE)):
        for layer in linear_layers(network):
            deviation_is(layer.weight, 0.02)
            assert layer.bias is not None
            assert layer.bias.abs().max() == 0
        for norm in batch_norms(network).values():
            deviation_is(norm.weight - 1.0, 0.02)
            assert norm.bias.abs().max() == 0
    deviation_is(generator(widths=(64, 32), init="normal_0.1").layers[0].get_parameter("conv.weight"), 0.1)


def inputs_an_output(layer: nn.Module, x: Tensor) -> float:
    """Return how many inputs meet in one output on average, away from the border, counted by ones."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0 if parameter.dim() > 1 else 0.0)
        out = layer(x)
    if out.dim() == 2 or x.shape[-1] == 1:
        return float(out.mean())
    middle = out.shape[-1] // 4 * 2
    return float(out[:, :, middle : middle + 4, middle : middle + 4].mean())


@pytest.mark.parametrize("activation", ["relu", "leaky_relu_0.2"])
@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_he_initialisation_keeps_to_the_inputs_that_meet_in_an_output(kernel: int, activation: str) -> None:
    slope = 0.0 if activation == "relu" else 0.2
    changes: dict[str, Any] = {"init": "he", "kernel_size": kernel, "activation": activation, "image_size": 64}
    for network in (
        generator(widths=(24, 16), latent_dim=20, hidden=(30,), **changes),
        generator(widths=(24, 16), latent_dim=20, projection="conv", **{**changes, "image_size": 16}),
        discriminator(widths=(16, 24), hidden=(20,), **changes),
    ):
        for layer in linear_layers(network):
            weight = layer.weight.detach().clone()
            if isinstance(layer, nn.Linear):
                x = torch.ones(1, layer.in_features)
            elif isinstance(layer, nn.ConvTranspose2d) and layer is getattr(network, "project", None):
                x = torch.ones(1, layer.in_channels, 1, 1)
            else:
                x = torch.ones(1, layer.in_channels, 32, 32)
            met = inputs_an_output(layer, x)
            deviation_is(weight, math.sqrt(2 / ((1 + slope**2) * met)))


def test_orthogonal_initialisation_is_orthonormal_times_the_gain() -> None:
    gain_squared = 2 / (1 + 0.2**2)
    changes: dict[str, Any] = {"init": "orthogonal", "activation": "leaky_relu_0.2", "hidden": (7,)}
    for network in (generator(**changes), discriminator(**changes), generator(**{**changes, "projection": "conv"})):
        for layer in linear_layers(network):
            matrix = layer.weight.detach().flatten(1)
            product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
            torch.testing.assert_close(product, gain_squared * torch.eye(len(product)), rtol=1e-4, atol=1e-5)


def test_glorot_initialisation_is_uniform_between_keras_bounds() -> None:
    for network in (
        generator(widths=(32, 24), hidden=(40,), init="glorot_uniform"),
        discriminator(widths=(24, 32), hidden=(40,), init="glorot_uniform"),
    ):
        for layer in linear_layers(network):
            area = 1 if isinstance(layer, nn.Linear) else math.prod(layer.kernel_size)
            a = math.sqrt(6 / (area * (layer.weight.shape[0] + layer.weight.shape[1])))
            weight = layer.weight.detach()
            assert weight.abs().max() <= a * (1 + 1e-6)
            assert float(weight.abs().max()) > a * (1 - 20 / weight.numel())
            # The variance of the squares of U(-a, a) is 4 a⁴ / 45.
            assert float(weight.square().mean()) == pytest.approx(a**2 / 3, rel=5 * math.sqrt(0.8 / weight.numel()))
    for norm in batch_norms(generator(init="glorot_uniform")).values():
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))


# ------------------------------------------------------------------------------------------------ dropout


def test_dropout_masks_hang_on_the_samples_number_alone() -> None:
    network = discriminator(norm="none", dropout=0.5, init="he")
    image = torch.randn(3, 2, 8, 8)

    def logits(numbers: list[int], stream: int, rows: list[int]) -> Tensor:
        draws = Draws(7, np.array(numbers), CPU, torch.float32)
        with dropout_draws(network, draws, stream):
            out: Tensor = network(image[rows])
        return out

    together = logits([5, 9, 2**40], Stream.DROPOUT_REAL, [0, 1, 2])
    torch.testing.assert_close(logits([9], Stream.DROPOUT_REAL, [1]), together[1:2])
    torch.testing.assert_close(logits([2**40, 5], Stream.DROPOUT_REAL, [2, 0]), together[[2, 0]])
    assert (logits([6, 10, 11], Stream.DROPOUT_REAL, [0, 1, 2]) - together).abs().min() > 1e-6
    assert (logits([5, 9, 2**40], Stream.DROPOUT_FAKE, [0, 1, 2]) - together).abs().min() > 1e-6


def test_dropout_drops_its_share_and_scales_the_rest() -> None:
    layer = Dropout(0.3)
    ones = torch.ones(8, 5, 20, 20)
    with dropout_draws(layer, Draws(1, np.arange(8), CPU, torch.float32), Stream.DROPOUT_FAKE):
        out = layer(ones)
    kept = out > 0
    torch.testing.assert_close(out[kept].unique(), torch.tensor([1 / 0.7]))
    assert float(kept.double().mean()) == pytest.approx(0.7, abs=5 * math.sqrt(0.21 / kept.numel()))
    for one, other in itertools.combinations(kept.flatten(1), 2):  # no two images have one mask
        assert float((one == other).double().mean()) == pytest.approx(0.58, abs=5 * math.sqrt(0.25 / one.numel()))
    assert layer.eval()(ones) is ones


def test_each_dropout_layer_has_masks_of_its_own_and_forgets_them_afterwards() -> None:
    network = nn.Sequential(Dropout(0.5), Dropout(0.5))
    ones = torch.ones(2, 4000)
    with dropout_draws(network, Draws(1, np.arange(2), CPU, torch.float32), Stream.DROPOUT_REAL):
        first, both = network[0](ones) > 0, network(ones) > 0
    assert float(first.double().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(both.double().mean()) == pytest.approx(0.25, abs=0.03)
    torch.manual_seed(3)
    free = network[0](ones)
    torch.manual_seed(3)
    torch.testing.assert_close(free, nn.functional.dropout(ones, 0.5))


# ------------------------------------------------------------------------------------------------ spectral norm


@pytest.mark.parametrize("changes", [{}, {"hidden": (4,)}, {"num_classes": 3}])
@pytest.mark.parametrize("side", ["generator", "discriminator"])
def test_spectral_norm_brings_the_largest_singular_value_of_every_layer_to_1(
    side: str, changes: dict[str, Any]
) -> None:
    label = torch.tensor([0, 2]) if "num_classes" in changes else None
    network: nn.Module
    if side == "generator":
        network, x = generator(norm="spectral", init="he", **changes).double(), torch.randn(2, 4).double()
    else:
        more = {"conditioning": "projection"} if "num_classes" in changes else {}
        network = discriminator(norm="spectral", init="he", **changes, **more).double()
        x = torch.randn(2, 2, 8, 8).double()
    with torch.no_grad():
        for _ in range(300):
            network(x, label)
    network.eval()
    for layer in linear_layers(network):
        outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        matrix = layer.weight.movedim(outputs, 0).flatten(1)
        assert float(torch.linalg.matrix_norm(matrix, 2).detach()) == pytest.approx(1.0, abs=1e-3)


def test_spectral_norm_iterates_in_training_only() -> None:
    network = discriminator(norm="spectral")
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert len(before) == 2 * len(linear_layers(network))
    network.eval()(torch.randn(2, 2, 8, 8))
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    network.train()(torch.randn(2, 2, 8, 8))
    assert any(not torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


# ------------------------------------------------------------------------------------------------ classes


@pytest.mark.parametrize("conditioning", ["concat", "projection"])
def test_labels_are_asked_for_exactly_where_the_network_knows_classes(conditioning: str) -> None:
    image, z, label = torch.randn(2, 2, 8, 8), torch.randn(2, 4), torch.tensor([0, 1])
    knows = discriminator(num_classes=3, conditioning=conditioning)
    for call in (lambda: generator(num_classes=3)(z), lambda: knows(image), lambda: knows.features(image)):
        with pytest.raises(ValueError, match="draws one of 3 classes and needs labels"):
            call()
    for call in (
        lambda: generator()(z, label),
        lambda: discriminator()(image, label),
        lambda: discriminator().features(image, label),
    ):
        with pytest.raises(ValueError, match="knows no classes, but was given labels"):
            call()


@pytest.mark.parametrize("hidden", [(), (6,)])
def test_without_conditioning_labels_are_accepted_and_ignored(hidden: tuple[int, ...]) -> None:
    image, label = torch.randn(3, 2, 8, 8), torch.arange(3)
    judges = discriminator(num_classes=3, conditioning="none", hidden=hidden, norm="none")
    assert torch.equal(judges(image, label), judges(image))
    assert torch.equal(judges(image, label), judges(image, label.roll(1)))
    assert judges.features(image, label).keys() == judges.features(image).keys()
    alone = discriminator(hidden=hidden, norm="none")
    assert {name: one.shape for name, one in judges.state_dict().items()} == {
        name: one.shape for name, one in alone.state_dict().items()
    }


def test_concatenation_brings_the_class_to_every_layer_and_only_its_own_column() -> None:
    changes: dict[str, Any] = {"num_classes": 3, "hidden": (6,), "norm": "none", "init": "he"}
    label = torch.tensor([1, 1])
    makes, judges = generator(**changes), discriminator(**changes)
    judges(makes(torch.randn(2, 4), label), label).sum().backward()
    layers = linear_layers(makes) + linear_layers(judges)
    assert len(layers) == 2 * 4
    for layer in layers:
        gradient = layer.weight.grad
        assert gradient is not None
        of_classes = gradient.movedim(0 if isinstance(layer, nn.ConvTranspose2d) else 1, 0)[-3:].flatten(1).abs().sum(1)
        assert of_classes[1] > 0
        assert of_classes[[0, 2]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("changes", [{}, {"head": "conv"}, {"hidden": (4,)}])
def test_projection_adds_the_inner_product_of_the_class_and_the_last_features(changes: dict[str, Any]) -> None:
    network = discriminator(num_classes=3, conditioning="projection", norm="none", init="he", **changes).double()
    image = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    zeros, twos = torch.zeros(2, dtype=torch.int64), torch.full((2,), 2)
    features = network.features(image, zeros)["layers.1"]
    pooled = features.sum((2, 3))
    if "hidden" in changes:
        pooled = nn.functional.leaky_relu(features.flatten(1) @ network.hidden[0].get_parameter("linear.weight").T, 0.2)
    assert network.embedding is not None
    embedding = network.embedding.weight.T  # (classes, width)
    torch.testing.assert_close(
        network(image, twos) - network(image, zeros), pooled @ (embedding[2] - embedding[0]), rtol=1e-10, atol=1e-12
    )
