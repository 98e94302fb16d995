"""`ganzoo data dedup`: what it prints and writes, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
from PIL import Image

from ganzoo.cli.main import root
from ganzoo.data import Pack


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(root, ["data", *arguments])


def run_json(*arguments: str) -> dict[str, Any]:
    result = run("dedup", *arguments, "--json")
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four pictures of two classes, one of them twice and one twice as its mirror image."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    images = [Image.fromarray(one).resize((40, 40), Image.Resampling.BICUBIC) for one in coarse]
    images += [images[0], images[3].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    for name, image in zip(("a/0", "a/1", "b/2", "b/3", "b/4", "b/5"), images, strict=True):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return tmp_path / "photos"


def test_without_out_it_only_tells(photos: Path, tmp_path: Path) -> None:
    result = run("dedup", "photos")
    assert result.exit_code == 0, result.output
    lines = {line.split("  ")[0]: line.split()[-1] for line in result.stdout.splitlines()}
    assert (lines["images"], lines["duplicates"], lines["kept"], lines["groups"]) == ("6", "2", "4", "2")
    assert "a/0.png = b/4.png" in result.stdout
    assert "b/3.png = b/5.png" in result.stdout
    assert sorted(one.name for one in tmp_path.iterdir()) == ["home", "photos"]
    assert len(list(photos.rglob("*.png"))) == 6


def test_out_writes_a_pack_without_the_duplicates_and_report_shows_them(photos: Path, tmp_path: Path) -> None:
    told = run_json("photos", "--out", "clean", "--report", "look", "--image-size", "16", "--channels", "1")
    assert (told["images"], told["duplicates"], told["kept"], told["mixed_groups"]) == (6, 2, 4, 1)
    assert (told["pack"], told["report"]) == ("clean", "look")
    assert told["largest_groups"][0] == {"kept": "a/0.png", "removed": ["b/4.png"]}
    with Pack("clean") as pack:
        assert pack.shape == (4, 16, 16, 1)
        assert pack.classes == ("a", "b")
        assert pack.labels is not None
        assert pack.labels.tolist() == [0, 0, 1, 1]
    assert sorted(one.name for one in (tmp_path / "look").iterdir()) == [
        "duplicates.html",
        "duplicates.json",
        "groups.png",
    ]


def test_a_pack_without_duplicates_has_the_size_of_the_pack(photos: Path) -> None:
    assert run("pack", "photos", "--image-size", "24", "--out", "packed").exit_code == 0
    assert run_json("packed", "--out", "clean")["kept"] == 4
    with Pack("clean") as pack:
        assert pack.shape == (4, 24, 24, 3)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (("--no-flips",), "flips", False),
        (("--no-crops",), "crops", False),
        (("--no-compare",), "compare", False),
        (("--distance", "3"), "distance", 3),
        (("--difference", "0.5"), "difference", 0.5),
        (("--crop", "none"), "crop", "none"),
    ],
)
def test_options_of_the_search_reach_it(photos: Path, words: tuple[str, ...], name: str, value: Any) -> None:
    told = run_json("photos", *words)
    assert told["parameters"][name] == value
    assert told["duplicates"] == (1 if name == "flips" else 2)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("minst",), 2, "Did you mean 'mnist'?"),
        (("./nothing",), 1, "There is nothing at"),
        (("photos", "--method", "md5"), 2, "--method"),
        (("photos", "--distance", "17"), 2, "--distance"),
        (("photos", "--difference", "0"), 2, "difference"),
        (("photos", "--image-size", "16"), 2, "--out"),
        (("photos", "--out", "photos"), 2, "exists already"),
        (("photos", "--report", "photos"), 2, "exists already"),
    ],
)
def test_errors_are_one_line_and_come_before_the_work(
    photos: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run("dedup", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert result.stdout == ""
    assert sorted(one.name for one in tmp_path.iterdir()) == ["photos"]
