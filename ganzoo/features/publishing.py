"""Publishing our own classifiers: from a trained network and the data's packs to the file that is packaged.

`publish_classifier` rounds the weights to the 16 bits that are kept, measures what those name rightly among test images
that were not trained on, writes both into one file, and its SHA-256 into SHA256SUMS beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ganzoo.data.packs import Pack
from ganzoo.errors import UsageError, WeightsError
from ganzoo.features.classifier_files import ClassifierFacts, load_classifier, save_classifier
from ganzoo.features.convnet import ConvNet
from ganzoo.features.packaged import FOLDER, packaged_file
from ganzoo.features.training import TRAININGS, accuracy
from ganzoo.files import write_atomically

SUMS = "SHA256SUMS"
LARGEST_FILE = 3_000_000  # bytes of a packaged classifier


@dataclass(frozen=True)
class Origin:
    """What a classifier was trained on, and what follows from that.

    Attributes:
        data: the training images.
        test: the test images, with an article: "the 10,000 test images of MNIST".
        licence: of the weights, as an SPDX expression.
        notice: of the data, one line.
    """

    data: str
    test: str
    licence: str
    notice: str


ORIGINS = {
    "mnist-convnet": Origin(
        data="MNIST, training set",
        test="MNIST's test set",
        licence="CC-BY-SA-3.0",
        notice="trained on MNIST (Y. LeCun, C. Cortes; CC BY-SA 3.0)",
    ),
    "cifar-convnet": Origin(
        data="CIFAR-10 (JPEG 75), training set",
        test="the test set of CIFAR-10 (JPEG 75)",
        licence="LicenseRef-research-use",
        notice="trained on CIFAR-10 (A. Krizhevsky) re-encoded as JPEG of quality 75; for research",
    ),
}
"""Name of a feature extractor → what its classifier is trained on."""


@dataclass(frozen=True)
class Published:
    """A classifier's file.

    Attributes:
        path: the file.
        sha256: of it, in hexadecimal.
        bytes: of it.
        accuracy: share of the test images whose class its weights name.
        protocol: how that was measured.
    """

    path: Path
    sha256: str
    bytes: int
    accuracy: float
    protocol: str


def publish_classifier(
    name: str,
    network: ConvNet | Mapping[str, torch.Tensor],
    training_images: Pack,
    test_images: Pack,
    *,
    path: Path | None = None,
) -> Published:
    """Write the file of a trained classifier and return what is in it; same weights and images, same bytes.

    Args:
        name: of the feature extractor, one of `TRAININGS`.
        network: what was trained, or its state dict.
        training_images: what it was trained on.
        test_images: labelled images that it was not trained on.
        path: the file; None: where ganzoo looks for it, and its line in SHA256SUMS is set right.

    Raises:
        UsageError: test images without labels, of other classes or size, or the very images of the training.
        WeightsError: weights that are not this network's, or cannot be kept in 16 bits or in 3 MB.
        OSError: it cannot be written; nothing is left of it.
    """
    training, origin = TRAININGS[name], ORIGINS[name]
    _check_test_images(training_images, test_images)

    def save(to: Path, measured: float | None, protocol: str) -> str:
        return save_classifier(
            to,
            name,
            network,
            image_size=training.image_size,
            arguments=training.network,
            classes=training_images.classes,
            data=f"{origin.data}: {training_images.count:,} images",
            licence=origin.licence,
            notice=origin.notice,
            accuracy=measured,
            protocol=protocol,
        )

    with tempfile.TemporaryDirectory(prefix="ganzoo-") as folder:
        rounded = Path(folder, "rounded.safetensors")
        save(rounded, None, "")
        share = accuracy(load_classifier(rounded)[0], test_images)
        if (size := rounded.stat().st_size) > LARGEST_FILE - (1 << 12):
            raise WeightsError(f"The weights of {name} take {size:,} bytes, more than a package should hold.")
    seen = "of each image and its mirror image together" if training.network.get("both_sides") else "one pass"
    protocol = (
        f"share of {test_images.count:,} images ({origin.test}, content {test_images.manifest.content_sha256[:16]}) "
        f"whose class these 16-bit weights name, computed in float32, {seen}"
    )
    target = packaged_file(name) if path is None else path
    sha256 = save(target, share, protocol)
    if path is None:
        write_sums(FOLDER, read_sums(FOLDER) | {target.name: sha256})
    return Published(target, sha256, target.stat().st_size, share, protocol)


def measured_accuracy(path: Path, test_images: Pack) -> tuple[float, ClassifierFacts]:
    """Return the share of labelled images whose class a file's weights name, and what the file says of itself.

    Raises:
        WeightsError: the file cannot be read.
        UsageError: images without labels or of another size.
    """
    network, facts = load_classifier(path)
    if (test_images.image_size, test_images.channels) != (facts.image_size, facts.channels):
        raise UsageError(
            f"{test_images.path} is not of {facts.image_size}×{facts.image_size}×{facts.channels}, as {facts.name} is."
        )
    return accuracy(network, test_images), facts


def read_sums(folder: Path) -> dict[str, str]:
    """Return file name → SHA-256 as a folder's SHA256SUMS tells; empty where there is none.

    Raises:
        WeightsError: it is no such list.
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    sums = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, gap, name = line.partition("  ")
        if len(digest) != 64 or not gap or not name:
            raise WeightsError(f"{path} holds a line that is no checksum: {line[:40]!r}.")
        sums[name] = digest
    return sums


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write a folder's SHA256SUMS, which `sha256sum --check` reads, too.

    Args:
        folder: of the files.
        sums: file name → SHA-256.
    """
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    write_atomically(folder / SUMS, text.encode())


def _check_test_images(training_images: Pack, test_images: Pack) -> None:
    if test_images.labels is None or test_images.classes != training_images.classes:
        raise UsageError(
            f"The test images have the classes {', '.join(test_images.classes) or 'none'}, not those of the "
            f"training: {', '.join(training_images.classes) or 'none'}."
        )
    if test_images.shape[1:] != training_images.shape[1:]:
        raise UsageError(f"The test images are of {test_images.shape[1:]}, not of {training_images.shape[1:]}.")
    if test_images.manifest.content_sha256 == training_images.manifest.content_sha256:
        raise UsageError("The test images are those of the training.", "Name others with --test-data.")
