"""The test kit of feature extractors: everything registered keeps the contract, and each promise, broken once, is
caught and named."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ganzoo
import ganzoo.features
from ganzoo import registry
from ganzoo.errors import DataError, PluginError, UnknownNameError
from ganzoo.features import Extracted, FeatureExtractor, InputSpec, open_extractor, packaged
from ganzoo.features.resizing import prepare
from ganzoo.testing import FEATURE_EXTRACTOR_PROMISES, check_feature_extractor


class Means(FeatureExtractor):
    """The mean of each third of an image's rows, in each channel."""

    name = "means"
    sha256 = "0" * 64
    spec = InputSpec(image_size=9, channels=3, resize="bilinear", low=0.0, high=1.0)
    dimension = 9
    num_classes = 2
    notice = "no weights"

    def __init__(self, weights: Path | None = None, device: str = "auto") -> None:
        """Keep nothing."""

    def extract(self, images: torch.Tensor) -> Extracted:
        features = prepare(images, self.spec).reshape(len(images), 3, 3, -1).mean(dim=3).flatten(1)
        return Extracted(features, features[:, :2].contiguous())


def _changed(**attributes: Any) -> type[Means]:
    return type("Changed", (Means,), attributes)


def _after(change: Callable[[torch.Tensor], torch.Tensor]) -> type[Means]:
    """Return the extractor with its features changed."""

    def extract(self: Means, images: torch.Tensor) -> Extracted:
        made = Means.extract(self, images)
        return Extracted(change(made.features), made.logits)

    return _changed(extract=extract)


class _Stateful(Means):
    def __init__(self, weights: Path | None = None, device: str = "auto") -> None:
        self.calls = 0

    def extract(self, images: torch.Tensor) -> Extracted:
        self.calls += 1
        made = super().extract(images)
        return Extracted(made.features + self.calls, made.logits)


class _Changing(Means):
    def extract(self, images: torch.Tensor) -> Extracted:
        made = super().extract(images)
        images.zero_()
        return made


class _Forgiving(Means):
    def extract(self, images: torch.Tensor) -> Extracted:
        images = images if images.ndim == 4 else images[None]
        return super().extract(images[..., :1].to(torch.uint8))


class _Strict(Means):
    def extract(self, images: torch.Tensor) -> Extracted:
        if images.dtype != torch.uint8:
            raise DataError("no bytes")
        return super().extract(images)


class _NoLogits(Means):
    def extract(self, images: torch.Tensor) -> Extracted:
        return Extracted(super().extract(images).features)


_BROKEN: list[tuple[Callable[..., Any], str, str]] = [
    (lambda weights, device: torch.nn.Identity(), "constructor", "gives a Identity"),
    (lambda device: Means(), "constructor", "TypeError"),
    (_changed(name=""), "description", "its name is ''"),
    (_changed(sha256="6726825D" * 8), "description", "its sha256 is '6726825D"),
    (_changed(sha256="0" * 63), "description", "its sha256"),
    (_changed(dimension=9.0), "description", "its dimension is 9.0"),
    (_changed(num_classes=-1), "description", "its num_classes is -1"),
    (_changed(batch_size=0), "description", "its batch_size is 0"),
    (_changed(spec={"image_size": 9}), "description", "its spec is a dict"),
    (_changed(spec=InputSpec(9, 3, "cubic", 0.0, 1.0)), "description", "its spec is InputSpec"),  # type: ignore[arg-type]
    (_changed(spec=InputSpec(9, 3, "bilinear", 1.0, 1.0)), "description", "its spec is InputSpec"),
    (_changed(spec=InputSpec(9, 3, "none", 0.0, 1.0)), "description", "resizes by 'none' to 9 pixels"),
    (_changed(to_dict=lambda self: {"sizes": {1, 2}}), "description", "its to_dict.. is no JSON"),
    (_changed(notice="two\nlines"), "description", "its notice"),
    (_changed(extract=lambda self, images: torch.zeros(len(images), 9)), "output", "extract gives a Tensor"),
    (_changed(dimension=8), "output", "features are .3, 9. of torch.float32"),
    (_changed(num_classes=3), "output", "logits are .3, 2."),
    (_changed(num_classes=0), "output", "its num_classes is 0"),
    (_NoLogits, "output", "it gives no logits"),
    (_after(lambda features: features.double()), "output", "of torch.float64"),
    (_after(lambda features: features / 0.0), "output", "not finite"),
    (_after(lambda features: features.requires_grad_()), "output", "with gradient True"),
    (_after(torch.inference_mode()(lambda features: features * 1.0)), "output", "inference True"),
    (_after(lambda features: features + torch.rand(1)), "determinism", "draws from torch's own generator"),
    (_Stateful, "determinism", "a second time"),
    (_Changing, "determinism", "changes the images"),
    (_after(lambda features: features - features.mean(dim=0)), "batch-mates", "batch-mates change"),
    (_after(lambda features: features / len(features)), "batch-mates", "alone an image"),
    (_after(lambda features: features * 0.0), "difference", "have the same features"),
    (_Forgiving, "refusal", "it takes images of float32"),
    (_Strict, "refusal", "refused with a DataError"),
]


