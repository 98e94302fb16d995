"""Gradient penalties at first-order cost, against double backward through the plain path, in float64.

Both steps are given the same networks, images, z and random numbers. What is compared are the gradients that the
discriminator's optimiser would see and all that the step notes, to 1e-10.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from first_order_steps import CPU, EXACT, FAST, MadeUpPack, Seen, Watched, assert_exact, shaken, step_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny_runs import recipe
from torch import Tensor

from ganzoo import registry
from ganzoo.architectures.dcgan import DCGANDiscriminator
from ganzoo.architectures.layers import Dropout, dropout_draws
from ganzoo.augmentation.contract import Augmentation
from ganzoo.building import build_discriminator, build_generator, load_recipe
from ganzoo.devices import Precision
from ganzoo.objectives.contract import Penalty, PenaltyInputs
from ganzoo.objectives.penalties import GradientPenalty
from ganzoo.objectives.regularizers.contract import DiscriminatorView, Regularizer
from ganzoo.randomness import Draws
from ganzoo.training.engines import PLAIN, Engine
from ganzoo.training.feeder import Batch, Feeder
from ganzoo.training.first_order import FirstOrder, choose_first_order
from ganzoo.training.first_order_passes import Passes
from ganzoo.training.step import Step

ROOT = Path(__file__).parents[2]
PLACES = ["real", "fake", "line", "around_real"]
RULES = ["zero_centered", "one_centered", "lipschitz"]


def compare(*numbers: int, **changes: Any) -> dict[str, float]:
    """Do steps on both paths, and assert that they are the same; return what was noted."""
    plain, fast = Watched(changes, PLAIN), Watched(changes, FAST)
    assert isinstance(plain.step.first_order, str)
    assert isinstance(fast.step.first_order, FirstOrder), fast.step.first_order
    noted, found = plain.run(*(numbers or (0,))), fast.run(*(numbers or (0,)))
    assert len(plain.gradients) == len(fast.gradients) > 0
    for one, other in zip(plain.gradients, fast.gradients, strict=True):
        assert_exact(one, other)
    assert found == pytest.approx(noted, rel=EXACT, abs=1e-12)
    assert fast.step.first_bad() is None
    return noted


def penalty(where: str, rule: str = "zero_centered", weight: Any = 0.7, **more: Any) -> dict[str, Any]:
    return {"where": where, "rule": rule, "weight": weight, **more}


R1_R2 = [penalty("real"), penalty("fake", weight=0.4)]
ALL_PLACES = [penalty(where, rule) for where, rule in zip(PLACES, [*RULES, "one_centered"], strict=True)]

# ------------------------------------------------------------------------------------------------ the passes alone


@st.composite
def discriminators(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of a discriminator of the family."""
    layers = draw(st.integers(1, 3))
    head = draw(st.sampled_from(["dense", "conv"]))
    hidden = draw(st.lists(st.integers(1, 4), max_size=2)) if head == "dense" else []
    sizes = st.lists(st.integers(1, 4), min_size=layers, max_size=layers)
    kernels, strides = (
        st.lists(st.sampled_from(known), min_size=layers, max_size=layers) for known in ([3, 4, 5], [1, 2])
    )
    weights = layers + len(hidden) + 1
    return {
        "image_size": draw(st.integers(4, 9)),
        "channels": draw(st.sampled_from([1, 3])),
        "num_classes": draw(st.sampled_from([0, 1, 3])),
        "widths": tuple(draw(sizes)),
        "kernel_size": tuple(draw(kernels)),
        "strides": tuple(draw(strides)),
        "head": head,
        "hidden": tuple(hidden),
        "activation": draw(st.sampled_from(["relu", "leaky_relu_0.2", "leaky_relu_.9", "leaky_relu_0.0"])),
        "dropout": draw(st.sampled_from([0.0, 0.4])),
        "bias": tuple(draw(st.lists(st.booleans(), min_size=weights, max_size=weights))),
        "conditioning": draw(st.sampled_from(["concat", "projection", "none"])),
        "norm": "none",
    }


