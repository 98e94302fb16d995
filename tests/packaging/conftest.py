"""Wheels built once a session, and two environments: a plain and an editable install."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from environments import OFFLINE, PIP, PLUGINS, Environment, copy_checkout, make_environment, succeed


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The wheels of ganzoo and of the two plug-in packages, by the name of what they install."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = [copy_checkout(folder / "ganzoo")]
    sources += [Path(shutil.copytree(PLUGINS / name, folder / name)) for name in ("swirl", "broken")]
    succeed([*PIP, "wheel", *OFFLINE, "--wheel-dir", folder / "built", *sources], folder)
    return {path.name.partition("-")[0]: path for path in (folder / "built").glob("*.whl")}


@pytest.fixture(scope="session")
def plain(wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheels of ganzoo and of both plug-in packages."""
    folder = tmp_path_factory.mktemp("plain")
    return make_environment(folder, *wheels.values(), checkout=copy_checkout(folder / "checkout"))


@pytest.fixture(scope="session")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment into which a checkout was installed in editable mode."""
    folder = tmp_path_factory.mktemp("editable")
    checkout = copy_checkout(folder / "checkout")
    return make_environment(folder, "--editable", checkout, checkout=checkout)
