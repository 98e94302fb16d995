"""The step against an independent float64 account of it (`reference.py`): every recipe, and what else recipes may ask.

Both are given the same first tensors, the same images, labels and z, and the same random numbers; after each step their
parameters, batch-norm and spectral-norm statistics, moving averages and losses must agree to 1e-9.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from reference import Numbers, Training, read_recipe
from torch import Tensor, nn

from ganzoo.building import build_augmentation, build_discriminator, build_generator, check
from ganzoo.data import Pack
from ganzoo.randomness import Draws, Stream, draw_normal, draw_uniform, permutation
from ganzoo.recipes import Recipe, parse_recipe
from ganzoo.training.feeder import Feeder
from ganzoo.training.step import Step

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
RECIPES = sorted([*(ROOT / "zoo_configs").glob("*.toml"), *(ROOT / "tests" / "trial_recipes").glob("*.toml")])
Table = dict[str, Any]

IMAGES = 11  # of the made-up pack: no multiple of any batch, so that epochs end within one


class MadeUpPack:
    """Random pictures and labels, with as much of a pack as a feeder needs."""

    def __init__(self, size: int, channels: int, classes: int) -> None:
        random = np.random.default_rng(7)
        self.pixels = random.integers(0, 256, (IMAGES, size, size, channels), dtype=np.uint8)
        self.labels = random.integers(0, classes, IMAGES) if classes else None

    def __len__(self) -> int:
        return IMAGES

    def to_tensor(self, device: torch.device) -> Tensor:
        return torch.from_numpy(self.pixels).to(device)


class Drawn:
    """What the reference is given: the pack's pictures and ganzoo's random numbers, each by its number."""

    def __init__(self, table: Table, pack: MadeUpPack) -> None:
        self.table, self.pack = table, pack
        self.seed: int = table["train"].get("seed", 0)

    def _draws(self, numbers: Numbers) -> Draws:
        return Draws(self.seed, numbers, CPU, torch.float64)

    def _which(self, numbers: Numbers) -> npt.NDArray[np.int64]:
        order = [permutation(IMAGES, self.seed, int(number) // IMAGES)[int(number) % IMAGES] for number in numbers]
        return np.array(order, dtype=np.int64)

    def real(self, numbers: Numbers) -> Tensor:
        images = self.pack.pixels[self._which(numbers)].transpose(0, 3, 1, 2) / 127.5 - 1.0
        if self.table["data"].get("mirror", False):
            turned = draw_uniform(self.seed, Stream.FLIP, numbers, 1) < 0.5
            images = np.where(turned[:, :, None, None], images[..., ::-1], images)
        return torch.from_numpy(np.ascontiguousarray(images))

    def label(self, numbers: Numbers) -> Tensor | None:
        return None if self.pack.labels is None else torch.from_numpy(self.pack.labels[self._which(numbers)])

    def label_of_latents(self, numbers: Numbers) -> Tensor | None:
        if self.pack.labels is None:
            return None
        return torch.from_numpy(self.pack.labels)[self._draws(numbers).integers(IMAGES, stream=Stream.LABEL)]

    def latent(self, numbers: Numbers) -> Tensor:
        count = self.table["generator"]["latent_dim"]
        if self.table["generator"].get("prior", "normal") == "uniform":
            return torch.from_numpy(2 * draw_uniform(self.seed, Stream.LATENT, numbers, count) - 1)
        return torch.from_numpy(draw_normal(self.seed, Stream.LATENT, numbers, count))

    def mask(self, use: str, layer: int, numbers: Numbers, shape: Sequence[int], keep: float) -> Tensor:
        streams = {
            "real": Stream.DROPOUT_REAL,
            "fake": Stream.DROPOUT_FAKE,
            "generator": Stream.DROPOUT_GENERATOR_PHASE,
            "penalty": Stream.DROPOUT_PENALTY,
        }
        return self._draws(numbers).keep_mask(*shape, probability=keep, stream=streams[use] + layer)

    def joined_mask(self, layer: int, reals: Numbers, latents: Numbers, shape: Sequence[int], keep: float) -> Tensor:
        return self.mask("real", layer, np.concatenate((reals, latents + 2**62)), shape, keep)

    def mixing(self, numbers: Numbers, count: int) -> Tensor:
        return self._draws(numbers).uniform(count, stream=Stream.PENALTY)

    def augmented(self, use: str, image: Tensor, numbers: Numbers, probability: float) -> Tensor:
        augmentation = build_augmentation(parse_recipe(self.table))
        assert augmentation is not None
        share = self._draws(numbers).uniform(augmentation.numbers, stream=Stream[f"AUGMENTATION_{use.upper()}"])
        return augmentation(image, share, torch.tensor(probability, dtype=torch.float64))


def shaken(network: nn.Module, seed: int) -> nn.Module:
    """Return a network in float64 with nothing left at its start: no zero bias, no unit gain, no fresh statistics.

    Weights grow to the size at which signals keep theirs, else a net of two channels would only whisper.
    """
    random = torch.Generator().manual_seed(seed)
    network.double()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(("_u", "_v", "num_batches_tracked")):
                continue
            noise = torch.randn(tensor.shape, generator=random, dtype=torch.float64)
            if name.endswith("running_var"):
                tensor.copy_(noise.exp())
            elif name.endswith("running_mean"):
                tensor.copy_(noise)
            elif tensor.dim() == 1:
                tensor.add_(0.1 * noise)
            else:
                tensor.copy_(noise * tensor[0].numel() ** -0.5)
    return network


class Pair:
    """One training twice: ganzoo's and the reference's, from the same start."""

    def __init__(self, table: Table) -> None:
        self.recipe: Recipe = parse_recipe(table)
        data = self.recipe.data
        self.table, self.pack = table, MadeUpPack(data.image_size, data.channels, data.num_classes)
        torch.manual_seed(1)
        generator = shaken(build_generator(self.recipe), 2)
        discriminator = shaken(build_discriminator(self.recipe), 3)
        given = Drawn(table, self.pack)
        self.reference = Training(table, generator.state_dict(), discriminator.state_dict(), given)
        self.step = Step(self.recipe, generator, discriminator)
        self.feeder = Feeder(self.recipe, self.step.round, cast(Pack, self.pack), CPU, torch.float64, resident=True)

    def run(self, *numbers: int) -> None:
        """Do steps on both sides and compare after each."""
        for number in numbers:
            (batches,) = self.feeder.rounds(number, number + 1)
            self.step(number, batches)
            self.reference.step(number)
            self.compare()

    def compare(self) -> None:
        for title, network, tensors in (
            ("generator", self.step.generator, self.reference.generator.tensors),
            ("discriminator", self.step.discriminator, self.reference.discriminator.tensors),
        ):
            same_tensors(title, network.state_dict(), tensors)
        assert (self.step.ema is None) == (self.reference.average is None)
        if self.step.ema is not None and self.reference.average is not None:
            same_tensors("average", self.step.ema.network.state_dict(), self.reference.average)
        told, expected = self.step.statistics.read(), self.reference.read()
        assert told.keys() == expected.keys()
        for name, value in expected.items():
            assert told[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
        # A comparison of two trainings that stand still would tell nothing.
        assert expected["gradient/generator"] > 1e-6
        assert expected["gradient/discriminator"] > 1e-6


def same_tensors(title: str, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], rtol: float = 1e-9) -> None:
    assert tensors.keys() == expected.keys()
    for name, want in expected.items():
        got = tensors[name]
        assert got.shape == want.shape
        atol = 1e-10 if shows_rounding(name, expected) else 0.01 * rtol
        np.testing.assert_allclose(
            got.detach().numpy(), want.detach().numpy(), rtol=rtol, atol=atol, err_msg=f"{title} {name}"
        )


def shows_rounding(name: str, tensors: Mapping[str, Tensor]) -> bool:
    """Return whether batch norm takes a bias away again, or a tensor is the mean of what has such biases in it.

    The gradient of such a bias is zero but for rounding, which Adam makes visible.
    """
    if not name.startswith("blocks."):
        norm = name.replace(".conv.bias", ".norm").replace(".linear.bias", ".norm")
        norm = norm.replace("project.bias", "project_norm")
        return (norm != name and f"{norm}.running_mean" in tensors) or name == "norm.running_mean"
    # What a generator's block adds to a channel goes on to the norm after the last block.
    norms = ["norm", name.replace("conv1.bias", "norm2"), name.replace("conv1.bias", "norm2.norm")]
    normed = any(f"{norm}.running_mean" in tensors for norm in norms)
    return normed and name.endswith((".conv1.bias", ".conv2.bias", ".shortcut.bias", ".running_mean"))


def merged(table: Table, changes: Mapping[str, Any]) -> Table:
    """Return a copy of nested tables with changes, table by table."""
    result = dict(table)
    for key, value in changes.items():
        inside = result.get(key)
        result[key] = merged(inside, value) if isinstance(value, Mapping) and isinstance(inside, dict) else value
    return result


# ------------------------------------------------------------------------------------------------ recipes


def narrow(table: Table) -> Table:
    """Return a recipe with its networks and batches cut down, all else as it is."""

    def cut(widths: list[int]) -> list[int]:
        return [max(width // 32, 2) for width in widths]

    changes: Table = {
        "generator": {"latent_dim": max(table["generator"]["latent_dim"] // 16, 3)},
        "discriminator": {},
        "train": {"batch_size": 3 if "augmentation" in table else 5},  # penalties through ADA take long
    }
    for network in ("generator", "discriminator"):
        for key in ("widths", "hidden"):
            if key in table[network]:
                changes[network][key] = cut(table[network][key])
        if "cardinality" in table[network]:  # deep, and the groups must divide the channels
            changes[network] |= {"widths": [width // 192 for width in table[network]["widths"]], "cardinality": 2}
    if "generator_batch_size" in table["train"]:
        changes["train"]["generator_batch_size"] = 7
    return merged(table, changes)


def ends(value: Any) -> Iterator[float]:
    """Yield the kimg at which each schedule in a recipe's tables ends."""
    if isinstance(value, Mapping):
        if "schedule" in value:
            yield value["kimg"]
        for one in value.values():
            yield from ends(one)
    elif isinstance(value, list):
        for one in value:
            yield from ends(one)


