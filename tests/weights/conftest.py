"""A tiny model, and a folder of weights of the tests' own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from weights_server import Server, running

from ganzoo import weights

TINY: dict[str, Any] = {
    "schema_version": 1,
    "name": "tiny",
    "data": {"source": "digits", "image_size": 8, "channels": 1},
    "generator": {"name": "dcgan", "latent_dim": 4, "widths": [8], "kernel_size": 4},
    "discriminator": {"name": "dcgan", "widths": [8], "kernel_size": 4},
    "objective": {"name": "non_saturating"},
    "optimizer": {"name": "adam", "lr": 2e-4, "betas": [0.5, 0.999]},
    "train": {"batch_size": 8, "kimg": 1},
}


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GANZOO_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def _models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    from ganzoo.zoo import create_model

    root = tmp_path_factory.mktemp("tiny_models")
    made = {}
    for classes in (0, 3):
        table = TINY | {"data": TINY["data"] | {"num_classes": classes}}
        made[classes] = create_model(table).save(root / str(classes))
    return made


@pytest.fixture
def model_folder(_models: dict[int, Path], tmp_path: Path) -> Path:
    """A model folder with random weights, a copy of the test's own."""
    return Path(shutil.copytree(_models[0], tmp_path / "given"))


@pytest.fixture
def conditional_folder(_models: dict[int, Path], tmp_path: Path) -> Path:
    """The same with three classes."""
    return Path(shutil.copytree(_models[3], tmp_path / "conditional"))


@pytest.fixture
def own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights with an empty manifest, which ganzoo takes for its own."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "manifest.toml").write_text("# A comment.\n\nschema_version = 1\n", encoding="utf-8")
    monkeypatch.setattr(weights, "FOLDER", folder)
    return folder


@pytest.fixture
def published(model_folder: Path, own_weights: Path) -> Callable[..., weights.PublishedModel]:
    """Return what publishes the tiny model under a name: packaged, or only at addresses."""
    from ganzoo.weights.adding import add_model, manifest_text
    from ganzoo.weights.manifest import PublishedModel, read_manifest

    def publish(name: str = "tiny", *, urls: tuple[str, ...] = (), packaged: bool = True) -> PublishedModel:
        add_model(model_folder, own_weights, name=name, licence="MIT", urls=urls, trained_with="2.15.0")
        known = dict(read_manifest(own_weights / "manifest.toml").models)
        if not packaged:
            known[name] = PublishedModel(**{**vars(known[name]), "packaged": False})
            (own_weights / "manifest.toml").write_text(manifest_text(known.values(), comment=""), encoding="utf-8")
            shutil.move(own_weights / name, own_weights.parent / "served")
        return known[name]

    return publish


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Server]:
    """A server that has what lies in `served`."""
    with running(tmp_path / "served") as server:
        yield server
