"""The parts of the search for duplicates: hashes as ImageHash's, near pairs as all pairs give them, sets and groups."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from dedup_images import mirrored, scenes, stacked
from image_files import noise
from PIL import Image

from ganzoo.data.dedup.grouping import Groups, divide
from ganzoo.data.dedup.hashing import grey, perceptual_hashes
from ganzoo.data.dedup.near import near_pairs, sortings
from ganzoo.data.dedup.views import views


def reference(images: np.ndarray) -> list[int]:
    return [int(str(imagehash.phash(Image.fromarray(image))), 16) for image in images]


def brute_pairs(hashes: np.ndarray, others: np.ndarray, distance: int) -> set[tuple[int, int]]:
    near = np.bitwise_count(hashes[:, None] ^ others[None, :]) <= distance
    return {(int(i), int(j)) for i, j in np.argwhere(near) if i != j}


# ------------------------------------------------------------------ hashes


@pytest.mark.parametrize("kind", ["noise", "scenes"])
def test_the_hashes_are_those_of_imagehash(kind: str) -> None:
    images = noise(64, 32, 32, 3) if kind == "noise" else stacked(scenes(64), size=32)
    assert perceptual_hashes(images, views(flips=False, crops=False)).tolist() == [reference(images)]


def test_the_mirrored_view_is_the_hash_of_the_mirror_image() -> None:
    images = stacked(scenes(32), size=32)
    seen = views(flips=True, crops=False)
    assert [view.name for view in seen] == ["whole", "mirrored"]
    assert perceptual_hashes(images, seen)[1].tolist() == reference(images[:, :, ::-1])


def test_the_middle_view_is_near_to_the_hash_of_the_cropped_image() -> None:
    originals = scenes(32)
    cropped = [image.resize((32, 32), Image.Resampling.LANCZOS, box=(2.4, 2.4, 45.6, 45.6)) for image in originals]
    seen = views(flips=False, crops=True)
    whole, middle = perceptual_hashes(stacked(originals, size=32), seen)
    wanted = perceptual_hashes(stacked(cropped, size=32), seen)[0]
    assert np.median(np.bitwise_count(middle ^ wanted)) <= 4
    assert np.median(np.bitwise_count(middle ^ wanted)) < np.median(np.bitwise_count(whole ^ wanted))


def test_grey_is_pillows() -> None:
    images = noise(8, 16, 16, 3)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])
    assert np.array_equal(grey(images), expected)


def test_flat_images_have_the_same_hash_whatever_their_colour() -> None:
    images = np.repeat(noise(20, 1, 1, 3), 32, axis=1).repeat(32, axis=2)
    assert len(set(perceptual_hashes(images, views(flips=False, crops=False))[0].tolist())) == 1


# ------------------------------------------------------------------ near pairs


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Hashes of which many are within a few bits of another."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**63, count // 4, dtype=np.uint64)
    found = rng.choice(centres, count)
    for _ in range(10):
        change = rng.random(count) < 0.5
        found[change] ^= np.uint64(1) << rng.integers(0, 64, int(change.sum()), dtype=np.uint64)
    return found


@pytest.mark.parametrize("distance", [0, 1, 4, 6, 9])
@pytest.mark.parametrize("count", [2, 50, 600])
def test_near_pairs_are_those_that_comparing_all_pairs_finds(distance: int, count: int) -> None:
    hashes = clustered(max(count, 4))[:count]
    found = {
        tuple(sorted(pair))
        for i, j in near_pairs(hashes, None, distance)
        for pair in zip(i.tolist(), j.tolist(), strict=True)
    }
    expected = {(i, j) for i, j in brute_pairs(hashes, hashes, distance) if i < j}
    assert found == expected
    assert count < 600 or distance < 4 or len(expected) > 5


@pytest.mark.parametrize("distance", [0, 4, 7])
def test_near_pairs_across_two_hashes_of_each_image(distance: int) -> None:
    hashes, others = clustered(400), clustered(400, seed=1)
    others[::3] = np.roll(hashes, 5)[::3] ^ np.uint64(0b1011)
    found = {pair for i, j in near_pairs(hashes, others, distance) for pair in zip(i.tolist(), j.tolist(), strict=True)}
    assert found == brute_pairs(hashes, others, distance)
    assert distance == 0 or len(found) > 100


def test_very_many_equal_hashes_are_compared_with_a_few_each_and_still_hang_together() -> None:
    hashes = np.full(5000, 0xABCDEF, dtype=np.uint64)
    sets, compared = Groups(5000), 0
    for i, j in near_pairs(hashes, None, 2, window=3):
        compared += len(i)
        sets.join(i, j)
    assert (sets.roots() == 0).all()
    assert compared <= 5000 * 3 * len(sortings(5000, 2))


@pytest.mark.parametrize("distance", [0, 3, 8, 16])
@pytest.mark.parametrize("count", [10, 100_000, 10_000_000])
def test_every_change_of_so_many_bits_leaves_one_sorting_untouched(distance: int, count: int) -> None:
    masks = sortings(count, distance)
    rng = np.random.default_rng(0)
    for _ in range(50):
        changed = sum(1 << int(bit) for bit in rng.choice(64, distance, replace=False))
        assert any(mask & changed == 0 for mask in masks)


def test_no_pairs_of_one_hash_or_none() -> None:
    for count in (0, 1):
        assert list(near_pairs(np.zeros(count, dtype=np.uint64), None, 4)) == []


# ------------------------------------------------------------------ sets and groups


def test_sets_are_those_that_pairs_join_whatever_their_order() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 200, (90, 2))
    expected = [{number} for number in range(200)]
    for i, j in pairs.tolist():
        together = expected[i] | expected[j]
        for number in together:
            expected[number] = together
    wanted = sorted({tuple(sorted(one)) for one in map(frozenset, expected) if len(one) > 1})
    for order in (pairs, pairs[::-1]):
        sets = Groups(200)
        sets.join(order[:, 0], order[:, 1])
        assert [tuple(one.tolist()) for one in sets.members()] == wanted
        assert sets.apart(pairs[:, 0], pairs[:, 1]).tolist() == [False] * 90


def test_a_chain_is_divided_so_that_each_image_is_like_the_one_that_is_kept() -> None:
    """Frames of a slow pan: each is like those up to three steps away."""
    groups = divide(np.arange(10), lambda i, j: np.abs(i - j) <= 3)
    assert [one.tolist() for one in groups] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_images_that_are_like_none_are_in_no_group() -> None:
    assert divide(np.arange(4), lambda i, j: np.zeros(len(i), dtype=np.bool_)) == []


def test_a_mirror_image_of_a_scene_is_another_hash() -> None:
    image = scenes(1)[0]
    plain = views(flips=False, crops=False)
    one, other = (perceptual_hashes(stacked([each], size=32), plain)[0, 0] for each in (image, mirrored(image)))
    assert np.bitwise_count(one ^ other) > 16