def middle_of_schedules(table: Table, images: int) -> int:
    """Return a step at which every schedule of a recipe has gone part of its way."""
    return int(0.7 * min([table["train"]["kimg"], *ends(table)]) * 1000 / images)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_steps_of_every_recipe_are_what_the_formulas_give(path: Path) -> None:
    pair = Pair(narrow(read_recipe(path)))
    check(pair.recipe, path.name)
    # The second step is one far on: schedules are functions of the images drawn, so no step between need be done.
    pair.run(0, middle_of_schedules(pair.table, pair.step.images))


def test_all_recipes_are_tried() -> None:
    assert len(RECIPES) >= 15


# ------------------------------------------------------------------------------------------------ beyond the recipes

TINY: Table = {
    "schema_version": 1,
    "name": "tiny",
    "data": {"source": "made-up", "image_size": 6, "channels": 1},
    "generator": {"name": "dcgan", "latent_dim": 3, "widths": [3], "kernel_size": 3, "norm": "none", "bias": True},
    "discriminator": {"name": "dcgan", "widths": [2, 3], "kernel_size": 3, "norm": "none", "bias": True},
    "objective": {"name": "non_saturating"},
    "optimizer": {"lr": 1e-2, "betas": [0.5, 0.9], "eps": 1e-4},
    "train": {"batch_size": 4, "kimg": 1},
}
BATCH_NORM: Table = {"generator": {"norm": "batch"}, "discriminator": {"norm": "batch"}}
SPECTRAL_NORM: Table = {"generator": {"norm": "spectral"}, "discriminator": {"norm": "spectral"}}
DROPOUT: Table = {"discriminator": {"dropout": 0.4}}
CLASSES: Table = {"data": {"num_classes": 3}}
PROJECTION: Table = merged(CLASSES, {"discriminator": {"conditioning": "projection"}})

