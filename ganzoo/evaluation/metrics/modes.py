"""Mode coverage: how many of the data's modes a generator draws, and how evenly, as a classifier sees it.

One of two protocols, as the reference is:

classes   The modes are the classes of a classifier: MNIST's ten digits, say. Counted are the classes that occur; the
          divergence is that of their shares from those of the real images, which the same classifier looks at.
triples   StackedMNIST, whose images are three digits, one a colour: PacGAN's protocol (Z. Lin, A. Khetan, G. Fanti,
          S. Oh, arXiv 1712.04086, section 4.1). 26,000 images; the classifier reads each colour alone; the modes are
          the 1,000 triples, and the divergence is that of their shares from the uniform distribution.

A mode is covered that occurs once. The divergence is Kullback's and Leibler's, KL(images | target) = Σ p log(p / q) in
nats, with the shares p as counted. Counting n images of K modes alone makes it about (K - 1) / 2n (G. Miller, "Note on
the bias of information estimates", 1955), and classes of different frequency add to it. So the same figures of real
images stand beside both numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ganzoo.errors import UsageError
from ganzoo.evaluation.channels import Channels
from ganzoo.evaluation.contract import ImageSet, Metric, Need, Progress, Subject, Value, metric_name
from ganzoo.evaluation.tables import FeatureTable, Integers

if TYPE_CHECKING:
    from ganzoo.features.contract import FeatureExtractor

GREY_CLASSIFIER, COLOUR_CLASSIFIER = "mnist-convnet", "cifar-convnet"
STACKED_SAMPLES = 26_000
STACKED_MODES = 1000
LEAST_AGREEMENT = 0.5  # of a classifier with the labels of real images; below it the classes are others
_STACKED_CLASSES = tuple(f"{number:03d}" for number in range(STACKED_MODES))
_COLOURS = ("red", "green", "blue")
_PLACES = np.array([100, 10, 1])  # of the three digits in the number of a triple
_MOST_NAMED = 20  # modes that the details name, rather than all thousand
_BLOCK = 4096


class Modes(Metric):
    """Modes that occur, and the divergence of their shares, beside the same figures of real images.

    Args:
        samples: how many images are looked at, taken evenly over all; None: all, and of StackedMNIST 26,000.
        classifier: the feature extractor whose logits name the classes; None: `mnist-convnet` for grey images and for
            StackedMNIST, `cifar-convnet` for other colours.

    Raises:
        UsageError: `samples` below 1.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"reference"})

    def __init__(self, samples: int | None = None, classifier: str | None = None) -> None:
        if samples is not None and samples < 1:
            raise UsageError(f"`samples` (={samples}) must be at least 1.")
        self.samples, self.classifier = samples, classifier

    def measure(self, subject: Subject) -> list[Value]:
        """Return "modes-…", "kl-…", and where images were asked for by class "label-accuracy-…".

        Raises:
            UsageError: no reference with labels that the classifier knows, images of other channels, or too few.
        """
        if subject.reference is None:
            raise UsageError("Modes are counted beside those of real images.", "Name them with --data.")
        generated, reference = subject.generated.images, subject.reference.images
        _check_sides(generated, reference)
        stacked = is_stacked(reference)
        extractor = self._extractor(subject, generated, stacked)
        counted = _count_triples if stacked else _count_classes
        return counted(generated, reference, extractor, self.samples, subject.progress)

    def _extractor(self, subject: Subject, images: ImageSet, stacked: bool) -> FeatureExtractor:
        from ganzoo.features.contract import open_extractor

        wanted = self.classifier or (GREY_CLASSIFIER if stacked or images.channels == 1 else COLOUR_CLASSIFIER)
        if subject.extractor is not None and subject.extractor.name == wanted:
            return subject.extractor
        opened = open_extractor(wanted, device=subject.device)
        if opened.num_classes < 2 or (stacked and opened.num_classes != 10):
            raise UsageError(
                f"The features {wanted} name {opened.num_classes} classes, so that modes cannot be counted by them.",
                f"Use {GREY_CLASSIFIER}." if stacked else f"Use {GREY_CLASSIFIER} or {COLOUR_CLASSIFIER}.",
            )
        return opened


def is_stacked(images: ImageSet) -> bool:
    """Return whether images are StackedMNIST's: three channels, and a thousand classes that are called 000 to 999, or
    by their numbers where nobody named them.

    Args:
        images: real ones.
    """
    unnamed = tuple(map(str, range(STACKED_MODES)))
    return images.channels == 3 and tuple(images.classes) in (_STACKED_CLASSES, unnamed)


