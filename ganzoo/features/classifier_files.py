"""The files of our own small classifiers: half-precision weights, and what it takes to know what they are.

One safetensors file. Under ganzoo's one metadata key stand schema_version, the extractor's name, the network's
arguments, the images' size, the classes, what it was trained on, licence and notice, the measured accuracy with its
protocol, and the version of torch. Numbers are kept in 16 bits and computed with in 32, so what is measured is what the
file holds, not what was trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ganzoo.errors import WeightsError
from ganzoo.features.convnet import ConvNet
from ganzoo.files import sha256_of, write_atomically
from ganzoo.tensors import load_network, read_metadata, save_tensors

SCHEMA_VERSION = 1
_LARGEST_SIDE = 1024  # of the images of a file that is read, in pixels
_MOST_WIDTH = 1 << 16


@dataclass(frozen=True)
class ClassifierFacts:
    """What a file says of its classifier.

    Attributes:
        name: of the extractor.
        image_size: side of its images, in pixels.
        channels: of its images, 1 or 3.
        stem, widths, both_sides: of `ConvNet`.
        classes: names of the classes.
        data: what it was trained on.
        licence: of the weights, as an SPDX expression.
        notice: origin of the data, one line.
        accuracy: share of test images whose class these weights name; None where it was not measured.
        protocol: how that was measured.
        torch: the version that trained it.
    """

    name: str
    image_size: int
    channels: int
    stem: int
    widths: tuple[int, ...]
    both_sides: bool
    classes: tuple[str, ...]
    data: str
    licence: str
    notice: str
    accuracy: float | None
    protocol: str
    torch: str

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of `ConvNet`."""
        return {
            "channels": self.channels,
            "stem": self.stem,
            "widths": self.widths,
            "num_classes": len(self.classes),
            "both_sides": self.both_sides,
        }


def save_classifier(
    path: Path,
    name: str,
    network: ConvNet | Mapping[str, torch.Tensor],
    *,
    image_size: int,
    arguments: Mapping[str, Any],
    classes: Sequence[str],
    data: str,
    licence: str,
    notice: str,
    accuracy: float | None = None,
    protocol: str = "",
) -> str:
    """Write a trained classifier, rounded to 16 bits, and return the file's SHA-256; same weights, same bytes.

    Args:
        path: the file; whole or as it was before.
        name: of the extractor: "mnist-convnet".
        network: the trained network, or its state dict.
        image_size: side of its images, in pixels.
        arguments: of `ConvNet`: channels, stem, widths, num_classes, and both_sides where it is set.
        classes: names of the classes.
        data: what it was trained on.
        licence: of the weights, as an SPDX expression.
        notice: origin of the data, one line.
        accuracy: share of test images whose class the weights of this file name; None where that was not measured.
        protocol: how it was measured.

    Raises:
        WeightsError: weights that are not the network's, or hold NaN or Inf, or what 16 bits cannot hold.
        OSError: the file cannot be written; nothing is left of it.
    """
    state = network.state_dict() if isinstance(network, ConvNet) else network
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    facts = ClassifierFacts(
        name=name,
        image_size=image_size,
        channels=arguments["channels"],
        stem=arguments["stem"],
        widths=tuple(arguments["widths"]),
        both_sides=bool(arguments.get("both_sides", False)),
        classes=tuple(classes),
        data=data,
        licence=licence,
        notice=notice,
        accuracy=accuracy,
        protocol=protocol,
        torch=torch.__version__.partition("+")[0],
    )
    if arguments["num_classes"] != len(facts.classes):
        raise WeightsError(f"{name} tells {arguments['num_classes']} classes apart, but {len(classes)} are named.")
    with tempfile.TemporaryDirectory(prefix="ganzoo-") as folder:
        written = Path(folder, "classifier.safetensors")
        save_tensors(written, tensors, {"schema_version": SCHEMA_VERSION} | asdict(facts))
        try:
            load_classifier(written)
        except WeightsError as error:
            raise WeightsError(error.message.replace(str(written), f"What was trained as {name}")) from error
        write_atomically(path, written.read_bytes())
    return sha256_of(path)


def load_classifier(path: Path) -> tuple[ConvNet, ClassifierFacts]:
    """Return the classifier of a file, in eval mode and float32 on the CPU, and what the file says of it.

    Raises:
        WeightsError: no such file, a damaged one, or another than `save_classifier` writes.
    """
    facts = read_facts(path)
    network = load_network(lambda: ConvNet(**facts.network), path)
    assert isinstance(network, ConvNet)
    return network.eval().requires_grad_(False), facts


def read_facts(path: Path) -> ClassifierFacts:
    """Return what a file says of its classifier; of its tensors nothing is read.

    Raises:
        WeightsError: no such file, a damaged one, or another than `save_classifier` writes.
    """
    fields = read_metadata(path)
    version = fields.pop("schema_version", None)
    if type(version) is not int or version > SCHEMA_VERSION:
        later = f" It has schema {version}: a later ganzoo wrote it." if type(version) is int else ""
        raise WeightsError(f"{path} holds no classifier that gives features.{later}")
    try:
        _check_fields(fields)
        return ClassifierFacts(
            **(fields | {"widths": tuple(fields["widths"]), "classes": tuple(fields["classes"])}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} holds no classifier that gives features: its metadata are not whole ({error}).",
            "Copy or download it again.",
        ) from error


def _check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse metadata of which no network of a sensible size could be built, before one is."""
    sizes = [fields["stem"], *fields["widths"]]
    if any(type(one) is not int or not 1 <= one <= _MOST_WIDTH for one in sizes):
        raise ValueError("widths that cannot be")
    if fields["channels"] not in (1, 3) or type(fields["image_size"]) is not int:
        raise ValueError("images that cannot be")
    if not 1 <= fields["image_size"] <= _LARGEST_SIDE or not fields["image_size"] >> len(fields["widths"]):
        raise ValueError("images too small for its stages")
    if not fields["widths"] or not fields["classes"] or len(fields["classes"]) > _MOST_WIDTH:
        raise ValueError("no stages or no classes")
    if type(fields["both_sides"]) is not bool:
        raise ValueError("both_sides that is neither true nor false")
    texts = [*fields["classes"], *(fields[key] for key in ("name", "data", "licence", "notice", "protocol", "torch"))]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("what should be text is not")
    if fields["accuracy"] is not None and not isinstance(fields["accuracy"], int | float):
        raise ValueError("an accuracy that is no number")
