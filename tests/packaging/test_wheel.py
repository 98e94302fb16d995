"""What is in the wheel, and what is not."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from email import message_from_string
from pathlib import Path

import pytest

from ganzoo.weights import published_models

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def names(wheels: Mapping[str, Path]) -> set[str]:
    with zipfile.ZipFile(wheels["ganzoo"]) as wheel:
        return set(wheel.namelist())


def test_the_wheel_holds_every_module_and_recipe_of_the_checkout(names: set[str]) -> None:
    for folder, package in {
        "ganzoo": "ganzoo",
        "cli": "ganzoo/cli",
        "export": "ganzoo/export",
        "zoo_configs": "ganzoo/zoo_configs",
    }.items():
        files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".toml", ".typed")]
        assert files, folder
        for path in files:
            assert f"{package}/{path.relative_to(ROOT / folder).as_posix()}" in names
    assert "ganzoo/py.typed" in names
    assert "ganzoo/zoo_configs/dcgan-digits.toml" in names


def test_the_wheel_holds_every_packaged_model_and_stays_small(wheels: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(wheels["ganzoo"]) as wheel:
        digests = {name: hashlib.sha256(wheel.read(name)).hexdigest() for name in wheel.namelist()}
    packaged = {name: model for name, model in published_models().items() if model.packaged}
    assert {"dcgan-digits", "dcgan-mnist", "dcgan-mnist-cond", "dcgan-cifar10"} <= packaged.keys()
    for name, model in packaged.items():
        for file, published in model.files.items():
            assert digests.get(f"ganzoo/weights/{name}/{file}") == published.sha256, (name, file)
    assert wheels["ganzoo"].stat().st_size <= 60_000_000


def test_nothing_but_ganzoo_is_installed(names: set[str]) -> None:
    top = {name.partition("/")[0] for name in names}
    (metadata,) = top - {"ganzoo"}
    assert metadata.startswith("ganzoo-")
    assert metadata.endswith(".dist-info")
    assert not [name for name in names if "__pycache__" in name or "test_" in name]


def test_the_metadata_names_the_licence_the_command_and_the_python(wheels: Mapping[str, Path], names: set[str]) -> None:
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    folder = metadata.rpartition("/")[0]
    with zipfile.ZipFile(wheels["ganzoo"]) as wheel:
        message = message_from_string(wheel.read(metadata).decode())
        entry_points = wheel.read(f"{folder}/entry_points.txt").decode()
        licence = wheel.read(f"{folder}/licenses/LICENSE").decode()
    assert message["License-Expression"] == "Apache-2.0"
    assert message["Requires-Python"] == ">=3.11"
    assert "Apache License" in licence
    assert "ganzoo = ganzoo.cli.main:main" in entry_points
