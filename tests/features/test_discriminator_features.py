"""A discriminator's convolutions as features: which numbers they are, and that nothing of the model changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import ganzoo
from ganzoo.errors import PluginError, UsageError
from ganzoo.evaluation.extraction import extract_all
from ganzoo.features.discriminator import DiscriminatorFeatures, discriminator_features, max_pooled
from ganzoo.models import Model


def model(**changes: Any) -> Model:
    """Untrained, 16×16 RGB: maps of 8, 8 and 4."""
    recipe = {"data.image_size": 16, "data.channels": 3, "generator.widths": [8, 8], "generator.strides": [2, 2]}
    recipe |= {"generator.kernel_size": 3, "discriminator.kernel_size": 3}
    recipe |= {"discriminator.widths": [4, 6, 8], "discriminator.strides": [2, 1, 2]}
    return ganzoo.create_model("dcgan-imagenet32", **(recipe | changes))


def images(count: int = 7, size: int = 16, channels: int = 3, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


class Listed:
    """Images as packs and image sets give them."""

    labels, classes = None, ()

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        self.pixels, self.count = pixels, len(pixels)
        self.image_size, self.channels = pixels.shape[1], pixels.shape[3]

    def read(self, first: int, last: int) -> torch.Tensor:
        return torch.from_numpy(self.pixels[first:last])

    def gather(self, indices: npt.NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.pixels[indices])


def test_the_papers_vector_has_28672_numbers() -> None:
    extractor = DiscriminatorFeatures(ganzoo.create_model("dcgan-imagenet32"))
    assert extractor.dimension == 28_672
    assert list(extractor.layers.values()) == [(width, 4, 4) for width in (128, 128, 256, 256, 512, 512)]
    made = extractor.extract(torch.from_numpy(images(2, 32)))
    assert made.features.shape == (2, 28_672)
    assert made.features.dtype == torch.float32


def test_features_are_the_pooled_activations_of_every_layer_side_by_side() -> None:
    made, pixels = model(), images()
    found = discriminator_features(made, pixels, statistics=None, batch_size=7)
    with torch.no_grad():
        image = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        layers = made.discriminator.features(image)  # type: ignore[union-attr,operator]
    first, second = (functional.max_pool2d(layers[f"layers.{index}"], 2) for index in (0, 1))
    wanted = torch.cat([first.flatten(1), second.flatten(1), layers["layers.2"].flatten(1)], dim=1)
    assert found.shape == (7, 16 * (4 + 6 + 8))
    assert np.allclose(found, wanted.numpy(), atol=1e-6)


def test_some_layers_are_those_columns_in_the_order_asked_for() -> None:
    made, pixels = model(), images()
    whole = discriminator_features(made, pixels)
    chosen = discriminator_features(made, pixels, layers=["layers.2", "layers.0"])
    assert np.array_equal(chosen, np.concatenate([whole[:, 160:], whole[:, :64]], axis=1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6))
def test_a_pooled_square_is_the_maximum_of_windows_that_cover_the_map(size: int, side: int) -> None:
    values = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size * 7 + side))
    pooled = max_pooled(values, side)
    if size <= side:
        assert torch.equal(pooled, values)
        return
    for row in range(side):
        for column in range(side):
            (top, bottom), (left, right) = ((one * size // side, -(-(one + 1) * size // side)) for one in (row, column))
            assert torch.equal(pooled[:, :, row, column], values[:, :, top:bottom, left:right].amax(dim=(2, 3)))


def test_batch_norm_has_the_statistics_of_the_images_given() -> None:
    made, pixels = model(), images(12, seed=3)
    extractor = DiscriminatorFeatures(made, statistics=pixels)
    with torch.no_grad():
        image = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        layers: Any = made.discriminator.layers  # type: ignore[union-attr]
        before = layers[1].conv(layers[0](image))
    norm: Any = extractor._network.layers[1].norm
    assert torch.allclose(norm.running_mean, before.mean(dim=(0, 2, 3)), atol=1e-6)
    assert torch.allclose(norm.running_var, before.var(dim=(0, 2, 3)), rtol=1e-5)
    assert extractor.to_dict()["batch_statistics"] == "of 12 images"


def test_statistics_are_the_plain_average_over_batches_of_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganzoo.features.discriminator.STATISTICS_BATCH", 4)
    made, pixels = model(), images(12)
    means = [
        DiscriminatorFeatures(made, statistics=pixels[first:last])._network.layers[1].norm.running_mean
        for first, last in ((0, 4), (4, 8), (8, 12))
    ]
    whole = DiscriminatorFeatures(made, statistics=pixels)._network.layers[1].norm.running_mean
    assert torch.allclose(whole, torch.stack(means).mean(dim=0), atol=1e-6)


def test_the_model_keeps_its_tensors_and_its_mode() -> None:
    made = model()
    network = made.discriminator
    assert network is not None
    before = {name: one.clone() for name, one in network.state_dict().items()}
    momenta = [one.momentum for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    discriminator_features(made, images())
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert momenta == [one.momentum for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    assert not any(one.training for one in network.modules())


def test_images_features_do_not_depend_on_how_many_are_asked_for() -> None:
    made, pixels = model(), images(9)
    statistics = images(20, seed=5)
    whole = discriminator_features(made, pixels, statistics=statistics, batch_size=4)
    alone = discriminator_features(made, pixels[:1], statistics=statistics, batch_size=4)
    assert np.array_equal(whole[:1], alone)


def test_arrays_tensors_image_sets_and_tables_give_the_same_numbers(tmp_path: Path) -> None:
    made, pixels = model(), images(9)
    wanted = discriminator_features(made, pixels, batch_size=4)
    frozen = pixels.copy()
    frozen.flags.writeable = False
    for given_images in (frozen, torch.from_numpy(pixels), Listed(pixels)):
        assert np.array_equal(discriminator_features(made, given_images, batch_size=4), wanted)
    extractor = DiscriminatorFeatures(made, statistics=pixels, batch_size=4)
    table = extract_all(extractor, Listed(pixels), folder=tmp_path)  # type: ignore[arg-type]
    assert np.array_equal(table.features(), wanted)


def test_a_folder_of_a_model_and_a_discriminator_alone_give_the_same_numbers(tmp_path: Path) -> None:
    made, pixels = model(), images()
    wanted = discriminator_features(made, pixels)
    assert np.array_equal(discriminator_features(made.save(tmp_path / "model"), pixels), wanted)
    assert made.discriminator is not None
    assert np.array_equal(discriminator_features(made.discriminator, pixels), wanted)


def test_other_sizes_are_resized_and_grey_is_repeated() -> None:
    made = model()
    grey = images(5, channels=1)
    assert np.array_equal(discriminator_features(made, grey), discriminator_features(made, grey.repeat(3, axis=3)))
    large = images(5, 8).repeat(4, axis=1).repeat(4, axis=2)
    half = functional.interpolate(
        torch.from_numpy(large).permute(0, 3, 1, 2).float(), size=(16, 16), mode="bilinear", antialias=True
    )
    found = discriminator_features(made, large)
    near = discriminator_features(made, half.round().byte().permute(0, 2, 3, 1).numpy())
    assert found.shape == (5, 288)
    assert np.abs(found - near).max() < 0.05 * np.abs(near).max()


def test_out_is_filled_be_it_a_memory_map() -> None:
    made, pixels = model(), images(9)
    out = np.zeros((9, 288), dtype=np.float16)
    assert discriminator_features(made, pixels, out=out) is out
    assert np.allclose(out, discriminator_features(made, pixels), rtol=1e-3, atol=1e-4)
    with pytest.raises(UsageError, match=r"\(9, 287\), not \(9, 288\)"):
        discriminator_features(made, pixels, out=np.zeros((9, 287), dtype=np.float32))


def test_the_digest_tells_weights_and_statistics_apart() -> None:
    made = model()
    digests = {
        DiscriminatorFeatures(made).sha256,
        DiscriminatorFeatures(made, statistics=images(4)).sha256,
        DiscriminatorFeatures(made, statistics=images(4, seed=1)).sha256,
        DiscriminatorFeatures(model(**{"train.seed": 1})).sha256,
        DiscriminatorFeatures(model(**{"discriminator.activation": "leaky_relu_0.1"})).sha256,
    }
    assert len(digests) == 5
    assert DiscriminatorFeatures(made).sha256 == DiscriminatorFeatures(model()).sha256


@pytest.mark.parametrize("recipe", ["sngan-cifar10", "sngan-resnet-cifar10"])
def test_other_discriminators_give_features(recipe: str) -> None:
    extractor = DiscriminatorFeatures(ganzoo.create_model(recipe), batch_size=2)
    made = extractor.extract(torch.from_numpy(images(2, 32))).features
    assert made.shape == (2, extractor.dimension)
    assert extractor.dimension == sum(int(np.prod(shape)) for shape in extractor.layers.values())
    assert bool(made.isfinite().all())


CLASSES = {"data.num_classes": 3}


def test_a_discriminator_that_is_told_the_class_is_refused() -> None:
    with pytest.raises(UsageError, match="told the class"):
        DiscriminatorFeatures(model(**CLASSES))


@pytest.mark.parametrize("conditioning", ["projection", "none"])
def test_conditional_discriminators_whose_features_are_free_of_classes_are_taken(conditioning: str) -> None:
    made = model(**CLASSES, **{"discriminator.conditioning": conditioning})
    assert discriminator_features(made, images()).shape == (7, 288)


def test_a_model_without_discriminator_is_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match="without its discriminator") as refused:
        DiscriminatorFeatures(dataclasses.replace(model(), discriminator=None))
    assert "every training publishes both" in str(refused.value.remedy)


def test_unknown_layers_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"no layer 'layers\.7'") as refused:
        DiscriminatorFeatures(model(), layers=["layers.7"])
    assert "layers.0, layers.1, layers.2" in str(refused.value.remedy)
    with pytest.raises(UsageError, match="No layers"):
        DiscriminatorFeatures(model(), layers=[])


def test_a_network_without_features_breaks_the_contract() -> None:
    with pytest.raises(PluginError, match="Linear has no method"):
        DiscriminatorFeatures(nn.Linear(2, 2))


def test_a_discriminator_alone_refuses_images_that_it_cannot_take() -> None:
    network = model().discriminator
    assert network is not None
    with pytest.raises(UsageError, match="cannot take images of 16×16×1"):
        DiscriminatorFeatures(network).extract(torch.from_numpy(images(channels=1)))
    with pytest.raises(UsageError, match="cannot take images of 16×16×1"):
        discriminator_features(network, images(channels=1))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (images(0), "no images"),
        (images().astype(np.float32), "bytes"),
        (images()[0], "shape"),
        ([1, 2], "not of a list"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(bad: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        discriminator_features(model(), bad)
