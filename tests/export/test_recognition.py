"""Recognising networks by the names and shapes of their tensors, however they are wrapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_nets import TutorialDiscriminator, TutorialGenerator, prefixed, seasoned
from tiny_runs import recipe as tiny_recipe
from torch import Tensor, nn

from ganzoo.building import build_discriminator, build_generator, load_recipe
from ganzoo.errors import WeightsError
from ganzoo.export.conversion.evidence import Evidence, look
from ganzoo.export.conversion.fitting import fitting_recipes
from ganzoo.export.conversion.foreign import Checkpoint
from ganzoo.export.conversion.planning import _recipe
from ganzoo.export.conversion.recognition import Recognised, find_networks, recognise
from ganzoo.recipes import list_recipes

State = dict[str, Tensor]


def checkpoint(value: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint of nested dictionaries that was never in a file."""
    tensors: dict[tuple[str, ...], Tensor] = {}
    containers = {()}

    def add(at: tuple[str, ...], inside: Mapping[str, Any]) -> None:
        containers.add(at)
        for name, one in inside.items():
            path = (*at, *name.split("."))
            if isinstance(one, Tensor):
                tensors[path] = one
            elif isinstance(one, Mapping):
                add(path, one)

    add((), value)
    return Checkpoint(Path("a.pt"), "torch zip", tensors, frozenset(containers))


def states(**arguments: Any) -> tuple[State, State]:
    """State dicts of the tutorial's pair."""
    generator = TutorialGenerator(**arguments)
    for unknown in ("latent_dim", "norm", "base", "slope"):
        arguments.pop(unknown, None)
    return generator.state_dict(), TutorialDiscriminator(**arguments).state_dict()


