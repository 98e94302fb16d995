"""Operations and bytes of a step, against closed forms and against torch's own count."""

from __future__ import annotations

import itertools

import pytest
import tiny_runs
import torch
from torch.utils.flop_counter import FlopCounterMode

from ganzoo.benchmarking.work import Work, WorkCounter, _mean_work, step_work
from ganzoo.building import build_discriminator, build_generator, load_recipe
from ganzoo.recipes import Recipe
from ganzoo.summary import step_flops
from ganzoo.training.networks import build_step
from ganzoo.training.rounds import make_round

FLOAT = 4  # bytes


def count(function: object, *arguments: object) -> WorkCounter:
    with torch.no_grad(), WorkCounter() as counter:
        function(*arguments)  # type: ignore[operator]
    return counter


def test_the_papers_networks_take_their_closed_form() -> None:
    recipe = load_recipe("dcgan-lsun")
    widths, taps, batch = (1024, 512, 256, 128, 3), 5 * 5, 2
    # A layer of kernel 5 and stride 2 has all its taps at every pixel of the smaller square, borders counted in full.
    layers = sum(
        2 * taps * into * out * side**2
        for (into, out), side in zip(itertools.pairwise(widths), (4, 8, 16, 32), strict=True)
    )
    of_generator, of_discriminator = layers + 2 * 100 * 1024 * 16, layers + 2 * 1024 * 16
    generator, discriminator = build_generator(recipe), build_discriminator(recipe)
    assert count(generator, torch.randn(batch, 100)).flops == batch * of_generator
    assert count(discriminator, torch.randn(batch, 3, 64, 64)).flops == batch * of_discriminator
    assert (round(of_generator / 1e9, 3), round(of_discriminator / 1e9, 3)) == (1.281, 1.278)


def test_a_matrix_product_reads_both_factors_and_writes_the_product() -> None:
    left, right = torch.randn(4, 8), torch.randn(8, 16)
    counter = count(torch.mm, left, right)
    assert counter.bytes == FLOAT * (4 * 8 + 8 * 16 + 4 * 16)
    assert counter.flops == 2 * 4 * 8 * 16
    assert counter.work.intensity == counter.flops / counter.bytes


def test_a_convolution_reads_image_and_weights_and_writes_its_output() -> None:
    image, weight = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 4, 4)
    counter = count(lambda: torch.nn.functional.conv2d(image, weight, stride=2, padding=1))
    assert counter.bytes == FLOAT * (image.numel() + weight.numel() + 2 * 5 * 4 * 4)
    assert counter.flops == 2 * 2 * 5 * 4 * 4 * weight[0].numel()


x = torch.ones(6, 10)


@pytest.mark.parametrize(
    ("operation", "numbers"),
    [
        (lambda: x.view(10, 6).t()[2:, :3], 0),
        (lambda: x.detach().reshape(60), 0),
        (lambda: torch.empty(1000), 0),
        (lambda: torch.empty_like(x), 0),
        (lambda: torch.zeros(50), 50),
        (lambda: x + 1, 60 + 60),
        (lambda: x * x, 60 + 60),  # one tensor, twice named
        (lambda: x.clone().add_(x), (60 + 60) + (60 + 60 + 60)),
        (lambda: x[0].expand(6, 10) + x, 10 + 60 + 60),  # the same row, again and again
        (lambda: torch.empty(6, 10).copy_(x), 60 + 60),  # what was there before is not read
        (lambda: torch.add(x, x, out=torch.empty(6, 10)), 60 + 60),
        (lambda: torch.empty(30).fill_(1.0), 30),
        (lambda: torch._foreach_add_([torch.empty(7), torch.empty(9)], 1.0), 2 * 7 + 2 * 9),
    ],
)
def test_bytes_follow_the_rule(operation: object, numbers: int) -> None:
    assert count(operation).bytes == FLOAT * numbers


def test_a_change_of_precision_moves_both_forms() -> None:
    assert count(lambda: x.to(torch.bfloat16)).bytes == 60 * 4 + 60 * 2


VARIETY = {
    "alternating": {"train__update": "alternate_minibatches"},
    "at once": {"train__update": "simultaneous"},
    "several updates of D": {"train__discriminator_steps": 3, "train__generator_batch_size": 8},
    "in parts": {"train__accumulate": 2},
    "conditional": tiny_runs.CONDITIONAL,
    "relativistic": {"objective__name": "relativistic"},
    "lazy penalty": {
        "discriminator__norm": "none",
        "penalty": [{"where": "real", "rule": "zero_centered", "weight": 1.0, "every": 3}],
    },
}


def small(**changes: object) -> Recipe:
    return tiny_runs.recipe(**changes)


def images(recipe: Recipe) -> int:
    return make_round(recipe.train, recipe.objective.name == "relativistic").reals


@pytest.mark.parametrize("kind", VARIETY)
def test_real_steps_take_the_operations_that_shapes_alone_say(kind: str) -> None:
    recipe = small(**VARIETY[kind])
    assert step_work(recipe, "fp32").flops == pytest.approx(step_flops(recipe) * images(recipe), rel=1e-12)


def test_torch_counts_the_same_operations() -> None:
    recipe = small()
    step = build_step(recipe, torch.device("cpu"), "fp32")
    from ganzoo.benchmarking.work import _batches

    with FlopCounterMode(display=False) as counter:
        step(0, _batches(recipe, step.round, recipe.train.batch_size))
    assert step_work(recipe, "fp32").flops == counter.get_total_flops()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_of_any_batch_is_a_constant_and_a_part_for_each_image(precision: str) -> None:
    recipe = small(train__batch_size=12)
    step = build_step(recipe, torch.device("cpu"), precision)  # type: ignore[arg-type]
    _mean_work(recipe, step, 2)  # the optimisers' state
    assert _mean_work(recipe, step, 12) == step_work(recipe, precision)  # type: ignore[arg-type]


def test_bf16_moves_less_where_images_outweigh_parameters() -> None:
    large = small(data__image_size=32, train__batch_size=64)
    full, half = step_work(large, "fp32"), step_work(large, "bf16")
    assert half.flops == full.flops
    assert half.bytes < full.bytes


def test_counting_leaves_torchs_random_numbers_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    assert isinstance(step_work(small(), "fp32"), Work)
    assert torch.equal(torch.rand(2), wanted)
