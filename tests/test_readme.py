"""The Python of the README and of the documents runs as it stands, and what they show and name is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from ganzoo.cli.main import root
from ganzoo.recipes import list_recipes
from ganzoo.testing import check_generator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = "\n".join([README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))])
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(part: str) -> str:
    """Return the one block of Python in which something stands."""
    (found,) = [code for code in PYTHON if part in code]
    return found


def test_training_from_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block("ganzoo.train(").replace("kimg=20", "kimg=0.5"), names)  # as it stands, but shorter
    assert names["result"].model == Path("runs/first/model")
    assert names["result"].pictures["samples"].is_file()


def test_the_generator_of_ones_own_keeps_the_contract() -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(block("register_generator"), names)
    check_generator(names["MyGenerator"])


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", README)
    assert pictures
    assert [path for path in pictures if not (ROOT / path).is_file()] == []


def test_every_recipe_is_named() -> None:
    part = README[README.index("## The recipes") : README.index("## Extend it")]
    named = set()
    for row in re.findall(r"^\| (`.*?) \|", part, re.MULTILINE):
        for name in re.findall(r"`([\w-]+)`", row):
            named.add(f"dcgan-leaky{name}" if name.startswith("-") else name)
    assert named == set(list_recipes())


def test_the_pretrained_model_of_the_readme_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block("load_pretrained("), {})
    with Image.open("digits.png") as grid:
        assert grid.size[0] > 4 * 28


@pytest.mark.parametrize("name", ["export.md", "models.md"])  # test_documents.py has the others
def test_the_python_of_a_document_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for code in blocks:
        exec(code, {})


@pytest.mark.parametrize(
    "line",
    sorted({line.partition("#")[0].strip() for line in re.findall(r"^ganzoo .*$", DOCUMENTS, re.MULTILINE)}),
)
def test_every_command_and_option_exists(line: str) -> None:
    words = shlex.split(line)[1:]
    with root.make_context("ganzoo", list(words), resilient_parsing=False) as context:
        command = root.get_command(context, words[0])
        assert command is not None
        command.make_context(words[0], words[1:])
    assert CliRunner().invoke(root, [words[0], "--help"]).exit_code == 0
