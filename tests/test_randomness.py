"""Randomness as data: Philox against its authors' vectors, the distributions, independence of how a batch is split."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from ganzoo.randomness import (
    Draws,
    Stream,
    draw_normal,
    draw_uniform,
    normals,
    permutation,
    philox,
    split_seed,
    uniforms,
    words,
)

CPU = torch.device("cpu")
_ONES = 0xFFFFFFFF

# kat_vectors of Random123, the code of Salmon et al. 2011: philox4x32 with 10 rounds.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((_ONES, _ONES, _ONES, _ONES), (_ONES, _ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def numbers(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_its_authors_known_answers_in_numpy_and_torch(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    a, b, c, d = (np.array([word], dtype=np.int64) for word in counter)
    assert tuple(int(word[0]) for word in philox(key, (a, b, c, d))) == answer
    w, x, y, z = (torch.tensor([word]) for word in counter)
    assert tuple(int(word[0]) for word in philox(key, (w, x, y, z))) == answer


def philox_in_whole_numbers(key: tuple[int, int], counter: tuple[int, ...]) -> tuple[int, ...]:
    """Philox4x32-10 written once more, in Python's unbounded integers (Salmon et al., section 3.3)."""
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 1 << 32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % (1 << 32), (k1 + 0xBB67AE85) % (1 << 32)
    return c0, c1, c2, c3


def test_philox_agrees_with_unbounded_integers_on_random_keys_and_counters() -> None:
    generator = np.random.default_rng(0)
    for row in generator.integers(0, 1 << 32, size=(50, 6)):
        key, counter = (int(row[0]), int(row[1])), tuple(int(word) for word in row[2:])
        arrays = tuple(np.array([word], dtype=np.int64) for word in counter)
        found = philox(key, (arrays[0], arrays[1], arrays[2], arrays[3]))
        assert tuple(int(word[0]) for word in found) == philox_in_whole_numbers(key, counter)


def test_words_are_laid_out_as_the_module_says() -> None:
    seed, number = (7 << 32) | 5, (3 << 32) | 11
    found = words(seed, Stream.FLIP, numbers(number), 6)
    first = philox_in_whole_numbers((5, 7), (0, Stream.FLIP, 11, 3))
    second = philox_in_whole_numbers((5, 7), (1, Stream.FLIP, 11, 3))
    assert found[0].tolist() == [*first, *second[:2]]


def test_a_word_does_not_hang_on_how_many_are_drawn_or_on_batch_mates() -> None:
    whole = words(1, Stream.LATENT, numbers(4, 5, 6), 10)
    assert np.array_equal(words(1, Stream.LATENT, numbers(6, 4), 7), whole[[2, 0], :7])


def test_seeds_streams_and_numbers_give_different_words() -> None:
    cases = itertools.product((0, 1, 1 << 32), (Stream.SAMPLE, Stream.LATENT), (0, 1, 1 << 32))
    drawn = {tuple(words(seed, stream, numbers(number), 4)[0].tolist()) for seed, stream, number in cases}
    assert len(drawn) == 18


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_seeds_are_64_bits(seed: int) -> None:
    with pytest.raises(ValueError, match=r"a seed is in \[0, 2\^64\)"):
        split_seed(seed)
    assert split_seed((1 << 64) - 1) == (_ONES, _ONES)


def test_uniforms_stay_inside_the_open_interval_and_are_exact() -> None:
    assert uniforms(numbers(0, _ONES)).tolist() == [2.0**-33, 1.0 - 2.0**-33]


def test_normals_are_box_and_mullers_of_pairs_and_always_finite() -> None:
    u = uniforms(numbers(123456789, 3987654321))
    radius, angle = np.sqrt(-2.0 * np.log(u[0])), 2.0 * np.pi * u[1]
    assert np.allclose(normals(numbers(123456789, 3987654321)), [radius * np.cos(angle), radius * np.sin(angle)])
    extreme = normals(numbers(0, 0, 0, _ONES, _ONES, 0, _ONES, _ONES))
    assert np.isfinite(extreme).all()
    assert np.abs(extreme).max() == pytest.approx(np.sqrt(66.0 * np.log(2.0)))  # of the smallest u, 2^-33


def test_an_odd_count_of_normals_is_the_beginning_of_an_even_one() -> None:
    assert np.array_equal(draw_normal(3, 1, numbers(0, 1), 5), draw_normal(3, 1, numbers(0, 1), 6)[:, :5])


def test_uniform_numbers_are_uniform_along_samples_and_along_elements() -> None:
    drawn = draw_uniform(2024, Stream.LATENT, np.arange(4000, dtype=np.int64), 16)
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 0.001
    assert stats.kstest(drawn[:, 0], "uniform").pvalue > 0.001
    assert stats.chisquare(np.histogram(drawn[:, 3], bins=50, range=(0, 1))[0]).pvalue > 0.001


