"""What the data tests share: a cache of their own, and tiny images in many formats."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's cache and data."""
    home = tmp_path / "home"
    monkeypatch.setenv("GANZOO_HOME", str(home))
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    monkeypatch.delenv("GANZOO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("GANZOO_TEST_DATA")
    if not folder:
        pytest.skip("GANZOO_TEST_DATA is not set: the folder of real data sets")
    return Path(folder)


def noise(*shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int = 0, size: int = 8) -> bytes:
    return encode(Image.fromarray(noise(size, size, 3, seed=seed)))


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    def make(*names: str, root: str = "images") -> Path:
        folder = tmp_path / root
        for number, name in enumerate(names):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(number))
        return folder

    return make
