"""Feature extractors on a GPU: the CPU's features, without TF32, and the same bytes however many images are asked for.

The CPU's twins run everywhere.
"""

from __future__ import annotations

import pytest
import torch

from ganzoo.features import open_extractor, packaged

both_devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@both_devices
@pytest.mark.parametrize("name", packaged.NAMES)
def test_features_are_those_of_the_cpu_in_full_precision(name: str, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 32, 32, 3), dtype=torch.uint8, generator=generator)
    expected = open_extractor(name, device="cpu").extract(images)
    found = open_extractor(name, device=device).extract(images)
    assert found.logits is not None
    assert expected.logits is not None
    # TF32 would be off by some 1e-3 of the largest.
    for one, other in ((found.features, expected.features), (found.logits, expected.logits)):
        assert one.device.type == "cpu"
        assert (one - other).abs().max() <= 5e-5 * other.abs().max()


@both_devices
def test_the_same_batch_gives_the_same_bytes(device: str) -> None:
    extractor = open_extractor("mnist-convnet", device=device)
    images = torch.randint(0, 256, (50, 28, 28, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    other = images.clone()
    other[25:] = 0
    assert torch.equal(extractor.extract(images).features, extractor.extract(images).features)
    assert torch.equal(extractor.extract(images).features[:25], extractor.extract(other).features[:25])
