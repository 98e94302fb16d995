"""The package of docs/plugins.md, as it stands there: installed, found, trained, and its own tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the package is installed: its files, and the metadata that pip would write."""
    root = tmp_path_factory.mktemp("painter")
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    metadata = root / "ganzoo_painter-1.0.0.dist-info"
    metadata.mkdir()
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(about)
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{a} = {b}" for a, b in points.items()))]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return os.environ | {"PYTHONPATH": str(root)}


def run(environment: dict[str, str], folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_is_found_by_its_names(environment: dict[str, str], tmp_path: Path) -> None:
    assert "painter" in run(environment, tmp_path, "ganzoo", "list", "--kind", "generator")
    assert "painter-rings" in run(environment, tmp_path, "ganzoo", "list")


def test_its_recipe_trains(environment: dict[str, str], tmp_path: Path) -> None:
    run(environment, tmp_path, "ganzoo", "train", "painter-rings", "--steps", "3", "--out", "run")
    assert (tmp_path / "run" / "model" / "generator.safetensors").is_file()


def test_its_metric_and_features_judge_what_was_trained(environment: dict[str, str], tmp_path: Path) -> None:
    run(environment, tmp_path, "ganzoo", "train", "painter-rings", "--steps", "1", "--out", "run")
    words = ("--count", "50", "--metrics", "painter_colour,fd", "--features", "painter-palette", "--no-report")
    printed = run(environment, tmp_path, "ganzoo", "evaluate", "run", *words)
    assert "painter-colour" in printed
    assert "fd-painter-palette" in printed


def test_its_own_tests_pass(environment: dict[str, str]) -> None:
    root = Path(environment["PYTHONPATH"])
    assert "5 passed" in run(environment, root, "pytest", "-q", "-p", "no:cacheprovider", "tests")


def test_the_block_for_a_notebook_runs(environment: dict[str, str], tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (code,) = [block for block in blocks if "register_generator" in block]
    (tmp_path / "notebook.py").write_text(code)
    run(environment, tmp_path, "notebook")
    assert (tmp_path / "runs" / "flat" / "model").is_dir()
