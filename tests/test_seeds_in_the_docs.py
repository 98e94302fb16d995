"""The test vectors of docs/seeds.md are what the sampler draws."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ganzoo.randomness import Stream
from ganzoo.sampling import labels_of, latents, seed_words

TEXT = (Path(__file__).parents[1] / "docs" / "seeds.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| ([0-9a-f ]+) \| ([-\d. ]+) \| ([-\d. ]+) \|$", TEXT, re.MULTILINE)


def test_the_vectors_are_there() -> None:
    assert [int(row[0]) for row in ROWS] == [0, 1, 2**40, 2**64 - 1]


@pytest.mark.parametrize(("seed", "words", "normal", "uniform"), ROWS, ids=[row[0] for row in ROWS])
def test_the_vectors_are_drawn(seed: str, words: str, normal: str, uniform: str) -> None:
    drawn = seed_words([int(seed)], Stream.SAMPLE, 4)[0]
    assert [f"{int(word):08x}" for word in drawn] == words.split()
    for prior, numbers in (("normal", normal), ("uniform", uniform)):
        expected = [float(number) for number in numbers.split()]
        assert latents([int(seed)], 6, prior)[0].tolist() == pytest.approx(expected, abs=6e-7)


def test_the_label_is_the_one_described() -> None:
    word = int(seed_words([9], 4, 1)[0, 0])
    assert labels_of([9], 10).tolist() == [word * 10 >> 32]


def test_the_truncated_z_is_drawn() -> None:
    (row,) = re.findall(r"With psi = 0\.7, .*?seed 1's normal z are\n\n +([-\d. ]+)\n", TEXT, re.DOTALL)
    expected = [float(number) for number in row.split()]
    assert len(expected) == 6
    assert latents([1], 6, "normal", 0.7)[0].tolist() == pytest.approx(expected, abs=6e-7)
