"""pyproject.toml: every folder is a package, every import is declared, every machine gets exactly one ONNX Runtime."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ganzoo

ROOT = Path(__file__).resolve().parents[2]
MAPPED = {"ganzoo": "ganzoo", "cli": "ganzoo.cli", "export": "ganzoo.export", "zoo_configs": "ganzoo.zoo_configs"}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "pydantic_core": "pydantic",  # comes with it, at the version that it names
    "sklearn": "scikit-learn",
}

MACHINES = {
    "linux x86-64": {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"},
    "linux aarch64": {"sys_platform": "linux", "platform_machine": "aarch64", "platform_system": "Linux"},
    "macOS arm64": {"sys_platform": "darwin", "platform_machine": "arm64", "platform_system": "Darwin"},
    "macOS x86-64": {"sys_platform": "darwin", "platform_machine": "x86_64", "platform_system": "Darwin"},
    "Windows x86-64": {"sys_platform": "win32", "platform_machine": "AMD64", "platform_system": "Windows"},
    "Windows arm64": {"sys_platform": "win32", "platform_machine": "ARM64", "platform_system": "Windows"},
}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _modules() -> list[Path]:
    return [path for folder in MAPPED for path in sorted((ROOT / folder).rglob("*.py"))]


def test_every_folder_with_code_is_installed(pyproject: dict[str, Any]) -> None:
    found = set()
    for path in _modules():
        folder, *inside = path.relative_to(ROOT).parent.parts
        found.add(".".join((MAPPED[folder], *inside)))
        assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"
    assert found == set(pyproject["tool"]["setuptools"]["packages"])


def test_the_versions_agree(pyproject: dict[str, Any]) -> None:
    assert pyproject["project"]["version"] == ganzoo.__version__


def _imported() -> dict[str, Path]:
    """Return the top-level names that the library imports anywhere, with one file that does."""
    names = {}
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update({alias.name.partition(".")[0]: path for alias in node.names})
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names[node.module.partition(".")[0]] = path
    return {name: path for name, path in names.items() if name not in sys.stdlib_module_names and name != "ganzoo"}


def test_everything_that_is_imported_is_declared(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    optional = [line for name, lines in project["optional-dependencies"].items() if name != "test" for line in lines]
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"] + optional}
    for name, path in _imported().items():
        assert canonicalize_name(DISTRIBUTIONS.get(name, name)) in declared, f"{path.relative_to(ROOT)} imports {name}"


def test_all_extras_but_a_second_runtime_are_in_all_and_all_are_tested(pyproject: dict[str, Any]) -> None:
    extras = pyproject["project"]["optional-dependencies"]
    (line,) = extras["all"]
    assert Requirement(line).extras == set(extras) - {"all", "openvino", "test"}
    tested = {extra for line in extras["test"] for extra in Requirement(line).extras}
    assert tested == {"all", "openvino"}


@pytest.mark.parametrize("machine", MACHINES)
def test_each_machine_gets_exactly_one_onnx_runtime(pyproject: dict[str, Any], machine: str) -> None:
    """onnxruntime-gpu has wheels for x86-64 on Linux and Windows only; installed together, the last one wins."""
    requirements = [Requirement(line) for line in pyproject["project"]["dependencies"]]
    wanted = [
        requirement
        for requirement in requirements
        if requirement.name.startswith("onnxruntime")
        and requirement.marker is not None
        and requirement.marker.evaluate(MACHINES[machine])
    ]
    with_cuda = machine in ("linux x86-64", "Windows x86-64")
    assert [requirement.name for requirement in wanted] == ["onnxruntime-gpu" if with_cuda else "onnxruntime"]
    assert wanted[0].extras == ({"cuda", "cudnn"} if with_cuda else set())
