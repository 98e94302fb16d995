"""`ganzoo schema`: the schema on standard output or in a file."""

from __future__ import annotations

import json
from pathlib import Path

import click.testing
import jsonschema
import pytest
from torch import nn

from ganzoo import registry
from ganzoo.cli.main import root
from ganzoo.recipes.json_schema import recipe_json_schema


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(root, ["schema", *arguments])


def test_it_prints_the_schema_and_nothing_else() -> None:
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == recipe_json_schema()
    jsonschema.Draft202012Validator.check_schema(json.loads(done.stdout))


def test_it_writes_the_same_bytes_every_time(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "folder" / "b.json"]
    for path in paths:
        done = run("--out", str(path))
        assert (done.exit_code, done.stdout, done.stderr) == (0, f"{path}\n", "")
    assert paths[0].read_bytes() == paths[1].read_bytes() == run().stdout.encode()


def test_plugins_are_in_it_where_asked_for_and_a_broken_one_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: int) -> None:
        raise NotImplementedError

    class Fine(nn.Module):
        """An objective of a test."""

        def __init__(self, *, depth: int = 3) -> None:
            super().__init__()

    monkeypatch.setitem(registry.objectives._registered, "broken", broken)
    monkeypatch.setitem(registry.objectives._registered, "fine", Fine)
    done = run("--plugins")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["$defs"]["objective-fine"]["properties"]["depth"] == {
        "default": 3,
        "type": "integer",
    }
    assert done.stderr.startswith("ganzoo: warning: The objective")
    assert done.stderr.count("\n") == 1
    assert "objective-fine" not in run().stdout


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = run("--out", str(tmp_path / "file" / "a.json"))
    assert done.exit_code == 1
    assert done.stderr.startswith("ganzoo: error: ")
    assert done.stderr.count("\n") == 1
