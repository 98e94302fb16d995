"""The features of FID: InceptionV3 as Google published it in 2015, through the library torch-fidelity.

FID, KID and IS are numbers of this network, with these weights and with TensorFlow 1's resize to 299 pixels; anything
else gives other numbers, which are not called so. The weights (96 MB) are fetched once from torch-fidelity's own
address, or handed in as a file. A file with other weights works, too, under a name of its own.

M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (arXiv
1706.08500); T. Salimans et al., "Improved Techniques for Training GANs" (arXiv 1606.03498).
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganzoo.devices import choose_device, full_float32
from ganzoo.errors import DownloadError, MissingDependencyError, WeightsError
from ganzoo.features.contract import Extracted, FeatureExtractor, InputSpec
from ganzoo.features.resizing import with_channels
from ganzoo.fetching import fetch_file, offline
from ganzoo.files import cache_home
from ganzoo.reading import read_whole, what_it_is
from ganzoo.tensors import check_finite

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
BYTES = 95_628_359
FILE = "weights-inception-2015-12-05-6726825d.pth"
_LARGEST = 512 << 20  # bytes of a file of weights that is read: this network has 24 million of them
_FEATURES, _LOGITS = "2048", "logits_unbiased"
_REMEDY = (
    "Name a copy with --feature-weights PATH ({address}), or judge by mnist-convnet or cifar-convnet, which need no "
    "download."
)
_AGAIN = "Copy or download it again."


class Inception(FeatureExtractor):
    """The 2,048 numbers of InceptionV3's pooling layer, and its 1,008 logits without bias, as IS takes them.

    Args:
        weights: a file of its weights, as torch-fidelity and pytorch-fid publish them; None: fetched, or found in the
            cache.
        device: "auto", "cpu", "cuda" …, where the network runs.

    Raises:
        MissingDependencyError: torch-fidelity is not installed.
        DownloadError: the weights are not here and cannot be fetched.
        WeightsError: the file is missing, damaged, refused, or of another network.
        UsageError: no such device.
    """

    dimension = 2048
    num_classes = 1008
    batch_size = 50
    spec = InputSpec(image_size=299, channels=3, resize="tf1_bilinear", low=-1.0, high=127 / 128)
    notice = "InceptionV3 by Google, 2015, Apache-2.0; converted by the authors of pytorch-fid"

    def __init__(self, weights: Path | None = None, device: str = "auto") -> None:
        library = _torch_fidelity()
        self._device = choose_device(device)
        path = weights if weights is not None else _fetched(library.URL_INCEPTION_V3)
        content = _content(path)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.name = "inception" if self.sha256 == SHA256 else f"inception-{self.sha256[:8]}"
        self._network = _network(library, _tensors(path, content), path).to(self._device)

    @torch.no_grad()
    def extract(self, images: torch.Tensor) -> Extracted:
        """Return features and logits of a batch; see `FeatureExtractor.extract`.

        torch-fidelity's network itself resizes and scales, in the way that `spec` tells.
        """
        pixels = with_channels(images, 3).permute(0, 3, 1, 2).contiguous()
        with full_float32(self._device):
            features, logits = self._network(pixels.to(self._device))
        return Extracted(features.cpu(), logits.cpu())


def _torch_fidelity() -> Any:
    """Return torch-fidelity's module of this network."""
    try:
        from torch_fidelity import feature_extractor_inceptionv3
    except ImportError as error:
        raise MissingDependencyError(
            f"InceptionV3 comes through torch-fidelity, which cannot be imported: {error}.",
            "Run `pip install 'ganzoo[fid]'`, or judge by mnist-convnet or cifar-convnet.",
        ) from error
    return feature_extractor_inceptionv3


def _fetched(address: str) -> Path:
    """Return FID's own weights, fetched where they are not here."""
    target = cache_home() / "features" / FILE
    try:
        return fetch_file([address], target, sha256=SHA256, bytes=BYTES)
    except DownloadError as error:
        why = "and nothing may be fetched (GANZOO_OFFLINE or HF_HUB_OFFLINE is set)" if offline() else error.message
        joined = f"The weights of InceptionV3 are not on this machine, {why}" if offline() else why
        raise DownloadError(joined.rstrip(".") + ".", _REMEDY.format(address=address)) from error


def _content(path: Path) -> bytes:
    try:
        return read_whole(path, _LARGEST)
    except FileNotFoundError:
        raise WeightsError(f"There is no file {path}.", "Name InceptionV3's weights with --feature-weights.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WeightsError(f"{path} cannot be read: {reason}.") from error


def _tensors(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint; nothing that is in it is run.

    Raises:
        WeightsError: it is something else, cut short, damaged, or asks for more than tensors.
    """
    if not content.startswith(b"PK\x03\x04") and not content.startswith(b"\x80"):
        found = what_it_is(content[:1024], path)
        raise WeightsError(f"{path} is no checkpoint of torch's{f': it is {found[0]}' if found else ''}.", _AGAIN)
    _check_archive(path, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's on old storages
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may make torch's reader raise anything
        raise _unreadable(path, error) from error
    if not isinstance(loaded, Mapping) or not all(type(one) is torch.Tensor for one in loaded.values()):
        raise WeightsError(f"{path} holds no InceptionV3: it is no table of tensors by name.", _AGAIN)
    held = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in loaded.values()}
    if sum(held.values()) > len(content) or any(one.layout != torch.strided for one in loaded.values()):
        raise WeightsError(f"{path} claims more than it holds.", _AGAIN)
    return dict(loaded)


def _check_archive(path: Path, content: bytes) -> None:
    """Refuse archives that would grow when they are read: torch.save does not compress."""
    if not content.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except Exception as error:  # a damaged archive may make the reader raise anything
        raise WeightsError(f"{path} is cut short or damaged.", _AGAIN) from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > len(content)
    ):
        raise WeightsError(f"{path} is no checkpoint of torch's: its archive is compressed.", _AGAIN)


def _unreadable(path: Path, error: Exception) -> WeightsError:
    if "GLOBAL" in (text := str(error)) or "Unsupported" in text:
        return WeightsError(
            f"{path} was refused: it asks for more than tensors, and what is loaded that way can run any program. "
            "Nothing was run.",
            _AGAIN,
        )
    return WeightsError(f"{path} cannot be read: it is cut short or damaged.", _AGAIN)


def _network(library: Any, tensors: Mapping[str, torch.Tensor], path: Path) -> nn.Module:
    """Return torch-fidelity's network with given weights.

    Its constructor reads a file in a way that runs what is in it. So it is handed a file of nothing, and takes tensors
    that were read safely in place of what it finds there.
    """

    class Network(library.FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: Any, **__: Any) -> Any:
            return nn.Module.load_state_dict(self, dict(tensors), strict=True)

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and then replaced
            network: nn.Module = Network("inception", [_FEATURES, _LOGITS], feature_extractor_weights_path=nothing)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise WeightsError(
            f"{path} holds no InceptionV3 of FID's kind: {lines[1 if len(lines) > 1 else 0][:200].rstrip('.')}."
        ) from error
    check_finite(network.state_dict(), str(path))
    return network