def test_an_extractor_that_keeps_the_contract_passes_and_leaves_torchs_random_state() -> None:
    before = torch.random.get_rng_state()
    check_feature_extractor(Means)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("factory", "promise", "said"), _BROKEN)
def test_each_broken_promise_is_caught_and_named(factory: Callable[..., Any], promise: str, said: str) -> None:
    with pytest.raises(PluginError, match=f"breaks the promise '{promise}': .*{said}"):
        check_feature_extractor(factory)


def test_every_promise_is_broken_once() -> None:
    assert {promise for _, promise, _ in _BROKEN} == set(FEATURE_EXTRACTOR_PROMISES)


_REGISTERED = [one.name for one in registry.feature_extractors.entries() if one.origin == "ganzoo"]
_SLOW = {"inception": pytest.mark.slow}  # test_inception.py checks what matters of it quickly


@pytest.mark.parametrize("name", [pytest.param(name, marks=_SLOW.get(name, ())) for name in _REGISTERED])
def test_every_registered_extractor_keeps_its_promises(name: str, tmp_path: Path) -> None:
    weights = _random_inception(tmp_path) if name == "inception" else None
    check_feature_extractor(registry.feature_extractors.get(name), weights=weights)


def _random_inception(folder: Path) -> Path:
    """Write weights for InceptionV3: whatever its constructor draws."""
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    kept = type("Kept", (library.FeatureExtractorInceptionV3,), {"load_state_dict": lambda self, state: None})
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.save(kept("kept", ["2048"], feature_extractor_weights_path=nothing).state_dict(), folder / "random.pth")
    return folder / "random.pth"


@pytest.mark.parametrize("name", packaged.NAMES)
def test_every_packaged_file_is_small_and_says_how_good_it_is(name: str) -> None:
    path = packaged.packaged_file(name)
    assert path.stat().st_size < 3_000_000
    extractor = open_extractor(name, device="cpu")
    assert isinstance(extractor, packaged.ConvNetFeatures)
    assert extractor.facts.accuracy is not None
    assert extractor.facts.accuracy > 0.9
    assert extractor.facts.protocol.startswith("share of 10,000 images")


def test_extractors_of_ones_own_are_registered_and_held_to_being_extractors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.feature_extractors, "_registered", {})
    ganzoo.register_feature_extractor("means")(Means)
    assert open_extractor("means", device="cpu").name == "means"
    ganzoo.register_feature_extractor("nothing")(lambda weights, device: None)
    with pytest.raises(PluginError, match="'nothing' is a NoneType, no FeatureExtractor"):
        open_extractor("nothing")
    with pytest.raises(UnknownNameError, match="There is no feature extractor named 'mnist-convnt'") as caught:
        open_extractor("mnist-convnt")
    assert "Did you mean 'mnist-convnet'" in str(caught.value)


def test_the_packages_names_are_sorted_and_resolve_to_what_their_modules_define() -> None:
    assert ganzoo.features.__all__ == sorted(ganzoo.features.__all__) == dir(ganzoo.features)
    assert set(ganzoo.features.__all__) == set(ganzoo.features._HOMES)
    for name, home in ganzoo.features._HOMES.items():
        value = getattr(ganzoo.features, name)
        assert value is getattr(sys.modules[f"ganzoo.features.{home}"], name)
        assert value.__doc__
    with pytest.raises(AttributeError, match=r"module 'ganzoo\.features' has no attribute 'Pixel'"):
        ganzoo.features.Pixel  # noqa: B018


def test_importing_the_package_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, ganzoo.features; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