# ------------------------------------------------------------------------------------------------ the tutorial's


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("width", "latent_dim"), [(3, 7), (8, 1), (2, 100)])
def test_the_tutorials_pair_is_recognised_at_any_size(
    size: int, channels: int, bias: bool, width: int, latent_dim: int
) -> None:
    arguments = {"size": size, "channels": channels, "bias": bias, "width": width}
    drawn, judged = states(**arguments, latent_dim=latent_dim)
    found = recognise(checkpoint({"G": drawn, "D": judged}))
    widths = [width << index for index in range((size // 4).bit_length() - 1)]
    common = {"name": "dcgan", "kernel_size": 4, "hidden": [], "norm": "batch", "norm_affine": True, "bias": bias}
    assert found.generator.architecture.title == "the PyTorch tutorial's DCGAN"
    assert found.reading.image_size == size
    assert (found.generator.network.channels, found.generator.network.latent_dim) == (channels, latent_dim)
    assert found.generator.network.section(found.reading, "relu") == common | {
        "widths": widths[::-1],
        "activation": "relu",
        "projection": "conv",
        "project_norm": "channel",
    }
    assert found.discriminator is not None
    assert found.discriminator_reading is not None
    assert found.discriminator.network.section(found.discriminator_reading, "leaky_relu_0.2") == common | {
        "widths": widths,
        "activation": "leaky_relu_0.2",
        "head": "conv",
    }


def test_a_first_square_of_seven_makes_mnists_images() -> None:
    found = recognise(checkpoint(TutorialGenerator(size=28, base=7, channels=1).state_dict()))
    assert found.reading.image_size == 28
    assert found.generator.network.widths == (6, 3)


def test_odd_sides_are_read_where_they_give_a_usual_size() -> None:
    # 4 → 7 by a kernel of 3 and stride 2, then 14 and 28: a well-known net for MNIST.
    layers = [nn.ConvTranspose2d(5, 8, 4, 1, 0), nn.ConvTranspose2d(8, 6, 3, 2, 1)]
    layers += [nn.ConvTranspose2d(6, 4, 4, 2, 1), nn.ConvTranspose2d(4, 1, 4, 2, 1)]
    network = nn.Sequential(*layers)
    found = recognise(checkpoint(network.state_dict()))
    assert found.reading.image_size == network(torch.zeros(1, 5, 1, 1)).shape[-1] == 28
    assert found.reading.strides == (2, 2, 2)


def test_what_shapes_leave_open_is_said() -> None:
    network = nn.Sequential(
        nn.ConvTranspose2d(5, 8, 4), *(nn.ConvTranspose2d(8 >> n, 4 >> n, 5, 2, 2, 1) for n in range(3))
    )
    found = recognise(checkpoint(network.state_dict()))
    assert found.reading.image_size == 28
    assert any("images of 28 pixels; the shapes would also fit 32 (--recipe" in note for note in found.notes)


def test_a_discriminator_decides_between_image_sizes() -> None:
    drawing = nn.Sequential(
        nn.ConvTranspose2d(5, 8, 4), *(nn.ConvTranspose2d(8 >> n, 4 >> n, 5, 2, 2, 1) for n in range(3))
    )
    judging = nn.Sequential(nn.Conv2d(1, 2, 4, 2, 1), nn.Conv2d(2, 4, 4, 2, 1), nn.Conv2d(4, 1, 8))
    found = recognise(checkpoint({"G": drawing.state_dict(), "D": judging.state_dict()}))
    assert found.reading.image_size == 32
    assert found.discriminator is not None


def test_a_discriminator_of_other_images_is_left_out_and_that_is_said() -> None:
    found = recognise(checkpoint({"G": states(size=32)[0], "D": states(size=16, channels=1)[1]}))
    assert found.discriminator is None
    assert any(
        note.startswith("Left out: the discriminator (D), which judges images of 1 channel") for note in found.notes
    )


# ------------------------------------------------------------------------------------------------ wrappings

Wrap = Callable[[State, State], Mapping[str, Any]]
WRAPPINGS: dict[str, tuple[Wrap, str, str]] = {
    "bare": (lambda g, d: g, "the file itself", ""),
    "state_dict": (lambda g, d: {"epoch": 1, "state_dict": g}, "state_dict", ""),
    "two dictionaries": (lambda g, d: {"netG": g, "netD": d}, "netG", ""),
    "Lightning": (
        lambda g, d: {"state_dict": {**prefixed(g, "generator."), **prefixed(d, "discriminator.")}},
        "state_dict",
        "generator.",
    ),
    "parallel": (lambda g, d: {"G": prefixed(g, "module."), "D": prefixed(d, "module.")}, "G", "module."),
    "compiled": (lambda g, d: prefixed(g, "_orig_mod."), "the file itself", "_orig_mod."),
    "compiled and parallel": (
        lambda g, d: {"models": {"generator": {"state_dict": prefixed(g, "_orig_mod.module.")}}},
        "models → generator → state_dict",
        "_orig_mod.module.",
    ),
    "modules": (
        lambda g, d: {"model": {**prefixed(g, "model.netG."), **prefixed(d, "model.netD.")}},
        "model",
        "model.netG.",
    ),
    "discriminator first": (lambda g, d: {"a": d, "b": g}, "b", ""),
}

WITH_DISCRIMINATOR = ("two dictionaries", "Lightning", "parallel", "modules", "discriminator first")


@pytest.mark.parametrize("kind", WRAPPINGS)
def test_a_network_is_found_wherever_it_lies(kind: str) -> None:
    wrap, place, prefix = WRAPPINGS[kind]
    drawn, judged = states()
    value = wrap(drawn, judged)
    found = recognise(checkpoint(value))
    assert (" → ".join(found.generator.place) or "the file itself") == place
    assert "".join(f"{part}." for part in found.generator.prefix) == prefix
    assert (found.discriminator is not None) == (kind in WITH_DISCRIMINATOR)
    own = found.generator.network.state()
    assert torch.equal(own["project.weight"], drawn["main.0.weight"])
    assert torch.equal(own["output.weight"], drawn[list(drawn)[-1]])


AVERAGES: dict[str, Callable[[State, State], Mapping[str, Any]]] = {
    "g_ema": lambda raw, ema: {"g": raw, "g_ema": ema},
    "params_ema": lambda raw, ema: {"params": raw, "params_ema": ema},
    "ema": lambda raw, ema: {"state_dict": raw, "ema": {"model": ema}},
    "netG_ema.": lambda raw, ema: {"state_dict": {**prefixed(raw, "netG."), **prefixed(ema, "netG_ema.")}},
    "ema_model.": lambda raw, ema: {
        **prefixed(raw, "online_model."),
        **prefixed(ema, "ema_model."),
        "step": raw["main.0.weight"].sum(),
    },
    "averaged": lambda raw, ema: {
        "netG": raw,
        "averaged": {"n_averaged": ema["main.0.weight"].sum(), **prefixed(ema, "module.")},
    },
    "g_running": lambda raw, ema: {"generator": raw, "g_running": ema},
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_of_an_average_and_raw_weights_the_average_is_taken_and_that_is_said(kind: str) -> None:
    raw, ema = states()[0], states()[0]
    found = recognise(checkpoint(AVERAGES[kind](raw, ema)))
    assert found.generator.ema
    assert torch.equal(found.generator.network.state()["project.weight"], ema["main.0.weight"])
    assert any(note.startswith("Taken: the exponential moving average") for note in found.notes)


def test_an_average_that_is_no_network_is_left_out_and_that_is_said() -> None:
    raw = states()[0]
    squeezed = {name.replace(".", ""): tensor for name, tensor in raw.items()}
    found = recognise(checkpoint({"state_dict": raw, "model_ema": squeezed}))
    assert not found.generator.ema
    assert any(note.startswith("Left out: model_ema, by the name an average") for note in found.notes)


def test_two_generators_are_refused_with_their_places() -> None:
    with pytest.raises(WeightsError, match=r"a\.pt holds 2 generators: netG_A, netG_B\. Save the one"):
        recognise(checkpoint({"netG_A": states()[0], "netG_B": states()[0]}))


# ------------------------------------------------------------------------------------------------ other makes


class DefinedApart(nn.Module):
    """All convolutions first, then all norms, as many write it."""

    def __init__(self) -> None:
        super().__init__()
        self.deconv1, self.deconv2 = nn.ConvTranspose2d(5, 6, 4), nn.ConvTranspose2d(6, 6, 4, 2, 1)
        self.deconv3 = nn.ConvTranspose2d(6, 3, 4, 2, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)


def test_norms_that_were_defined_apart_go_to_their_layers_in_order() -> None:
    network = DefinedApart()
    network.bn1.weight.data.fill_(0.1)
    state = recognise(checkpoint(network.state_dict())).generator.network.state()
    assert state["project_norm.weight"].tolist() == [pytest.approx(0.1)] * 6
    assert state["layers.0.norm.weight"].tolist() == [1.0] * 6


def test_an_order_of_names_that_is_not_that_of_the_layers_is_put_right() -> None:
    drawn, _ = states(size=256, width=1)  # layers 0 to 18, sorted as text by safetensors
    found = recognise(checkpoint(dict(sorted(drawn.items()))))
    assert found.reading.image_size == 256
    assert found.generator.network.widths == (32, 16, 8, 4, 2, 1)


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("size", [16, 64])
def test_torchgans_shapes_are_recognised(size: int, batchnorm: bool) -> None:
    """Its names and shapes, written out: each layer in a Sequential of its own, a bias where no norm follows."""
    steps, drawn, judged = size.bit_length() - 4, {}, {}
    widths = [2 << index for index in range(steps + 1)]

    def layer(state: State, name: str, shape: tuple[int, ...], out: int, norm: bool, bias: bool) -> None:
        state[f"{name}.0.weight"] = torch.randn(shape)
        if bias:
            state[f"{name}.0.bias"] = torch.randn(out)
        if norm:
            state.update({f"{name}.1.{key}": value for key, value in nn.BatchNorm2d(out).state_dict().items()})

    for index, (into, out) in enumerate(zip([9, *widths[::-1]], widths[::-1], strict=False)):
        layer(drawn, f"model.{index}", (into, out, 4, 4), out, batchnorm, not batchnorm)
    layer(drawn, f"model.{steps + 1}", (widths[0], 3, 4, 4), 3, False, True)
    layer(judged, "disc", (1, widths[-1], 4, 4), 1, False, not batchnorm)
    for index, (into, out) in enumerate(zip([3, *widths], widths, strict=False)):
        layer(judged, f"model.{index}", (out, into, 4, 4), out, batchnorm and index > 0, not (batchnorm and index))
    found = recognise(checkpoint({"generator": drawn, "discriminator": judged}))
    assert found.discriminator is not None
    for one in (found.generator, found.discriminator):
        assert one.architecture.title == "torchgan's DCGAN"
        assert one.network.norm == ("batch" if batchnorm else "none")
    assert found.reading.image_size == size
    bias = found.generator.network.section(found.reading, "relu")["bias"]
    assert bias == ([False] * (steps + 1) + [True] if batchnorm else True)


# ------------------------------------------------------------------------------------------------ our own


def of_the_family() -> list[str]:
    """Names of the recipes whose nets are both of the DCGAN family."""
    sections = {name: (load_recipe(name).generator, load_recipe(name).discriminator) for name in list_recipes()}
    return [name for name, pair in sections.items() if {one.name for one in pair} == {"dcgan"}]


@pytest.mark.parametrize("name", of_the_family())
def test_every_recipes_weights_are_known_by_their_names_and_shapes(name: str) -> None:
    recipe = load_recipe(name)
    with torch.device("meta"):
        drawn, judged = build_generator(recipe).state_dict(), build_discriminator(recipe).state_dict()
    for state, role in ((drawn, "generator"), (judged, "discriminator")):
        (found,), _ = find_networks(checkpoint(state))
        assert found.role == role
        assert {key: tensor.shape for key, tensor in found.network.state().items()} == {
            key: tensor.shape for key, tensor in state.items()
        }
        assert found.network.num_classes == recipe.data.num_classes
    (found,), _ = find_networks(checkpoint(drawn))
    assert recipe.name in [one.name for one in fitting_recipes(found)]


PER_UNIT, CONV_ENDS = (
    {"generator__project_norm": "unit"},
    {"generator__projection": "conv", "discriminator__head": "conv"},
)
OWN: dict[str, dict[str, Any]] = {
    "dense": {},
    "convolutions": CONV_ENDS,
    "hidden": {"generator__hidden": [6, 5], "discriminator__hidden": [5]},
    "per unit": PER_UNIT,
    "per unit of a convolution": PER_UNIT | CONV_ENDS,
    "bare norms": {"generator__norm_affine": False, "discriminator__norm_affine": False},
    "no norms": {"generator__norm": "none", "discriminator__norm": "none", "generator__project_norm": "unit"},
    "spectral": CONV_ENDS | {"generator__norm": "spectral", "discriminator__norm": "spectral"},
    "biases": {"generator__bias": True, "discriminator__bias": True},
    "some biases": {"generator__bias": [True, False, True], "discriminator__bias": [False, True, True]},
    "one layer": {"generator__widths": [4], "discriminator__widths": [4], "discriminator__norm": "none"},
    "classes": {"data__num_classes": 3},
    "classes and convolutions": CONV_ENDS | {"data__num_classes": 3},
    "classes and hidden": {"data__num_classes": 3, "generator__hidden": [6], "discriminator__hidden": [5]},
    "classes by projection": {"data__num_classes": 3, "discriminator__conditioning": "projection"},
}


@pytest.mark.parametrize("kind", OWN)
def test_our_own_networks_are_read_back_from_names_and_shapes(kind: str) -> None:
    common = {"data__image_size": 16, "data__channels": 3, "generator__kernel_size": 4, "discriminator__kernel_size": 4}
    defaults = {"generator__project_norm": "channel", "discriminator__norm_affine": True}
    recipe = tiny_recipe(**common | defaults | OWN[kind])
    pair = {"G": build_generator(recipe).state_dict(), "D": build_discriminator(recipe).state_dict()}
    again = _recipe(recognise(checkpoint(pair)), "normal", "relu")
    for network in ("generator", "discriminator"):
        before, after = (getattr(one, network).model_dump(exclude={"init"}) for one in (recipe, again))
        if kind == "spectral":
            before |= {"project_norm": after.get("project_norm")} if network == "generator" else {}
        assert _plain(after) == _plain(before)
    assert again.data == recipe.data.model_copy(update={"source": "unknown"})


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    """A network's table with what may be one value or a list of equal ones as one value."""
    return {
        key: value[0]
        if isinstance(value, list | tuple) and key in ("bias", "kernel_size") and len(set(value)) == 1
        else value
        for key, value in table.items()
        if value is not None
    }


# ------------------------------------------------------------------------------------------------ statistics


def evidence_of(network: TutorialGenerator) -> Evidence:
    found: Recognised = recognise(checkpoint(network.state_dict()))
    return look(_recipe(found, "normal", "relu"), found.generator.network.state())


@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.parametrize(("slope", "name"), [(0.0, "relu"), (0.2, "leaky_relu_0.2")])
def test_prior_and_activation_are_told_by_the_statistics_of_batch_norms(prior: str, slope: float, name: str) -> None:
    torch.manual_seed(1)
    network = seasoned(TutorialGenerator(size=32, width=16, latent_dim=32, slope=slope), 32, prior)
    assert evidence_of(network) == Evidence(prior, name)


def test_an_untrained_net_and_one_without_norms_tell_nothing() -> None:
    assert evidence_of(TutorialGenerator()) == Evidence()
    assert evidence_of(TutorialGenerator(norm=False)) == Evidence()


# ------------------------------------------------------------------------------------------------ not recognised


def sequential(*layers: nn.Module) -> State:
    return nn.Sequential(*layers).state_dict()


UNKNOWN: dict[str, tuple[Callable[[], State], str]] = {
    "an encoder": (lambda: sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)), "Its tensors: 0.weight (4, 3, 3, 3)"),
    "no BatchNorm": (
        lambda: sequential(nn.ConvTranspose2d(5, 6, 4), nn.InstanceNorm2d(6, affine=True), nn.ConvTranspose2d(6, 3, 4)),
        "1 has a weight of shape (6,) and no running statistics",
    ),
    "four channels": (lambda: states(channels=4)[0], "its images have 4 channels, and ganzoo's have 1 or 3"),
    "a kernel of 7": (
        lambda: sequential(nn.ConvTranspose2d(5, 6, 4), nn.ConvTranspose2d(6, 4, 7), nn.ConvTranspose2d(4, 3, 4)),
        "has a kernel of 7×7",
    ),
    "whole numbers": (lambda: {key: one.int() for key, one in states()[0].items()}, "holds torch.int32 numbers"),
    "nothing": (lambda: {}, "holds no named tensors"),
    "a discriminator": (lambda: states()[1], "holds a discriminator and no generator"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_not_recognised_is_shown_with_what_was_looked_for(kind: str) -> None:
    make, said = UNKNOWN[kind]
    with pytest.raises(WeightsError) as error:
        recognise(checkpoint(make()))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    if kind not in ("nothing", "a discriminator"):
        assert "Looked for: the PyTorch tutorial's DCGAN (main.0.weight …), torchgan's" in str(error.value)
        assert "--recipe NAME|FILE" in str(error.value)


def test_names_without_end_are_given_up() -> None:
    deep = {"a." * 5000 + f"{index}.weight": torch.zeros(2, 2, 4, 4) for index in range(3)}
    with pytest.raises(WeightsError, match="holds no generator that is known"):
        recognise(checkpoint(deep))