@settings(max_examples=120, deadline=None)
@given(arguments=discriminators(), seed=st.integers(0, 1 << 20), penalised=st.integers(0, 3))
def test_the_passes_give_the_gradients_of_double_backward(arguments: dict[str, Any], seed: int, penalised: int) -> None:
    """Of sum s_i D(x_i) + sum <v_i, gradient of D(x_i) by x_i>, the second for the last images of the batch only."""
    try:
        net = DCGANDiscriminator(**arguments)
    except ValueError:
        assume(False)
    shaken(net, seed)
    torch.manual_seed(seed)
    batch, classes = 3, arguments["num_classes"]
    image = torch.randn(batch, arguments["channels"], *[arguments["image_size"]] * 2, dtype=torch.float64)
    label = torch.randint(classes, (batch,)) if classes else None
    factor, direction = torch.randn(batch, dtype=torch.float64), torch.randn_like(image)
    draws, first = Draws(seed, np.arange(batch), CPU, torch.float64), batch - penalised

    def masks(number: int, out: Tensor) -> Tensor:
        layer: Any = net.layers[number]
        return layer.dropout(torch.ones_like(out))  # type: ignore[no-any-return]

    with dropout_draws(net, draws, 40):
        leaf = image.clone().requires_grad_()
        logits = net(leaf, label)
        (slope,) = torch.autograd.grad(logits.sum(), leaf, create_graph=True)
        ((factor * logits).sum() + (direction * slope)[first:].sum()).backward()
        expected = {name: one.grad for name, one in net.named_parameters() if one.grad is not None}
        net.zero_grad()
        with torch.no_grad():
            passes, ones = Passes(net, torch.float64), torch.ones_like(factor)
            trace = passes.judge(image.clone(), label, masks)
            slopes = passes.slopes(trace, torch.cat((factor[:first], ones[first:])))
            of_image = passes.of_image(trace, slopes, first)
            passes.add_gradients(trace, slopes, direction[first:], torch.cat((ones[:first], factor[first:])))
    torch.testing.assert_close(trace.logits, logits.detach(), rtol=EXACT, atol=1e-12)
    torch.testing.assert_close(of_image, slope.detach()[first:], rtol=EXACT, atol=1e-12)
    found = {name: one.grad for name, one in net.named_parameters() if one.grad is not None}
    assert set(expected) <= set(found)
    for name, one in found.items():
        torch.testing.assert_close(one, expected.get(name, torch.zeros_like(one)), rtol=EXACT, atol=1e-11)
    assert any(isinstance(module, Dropout) for module in net.modules()) == (arguments["dropout"] > 0)


def test_gradients_lie_in_memory_as_their_parameters_do() -> None:
    step, feeder = step_of({"penalty": R1_R2}, FAST)
    step.discriminator.to(memory_format=torch.channels_last)
    step._apply = lambda network: None  # type: ignore[method-assign]
    (batches,) = feeder.rounds(0, 1)
    step(0, batches)
    for parameter in step.discriminator.parameters():
        assert parameter.grad is not None
        assert (parameter.grad.stride(), parameter.grad.dtype) == (parameter.stride(), parameter.dtype)


# ------------------------------------------------------------------------------------------------ within the step


@pytest.mark.parametrize("objective", registry.objectives.names())
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("where", PLACES)
def test_every_penalty_beside_every_objective(where: str, rule: str, objective: str) -> None:
    # The slopes are far from 1 on both sides of it: neither branch of a rule stays untried.
    noted = compare(penalty=[penalty(where, rule)], objective__name=objective)
    assert noted[f"penalty/{where}_{rule}"] > 1e-3


SEVERAL = {
    "R1 and R2": R1_R2,
    "all places": ALL_PLACES,
    "two rules at one place": [penalty("line", "one_centered"), penalty("real"), penalty("line", "zero_centered")],
    "the same twice": [penalty("fake"), penalty("fake", weight=0.1)],
    "none": [],
}
NETS: dict[str, dict[str, Any]] = {
    "relu": {"discriminator__activation": "relu"},
    "conv head": {"discriminator__head": "conv"},
    "dense layers": {"discriminator__hidden": [5, 3]},
    "colours and odd sides": {"data__channels": 3, "data__image_size": 7},
    "biases of some": {"discriminator__bias": [False, True, False]},
    "kernels and strides": {"discriminator__kernel_size": [4, 5], "discriminator__strides": [2, 1]},
    "dropout": {"discriminator__dropout": 0.4},
    "classes": {"data__num_classes": 3},
    "classes, conv head": {"data__num_classes": 3, "discriminator__head": "conv"},
    "projection": {"data__num_classes": 3, "discriminator__conditioning": "projection"},
    "projection of dense layers": {
        "data__num_classes": 3,
        "discriminator__conditioning": "projection",
        "discriminator__hidden": [4],
    },
    "classes ignored": {"data__num_classes": 3, "discriminator__conditioning": "none"},
    "classes of fakes only": {"data__num_classes": 3, "data__labels": "random"},
}