def divergence(counts: npt.ArrayLike, target: npt.ArrayLike | None = None) -> float:
    """Return KL(counted | target) in nats; infinite where something was counted that the target has not.

    Args:
        counts: (K,) of each mode, at least one in all.
        target: (K,) in any unit; None: uniform.
    """
    counted = np.asarray(counts, dtype=np.float64)
    wanted = np.ones_like(counted) if target is None else np.asarray(target, dtype=np.float64)
    p, q = counted / counted.sum(), wanted / wanted.sum()
    seen = p > 0
    if (q[seen] == 0).any():
        return math.inf
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())


def counting_bias(modes: int, samples: int) -> float:
    """Return the divergence that counting alone brings about: (K - 1) / 2n nats, where n is large beside K.

    Args:
        modes: K, all of which the true distribution has.
        samples: n.
    """
    return (modes - 1) / (2 * samples)


@dataclass(frozen=True)
class _Seen:
    """What a classifier sees in images.

    Attributes:
        modes: (n,) of each image.
        labels: (n,) that the images carry, or were asked for; None where there are none.
    """

    modes: Integers
    labels: Integers | None

    @property
    def accuracy(self) -> float | None:
        """Share of the images whose mode is their label."""
        return None if self.labels is None else float((self.modes == self.labels).mean())

    def counts(self, modes: int) -> Integers:
        """Return how often each mode occurs: (modes,)."""
        return np.bincount(self.modes, minlength=modes)


