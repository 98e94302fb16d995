"""Sampling: seeds from text, z from seeds by a formula that is repeated here, and images that are a seed's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import recipe

from ganzoo.errors import UsageError
from ganzoo.models import Model, ModelConfig
from ganzoo.randomness import Stream
from ganzoo.sampling import TorchSampler, labels_of, latents, parse_seeds
from ganzoo.training.networks import build_networks

# ---------------------------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("7", [7]),
        ("3,7,10-12", [3, 7, 10, 11, 12]),
        (" 5 , 1 - 2 ", [5, 1, 2]),
        ("4,4", [4, 4]),
        ("18446744073709551614-18446744073709551615", [2**64 - 2, 2**64 - 1]),
    ],
)
def test_seeds_are_read_in_their_order(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text).tolist() == seeds
    assert parse_seeds(text).dtype == np.uint64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither a number nor a range"),
        ("a", "neither a number nor a range"),
        ("1,,2", "neither a number nor a range"),
        ("-3", "neither a number nor a range"),
        ("1.5", "neither a number nor a range"),
        ("1 2", "neither a number nor a range"),
        ("1-2-3", "neither a number nor a range"),
        ("5-3", "goes backwards"),
        ("18446744073709551616", "seeds are below 2^64"),
        ("9" * 5000, "seeds are below 2^64"),
        ("0-100000000", "names over 100,000,000 seeds"),
    ],
)
def test_what_is_no_list_of_seeds_is_answered(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_seeds(text)
    assert message in str(error.value)
    assert len(str(error.value)) < 400


# ---------------------------------------------------------------------------------------------------- z


def philox(seed: int, block: int) -> tuple[int, int, int, int]:
    """Philox4x32-10 (Salmon et al. 2011) with the seed as key and (block, 0, 0, 0) as counter, in whole numbers."""
    a, b, c, d = block, 0, 0, 0
    low, high = seed % 2**32, seed // 2**32
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = right // 2**32 ^ b ^ low, right % 2**32, left // 2**32 ^ d ^ high, left % 2**32
        low, high = (low + 0x9E3779B9) % 2**32, (high + 0xBB67AE85) % 2**32
    return a, b, c, d


def z_of(seed: int, length: int, prior: str) -> list[float]:
    """The z of a seed, element by element."""

    def uniform(index: int) -> float:
        return (philox(seed, index // 4)[index % 4] + 0.5) / 2**32

    if prior == "uniform":
        return [2.0 * uniform(index) - 1.0 for index in range(length)]
    values = []
    for index in range(length):
        first, second = uniform(index - index % 2), uniform(index - index % 2 + 1)
        turn = math.cos if index % 2 == 0 else math.sin
        values.append(math.sqrt(-2.0 * math.log(first)) * turn(2.0 * math.pi * second))
    return values


# The first and last of 100 elements, as the functions above give them; what any other implementation must give.
VECTORS = {
    (0, "uniform"): [-0.20190706, 0.7610404, 0.47142557, 0.21096371, 0.9444824, 0.831188],
    (0, "normal"): [0.99113768, -0.92466259, -0.61760896, -0.48206859, -0.15363823, -0.55209641],
    (1, "uniform"): [0.78051835, 0.78936943, 0.1714519, 0.42253615, 0.34399654, 0.25099639],
    (1, "normal"): [0.38040073, -0.29627789, -0.24923342, -1.00383725, 0.62694785, -0.63546164],
    (2**40, "uniform"): [-0.84289872, 0.18953224, -0.03038309, 0.40926013, -0.6188792, 0.85365757],
    (2**40, "normal"): [-1.86747763, -1.26512878, -0.33840335, -1.15476664, 1.75298355, -0.61089645],
}


@pytest.mark.parametrize(("seed", "prior"), VECTORS)
def test_z_of_a_seed_is_what_is_written_down(seed: int, prior: str) -> None:
    drawn = latents([seed], 100, prior)
    assert (drawn.shape, drawn.dtype) == ((1, 100), np.float32)
    assert drawn[0, [0, 1, 2, 3, 4, 99]].tolist() == pytest.approx(VECTORS[seed, prior], abs=1e-6)
    assert drawn[0].tolist() == pytest.approx(z_of(seed, 100, prior), abs=1e-6)


@pytest.mark.parametrize("prior", ["uniform", "normal"])
def test_a_seeds_z_does_not_hang_on_the_others_nor_on_its_length(prior: str) -> None:
    whole = latents([3, 2**40, 2**64 - 1, 0], 8, prior)
    assert np.array_equal(latents([2**64 - 1, 3], 8, prior), whole[[2, 0]])
    assert np.array_equal(latents([2**40], 5, prior)[0], whole[1, :5])
    assert len({row.tobytes() for row in whole}) == 4


def test_seeds_come_in_any_whole_kind() -> None:
    expected = latents([0, 1, 2], 4, "normal")
    for seeds in (range(3), np.arange(3), np.arange(3, dtype=np.uint8), (0, 1, 2), parse_seeds("0-2")):
        assert np.array_equal(latents(seeds, 4, "normal"), expected)
    assert latents([], 4, "normal").shape == (0, 4)


@pytest.mark.parametrize("seeds", [[-1], [2**64], [1.5], [[1, 2]], 3, ["1"], [True, False], [-1, 2**63]])
def test_what_are_no_seeds_is_refused(seeds: Any) -> None:
    with pytest.raises(UsageError, match="Seeds are a list of whole numbers"):
        latents(seeds, 4, "normal")


def test_labels_of_seeds_are_uniform_and_their_own() -> None:
    labels = labels_of(np.arange(3000), 3)
    assert np.bincount(labels).tolist() == pytest.approx([1000] * 3, abs=120)
    assert np.array_equal(labels_of([5, 7], 3), labels[[5, 7]])
    assert Stream.LABEL != Stream.SAMPLE  # so that a label tells nothing of z


# ---------------------------------------------------------------------------------------------------- images


def sampler(**changes: Any) -> TorchSampler:
    asked = recipe(**changes)
    generator = build_networks(asked)[0].eval().requires_grad_(False)
    return TorchSampler(Model(ModelConfig(asked, "raw", 0, 0.0), generator, None), "cpu")


KINDS: list[dict[str, Any]] = [
    {},
    {"generator__prior": "uniform"},
    {"data__num_classes": 3},
    {"generator__norm": "none"},
    {"generator__hidden": [6]},
]


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_an_image_is_its_seeds_own_whatever_the_batch(changes: dict[str, Any]) -> None:
    """Alone, in batches of other sizes and with other mates."""
    drawn = sampler(**changes)
    images = drawn.sample(range(10))
    assert (images.shape, images.dtype) == ((10, 1, 8, 8), np.float32)
    assert np.abs(images).max() <= 1.0
    for batch_size in (1, 3, 10, 1000):
        assert np.abs(drawn.sample(range(10), batch_size=batch_size) - images).max() <= 1e-6
    assert np.abs(drawn.sample([7, 2**50, 3])[[0, 2]] - images[[7, 3]]).max() <= 1e-6
    assert np.abs(drawn.sample([4]) - images[4]).max() <= 1e-6
    assert len({image.tobytes() for image in images}) == 10
    assert drawn.sample([]).shape == (0, 1, 8, 8)


def test_an_image_is_the_generators_of_the_seeds_z() -> None:
    drawn = sampler()
    generator = build_networks(recipe())[0].eval()
    with torch.no_grad():
        expected = generator(torch.from_numpy(latents(range(4), 4, "normal")))
    assert torch.allclose(torch.from_numpy(drawn.sample(range(4))), expected, atol=1e-6)


def test_the_sampler_tells_what_it_draws() -> None:
    drawn = sampler(data__num_classes=3)
    assert (drawn.image_size, drawn.channels, drawn.num_classes, drawn.latent_dim) == (8, 1, 3, 4)
    assert (drawn.prior, drawn.device) == ("normal", torch.device("cpu"))


def test_labels_are_those_given_or_the_seeds_own() -> None:
    drawn = sampler(data__num_classes=3)
    seeds = list(range(6))
    own = labels_of(seeds, 3)
    assert np.array_equal(drawn.sample(seeds), drawn.sample(seeds, labels=own))
    others = (own + 1) % 3
    assert all(
        np.abs(a - b).max() > 1e-6 for a, b in zip(drawn.sample(seeds), drawn.sample(seeds, others), strict=True)
    )
    assert np.abs(drawn.sample([3], [int(others[3])]) - drawn.sample(seeds, others)[3]).max() <= 1e-6


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"There are 3 seeds, but labels of shape \(2,\)"),
        ([[0, 1, 2]], r"labels of shape \(1, 3\)"),
        ([0, 1, 3], "knows the classes 0 to 2"),
        ([0, -1, 2], "knows the classes 0 to 2"),
        ([0.5, 1.0, 2.0], "knows the classes 0 to 2, as whole numbers"),
    ],
)
def test_labels_that_cannot_be_are_answered(labels: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sampler(data__num_classes=3).sample(range(3), labels)


def test_labels_for_a_model_without_classes_and_an_empty_batch_are_answered() -> None:
    with pytest.raises(UsageError, match="This model knows no classes"):
        sampler().sample(range(3), [0, 0, 0])
    with pytest.raises(UsageError, match=r"`batch_size` \(=0\) must be at least 1"):
        sampler().sample(range(3), batch_size=0)