@pytest.mark.parametrize("several", SEVERAL)
@pytest.mark.parametrize("net", NETS)
def test_penalties_together_on_every_net(net: str, several: str) -> None:
    compare(0, 1, penalty=SEVERAL[several], objective__name="relativistic", **NETS[net])


ORDERS: dict[str, dict[str, Any]] = {
    "more for the discriminator": {"train__discriminator_steps": 2, "train__generator_batch_size": 6},
    "alternate": {"train__update": "alternate_minibatches"},
    "fakes reused": {"train__reuse_fakes": True},
    "reals reused": {"train__generator_reals": "reuse"},
    "joined": {"train__real_fake_batches": "joined"},
    "accumulated": {"train__accumulate": 2},
    "accumulated and joined": {"train__accumulate": 2, "train__real_fake_batches": "joined"},
}


@pytest.mark.parametrize("order", ORDERS)
def test_masks_and_labels_in_every_order_of_updates(order: str) -> None:
    net = {"data__num_classes": 3, "discriminator__dropout": 0.3}
    compare(0, 1, penalty=ALL_PLACES, objective__name="relativistic", **net, **ORDERS[order])


def test_lazy_and_scheduled_penalties() -> None:
    weight = {"schedule": "linear", "start": 2.0, "end": 0.5, "begin_kimg": 0.006, "kimg": 0.04}
    lazy = [penalty("real", weight=weight, every=3), penalty("line", every=2), penalty("fake", "one_centered", every=4)]
    for number in range(5):
        compare(number, penalty=lazy)


def test_discriminators_of_no_penalty_are_updated_the_same() -> None:
    compare(0, 1, 2, objective__name="hinge", discriminator__dropout=0.2)


@pytest.mark.parametrize("name", ["top_k", "weight_clipping"])
def test_regularizers_that_leave_the_discriminators_loss_alone_act_as_before(name: str) -> None:
    options = {"top_k": {"decay_kimg": 0.01}, "weight_clipping": {}}[name]
    compare(0, 1, 2, penalty=R1_R2, regularizer=[{"name": name, **options}])


# ------------------------------------------------------------------------------------------------ augmentation


class Bent(Augmentation):
    """Each value x becomes x + probability · u · sin(2 x) of its sample's u: not linear in the image."""

    @property
    def numbers(self) -> int:
        return 1

    def __call__(self, image: Tensor, numbers: Tensor, probability: Tensor) -> Tensor:
        return image + probability * numbers[:, :, None, None] * torch.sin(2.0 * image)


@pytest.fixture
def bent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.augmentations._registered, "bent", Bent)


AUGMENTED: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in registry.augmentations.names()},
    "ada whole": {"name": "ada", "filter": 1.0, "noise": 1.0, "cutout": 1.0, "probability": 0.8},
    "diffaugment mirrored": {"name": "diffaugment", "policy": ["flip", "cutout", "color"]},
    "at times": {"name": "diffaugment", "probability": 0.4},
    "adaptive": {"name": "ada", "probability": {"target": 0.6, "kimg": 0.05, "every": 1, "start": 0.5}},
    "bent": {"name": "bent"},
}


@pytest.mark.usefixtures("bent")
@pytest.mark.parametrize("augmentation", AUGMENTED)
def test_penalties_through_every_augmentation(augmentation: str) -> None:
    compare(0, 1, penalty=ALL_PLACES, data__channels=3, augmentation=AUGMENTED[augmentation])


def test_every_augmentation_of_the_registry_is_tried() -> None:
    assert {"ada", "diffaugment", "flip"} <= set(AUGMENTED)


@pytest.mark.usefixtures("bent")
@pytest.mark.parametrize("rule", RULES)
def test_an_augmentation_that_is_not_linear_is_exact_too(rule: str) -> None:
    compare(penalty=[penalty(where, rule) for where in PLACES], augmentation={"name": "bent"})


# ------------------------------------------------------------------------------------------------ other precisions