def test_normal_numbers_are_normal_and_elements_are_uncorrelated() -> None:
    drawn = draw_normal(2024, Stream.LATENT, np.arange(4000, dtype=np.int64), 8)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 0.001
    correlation = np.corrcoef(drawn, rowvar=False) - np.eye(8)
    assert np.abs(correlation).max() < 5.0 / np.sqrt(4000)
    lag = np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]
    assert abs(lag) < 5.0 / np.sqrt(4000)


@pytest.mark.parametrize("length", [1, 2, 257, 70_000])
def test_a_permutation_holds_each_index_once(length: int) -> None:
    assert np.array_equal(np.sort(permutation(length, 5, 0)), np.arange(length))


def test_permutations_differ_by_epoch_and_seed_and_come_again() -> None:
    one = permutation(1000, 5, 0)
    assert np.array_equal(one, permutation(1000, 5, 0))
    for other in (permutation(1000, 5, 1), permutation(1000, 6, 0), np.arange(1000)):
        assert np.mean(one == other) < 0.02


def test_a_permutation_has_no_preferred_places() -> None:
    firsts = [int(permutation(10, seed, 0)[0]) for seed in range(2000)]
    assert stats.chisquare(np.bincount(firsts, minlength=10)).pvalue > 0.001


def draws(*values: int, seed: int = 9) -> Draws:
    return Draws(seed, numbers(*values), CPU, torch.float32)


def test_draws_are_tensors_of_the_numbers_of_numpy() -> None:
    found = draws(1, 2).uniform(2, 3, stream=4)
    assert found.shape == (2, 2, 3)
    assert found.dtype == torch.float32
    expected = draw_uniform(9, 4, numbers(1, 2), 6).astype(np.float32).reshape(2, 2, 3)
    assert np.array_equal(found.numpy(), expected)
    assert np.array_equal(draws(1).normal(3, stream=4).numpy(), draw_normal(9, 4, numbers(1), 3).astype(np.float32))


def test_integers_are_uniform_below_their_bound() -> None:
    found = draws(*range(6000)).integers(7, stream=Stream.LABEL)
    assert found.dtype == torch.int64
    assert stats.chisquare(np.bincount(found.numpy(), minlength=7)).pvalue > 0.001
    assert int(draws(*range(50)).integers(1, stream=2).max()) == 0


@pytest.mark.parametrize("kind", ["uniform", "normal", "keep"])
def test_a_samples_draws_do_not_hang_on_how_the_batch_is_split(kind: str) -> None:
    def drawn(*values: int) -> torch.Tensor:
        if kind == "keep":
            return draws(*values).keep_mask(3, 5, probability=0.5, stream=7)
        return getattr(draws(*values), kind)(3, 5, stream=7)  # type: ignore[no-any-return]

    whole = drawn(10, 11, 12, 13, 14)
    assert torch.equal(torch.cat((drawn(10, 11), drawn(12, 13, 14))), whole)
    assert torch.equal(drawn(14, 10), whole[[4, 0]])
    assert not torch.equal(whole[0], whole[1])


def test_a_keep_mask_does_not_hang_on_the_size_of_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draws(*range(9)).keep_mask(37, probability=0.3, stream=7)
    monkeypatch.setattr("ganzoo.randomness._CHUNK", 4)
    assert torch.equal(draws(*range(9)).keep_mask(37, probability=0.3, stream=7), whole)


def test_a_keep_mask_takes_its_elements_from_the_halves_of_words() -> None:
    mask = draws(3).keep_mask(10, probability=0.5, stream=7)[0]
    word = words(9, 7, numbers(3), 5)[0]
    halves = [int(one) for pair in word for one in (pair & 0xFFFF, pair >> 16)]
    assert mask.tolist() == [float(half < 32768) for half in halves]


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.75, 1.0])
def test_a_keep_mask_keeps_its_share(probability: float) -> None:
    mask = draws(*range(200)).keep_mask(10, 20, probability=probability, stream=7)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    spread = np.sqrt(probability * (1 - probability) / mask.numel())
    assert abs(float(mask.mean()) - probability) <= 4 * spread + 1 / 65536


def test_streams_are_wide_enough_apart_and_never_renumbered() -> None:
    """Results and checkpoints hang on these numbers: a change here is a change of every trained model."""
    assert {stream.name: int(stream) for stream in Stream if stream < 12} == {
        "SAMPLE": 0,
        "LATENT": 1,
        "PERMUTATION": 2,
        "FLIP": 3,
        "LABEL": 4,
        "PENALTY": 5,
        "SNAPSHOT": 6,
        "STATISTICS": 7,
        "SNAPSHOT_LABEL": 8,
        "STATISTICS_LABEL": 9,
        "INITIALISATION": 10,
        "FOREIGN": 11,
    }
    dropout = sorted(stream for stream in Stream if "DROPOUT" in stream.name)
    assert min(later - earlier for earlier, later in itertools.pairwise(dropout)) >= 1024
    assert min(dropout) > max(stream for stream in Stream if "DROPOUT" not in stream.name)