OBJECTIVES: dict[str, Table] = {
    "non_saturating": {"name": "non_saturating", "label_smoothing": 0.1},
    "minimax": {"name": "minimax"},
    "least_squares": {"name": "least_squares"},
    "wasserstein": {"name": "wasserstein"},
    "hinge": {"name": "hinge"},
    "margin": {"name": "margin", "margin": 0.8},
    "relativistic": {"name": "relativistic"},
    "relativistic_average": {"name": "relativistic_average"},
}

ORDERS: dict[str, Table] = {
    "sequential": {},
    "more_for_the_discriminator": {"discriminator_steps": 2, "generator_batch_size": 6},
    "simultaneous": {"update": "simultaneous"},
    "alternate_minibatches": {"update": "alternate_minibatches"},
    "reuse_fakes": {"reuse_fakes": True, "discriminator_steps": 2},
    "reuse_reals": {"generator_reals": "reuse", "discriminator_steps": 2},
    "joined": {"real_fake_batches": "joined"},
    "joined_simultaneous": {"real_fake_batches": "joined", "update": "simultaneous"},
    "accumulated": {"accumulate": 2, "discriminator_steps": 2},
}
MORE_ORDERS: dict[str, Table] = {
    **ORDERS,
    "reuse_both": {"generator_reals": "reuse", "reuse_fakes": True},
    "joined_alternate": {"real_fake_batches": "joined", "update": "alternate_minibatches"},
    "joined_reuse_fakes": {"real_fake_batches": "joined", "reuse_fakes": True},
    "accumulated_simultaneous": {"accumulate": 2, "update": "simultaneous"},
    "accumulated_alternate": {"accumulate": 2, "update": "alternate_minibatches"},
    "accumulated_joined": {"accumulate": 2, "real_fake_batches": "joined"},
}


