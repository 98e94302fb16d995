"""Every block of code in the documents for users runs: Python, recipes and commands, in a folder with a few images."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ganzoo
from ganzoo import registry
from ganzoo.cli.main import root

DOCS = Path(__file__).parents[1] / "docs"
NAMES = ("recipes.md", "data.md", "training.md", "evaluation.md")
TEXTS = {name: (DOCS / name).read_text(encoding="utf-8") for name in NAMES}

SHORTER = {"--gpus 8": "--processes 2 --steps 2", "--nproc-per-node 8": "--nproc-per-node 2", "runs/shared": "shared"}
"""What stands for words that need other machines: eight GPUs become two processes on the CPU."""


def blocks(name: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXTS[name], re.DOTALL | re.MULTILINE)
    return [code for of, code in found if of == language]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the documents' reader is in: photos, and the recipe that docs/recipes.md shows whole."""
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "my-recipe.toml").write_text(blocks("recipes.md", "toml")[0])
    for known in (registry.metrics, registry.feature_extractors):  # what a document registers is not for other tests
        monkeypatch.setattr(known, "_registered", dict(known._registered))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_the_python_runs(name: str, folder: Path) -> None:
    for code in blocks(name, "python"):
        exec(code, {"__name__": "document"})
    assert folder.is_dir()


@pytest.mark.parametrize("code", [pytest.param(code, id=code.splitlines()[0]) for code in blocks("recipes.md", "toml")])
def test_the_recipes_train(code: str, folder: Path) -> None:
    result = ganzoo.train(tomllib.loads(code), steps=2, out=folder / "run", overrides=["train.batch_size=8"])
    assert result.step == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_run(name: str, folder: Path) -> None:
    for line in "".join(blocks(name, "")).splitlines():
        command = line.partition("  #")[0].strip()
        for words, stand_in in SHORTER.items():
            command = command.replace(words, stand_in)
        program, *words = shlex.split(command)
        if program == "torchrun":
            run_in_processes(folder, [*words, *(["--steps", "2"] if "train" in words else [])])
        elif "--processes" in words:
            run(folder, [sys.executable, "-m", "ganzoo", *words])
        else:
            assert program == "ganzoo", line
            done = CliRunner().invoke(root, words)
            assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"


def run_in_processes(folder: Path, words: list[str]) -> None:
    run(folder, [sys.executable, "-m", "torch.distributed.run", "--standalone", *words])


def run(folder: Path, words: list[str]) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_is_there(name: str) -> None:
    assert [path for path in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", TEXTS[name]) if not (DOCS / path).is_file()] == []


@pytest.mark.parametrize("kind", ["generators", "discriminators", "objectives", "regularizers", "augmentations"])
def test_every_registered_name_is_in_the_recipes_document(kind: str) -> None:
    own = [entry.name for entry in getattr(registry, kind).entries() if entry.origin == "ganzoo"]
    assert [name for name in own if f"| `{name}` |" not in TEXTS["recipes.md"]] == []


@pytest.mark.parametrize("kind", ["metrics", "feature_extractors"])
def test_every_registered_name_is_in_the_evaluation_document(kind: str) -> None:
    own = [entry.name for entry in getattr(registry, kind).entries() if entry.origin == "ganzoo"]
    assert own
    assert [name for name in own if f"| `{name}` |" not in TEXTS["evaluation.md"]] == []


def test_every_source_is_in_the_data_document() -> None:
    own = [entry.name for entry in registry.sources.entries() if entry.origin == "ganzoo"]
    known = set(re.findall(r"`(\w+)[`:]", TEXTS["data.md"]))
    assert set(own) - known <= {"cats", "faces", "ffhq"}  # named below the table, for they are fetched by hand
    assert all(re.search(rf"`{name}`", TEXTS["data.md"]) for name in ("cats", "faces", "ffhq"))
