"""`ganzoo train` with `[evaluate]`: what is printed and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from evaluated_runs import registered

from ganzoo.cli.main import root
from ganzoo.evaluation.results import read_evaluation

SET = ("--set", "evaluate.every=2", "--set", 'evaluate.metrics=["gap"]', "--set", "evaluate.images=8")
FEATURES = ("--set", "evaluate.features=quarters")


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered():
        yield


def train(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["train", *arguments])


def test_a_training_prints_and_writes_what_it_measures(tiny: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = train(str(tiny()), "--out", str(out), "--steps", "3", *SET, *FEATURES)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stderr.splitlines() if " kimg  evaluation  gap-quarters " in line]
    assert [line.split()[0] for line in lines] == ["0.03", "0.05"]
    found = [read_evaluation(out / f"evaluations/step-{step:08d}.json") for step in (2, 3)]
    for line, one in zip(lines, found, strict=True):
        assert f"gap-quarters {one['gap-quarters'].value:.4g}   spread-quarters " in line
    assert json.loads((out / "model/metrics.json").read_text())["metrics"][0]["name"] == "gap-quarters"
    assert "gap-quarters" in (out / "model/README.md").read_text()


def test_a_wrong_name_is_told_in_a_line_with_the_nearest(tiny: Callable[..., Path], tmp_path: Path) -> None:
    done = train(str(tiny()), "--out", str(tmp_path / "run"), *SET, "--set", "evaluate.features=quarter")
    assert done.exit_code == 2
    assert "'quarter'" in done.stderr
    assert "quarters" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_dry_run_checks_it(tiny: Callable[..., Path], tmp_path: Path) -> None:
    wrong = train(str(tiny()), "--dry-run", *SET, *FEATURES, "--set", 'evaluate.metrics=["of-test"]')
    assert (wrong.exit_code, "not trained on" in wrong.stderr) == (2, True)
    right = train(str(tiny()), "--dry-run", "--json", *SET, *FEATURES)
    assert json.loads(right.stdout)["recipe"]["evaluate"] == {
        "every": 2, "metrics": ["gap"], "features": "quarters", "images": 8,
    }  # fmt: skip
