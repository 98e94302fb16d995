"""Training of the small classifiers: what augmentation does, how the learning rate goes, and that digits are learnt."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ganzoo.data import DataRequest, Pack, open_pack
from ganzoo.data.sources.base import ArraySource
from ganzoo.errors import UsageError
from ganzoo.features.convnet import ConvNet
from ganzoo.features.training import TRAININGS, Training, _triangle, accuracy, augment, train_classifier

_NETWORK = {"channels": 1, "stem": 8, "widths": (16, 24), "num_classes": 10}
_PLAIN = Training(network=_NETWORK, image_size=8, epochs=6, shift=1, mirror=False, blank=0, batch_size=32)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def _numbered(count: int = 40, size: int = 8) -> torch.Tensor:
    """Return images in which every pixel is another number: (count, 1, size, size)."""
    return torch.arange(1.0, 1.0 + count * size * size).view(count, 1, size, size)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pack]:
    folder = tmp_path_factory.mktemp("digits")
    request = DataRequest(image_size=8, channels=1, labels=True, max_images=640)
    with open_pack("digits", request, cache_dir=folder) as pack:
        yield pack


def test_without_shift_mirror_and_blank_images_stay_as_they_are() -> None:
    images = _numbered()
    assert torch.equal(augment(images, replace(_PLAIN, shift=0), _generator()), images)


def test_each_image_moves_whole_by_its_own_way_and_what_comes_in_is_mirrored() -> None:
    images = _numbered()
    moved = augment(images, replace(_PLAIN, shift=2), _generator())
    assert moved.shape == images.shape
    ways = set()
    for one, other in zip(images[:, 0], moved[:, 0], strict=True):
        padded = torch.nn.functional.pad(one[None, None], (2, 2, 2, 2), mode="reflect")[0, 0]
        fits = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if torch.equal(padded[row : row + 8, column : column + 8], other)
        ]
        assert len(fits) == 1
        ways.update(fits)
    assert len(ways) > 12
    assert {row for row, _ in ways} == {column for _, column in ways} == set(range(5))


def test_about_half_of_the_images_are_mirrored_left_to_right() -> None:
    images = _numbered(200)
    turned = augment(images, replace(_PLAIN, shift=0, mirror=True), _generator())
    mirrored = [torch.equal(one, other.flip(-1)) for one, other in zip(images, turned, strict=True)]
    same = [torch.equal(one, other) for one, other in zip(images, turned, strict=True)]
    assert all(left != right for left, right in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130


def test_a_square_of_each_image_becomes_grey_in_all_channels() -> None:
    images = _numbered(60).expand(-1, 3, -1, -1)
    blanked = augment(images, replace(_PLAIN, shift=0, blank=3), _generator())
    corners = set()
    for one, other in zip(images, blanked, strict=True):
        gone = other[0] == 0
        assert int(gone.sum()) == 9
        rows, columns = gone.any(1).nonzero().flatten(), gone.any(0).nonzero().flatten()
        assert len(rows) == len(columns) == 3
        assert int(rows[-1] - rows[0]) == int(columns[-1] - columns[0]) == 2
        assert torch.equal(other, torch.where(gone, torch.zeros(()), one))
        corners.add((int(rows[0]), int(columns[0])))
    assert len(corners) > 15
    assert {row for row, _ in corners} == set(range(6))


def test_augmentation_follows_its_generator() -> None:
    training = replace(_PLAIN, shift=2, mirror=True, blank=3)
    first = augment(_numbered(), training, _generator())
    assert torch.equal(first, augment(_numbered(), training, _generator()))
    assert not torch.equal(first, augment(_numbered(), training, torch.Generator().manual_seed(6)))


def test_the_learning_rate_rises_for_a_fifth_and_falls_to_nothing() -> None:
    rates = [_triangle(step / 100) for step in range(1, 101)]
    assert rates[19] == 1.0 == max(rates)
    assert rates[9] == pytest.approx(0.5)
    assert rates[59] == pytest.approx(0.5)
    assert rates[-1] == 0.0
    assert _triangle(1.01) == 0.0


def test_digits_are_learnt_and_the_same_seed_gives_the_same_weights(digits: Pack) -> None:
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = train_classifier(_PLAIN, digits, device="cpu", say=lines.append)
    assert not network.training
    assert accuracy(network, digits) > 0.9
    assert len(lines) == _PLAIN.epochs
    assert lines[0].startswith("epoch 1 of 6: loss ")
    short = replace(_PLAIN, epochs=1)
    once, again, other = (train_classifier(short, digits, device="cpu", seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["stem.0.weight"], other["stem.0.weight"])


def test_a_second_cycle_goes_on_where_the_first_ended_and_blanks_nothing(
    digits: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ganzoo.features.training as training

    first = train_classifier(replace(_PLAIN, epochs=1, blank=3), digits, device="cpu", seed=4).state_dict()
    seen: list[tuple[int, int]] = []
    begun: list[dict[str, torch.Tensor]] = []
    plain_cycle = training._train_cycle

    def cycle(network: training.ConvNet, how: Training, *rest: Any) -> None:
        begun.append({name: value.clone() for name, value in network.state_dict().items()})
        seen.append((how.epochs, how.blank))
        plain_cycle(network, how, *rest)

    monkeypatch.setattr(training, "_train_cycle", cycle)
    lines: list[str] = []
    both = replace(_PLAIN, epochs=1, blank=3, second_epochs=2)
    second = train_classifier(both, digits, device="cpu", seed=4, say=lines.append).state_dict()
    assert seen == [(1, 3), (2, 0)]
    assert all(torch.equal(begun[1][name], first[name]) for name in first)
    assert not torch.equal(second["stem.0.weight"], first["stem.0.weight"])
    assert [line.partition(":")[0] for line in lines] == [
        "cycle 1, epoch 1 of 1",
        "cycle 2, epoch 1 of 2",
        "cycle 2, epoch 2 of 2",
    ]


def test_a_net_that_looks_at_both_sides_takes_the_mean_of_both_once_it_is_trained() -> None:
    torch.manual_seed(0)
    plain = ConvNet(**_NETWORK).eval()
    both = ConvNet(**_NETWORK, both_sides=True).eval()
    both.load_state_dict(plain.state_dict())
    image = torch.rand(3, 1, 8, 8) * 2 - 1
    features, logits = both(image)
    one, other = plain(image)[0], plain(image.flip(3))[0]
    assert torch.allclose(features, (one + other) / 2)
    assert not torch.allclose(features, one, atol=1e-3)
    assert torch.allclose(logits, (plain(image)[1] + plain(image.flip(3))[1]) / 2, atol=1e-6)
    assert torch.allclose(both(image.flip(3))[0], features)
    assert torch.equal(both.train()(image)[0], plain.train()(image)[0])


def test_accuracy_counts_what_is_named_rightly(digits: Pack) -> None:
    class Constant(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return image.flatten(1), torch.nn.functional.one_hot(torch.full((len(image),), 3), 10).float()

    assert digits.labels is not None
    assert accuracy(Constant(), digits, batch_size=100) == np.mean(digits.labels == 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "labels", "classes", "said"),
    [
        ((40, 8, 8, 1), None, 0, "has 0 classes, not 10"),
        ((40, 8, 8, 1), 40, 3, "has 3 classes, not 10"),
        ((40, 8, 8, 3), 40, 10, "is not of 8×8×1"),
        ((20, 8, 8, 1), 20, 10, "has 20 images, fewer than a batch of 32"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    tmp_path: Path, images: tuple[int, ...], labels: int | None, classes: int, said: str
) -> None:
    source = ArraySource(
        np.random.default_rng(0).integers(0, 256, images, dtype=np.uint8),
        None if labels is None else np.arange(labels) % classes,
        description="noise",
        classes=tuple(str(one) for one in range(classes)),
    )
    with (
        open_pack(source, DataRequest(image_size=8, channels=images[3]), cache_dir=tmp_path) as pack,
        pytest.raises(UsageError, match=said),
    ):
        train_classifier(_PLAIN, pack, device="cpu")


@pytest.mark.parametrize("name", TRAININGS)
def test_every_packaged_classifiers_network_takes_its_images(name: str) -> None:
    from ganzoo.features.convnet import ConvNet

    training = TRAININGS[name]
    network = ConvNet(**training.network).eval()
    image = torch.zeros(2, training.network["channels"], training.image_size, training.image_size)
    moved = augment(image, training, _generator())
    assert moved.shape == image.shape
    features, logits = network(moved)
    assert features.shape == (2, training.network["widths"][-1])
    assert logits.shape == (2, 10)
