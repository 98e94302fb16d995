"""Features of our own classifiers: what is computed, what is in a file, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_classifiers import SMALL, packaged_files, small_file, small_network

from ganzoo.errors import UsageError, WeightsError
from ganzoo.features import ConvNetFeatures, open_extractor, packaged
from ganzoo.features.classifier_files import load_classifier, read_facts
from ganzoo.features.training import TRAININGS, _normalised
from ganzoo.files import sha256_of
from ganzoo.tensors import read_metadata, save_tensors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    small_file(tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def _images(count: int = 4, size: int = 9, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, size, size, channels), dtype=torch.uint8, generator=generator)


def test_features_and_logits_are_the_networks_with_the_rounded_weights(file: Path) -> None:
    network = small_network()
    network.load_state_dict(
        {name: one.half().float() if one.is_floating_point() else one for name, one in network.state_dict().items()}
    )
    with torch.no_grad():
        features, logits = network(_normalised(_images()))
    extractor = ConvNetFeatures(file, device="cpu")
    made = extractor.extract(_images())
    assert torch.allclose(made.features, features, atol=1e-5)
    assert made.logits is not None
    assert torch.allclose(made.logits, logits, atol=1e-5)
    assert (extractor.name, extractor.dimension, extractor.num_classes) == ("small", 6, 3)
    assert extractor.spec.to_dict() == {"image_size": 9, "channels": 1, "resize": "bilinear", "low": -1.0, "high": 1.0}


def test_the_sha256_is_that_of_the_file_and_another_training_has_another(file: Path, tmp_path: Path) -> None:
    assert ConvNetFeatures(file, device="cpu").sha256 == sha256_of(file)
    other = small_file(tmp_path / "other.safetensors", small_network(seed=1))
    assert other != sha256_of(file)


def test_the_same_weights_are_the_same_bytes_in_16_bits_under_one_metadata_key(file: Path, tmp_path: Path) -> None:
    small_file(tmp_path / "again.safetensors", small_network().state_dict())
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    kinds = {one.dtype for one in load_file(file).values()}
    assert kinds == {torch.float16, torch.int64}
    length = int.from_bytes(file.read_bytes()[:8], "little")
    assert list(json.loads(file.read_bytes()[8 : 8 + length])["__metadata__"]) == ["ganzoo"]


def test_a_file_tells_what_it_is(tmp_path: Path) -> None:
    small_file(tmp_path / "told.safetensors", accuracy=0.75, protocol="by eye")
    facts = read_facts(tmp_path / "told.safetensors")
    assert (facts.name, facts.classes, facts.widths, facts.image_size) == ("small", ("a", "b", "c"), (4, 6), 9)
    assert (facts.accuracy, facts.protocol, facts.licence, facts.data) == (0.75, "by eye", "MIT", "nothing")
    assert facts.network == SMALL | {"both_sides": False}
    assert facts.torch == torch.__version__.partition("+")[0]


def test_weights_that_16_bits_cannot_hold_are_not_written(tmp_path: Path) -> None:
    network = small_network()
    with torch.no_grad():
        network.classifier.bias[0] = 1e6
    with pytest.raises(WeightsError, match=r"What was trained as small: classifier.bias holds NaN or Inf"):
        small_file(tmp_path / "large.safetensors", network)
    with pytest.raises(WeightsError, match="3 classes apart, but 2 are named"):
        small_file(tmp_path / "large.safetensors", classes=("a", "b"))
    with pytest.raises(WeightsError, match="What was trained as small does not fit the network: unexpected: more"):
        small_file(tmp_path / "large.safetensors", small_network().state_dict() | {"more": torch.zeros(1)})
    assert not list(tmp_path.iterdir())


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def _changed(**fields: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        save_tensors(path, load_file(path), read_metadata(path) | fields)

    return change


def _without_metadata(path: Path) -> None:
    save_tensors(path, load_file(path), {})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "cut short"),
        (_flip, "damaged"),
        (lambda path: path.write_bytes(b"\x80\x02}q\x00."), "is a pickle|bytes"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "a web page"),
        (lambda path: path.unlink(), "There is no file"),
        (_without_metadata, "holds no classifier that gives features"),
        (_changed(schema_version=2), "a later ganzoo wrote it"),
        (_changed(widths=[4, 7]), "does not fit the network"),
        (_changed(widths=[4, 10**9]), "widths that cannot be"),
        (_changed(widths=[1] * 100_000), "too small for its stages"),
        (_changed(widths=[]), "no stages"),
        (_changed(widths=None), "metadata are not whole"),
        (_changed(stem=True), "widths that cannot be"),
        (_changed(both_sides=1), "both_sides that is neither"),
        (_changed(channels=4), "images that cannot be"),
        (_changed(image_size=3), "too small for its stages"),
        (_changed(image_size="9"), "images that cannot be"),
        (_changed(classes=["a", "b", 3]), "what should be text is not"),
        (_changed(classes="abcd"), "does not fit the network|classes"),
        (_changed(accuracy="all"), "an accuracy that is no number"),
        (_changed(surprise=1), "metadata are not whole"),
    ],
)
def test_a_wrong_damaged_or_hostile_file_is_refused_in_one_line(
    file: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(file)
    with pytest.raises(WeightsError, match=said) as caught:
        ConvNetFeatures(file, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_file_with_nan_is_refused(file: Path) -> None:
    tensors = load_file(file)
    tensors["stem.0.weight"][0] = float("nan")
    save_tensors(file, tensors, read_metadata(file))
    with pytest.raises(WeightsError, match=r"stem.0.weight holds NaN or Inf"):
        load_classifier(file)


@pytest.mark.parametrize("name", packaged.NAMES)
def test_the_packaged_names_open_their_files_and_take_no_other_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged_files(tmp_path)
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    extractor = open_extractor(name, device="cpu")
    training = TRAININGS[name]
    assert extractor.name == name
    assert extractor.dimension == training.network["widths"][-1]
    assert (extractor.spec.image_size, extractor.spec.channels) == (training.image_size, training.network["channels"])
    with pytest.raises(UsageError, match="bring their own weights"):
        open_extractor(name, weights=tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("name", packaged.NAMES)
def test_without_its_file_there_is_one_line_that_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    with pytest.raises(WeightsError, match="are not in this installation") as caught:
        open_extractor(name)
    assert f"python -m ganzoo.features train {name}" in str(caught.value)


def test_a_device_that_is_none_is_refused(file: Path) -> None:
    with pytest.raises(UsageError, match="'abacus' is no device"):
        ConvNetFeatures(file, device="abacus")