def relative_error(found: Seen, exact: Seen) -> float:
    difference = sum(float((one - exact[name]).square().sum()) for name, one in found.items())
    return (difference / sum(float(one.square().sum()) for one in exact.values())) ** 0.5  # type: ignore[no-any-return]


def test_in_bfloat16_it_is_no_farther_from_float64_than_the_plain_path() -> None:
    wide = {"generator__widths": [16, 8], "discriminator__widths": [16, 32], "train__batch_size": 32}
    changes = {"penalty": R1_R2, "objective__name": "relativistic", **wide}
    exact = Watched(changes, PLAIN)
    exact.run(0)
    errors = []
    for engine in (PLAIN, FAST):
        low = Watched(changes, engine, torch.float32, precision="bf16")
        low.run(0)
        assert {one.dtype for one in low.gradients[0].values()} == {torch.float32}
        errors.append(relative_error(low.gradients[0], exact.gradients[0]))
    assert 1e-5 < errors[1] < 0.05
    assert errors[1] < 1.5 * errors[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_last_bias_of_a_relativistic_loss_has_no_gradient_of_rounding(precision: Precision) -> None:
    """The loss does not hang on it, and Adam would make whole steps of whatever is not 0."""
    changes = {"penalty": R1_R2, "objective__name": "relativistic", "train__batch_size": 7}
    watched = Watched(changes, FAST, torch.float32, precision=precision)
    watched.run(0)
    assert watched.gradients[0]["output.bias"].tolist() == [0.0]


# ------------------------------------------------------------------------------------------------ what is noted


@pytest.mark.parametrize("engine", [PLAIN, FAST], ids=["plain", "fast"])
def test_an_infinite_image_is_told_by_the_same_name(engine: Engine) -> None:
    watched = Watched({"penalty": R1_R2}, engine)
    (batches,) = watched.feeder.rounds(3, 4)
    assert batches[0].real is not None
    batches[0].real[0, 0, 0, 0] = float("nan")
    watched.step(3, batches)
    assert watched.step.first_bad() == (3, "loss/discriminator")


def test_nothing_is_read_back_from_the_device() -> None:
    """On torch's meta device, which has shapes and no values, the whole update runs through."""
    changes = {"penalty": ALL_PLACES, "objective__name": "relativistic", "augmentation": {"name": "diffaugment"}}
    step, _ = step_of(changes | {"discriminator__dropout": 0.3}, FAST)
    meta = torch.device("meta")
    update = choose_first_order(
        step.recipe, step.discriminator.to(meta), step._forward, step.objective, step.penalties, [], "fp32"
    )
    assert isinstance(update, FirstOrder)
    assert step.probability is not None
    step.probability.value = step.probability.value.to(meta)
    draws = Draws(0, np.arange(4), meta, torch.float64)
    real, fake = (torch.empty(4, 1, 8, 8, dtype=torch.float64, device=meta) for _ in range(2))
    batch = Batch(real, None, torch.empty(4, 4, dtype=torch.float64, device=meta), draws, draws)
    weights = [torch.ones((), dtype=torch.float64, device=meta) for _ in ALL_PLACES]
    found = update(batch, fake, weights)
    assert found.loss.is_meta
    assert [one.is_meta for one in found.penalties if one is not None] == [True] * 4


# ------------------------------------------------------------------------------------------------ where it applies


class Slope(Penalty):
    """A penalty of a third party."""

    name = "slope"

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        (slope,) = torch.autograd.grad(inputs.real_logits.sum(), inputs.real, create_graph=True)
        return slope.flatten(1).square().sum(dim=1)


class Steeper(GradientPenalty):
    """A third party's variant of ganzoo's own."""

    def __call__(self, inputs: PenaltyInputs) -> Tensor:
        return 2.0 * super().__call__(inputs)


class Logits(Regularizer):
    """Acts in the discriminator's loss."""

    def discriminator_loss(self, view: DiscriminatorView) -> Tensor:
        return view.real_logits.square().mean()


class Own(DCGANDiscriminator):
    """A third party's variant of a discriminator."""

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return super().forward(image, label).tanh()


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    for known, name, part in (
        (registry.penalties, "slope", Slope),
        (registry.penalties, "steeper", Steeper),
        (registry.regularizers, "logits", Logits),
        (registry.discriminators, "own", Own),
    ):
        monkeypatch.setitem(known._registered, name, part)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "simultaneous": ({"train__update": "simultaneous"}, "simultaneous"),
    "batch norm": ({"discriminator__norm": "batch", "penalty": []}, "batch norm"),
    "spectral norm": ({"discriminator__norm": "spectral"}, "spectral norm"),
    "another discriminator": ({"discriminator": {"name": "own", "widths": [4], "norm": "none"}}, "Own"),
    "another family": ({"discriminator": {"name": "resnet", "widths": [4] * 4, "norm": "none"}}, "ResNetDiscriminator"),
    "a third party's penalty": ({"penalty": [{"name": "slope", "weight": 1.0}]}, "Slope"),
    "a variant of a penalty": ({"penalty": [{"name": "steeper", "weight": 1.0}]}, "Steeper"),
    "a regularizer in the loss": ({"regularizer": [{"name": "logits", "weight": 1.0}]}, "logits"),
    "LeCam": ({"regularizer": [{"name": "lecam", "weight": 1.0}]}, "lecam"),
}


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("case", REFUSED)
def test_where_it_does_not_apply_the_plain_path_is_taken_for_a_reason(case: str) -> None:
    changes, reason = REFUSED[case]
    plain, fast = (Watched({"penalty": R1_R2} | changes, engine) for engine in (PLAIN, FAST))
    why = fast.step.first_order
    assert isinstance(why, str)
    assert reason in why
    noted = plain.run(0, 1)
    assert fast.run(0, 1) == pytest.approx(noted, rel=EXACT, abs=1e-12)
    for one, other in zip(plain.gradients, fast.gradients, strict=True):
        assert_exact(one, other)


