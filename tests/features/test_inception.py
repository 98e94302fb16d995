"""InceptionV3 through torch-fidelity: the same numbers as its own class, and files that are fetched, refused, named."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ganzoo.errors import DownloadError, MissingDependencyError, WeightsError
from ganzoo.features import inception, open_extractor
from ganzoo.features.resizing import prepare
from ganzoo.files import cache_home, sha256_of

library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
LAYERS = ["2048", "logits_unbiased"]


@pytest.fixture(scope="module")
def own() -> Any:
    """torch-fidelity's network with random weights, under which activations neither vanish nor explode."""

    class Random(library.FeatureExtractorInceptionV3):  # type: ignore[misc,name-defined]
        def load_state_dict(self, *_: Any, **__: Any) -> None:
            """Keep the weights that were drawn."""

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Random("random", LAYERS, feature_extractor_weights_path=empty)
        for name, value in network.named_buffers():
            if name.endswith("running_mean"):
                value.uniform_(-0.05, 0.05)
            elif name.endswith("running_var"):
                value.uniform_(0.1, 0.3)
    return network


@pytest.fixture(scope="module")
def weights(own: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(own.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def extractor(weights: Path) -> Any:
    return open_extractor("inception", weights=weights, device="cpu")


def _images(size: int, channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, size, size, channels), dtype=torch.uint8, generator=generator)


def test_features_and_logits_are_those_of_torch_fidelitys_own_class(extractor: Any, own: Any) -> None:
    for images in (_images(32, 3), _images(28, 1)):
        features, logits = own(images.permute(0, 3, 1, 2).expand(-1, 3, -1, -1))
        made = extractor.extract(images)
        assert torch.equal(made.features, features)
        assert torch.equal(made.logits, logits)
        assert (features[0] - features[1]).abs().max() > 1e-3
        assert made.logits.shape == (2, 1008)


def test_what_the_specification_tells_is_what_the_network_sees(extractor: Any) -> None:
    seen: list[torch.Tensor] = []
    hook = extractor._network.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    extractor.extract(_images(40, 3))
    hook.remove()
    assert torch.equal(seen[0], prepare(_images(40, 3), extractor.spec))


def test_other_weights_than_fids_are_never_called_inception_alone(extractor: Any, weights: Path) -> None:
    assert extractor.sha256 == sha256_of(weights)
    assert extractor.name == f"inception-{sha256_of(weights)[:8]}"
    assert (extractor.dimension, extractor.num_classes) == (2048, 1008)


def test_fids_weights_are_known_by_their_sha256(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inception.SHA256.startswith("6726825d")
    assert library.URL_INCEPTION_V3.rpartition("/")[2] == inception.FILE
    monkeypatch.setattr(inception, "SHA256", sha256_of(weights))
    monkeypatch.setattr(inception, "_network", lambda *_: torch.nn.Identity())
    assert open_extractor("inception", weights=weights, device="cpu").name == "inception"


def test_weights_are_fetched_once_from_torch_fidelitys_address_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))
    served = tmp_path / "served.pth"
    served.write_bytes(b"some weights")
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"some weights").hexdigest())
    monkeypatch.setattr(inception, "BYTES", 12)
    monkeypatch.setattr(library, "URL_INCEPTION_V3", served.as_uri())
    with pytest.raises(WeightsError, match="is no checkpoint of torch's"):
        open_extractor("inception", device="cpu")
    kept = cache_home() / "features" / inception.FILE
    assert kept.read_bytes() == b"some weights"
    served.unlink()
    with pytest.raises(WeightsError, match="is no checkpoint of torch's"):
        open_extractor("inception", device="cpu")
    kept.write_bytes(b"same weights")  # another file under that name is not used
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        open_extractor("inception", device="cpu")
    assert "--feature-weights PATH" in str(caught.value)


def test_without_weights_and_offline_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path))
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    with pytest.raises(DownloadError) as caught:
        open_extractor("inception")
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("The weights of InceptionV3 are not on this machine, and nothing may be fetched")
    for told in ("--feature-weights PATH", library.URL_INCEPTION_V3, "mnist-convnet", "cifar-convnet"):
        assert told in text


def test_without_torch_fidelity_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3")
    with pytest.raises(MissingDependencyError, match=r"pip install 'ganzoo\[fid\]'"):
        open_extractor("inception")


class _Harmful:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def _torch_file(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def _compressed(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as given, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in given.infolist():
            packed.writestr(entry.filename, given.read(entry))
    return file.getvalue()


_SMALL = {"fc.weight": torch.zeros(1008, 2048)}
_BAD: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "code in torch's zip form": (lambda marker: _torch_file({"a": _Harmful(marker)}), "was refused: it asks for more"),
    "code in torch's legacy form": (
        lambda marker: _torch_file({"a": _Harmful(marker)}, _use_new_zipfile_serialization=False),
        "was refused: it asks for more",
    ),
    "code in a plain pickle": (lambda marker: pickle.dumps(_Harmful(marker)), "was refused: it asks for more"),
    "cut short": (lambda _: _torch_file(_SMALL)[:-100], "cut short or damaged"),
    "cut short, legacy": (
        lambda _: _torch_file(_SMALL, _use_new_zipfile_serialization=False)[:-100],
        "cut short or damaged",
    ),
    "compressed": (lambda _: _compressed(_torch_file(_SMALL)), "its archive is compressed"),
    "no table": (lambda _: _torch_file(torch.zeros(3)), "no table of tensors by name"),
    "numbers": (lambda _: _torch_file({"a": 3}), "no table of tensors by name"),
    "a page": (lambda _: b"<html><body>Not found</body></html>", "it is a web page"),
    "empty": (lambda _: b"", "it is empty"),
}


@pytest.mark.parametrize("kind", _BAD)
def test_what_is_no_file_of_weights_is_refused_in_one_line_and_nothing_in_it_runs(kind: str, tmp_path: Path) -> None:
    make, said = _BAD[kind]
    marker, path = tmp_path / "was run", tmp_path / "weights.pth"
    path.write_bytes(make(marker))
    with pytest.raises(WeightsError, match=said) as caught:
        open_extractor("inception", weights=path, device="cpu")
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_tensors_of_another_network_are_refused_with_their_names(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"classifier.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(WeightsError, match=r"no InceptionV3 of FID's kind: Missing key\(s\)") as caught:
        open_extractor("inception", weights=path, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no file"):
        open_extractor("inception", weights=tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="it is a folder"):
        open_extractor("inception", weights=tmp_path)