def _count_classes(
    generated: ImageSet, reference: ImageSet, extractor: FeatureExtractor, samples: int | None, progress: Progress
) -> list[Value]:
    from ganzoo.evaluation.extraction import extract_all, reference_table

    modes = extractor.num_classes
    chosen = _chosen(generated, samples, modes, "samples")
    _check_count(reference, 2 * modes, "real images")
    real = _Seen(_classes(reference_table(extractor, reference, progress=progress)), reference.labels)
    _check_agreement(real, extractor)
    seen = _Seen(_classes(extract_all(extractor, chosen, progress=progress)), chosen.labels)
    # Real images beside the others of them: what is looked at must not be part of what it is compared with.
    apart = np.zeros(reference.count, dtype=bool)
    apart[np.linspace(0, reference.count - 1, min(chosen.count, reference.count // 2)).astype(np.int64)] = True
    held, others = _Seen(real.modes[apart], None).counts(modes), _Seen(real.modes[~apart], None).counts(modes)
    counts, all_real = seen.counts(modes), real.counts(modes)
    names = _names(reference.classes, modes)
    protocol = {
        "protocol": "classes",
        "modes": modes,
        "samples": chosen.count,
        "real": int(held.sum()),
        "features": extractor.name,
        "classifier": extractor.to_dict(),
    }
    return [
        Value(
            name=metric_name("modes", extractor),
            value=float((counts > 0).sum()),
            better="higher",
            reference=float((held > 0).sum()),
            protocol=protocol | {"covered": "a class that occurs"},
            details={
                "counts": dict(zip(names, counts.tolist(), strict=True)),
                "shares": dict(zip(names, _shares(counts), strict=True)),
                "real_shares": dict(zip(names, _shares(all_real), strict=True)),
                "agreement_with_labels": real.accuracy,
            },
        ),
        Value(
            name=metric_name("kl", extractor),
            value=divergence(counts, all_real),
            better="lower",
            reference=divergence(held, others),
            protocol=protocol
            | {
                "divergence": "KL(samples | target), nats",
                "target": "shares of the classes among the real images, seen by the same classifier",
                "beside": "some of the real images, taken evenly, and the others of them as target",
            },
            details={
                "from_counting": counting_bias(modes, chosen.count),
                "to_uniform": divergence(counts),
                "real_to_uniform": divergence(all_real),
            },
        ),
        *_label_accuracy(seen, real, extractor, protocol),
    ]


def _count_triples(
    generated: ImageSet, reference: ImageSet, extractor: FeatureExtractor, samples: int | None, progress: Progress
) -> list[Value]:
    from ganzoo.evaluation.extraction import extract_all, reference_table

    chosen = _chosen(generated, samples or STACKED_SAMPLES, STACKED_MODES, "samples")
    beside = _chosen(reference, chosen.count, STACKED_MODES, "real triples")
    if beside.count < chosen.count:
        raise UsageError(
            f"{chosen.count:,} samples are judged beside as many real triples, and there are {beside.count:,}.",
            f"Take more of them, as in --data stackedmnist:count={STACKED_SAMPLES}.",
        )
    real_digits = _digits(reference_table(extractor, Channels(beside), progress=progress))
    real = _Seen(real_digits @ _PLACES, beside.labels)
    _check_agreement(real, extractor)
    digits = _digits(extract_all(extractor, Channels(chosen), progress=progress))
    seen = _Seen(digits @ _PLACES, chosen.labels)
    counts, real_counts = seen.counts(STACKED_MODES), real.counts(STACKED_MODES)
    missing, most = np.flatnonzero(counts == 0), np.argsort(-counts, kind="stable")[:_MOST_NAMED]
    protocol = {
        "protocol": "triples",
        "modes": STACKED_MODES,
        "samples": chosen.count,
        "real": beside.count,
        "features": extractor.name,
        "classifier": extractor.to_dict() | {"applied_to": "each colour alone"},
    }
    return [
        Value(
            name=metric_name("modes", extractor),
            value=float((counts > 0).sum()),
            better="higher",
            reference=float((real_counts > 0).sum()),
            protocol=protocol | {"covered": "a triple that occurs"},
            details={
                "digits": _by_colour(digits),
                "real_digits": _by_colour(real_digits),
                "missing": [_STACKED_CLASSES[one] for one in missing[:_MOST_NAMED]],
                "most_frequent": {_STACKED_CLASSES[one]: int(counts[one]) for one in most if counts[one]},
                "agreement_with_labels": real.accuracy,
            },
        ),
        Value(
            name=metric_name("kl", extractor),
            value=divergence(counts),
            better="lower",
            reference=divergence(real_counts),
            protocol=protocol
            | {
                "divergence": "KL(samples | target), nats",
                "target": f"uniform over {STACKED_MODES:,} triples",
                "beside": "as many real triples, taken evenly",
            },
            details={"from_counting": counting_bias(STACKED_MODES, chosen.count)},
        ),
        *_label_accuracy(seen, real, extractor, protocol),
    ]


def _label_accuracy(seen: _Seen, real: _Seen, extractor: FeatureExtractor, protocol: dict[str, Any]) -> list[Value]:
    if seen.accuracy is None:
        return []
    return [
        Value(
            name=metric_name("label-accuracy", extractor),
            value=seen.accuracy,
            better="higher",
            error=math.sqrt(seen.accuracy * (1.0 - seen.accuracy) / len(seen.modes)),
            reference=real.accuracy,
            protocol=protocol
            | {
                "counted": "samples in which the classifier sees the class that was asked for",
                "beside": "real images in which it sees their label",
                "error": "standard error of a share",
            },
        )
    ]


def _classes(table: FeatureTable) -> Integers:
    """Return the most likely class of every row: (n,)."""
    parts = [
        table.logits(first, min(first + _BLOCK, len(table))).argmax(axis=1) for first in range(0, len(table), _BLOCK)
    ]
    return np.concatenate(parts).astype(np.int64)


def _digits(table: FeatureTable) -> Integers:
    """Return the digits in red, green and blue of images whose channels are the table's rows: (n, 3)."""
    return _classes(table).reshape(-1, len(_COLOURS))


def _by_colour(digits: Integers) -> dict[str, list[int]]:
    return {colour: np.bincount(digits[:, place], minlength=10).tolist() for place, colour in enumerate(_COLOURS)}


def _shares(counts: Integers) -> list[float]:
    return [round(float(one), 6) for one in counts / counts.sum()]


def _chosen(images: ImageSet, most: int | None, fewest: int, what: str) -> ImageSet:
    """Return at most so many images, taken evenly.

    Raises:
        UsageError: there are too few for the number of modes.
    """
    from ganzoo.evaluation.image_sets import ChosenImages, evenly

    indices = evenly(images.count, most)
    chosen = images if indices is None else ChosenImages(images, indices, f"{most:,} of {images.count:,}, evenly")
    _check_count(chosen, fewest, what)
    return chosen


def _check_count(images: ImageSet, fewest: int, what: str) -> None:
    if images.count < fewest:
        raise UsageError(
            f"{images.count:,} {what} are too few to count modes in: {fewest:,} at least.", "Take more of them."
        )


def _check_sides(generated: ImageSet, reference: ImageSet) -> None:
    if generated.channels != reference.channels:
        one, other = ("grey" if images.channels == 1 else "coloured" for images in (generated, reference))
        raise UsageError(
            f"The samples are {one} and the real images {other}, so that their modes are not the same.",
            "Give data of the samples' channels.",
        )
    if reference.labels is None:
        raise UsageError(
            "The real images have no labels, so that nothing tells whether a classifier knows their classes.",
            "Give labelled data, such as mnist, stackedmnist or cifar10.",
        )


def _check_agreement(real: _Seen, extractor: FeatureExtractor) -> None:
    if real.accuracy is None or real.accuracy >= LEAST_AGREEMENT:
        return
    raise UsageError(
        f"{extractor.name} sees the class of {real.accuracy:.0%} of the real images as their labels tell it: its "
        f"{extractor.num_classes} classes are not theirs.",
        "Modes are counted of MNIST's digits, of stackedmnist and of CIFAR-10's classes, or by another "
        "classifier: Modes(classifier=…).",
    )


def _names(classes: Sequence[str], modes: int) -> list[str]:
    return [*classes[:modes], *map(str, range(len(classes), modes))]