def zoo() -> Iterator[str]:
    for path in sorted((ROOT / "zoo_configs").glob("*.toml")):
        yield path.stem


def test_recipes_of_the_zoo_take_it_where_their_discriminators_have_no_norm() -> None:
    narrow = ("generator.widths", "discriminator.widths")
    chosen = set()
    for name in zoo():
        made = load_recipe(name)
        if made.generator.name != "dcgan":
            continue
        halves = [f"{key}={[4] * len(getattr(made, key.split('.')[0]).options['widths'])}" for key in narrow]
        small = load_recipe(name, halves)
        step = Step(small, build_generator(small), build_discriminator(small), engine=FAST)
        if isinstance(step.first_order, FirstOrder):
            chosen.add(name)
    modern = {"dcgan-mnist-modern", "dcgan-cifar10-modern", "dcgan64-modern"}
    assert chosen == modern | {"dcgan-digits", "dcgan-rooms"}


@pytest.mark.parametrize("name", ["dcgan-mnist-modern", "dcgan-cifar10-modern", "dcgan64-modern", "dcgan-digits"])
def test_the_modern_recipes_narrowed_are_exact(name: str) -> None:
    made = load_recipe(name).to_dict()
    for network, key in itertools.product(("generator", "discriminator"), ("widths",)):
        made[network][key] = [max(width // 64, 2) for width in made[network][key]]
    made["train"]["batch_size"] = 3
    made["optimizer"]["eps"] = 1e-3
    seen = []
    for engine in (PLAIN, FAST):
        small = load_recipe(made)
        networks = shaken(build_generator(small), 1), shaken(build_discriminator(small), 2)
        step = Step(small, *networks, engine=engine)
        pack: Any = MadeUpPack(small.data.image_size, small.data.channels, 0)
        feeder = Feeder(small, step.round, pack, CPU, torch.float64, resident=True)
        for number, batches in enumerate(feeder.rounds(0, 3)):
            step(number, batches)
        seen.append((step, step.statistics.read()))
    assert seen[1][1] == pytest.approx(seen[0][1], rel=1e-9)
    for network in ("generator", "discriminator"):
        one, other = ({name: value.detach() for name, value in step.trained(network).items()} for step, _ in seen)
        assert_exact(one, other, 1e-9)


def test_a_recipe_says_with_its_engine_which_path_it_takes() -> None:
    from ganzoo.training.engines import choose_engine

    for asked, fast in (("auto", True), ("eager", False)):
        made = recipe(discriminator__norm="none", penalty=R1_R2, train__engine=asked)
        step = Step(made, build_generator(made), build_discriminator(made), engine=choose_engine(made, CPU))
        assert isinstance(step.first_order, FirstOrder) is fast
