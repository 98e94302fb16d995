"""The README's Python runs as it stands, and what it shows and names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ganzoo.cli.main import root
from ganzoo.recipes import list_recipes
from ganzoo.testing import check_generator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    table = README[README.index("## The recipes") : README.index("## Extend it")]
    named = set()
    for family, rest in re.findall(r"`(dcgan[\w-]*)`((?:, `-\w+`)*)", table):
        named |= {family, *(f"dcgan-leaky{end}" for end in re.findall(r"`(-\w+)`", rest))}
    assert named == set(list_recipes())


@pytest.mark.parametrize(
    "line", [line.partition("#")[0] for line in re.findall(r"^ganzoo .*$", README, re.MULTILINE)], ids=str.strip
)
def test_every_command_and_option_exists(line: str) -> None:
    words = shlex.split(line)[1:]
    with root.make_context("ganzoo", list(words), resilient_parsing=False) as context:
        command = root.get_command(context, words[0])
        assert command is not None
        command.make_context(words[0], words[1:])
    assert CliRunner().invoke(root, [words[0], "--help"]).exit_code == 0
