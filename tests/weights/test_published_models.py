"""Every model of the real manifest: its files are what it says, and it draws what its picture shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganzoo import weights
from ganzoo.files import sha256_of
from ganzoo.models import load_model
from ganzoo.pictures import to_uint8
from ganzoo.recipes import list_recipes
from ganzoo.weights import published_models

LARGEST_PACKAGE = 60_000_000
NAMES = sorted(published_models())
PACKAGED = [name for name in NAMES if published_models()[name].packaged]


def test_the_manifest_and_the_folders_beside_it_tell_of_the_same_models() -> None:
    beside = {path.name for path in weights.FOLDER.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))}
    assert beside == set(PACKAGED)
    assert sum(published_models()[name].bytes for name in PACKAGED) <= LARGEST_PACKAGE


def test_reading_the_manifest_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ganzoo.weights import published_models; published_models(); "
        "print(sorted({'torch', 'numpy', 'pydantic', 'PIL', 'urllib.request', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_is_of_a_recipe_and_says_its_licence_and_how_it_was_measured(name: str) -> None:
    model = published_models()[name]
    assert model.recipe in list_recipes()
    assert model.licence
    assert all(metric["protocol"] for metric in model.metrics)
    assert {"README.md", "samples.png", "metrics.json"} <= set(model.files)


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_file_is_the_one_of_the_manifest(name: str) -> None:
    folder = weights.FOLDER / name
    files = published_models()[name].files
    assert {path.name for path in folder.iterdir()} == set(files)
    for file, expected in files.items():
        assert (folder / file).stat().st_size == expected.bytes, file
        assert sha256_of(folder / file) == expected.sha256, file


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_model_draws_what_its_picture_shows(name: str) -> None:
    """The first row of samples.png, whose images have two white pixels between them, enlarged by whole numbers."""
    folder = weights.FOLDER / name
    model = load_model(folder)
    data = model.config.recipe.data
    seeds = np.arange(4)
    images = model.sample(seeds=seeds, labels=seeds % data.num_classes if data.num_classes else None)
    drawn = to_uint8(images).astype(int)  # (4, H, W, C)
    with Image.open(folder / "samples.png") as file:
        shown = np.asarray(file).reshape(file.height, file.width, data.channels).astype(int)
    white = (shown == 255).all(axis=(0, 2))  # columns of pixels that are all padding
    left = [x for x in range(1, len(white)) if white[x - 1] and not white[x]]
    pitch = left[1] - left[0]
    scale, rest = divmod(pitch - 2, data.image_size)
    assert rest == 0
    for index in range(4):
        at = 2 + index * pitch
        tile = shown[2 : 2 + data.image_size * scale : scale, at : at + data.image_size * scale : scale]
        assert np.abs(tile - drawn[index]).max() <= 1
        assert np.ptp(drawn[index]) > 50  # it is a picture of something
    assert len({image.tobytes() for image in drawn}) == 4


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_model_says_its_licence_its_numbers_and_no_path(name: str) -> None:
    folder, model = weights.FOLDER / name, published_models()[name]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["licence"] == model.licence
    assert config["recipe"]["name"] == model.recipe
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["metrics"] == list(model.metrics)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert name in card
    assert model.licence in card
    for metric in model.metrics:
        assert metric["name"] in card
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        assert str(Path.home()).encode() + b"/" not in content, file
        for place in ("home", "mnt", "root", "tmp", "work"):
            assert f"/{place}/".encode() not in content, (file, place)
