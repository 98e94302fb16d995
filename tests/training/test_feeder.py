"""What steps are fed: every image once an epoch, in an order that is a function of the seed alone; flips, labels, z."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny_runs import BATCH, images, labelled, recipe

from ganzoo.data import Pack, open_pack
from ganzoo.data.request import DataRequest
from ganzoo.randomness import Stream, draw_normal, draw_uniform, permutation
from ganzoo.training.feeder import Batch, Feeder, fixed_latents, in_batches, latents_tensor, normalise
from ganzoo.training.rounds import make_round

CPU = torch.device("cpu")
COUNT = 10


@pytest.fixture
def pack() -> Iterator[Pack]:
    with open_pack(labelled(COUNT), DataRequest(8, 1, labels=True)) as opened:
        yield opened


def feeder(pack: Pack, *, uses_real: bool = False, resident: bool = True, **changes: Any) -> Feeder:
    asked = recipe(**changes)
    return Feeder(asked, make_round(asked.train, uses_real), pack, CPU, torch.float32, resident=resident)


def fed(pack: Pack, first: int, last: int, **options: Any) -> list[list[Batch]]:
    return list(feeder(pack, **options).rounds(first, last))


def shown(rounds: list[list[Batch]]) -> list[int]:
    """Which images of the pack real batches are made of, told by their pixels."""
    known = {one.tobytes(): index for index, one in enumerate(images(COUNT))}
    found = []
    for batch in (batch for batches in rounds for batch in batches if batch.real is not None):
        assert batch.real is not None
        pixels = ((batch.real + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        found += [known[np.ascontiguousarray(one).tobytes()] for one in pixels]
    return found


def equal(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return (one is None and other is None) or (one is not None and other is not None and torch.equal(one, other))


def same(one: list[list[Batch]], other: list[list[Batch]]) -> bool:
    pairs = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    return all(
        equal(a.real, b.real)
        and equal(a.label, b.label)
        and torch.equal(a.z, b.z)
        and np.array_equal(a.reals.numbers, b.reals.numbers)
        and np.array_equal(a.latents.numbers, b.latents.numbers)
        for a, b in pairs
    )


def test_every_epoch_draws_each_image_once_in_an_order_of_its_own(pack: Pack) -> None:
    drawn = shown(fed(pack, 0, 10))  # 40 images: four epochs of ten, which steps of four cross
    epochs = [drawn[at : at + COUNT] for at in range(0, 40, COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [list(permutation(COUNT, 0, epoch)) for epoch in range(4)] == epochs


def test_the_order_is_a_function_of_the_seed_alone(pack: Pack) -> None:
    once = shown(fed(pack, 0, 5))
    assert shown(fed(pack, 0, 5, train__batch_size=2)) == once[:10]
    assert shown(fed(pack, 0, 5, train__update="simultaneous", data__mirror=False)) == once
    assert shown(fed(pack, 0, 5, train__seed=1)) != once


def test_a_batch_larger_than_the_data_goes_on_in_the_next_epochs(pack: Pack) -> None:
    drawn = shown(fed(pack, 0, 1, train__batch_size=25))
    assert drawn == [int(index) for epoch in range(3) for index in permutation(COUNT, 0, epoch)][:25]


@pytest.mark.parametrize("update", ["sequential", "simultaneous", "alternate_minibatches"])
@pytest.mark.parametrize("uses_real", [False, True])
@pytest.mark.parametrize("classes", [0, 3])
def test_any_step_can_be_fed_without_the_ones_before_it_resident_or_streaming(
    pack: Pack, update: str, uses_real: bool, classes: int
) -> None:
    options: dict[str, Any] = {"train__update": update, "data__num_classes": classes, "data__mirror": True}
    whole = fed(pack, 0, 9, uses_real=uses_real, **options)
    assert same(whole[4:], fed(pack, 4, 9, uses_real=uses_real, **options))
    assert same(whole, fed(pack, 0, 9, uses_real=uses_real, resident=False, **options))
    assert same(whole[4:], fed(pack, 4, 9, uses_real=uses_real, resident=False, **options))


def test_labels_are_right_though_images_are_read_epochs_ahead(pack: Pack) -> None:
    """With batches of nearly an epoch the thread that reads ahead is some epochs further than the one that labels."""
    label_of = dict(enumerate(labelled(COUNT)[1]))
    for _ in range(5):
        options: dict[str, Any] = {"data__num_classes": 3, "train__batch_size": 9}
        rounds = fed(pack, 0, 40, resident=False, **options)
        labels = [int(one) for batches in rounds for one in (batches[0].label if batches[0].label is not None else [])]
        assert labels == [label_of[index] for index in shown(rounds)]


def test_closing_the_rounds_ends_the_thread_that_reads_ahead(pack: Pack) -> None:
    import threading

    rounds = feeder(pack, resident=False).rounds(0, 10**6)
    next(rounds)
    assert any(thread.name == "ganzoo-prefetch" for thread in threading.enumerate())
    rounds.close()
    assert not any(thread.name == "ganzoo-prefetch" for thread in threading.enumerate())


def test_images_are_scaled_to_minus_one_and_one_exactly() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    scaled = normalise(levels, torch.float32)
    assert scaled.shape == (1, 1, 16, 16)
    assert (float(scaled.min()), float(scaled.max())) == (-1.0, 1.0)
    assert torch.allclose(scaled.double().flatten(), torch.arange(256).double() / 127.5 - 1.0, atol=1e-7)
    colours = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    colours[..., 1] = 255
    planes = normalise(colours, torch.float32)
    assert planes.is_contiguous(memory_format=torch.channels_last)
    assert planes[0, :, 0, 0].tolist() == [-1.0, 1.0, -1.0]


def test_each_sample_is_flipped_or_not_by_its_own_number(pack: Pack) -> None:
    plain = [batches[0].real for batches in fed(pack, 0, 50)]
    mirrored = [batches[0].real for batches in fed(pack, 0, 50, data__mirror=True)]
    flips = []
    for one, other in zip(plain, mirrored, strict=True):
        assert one is not None
        assert other is not None
        for image, seen in zip(one, other, strict=True):
            flipped = torch.equal(seen, image.flip(2))
            assert flipped or torch.equal(seen, image)
            flips.append(flipped)
    expected = draw_uniform(0, Stream.FLIP, np.arange(50 * BATCH, dtype=np.int64), 1)[:, 0] < 0.5
    assert flips == expected.tolist()
    assert 0.35 < np.mean(flips) < 0.65
    # The same image is flipped in some epochs and not in others.
    assert len({flips[list(permutation(COUNT, 0, epoch)).index(0) + epoch * COUNT] for epoch in range(20)}) == 2


def test_labels_are_those_of_the_real_images(pack: Pack) -> None:
    rounds = fed(pack, 0, 5, data__num_classes=3)
    label_of = labelled(COUNT)[1]
    labels = [batches[0].label for batches in rounds]
    assert all(label is not None and label.dtype == torch.int64 for label in labels)
    assert torch.cat([one for one in labels if one is not None]).tolist() == [label_of[at] for at in shown(rounds)]
    assert all(batch.label is None for batches in fed(pack, 0, 2) for batch in batches)


def test_fakes_without_real_images_get_labels_as_frequent_as_the_datas() -> None:
    pixels = images(COUNT)
    label = np.array([0] * 8 + [2] * 2, dtype=np.int64)
    with open_pack((pixels, label), DataRequest(8, 1, labels=True)) as pack:
        rounds = fed(pack, 0, 40, data__num_classes=3, train__batch_size=32)
    drawn = torch.cat([batches[1].label for batches in rounds if batches[1].label is not None])
    assert batches_have_no_reals(rounds)
    assert len(drawn) == 40 * 32
    share = [float((drawn == one).double().mean()) for one in range(3)]
    assert share[1] == 0.0
    assert share[0] == pytest.approx(0.8, abs=0.05)


def batches_have_no_reals(rounds: list[list[Batch]]) -> bool:
    return all(batches[1].real is None and len(batches[1].reals.numbers) == 0 for batches in rounds)


@pytest.mark.parametrize("prior", ["uniform", "normal"])
def test_z_is_drawn_by_its_number_and_prior(pack: Pack, prior: str) -> None:
    rounds = fed(pack, 0, 60, generator__prior=prior)
    z = torch.cat([batch.z for batches in rounds for batch in batches])
    numbers = np.arange(len(z), dtype=np.int64)
    if prior == "uniform":
        expected: npt.NDArray[np.float64] = 2.0 * draw_uniform(0, Stream.LATENT, numbers, 4) - 1.0
        assert float(z.abs().max()) < 1.0
    else:
        expected = draw_normal(0, Stream.LATENT, numbers, 4)
        assert float(z.abs().max()) > 1.0
    assert np.allclose(z.numpy(), expected, atol=1e-6)
    assert float(z.mean()) == pytest.approx(0.0, abs=0.1)


def test_no_z_and_no_real_image_is_used_twice_within_an_epoch_but_where_a_recipe_says_so(pack: Pack) -> None:
    sequential = fed(pack, 0, 3, train__discriminator_steps=2, train__generator_batch_size=6)
    z = [int(number) for batches in sequential for batch in batches for number in batch.latents.numbers]
    assert z == list(range(3 * (2 * 4 + 6)))
    reused = fed(pack, 0, 3, train__reuse_fakes=True)
    for discriminator, generator in reused:
        assert np.array_equal(discriminator.latents.numbers, generator.latents.numbers)
    alternate = fed(pack, 0, 3, train__update="alternate_minibatches")
    reals = [int(number) for batches in alternate for batch in batches for number in batch.reals.numbers]
    assert reals == list(range(24))
    relativistic = fed(pack, 0, 3, uses_real=True, train__generator_reals="reuse")
    assert all(equal(discriminator.real, generator.real) for discriminator, generator in relativistic)
    fresh = fed(pack, 0, 3, uses_real=True)
    assert [int(n) for batches in fresh for batch in batches for n in batch.reals.numbers] == list(range(24))


def test_the_fixed_latents_stay_the_same_and_show_every_class() -> None:
    asked = recipe(data__num_classes=3)
    z, label = fixed_latents(asked, 7, Stream.SNAPSHOT, Stream.SNAPSHOT_LABEL, CPU, torch.float32)
    again, _ = fixed_latents(asked, 64, Stream.SNAPSHOT, Stream.SNAPSHOT_LABEL, CPU, torch.float32)
    assert torch.equal(z, again[:7])
    assert label is not None
    assert label.tolist() == [0, 1, 2, 0, 1, 2, 0]
    other, labels = fixed_latents(asked, 900, Stream.STATISTICS, Stream.STATISTICS_LABEL, CPU, torch.float32)
    assert not torch.equal(other[:7], z)
    assert labels is not None
    assert np.bincount(labels.numpy()).tolist() == pytest.approx([300, 300, 300], abs=60)
    assert fixed_latents(recipe(), 3, Stream.SNAPSHOT, Stream.SNAPSHOT_LABEL, CPU, torch.float32)[1] is None


def test_parts_of_a_batch_are_the_batch() -> None:
    z, label = torch.arange(10).view(5, 2), torch.arange(5)
    parts = list(in_batches(z, label, 2))
    assert [len(part[0]) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part[0] for part in parts]), z)
    assert torch.equal(torch.cat([part[1] for part in parts if part[1] is not None]), label)
    assert [part[1] for part in in_batches(z, None, 3)] == [None, None]


def test_draws_are_as_wide_as_asked() -> None:
    from ganzoo.randomness import Draws

    draws = Draws(0, np.arange(3, dtype=np.int64), CPU, torch.float64)
    assert latents_tensor(draws, 5, "normal", Stream.LATENT).shape == (3, 5)
    assert latents_tensor(draws, 5, "uniform", Stream.LATENT).dtype == torch.float64


def test_images_are_read_from_the_pack_and_not_kept_where_they_stream(pack: Pack, tmp_path: Path) -> None:
    streaming = feeder(pack, resident=False)
    assert streaming._resident is None
    assert feeder(pack)._resident is not None
