"""Well-known data by name: `mnist`, `cifar10` and `flowers`, found on this machine or fetched.

What cannot be is answered with where to get it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from ganzoo.data.sources.base import ArraySource, Source
from ganzoo.data.sources.cifar import is_cifar_folder, open_cifar
from ganzoo.data.sources.idx import is_images_file, open_idx_file
from ganzoo.data.sources.locations import RemoteFile, data_folders, download_folder, fetch
from ganzoo.errors import MissingDataError, UsageError

_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_MNIST_FILES = (
    RemoteFile(
        "train-images-idx3-ubyte.gz",
        20_000_000,
        "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        unpacked=True,
    ),
    RemoteFile(
        "train-labels-idx1-ubyte.gz",
        100_000,
        "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        unpacked=True,
    ),
)
_MNIST_TEST_FILES = (
    RemoteFile(
        "t10k-images-idx3-ubyte.gz",
        4_000_000,
        "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        unpacked=True,
    ),
    RemoteFile(
        "t10k-labels-idx1-ubyte.gz",
        20_000,
        "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        unpacked=True,
    ),
)
MNIST_NOTICE = "MNIST, Y. LeCun, C. Cortes, CC BY-SA 3.0"
_CIFAR_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
_CIFAR_FILE = RemoteFile("cifar-10-python.tar.gz", 170_498_071, "md5:c58f30108f718f92721af3b95e74349a")
_DIGITS = "`--data digits` works at once."


def open_mnist(argument: str = "") -> ArraySource:
    """Return MNIST's 60,000 training images, 28×28 grey, with labels; of `mnist:test` its 10,000 test images.

    Looked for as idx files in the folders `mnist`, `MNIST` and `MNIST/raw` of the folders of data; else fetched, 10 MB,
    the test images 2 MB.

    Args:
        argument: "test", "train" or nothing.

    Raises:
        UsageError: another argument.
        MissingDataError: it is not there and cannot be fetched.
    """
    if _is_test("mnist", argument):
        return _described(
            open_idx_file(_mnist_images("t10k") or _fetched_mnist(_MNIST_TEST_FILES)), "MNIST test", MNIST_NOTICE
        )
    return _described(open_idx_file(mnist_training_images()), "MNIST", MNIST_NOTICE)


def mnist_training_images() -> Path:
    """Return the idx file of MNIST's training images, found as `open_mnist` says or fetched; the labels lie beside.

    Raises:
        MissingDataError: it is not there and cannot be fetched.
    """
    return _mnist_images("train") or _fetched_mnist(_MNIST_FILES)


def mnist_test_images(training: Path) -> Path:
    """Return the idx file of MNIST's 10,000 test images: beside the training images, or fetched.

    Args:
        training: the file of the training images.

    Raises:
        MissingDataError: it is not there and cannot be fetched.
    """
    beside = sorted(training.parent.glob("t10k-images*"))
    return beside[0] if beside else _fetched_mnist(_MNIST_TEST_FILES)


def _mnist_images(start: str) -> Path | None:
    """Return the idx file of images whose name begins so, where data lie; None where there is none."""
    for folder in data_folders():
        for place in (folder / "mnist", folder / "MNIST", folder / "MNIST" / "raw"):
            found = sorted(place.glob(f"{start}-images*")) if place.is_dir() else []
            images = next((one for one in found if is_images_file(one)), None)
            if images is not None:
                return images
    return None


def _fetched_mnist(files: tuple[RemoteFile, ...]) -> Path:
    """Fetch images and labels, and return the images."""
    try:
        images, _ = (fetch(file, _MNIST_MIRRORS, download_folder() / "mnist") for file in files)
    except MissingDataError as error:
        raise MissingDataError(
            f"MNIST is not on this machine: {error.message}",
            f"Get its four idx files (10 MB) from {_MNIST_MIRRORS[1]}, "
            f"then `ganzoo train <recipe> --data FOLDER`; {_DIGITS}",
        ) from error
    return images


def open_cifar10(argument: str = "") -> ArraySource:
    """Return CIFAR-10's 50,000 training images, 32×32 RGB, with labels; of `cifar10:test` its 10,000 test images.

    Looked for as the tar or the unpacked folder, of the python or the binary version, in the folders of data and their
    folder `cifar10`; else fetched, 170 MB.

    Args:
        argument: "test", "train" or nothing.

    Raises:
        UsageError: another argument.
        MissingDataError: it is not there and cannot be fetched.
    """
    test = _is_test("cifar10", argument)
    description = "CIFAR-10 test" if test else "CIFAR-10"
    for folder in data_folders():
        for base in (folder / "cifar10", folder):
            for name in (
                "cifar-10-python.tar.gz",
                "cifar-10-binary.tar.gz",
                "cifar-10-batches-py",
                "cifar-10-batches-bin",
            ):
                place = base / name
                if place.is_file() or is_cifar_folder(place):
                    return _described(open_cifar(place, test=test), description, None)
    try:
        tar = fetch(_CIFAR_FILE, _CIFAR_MIRRORS, download_folder() / "cifar10")
    except MissingDataError as error:
        raise MissingDataError(
            f"CIFAR-10 is not on this machine: {error.message}",
            f"Get {_CIFAR_MIRRORS[0]}{_CIFAR_FILE.name} (170 MB), then `ganzoo train <recipe> --data PATH`; {_DIGITS}",
        ) from error
    return _described(open_cifar(tar, test=test), description, None)


def _is_test(name: str, argument: str) -> bool:
    """Return whether a source's argument asks for the test images.

    Raises:
        UsageError: it asks for something else.
    """
    if argument not in ("", "train", "test"):
        raise UsageError(
            f"The source {name!r} has no part {argument!r}.",
            f"Write {name}, {name}:train or {name}:test; a path is given alone: --data {Path(argument)}",
        )
    return argument == "test"


def open_faces(argument: str = "") -> NoReturn:
    """Say where faces are to be had.

    Raises:
        MissingDataError: always: CelebA asks for an agreement, and the DCGAN paper's faces were never published.
    """
    _no_argument("faces", argument)
    raise MissingDataError(
        "Faces are not fetched by themselves: CelebA (202,599 aligned faces, 1.4 GB) asks for an agreement.",
        "Get img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, then "
        f"`ganzoo train <recipe> --data img_align_celeba.zip --set data.crop=celeba`; {_DIGITS}",
    )


def open_cats(argument: str = "") -> NoReturn:
    """Say where cats are to be had.

    Raises:
        MissingDataError: always: they lie behind an account.
    """
    _no_argument("cats", argument)
    raise MissingDataError(
        "Cats are not fetched by themselves: 15,747 cat faces at 64×64 (about 0.1 GB) lie behind an account.",
        "Get https://www.kaggle.com/datasets/spandan2/cats-faces-64x64-for-generative-models, then "
        f"`ganzoo train <recipe> --data PATH`; {_DIGITS}",
    )


def open_ffhq(argument: str = "") -> NoReturn:
    """Say where Flickr-Faces-HQ is to be had.

    Raises:
        MissingDataError: always: it lies on a shared drive with a daily limit.
    """
    _no_argument("ffhq", argument)
    raise MissingDataError(
        "FFHQ is not fetched by itself: 70,000 aligned faces (89 GB at 1024×1024, 2 GB as thumbnails of 128×128) "
        "lie on a shared drive.",
        "Get it with the script of https://github.com/NVlabs/ffhq-dataset, then "
        f"`ganzoo train <recipe> --data FOLDER`; {_DIGITS}",
    )


def open_imagenet32(argument: str = "") -> NoReturn:
    """Say where ImageNet is to be had.

    Raises:
        MissingDataError: always: it lies behind an account.
    """
    _no_argument("imagenet32", argument)
    raise MissingDataError(
        "ImageNet is not fetched by itself: 1,281,167 images (138 GB; resized to 32×32 3.5 GB) lie behind an account.",
        f"Get it from https://image-net.org/download-images, then `ganzoo train <recipe> --data FOLDER`; {_DIGITS}",
    )


def open_flowers(argument: str = "") -> Source:
    """Return all 8,189 images of Oxford's 102 flowers (Nilsback and Zisserman 2008), fetched through torchvision, 345
    MB.

    Args:
        argument: nothing; the source takes none.

    Raises:
        MissingDataError: they are not there and cannot be fetched.
        MissingDependencyError: torchvision or SciPy cannot be imported.
    """
    from ganzoo.data.sources.torchvision import open_torchvision

    _no_argument("flowers", argument)
    return open_torchvision("Flowers102:all")


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise UsageError(
            f"The source {name!r} takes no argument, not {argument!r}.",
            f"A path is given alone: --data {Path(argument)}",
        )


def _described(source: ArraySource, description: str, notice: str | None) -> ArraySource:
    source.description = description
    source.notice = notice or source.notice
    return source
