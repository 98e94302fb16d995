"""Training, packaging and verifying the classifiers: `python -m ganzoo.features`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_classifiers import SMALL, small_network

from ganzoo.data import DataRequest, Pack, open_pack
from ganzoo.data.sources.base import ArraySource
from ganzoo.errors import UsageError, WeightsError
from ganzoo.features import packaged, publishing, training
from ganzoo.features.__main__ import main
from ganzoo.features.classifier_files import load_classifier, read_facts
from ganzoo.features.publishing import publish_classifier, read_sums
from ganzoo.files import sha256_of

_TRAINING = training.Training(
    network=SMALL, image_size=9, epochs=1, shift=1, mirror=False, blank=0, batch_size=16, learning_rate=0.05
)


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make mnist-convnet a tiny network of 9×9 images in a folder of the test's own."""
    monkeypatch.setitem(training.TRAININGS, "mnist-convnet", _TRAINING)
    for module in (packaged, publishing):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(packaged, "NAMES", ("mnist-convnet",))


def _arrays(seed: int, count: int) -> tuple[Any, Any]:
    """Return images whose brightness is their class, and the classes."""
    numbers = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = numbers.integers(0, 60, (count, 9, 9, 1)) + 95 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


@pytest.fixture
def packs(tmp_path: Path) -> Iterator[tuple[Pack, Pack]]:
    opened = [
        open_pack(
            ArraySource(*_arrays(seed, count), description="stripes", classes=("a", "b", "c")),
            DataRequest(image_size=9, channels=1),
            cache_dir=tmp_path / "packs",
        )
        for seed, count in ((0, 96), (1, 30))
    ]
    yield opened[0], opened[1]
    for pack in opened:
        pack.close()


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Archives as `--data` takes them: training and test images."""
    for name, seed, count in (("train", 0, 96), ("test", 1, 30)):
        images, labels = _arrays(seed, count)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    return str(tmp_path / "train.npz"), str(tmp_path / "test.npz")


def test_what_is_measured_is_what_the_file_holds(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    network = small_network()
    made = publish_classifier("mnist-convnet", network, *packs)
    assert made.path == tmp_path / "weights" / "mnist-convnet.safetensors"
    assert (made.sha256, made.bytes) == (sha256_of(made.path), made.path.stat().st_size)
    rounded, facts = load_classifier(made.path)
    assert facts.accuracy == made.accuracy == training.accuracy(rounded, packs[1])
    assert "share of 30 images (MNIST's test set, content " + packs[1].manifest.content_sha256[:16] in facts.protocol
    assert facts.data == "MNIST, training set: 96 images"
    assert facts.licence == "CC-BY-SA-3.0"
    assert facts.classes == ("a", "b", "c")
    assert read_sums(tmp_path / "weights") == {"mnist-convnet.safetensors": made.sha256}


def test_the_same_weights_are_the_same_bytes_wherever_they_are_written(
    packs: tuple[Pack, Pack], tmp_path: Path
) -> None:
    inside = publish_classifier("mnist-convnet", small_network(), *packs)
    outside = publish_classifier("mnist-convnet", small_network().state_dict(), *packs, path=tmp_path / "a.safetensors")
    assert inside.path.read_bytes() == outside.path.read_bytes()
    assert sorted(one.name for one in (tmp_path / "weights").iterdir()) == ["SHA256SUMS", "mnist-convnet.safetensors"]


def test_the_images_of_the_training_are_no_test_images(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The test images are those of the training"):
        publish_classifier("mnist-convnet", small_network(), packs[0], packs[0])
    assert not (tmp_path / "weights").exists()


def test_weights_of_another_network_leave_no_file(packs: tuple[Pack, Pack], tmp_path: Path) -> None:
    other = small_network(SMALL | {"stem": 5})
    with pytest.raises(WeightsError, match="of another shape"):
        publish_classifier("mnist-convnet", other, *packs)
    assert not (tmp_path / "weights").exists()


def test_train_writes_a_classifier_that_verify_finds_in_order(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made.safetensors"
    asked = ["train", "mnist-convnet", "--data", files[0], "--test-data", files[1], "--device", "cpu", "--epochs", "5"]
    assert main([*asked, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count("epoch ") == 5
    facts = read_facts(out)
    assert facts.accuracy is not None
    assert facts.accuracy > 0.9
    assert f"{facts.accuracy:.2%} right: share of 30 images" in said
    first = out.read_bytes()
    assert main([*asked, "--out", str(out)]) == 0
    assert out.read_bytes() == first

    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mnist-convnet.safetensors").write_bytes(first)
    publishing.write_sums(tmp_path / "weights", {"mnist-convnet.safetensors": sha256_of(out)})
    capsys.readouterr()
    assert main(["verify", "--data", f"mnist-convnet={files[1]}"]) == 0
    said = capsys.readouterr().out
    assert f"6 features, 3 classes; {facts.accuracy:.2%} of 30 images right, as it says" in said
    assert "1 checked, 0 failed." in said


def test_verify_fails_where_the_file_is_not_the_published_one(
    packs: tuple[Pack, Pack], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify"]) == 1
    assert "FAILED: The weights of the features mnist-convnet are not in this installation" in capsys.readouterr().out
    made = publish_classifier("mnist-convnet", small_network(), *packs)
    assert main(["verify"]) == 0
    assert "accuracy not measured" in capsys.readouterr().out
    publish_classifier("mnist-convnet", small_network(seed=1), *packs, path=made.path)
    assert main(["verify"]) == 1
    assert f"SHA256SUMS tells {made.sha256}" in capsys.readouterr().out
    made.path.write_bytes(made.path.read_bytes()[:-1])
    assert main(["verify"]) == 1
    assert "cut short" in capsys.readouterr().out


def test_verify_fails_where_fewer_images_are_named_rightly_than_the_file_says(
    packs: tuple[Pack, Pack], files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    from ganzoo.tensors import read_tensors, save_tensors

    made = publish_classifier("mnist-convnet", small_network(), *packs)
    tensors, metadata = read_tensors(made.path)
    save_tensors(made.path, tensors, metadata | {"accuracy": made.accuracy + 0.1})
    publishing.write_sums(made.path.parent, {made.path.name: sha256_of(made.path)})
    assert main(["verify", "--data", f"mnist-convnet={files[1]}"]) == 1
    assert f"names {made.accuracy:.2%} of 30 images rightly, not {made.accuracy + 0.1:.2%}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (["train", "minst-convnet"], 2, "Did you mean 'mnist-convnet'"),
        (["train", "mnist-convnet", "--epochs", "0"], 2, "--epochs must be at least 1"),
        (["train", "mnist-convnet", "--seed", "-1"], 2, "--seed must be from 0"),
        (["train", "mnist-convnet"], 2, "lies in no source checkout"),
        (["verify", "--data", "mnist-convnet"], 2, "is not NAME=SOURCE"),
        (["verify", "--data", "other=digits"], 2, "There is no packaged feature extractor named 'other'"),
    ],
)
def test_wrong_usage_is_one_line(
    asked: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = ["--data", "digits", "--test-data", "digits"] if asked[0] == "train" else []
    out = ["--out", str(tmp_path / "out")] if len(asked) == 4 else []
    assert main([*asked, *data, *out]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_data_without_labels_or_with_the_same_images_are_refused(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "unlabelled.npy", _arrays(0, 40)[0])
    asked = ["train", "mnist-convnet", "--out", str(tmp_path / "x"), "--device", "cpu"]
    assert main([*asked, "--data", str(tmp_path / "unlabelled.npy"), "--test-data", files[1]]) == 1
    assert "has no labels" in capsys.readouterr().err
    assert main([*asked, "--data", files[0], "--test-data", files[0]]) == 2
    assert "those of the training" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_full_package_is_refused(packs: tuple[Pack, Pack], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "LARGEST_FILE", 4100)
    with pytest.raises(WeightsError, match="more than a package should hold"):
        publish_classifier("mnist-convnet", small_network(), *packs)


def test_sums_are_those_that_sha256sum_reads(tmp_path: Path) -> None:
    publishing.write_sums(tmp_path, {"b": "1" * 64, "a": "0" * 64})
    assert (tmp_path / "SHA256SUMS").read_text() == f"{'0' * 64}  a\n{'1' * 64}  b\n"
    (tmp_path / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(WeightsError, match="no checksum: 'nonsense'"):
        read_sums(tmp_path)