def tiny(*changes: Mapping[str, Any]) -> Table:
    table = copy.deepcopy(TINY)
    for change in changes:
        table = merged(table, change)
    return table


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_in_every_order_of_updates(objective: str, order: str) -> None:
    # Spectral norm counts the forward passes, and bounds the slope as Wasserstein's objective asks.
    changes = {"discriminator": {"norm": "spectral"}, "objective": OBJECTIVES[objective], "train": ORDERS[order]}
    Pair(tiny(changes)).run(0, 1)


@pytest.mark.parametrize(
    "objective",
    [
        {"name": "non_saturating"},
        {"name": "minimax", "label_smoothing": 0.2},
        {"name": "least_squares", "a": -1.0, "b": 1.0, "c": 0.0},
        {"name": "least_squares", "a": 0.2, "b": 0.9, "c": 0.7},
    ],
    ids=["non_saturating", "minimax smoothed", "pearson", "least_squares soft"],
)
def test_the_numbers_in_objectives(objective: Table) -> None:
    Pair(tiny({"objective": objective})).run(0, 1)


KINDS = {"batch_norm": BATCH_NORM, "dropout": DROPOUT, "classes": CLASSES, "projection": PROJECTION}


@pytest.mark.parametrize("order", MORE_ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_statistics_masks_and_labels_in_every_order_of_updates(kind: str, order: str) -> None:
    Pair(tiny(KINDS[kind], {"objective": {"name": "relativistic"}, "train": MORE_ORDERS[order]})).run(0, 1)


@pytest.mark.parametrize("order", ["sequential", "reuse_fakes", "alternate_minibatches", "accumulated"])
@pytest.mark.parametrize("conditioning", [CLASSES, PROJECTION], ids=["concat", "projection"])
def test_labels_where_the_generator_is_shown_no_real_images(conditioning: Table, order: str) -> None:
    Pair(tiny(conditioning, {"train": ORDERS[order]})).run(0, 1)


PLACES = ["real", "fake", "line", "around_real"]
RULES = ["zero_centered", "one_centered", "lipschitz"]


@pytest.mark.parametrize("order", ["sequential", "joined_simultaneous"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("where", PLACES)
def test_every_penalty(where: str, rule: str, order: str) -> None:
    penalty = [{"where": where, "rule": rule, "weight": 3.0}]
    Pair(tiny({"penalty": penalty, "objective": {"name": "wasserstein"}, "train": ORDERS[order]})).run(0, 1)


@pytest.mark.parametrize("kind", [DROPOUT, SPECTRAL_NORM, PROJECTION], ids=["dropout", "spectral", "projection"])
@pytest.mark.parametrize("order", ["joined", "reuse_fakes", "alternate_minibatches", "accumulated_simultaneous"])
def test_all_places_of_penalties_at_once(kind: Table, order: str) -> None:
    rules = ["zero_centered", "one_centered", "lipschitz", "one_centered"]
    penalties = [{"where": where, "rule": rule, "weight": 0.5} for where, rule in zip(PLACES, rules, strict=True)]
    Pair(tiny(kind, {"penalty": penalties, "train": MORE_ORDERS[order]})).run(0, 1)


def test_a_lazy_penalty_is_taken_every_third_step_at_three_times_its_weight() -> None:
    weight = {"schedule": "linear", "start": 2.0, "end": 0.5, "begin_kimg": 0.006, "kimg": 0.04}
    pair = Pair(tiny({"penalty": [{"where": "real", "weight": weight, "every": 3}, {"where": "fake", "weight": 1.0}]}))
    taken = []
    for number in range(7):
        (batches,) = pair.feeder.rounds(number, number + 1)
        pair.step(number, batches)
        pair.reference.step(number)
        taken.append("penalty/real_zero_centered" in pair.reference.told)
        pair.compare()
    assert taken == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("where", PLACES)
def test_a_lazy_penalty_changes_nothing_on_the_steps_between(where: str) -> None:
    lazy = Pair(tiny({"penalty": [{"where": where, "weight": 1.0, "every": 2}]}))
    without = Pair(tiny())
    for pair in (lazy, without):
        (batches,) = pair.feeder.rounds(1, 2)
        pair.step(1, batches)
    same_tensors("discriminator", lazy.step.discriminator.state_dict(), without.step.discriminator.state_dict(), rtol=0)


# ------------------------------------------------------------------------------------------------ optimisers, schedules


def cosine(start: float, end: float) -> Table:
    return {"schedule": "cosine", "start": start, "end": end, "begin_kimg": 0.008, "kimg": 0.05}


def linear(start: float, end: float) -> Table:
    return {"schedule": "linear", "start": start, "end": end, "kimg": 0.03}


OPTIMIZERS: dict[str, Table] = {
    "rmsprop": {"name": "rmsprop", "lr": 5e-4},
    "rmsprop_alpha_l2": {"name": "rmsprop", "lr": cosine(1e-3, 1e-4), "alpha": 0.9, "eps": 1e-6, "l2": 0.1},
    "adam_defaults": {"lr": 1e-3},
    "adam_l2": {"lr": 1e-2, "l2": 0.3, "eps": 1e-4, "betas": [0.3, 0.7]},
    "adam_schedules": {"lr": linear(1e-2, 0.0), "betas": [0.0, cosine(0.9, 0.99)]},
    "overrides": {
        "lr": 1e-3,
        "l2": 0.1,
        "generator": {"lr": linear(1e-2, 1e-3), "betas": [0.2, 0.8]},
        "discriminator": {"l2": 0.0, "eps": 1e-3, "lr": 3e-3},
    },
    "rmsprop_overrides": {
        "name": "rmsprop",
        "lr": 1e-3,
        "generator": {"alpha": 0.5},
        "discriminator": {"lr": cosine(1e-3, 5e-3)},
    },
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimisers_and_their_schedules(optimizer: str) -> None:
    table = tiny()
    table["optimizer"] = OPTIMIZERS[optimizer]
    Pair(table).run(*range(8), 20)  # the schedules begin at step 0 or 2 and end before the last


EMAS: dict[str, Table] = {
    "half_life": {"half_life_kimg": 0.01},
    "ramp": {"half_life_kimg": 0.02, "ramp": 0.5},
    "schedule": {"half_life_kimg": cosine(0.0, 0.03)},
    "schedule_ramp": {"half_life_kimg": linear(0.05, 0.001), "ramp": 1.5},
}


@pytest.mark.parametrize("norms", [BATCH_NORM, SPECTRAL_NORM], ids=["batch", "spectral"])
@pytest.mark.parametrize("ema", EMAS)
def test_the_average_of_the_generator(ema: str, norms: Table) -> None:
    Pair(tiny(norms, {"ema": EMAS[ema], "train": {"discriminator_steps": 2}})).run(*range(6), 30)


def test_an_average_forgets_half_in_a_half_life() -> None:
    pair = Pair(tiny({"ema": {"half_life_kimg": 0.004}}))  # one step's images
    start = {name: tensor.clone() for name, tensor in pair.step.generator.state_dict().items()}
    pair.run(0)
    assert pair.step.ema is not None
    halfway = {name: (start[name] + now) / 2 for name, now in pair.step.generator.state_dict().items()}
    same_tensors("average", pair.step.ema.network.state_dict(), halfway)


# ------------------------------------------------------------------------------------------------ shapes of networks

SHAPES: dict[str, Table] = {
    "odd_sides": {"data": {"image_size": 7}},
    "odd_sides_kernel_5": {
        "data": {"image_size": 9},
        "generator": {"widths": [3, 2, 2], "kernel_size": 5},
        "discriminator": {"kernel_size": 5},
    },
    "kernels_and_strides_mixed": {
        "data": {"image_size": 10, "channels": 3},
        "generator": {"widths": [2, 3, 2], "kernel_size": [3, 5, 4], "strides": [1, 2, 2]},
        "discriminator": {"widths": [2, 2, 3], "kernel_size": [4, 3, 5], "strides": [2, 1, 2]},
    },
    "convolutions_at_both_ends": {"generator": {"projection": "conv"}, "discriminator": {"head": "conv"}},
    "dense_layers": {"generator": {"hidden": [4, 3]}, "discriminator": {"hidden": [4, 3]}},
    "no_biases": {"generator": {"bias": False}, "discriminator": {"bias": False}},
    "norm_per_channel": {"generator": {"project_norm": "channel"}},
    "norm_without_gain": {
        "generator": {"norm_affine": False},
        "discriminator": {"norm_affine": False, "norm_eps": 0.1},
    },
    "slopes": {"generator": {"activation": "leaky_relu_0.3"}, "discriminator": {"activation": "relu"}},
}


@pytest.mark.parametrize("norms", ["batch spectral", "spectral batch", "none none"])
@pytest.mark.parametrize("classes", [{}, CLASSES, PROJECTION], ids=["unconditional", "concat", "projection"])
@pytest.mark.parametrize("shape", SHAPES)
def test_networks_of_every_shape(shape: str, classes: Table, norms: str) -> None:
    generator, discriminator = norms.split()
    norm = {"generator": {"norm": generator}, "discriminator": {"norm": discriminator}}
    Pair(tiny(classes, norm, SHAPES[shape])).run(0)


# ------------------------------------------------------------------------------------------------ accumulation


@pytest.mark.parametrize("order", ["sequential", "simultaneous", "alternate_minibatches", "joined"])
@pytest.mark.parametrize("objective", ["hinge", "relativistic"])
def test_gradients_of_a_split_batch_are_those_of_the_whole(objective: str, order: str) -> None:
    penalties = [{"where": where, "rule": "one_centered", "weight": 0.5} for where in PLACES]
    changes = {
        "objective": {"name": objective},
        "penalty": penalties,
        "train": ORDERS[order],
        "optimizer": {"eps": 1e-3},
    }
    whole, split = (Pair(tiny(CLASSES, DROPOUT, changes, {"train": {"accumulate": parts}})) for parts in (1, 2))
    for number, pair in itertools.product(range(3), (whole, split)):
        (batches,) = pair.feeder.rounds(number, number + 1)
        pair.step(number, batches)
    for one, other in (
        (whole.step.generator, split.step.generator),
        (whole.step.discriminator, split.step.discriminator),
    ):
        same_tensors("split", other.state_dict(), one.state_dict(), rtol=1e-12)
    assert split.step.statistics.read()["loss/generator"] == pytest.approx(
        whole.step.statistics.read()["loss/generator"], rel=1e-12
    )
