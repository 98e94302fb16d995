"""`ganzoo inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ganzoo.cli.main import root
from ganzoo.models import load_model
from ganzoo.sampling import TorchSampler

Make = Callable[..., Path]
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["inspect", "neighbours", "--device", "cpu", *map(str, arguments)])


def inspect(*arguments: object) -> Result:
    done = invoke("--space", "pixels", *arguments)
    assert done.exit_code == 0, done.stderr
    return done


def write_noise(path: Path, count: int, seed: int = 0, size: int = 8) -> Pixels:
    """Write grey images of noise, and return them."""
    images = np.random.default_rng(seed).integers(0, 256, (count, size, size, 1), dtype=np.uint8)
    np.save(path, images)
    return images


def test_a_models_images_are_shown_beside_the_nearest_training_images(model: Make, tmp_path: Path) -> None:
    run = model()
    drawn = TorchSampler(load_model(run / "model"), device="cpu").pixels([4, 7])
    training = write_noise(tmp_path / "training.npy", 20)
    training[13] = drawn[1]
    np.save(tmp_path / "training.npy", training)
    done = inspect(
        run, "--data", "training.npy", "--seeds", "4,7", "--k", 2, "--count", 0, "--json", "--out", "a/b.png"
    )
    told = json.loads(done.stdout)
    assert told["out"] == "a/b.png"
    (space,) = told["spaces"]
    assert space["space"] == "pixels"
    assert [one["seed"] for one in space["images"]] == [4, 7]
    assert space["images"][1]["neighbours"][0] == {"image": 13, "distance": 0.0}
    distances = np.sqrt((((drawn[0] - training.astype(float)) / 255) ** 2).sum(axis=(1, 2, 3)))
    first = space["images"][0]["neighbours"]
    assert [one["image"] for one in first] == np.argsort(distances)[:2].tolist()
    assert [one["distance"] for one in first] == pytest.approx(np.sort(distances)[:2], rel=1e-5)
    assert (space["samples"], space["test"], space["copied"]) == (None, None, None)
    with Image.open("a/b.png") as picture:
        shown = np.asarray(picture)
    scale = 8
    assert np.array_equal(shown[2 : 2 + 64 : scale, 2 : 2 + 64 : scale], drawn[0, :, :, 0])
    assert (shown[:, 66:98] == 255).all()  # the gap


def test_copies_are_counted_beside_images_that_were_not_trained_on(tmp_path: Path) -> None:
    training = write_noise(tmp_path / "training.npy", 60)
    samples = write_noise(tmp_path / "samples.npy", 40, seed=1)
    samples[::2] = training[:20]
    np.save(tmp_path / "samples.npy", samples)
    write_noise(tmp_path / "test.npy", 50, seed=2)
    done = inspect("samples.npy", "--data", "training.npy", "--test-data", "test.npy", "--json")
    told = json.loads(done.stdout)
    (space,) = told["spaces"]
    by_chance = space["test"]["share"]
    assert space["samples"]["near_copies"] == 20
    assert space["samples"]["images"] == space["test"]["images"] == 40
    assert space["samples"]["share"] == pytest.approx(0.5 + 0.5 * by_chance, abs=0.2)
    assert space["copied"] == pytest.approx((space["samples"]["share"] - by_chance) / (1 - by_chance))
    assert [one["image"] for one in space["images"]] == [place * 40 // 16 for place in range(16)]
    assert told["protocol"]["training"]["count"] == 60
    assert told["protocol"]["test"]["counted"] == 40

    table = inspect("samples.npy", "--data", "training.npy", "--test-data", "test.npy", "--count", 10)
    lines = table.stdout.splitlines()
    assert lines[0] == "neighbours.png"
    assert [line.split()[:3] for line in lines if line.startswith("pixels")] == [
        ["pixels", "samples", "10"],
        ["pixels", "test", "10"],
    ]
    assert "--test-data" not in table.stderr


def test_the_shares_rest_on_the_first_seeds_whichever_are_shown(model: Make, tmp_path: Path) -> None:
    run = model()
    training = write_noise(tmp_path / "training.npy", 30)
    training[:10] = TorchSampler(load_model(run / "model"), device="cpu").pixels(np.arange(10))
    np.save(tmp_path / "training.npy", training)
    told = json.loads(inspect(run, "--data", "training.npy", "--seeds", "500", "--count", 10, "--json").stdout)
    (space,) = told["spaces"]
    assert [one["seed"] for one in space["images"]] == [500]
    assert (space["samples"]["images"], space["samples"]["near_copies"]) == (10, 10)


def test_without_test_images_it_says_what_they_would_tell(tmp_path: Path) -> None:
    write_noise(tmp_path / "training.npy", 10)
    write_noise(tmp_path / "samples.npy", 5, seed=1)
    done = inspect("samples.npy", "--data", "training.npy")
    assert "--test-data SOURCE" in done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("pixels")] == ["samples"]


def test_the_recipes_data_are_the_training_images_where_none_are_named(model: Make) -> None:
    done = inspect(model(), "--count", 20, "--seeds", 3, "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["protocol"]["training"]["count"] == 1797  # of the source digits
    assert told["protocol"]["generated"]["counted"] == told["spaces"][0]["samples"]["images"] == 20


def test_features_and_pixels_stand_beside_each_other_and_auto_suits_the_channels(tmp_path: Path) -> None:
    write_noise(tmp_path / "training.npy", 12, size=28)
    write_noise(tmp_path / "samples.npy", 3, seed=1, size=28)
    done = invoke("samples.npy", "--data", "training.npy", "--json", "--out", "both.png", "--k", 2)
    assert done.exit_code == 0, done.stderr
    assert [one["space"] for one in json.loads(done.stdout)["spaces"]] == ["pixels", "mnist-convnet"]
    inspect("samples.npy", "--data", "training.npy", "--out", "one.png", "--k", 2)
    with Image.open("both.png") as both, Image.open("one.png") as one:
        assert both.width / both.height > 1.3 * one.width / one.height


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["samples.npy"], 2, "--data SOURCE"),
        (["samples.npy", "--data", "large.npy", "--channels", "3"], 0, ""),
        (["samples.npy", "--data", "small.npy"], 1, "would be enlarged"),
        (["samples.npy", "--data", "training.npy", "--seeds", "0-3"], 2, "--seeds is of models"),
        (["samples.npy", "--data", "training.npy", "--k", "12"], 2, "less than the 12 training images"),
        (["samples.npy", "--data", "training.npy", "--space", ","], 2, "no space"),
        (["samples.npy", "--data", "training.npy", "--out", "a.zip"], 2, "a .png"),
        (["samples.npy", "--data", "two.npy", "--k", "1"], 2, "2 training images tell nothing"),
        (["samples.npy", "--data", "nowhere.npy"], 1, "nowhere.npy"),
        (["samples.npy", "--data", "nowhere.npy", "--space", "pixles"], 2, "Did you mean 'pixels'?"),
        (["nothing-here", "--data", "training.npy"], 2, "nothing-here"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    write_noise(tmp_path / "training.npy", 12)
    write_noise(tmp_path / "samples.npy", 3, seed=1)
    write_noise(tmp_path / "two.npy", 2)
    write_noise(tmp_path / "small.npy", 12, size=4)
    write_noise(tmp_path / "large.npy", 12, size=16)
    done = invoke("--space", "pixels", *arguments)
    assert done.exit_code == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert done.stdout == ""
        assert done.stderr.splitlines()[-1].startswith("ganzoo: error: ")
        assert not list(tmp_path.glob("*.png"))


def test_other_data_than_those_of_the_training_are_pointed_out(model: Make, tmp_path: Path) -> None:
    run = model()
    config = json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))
    config["data"] = {"description": "ten images", "content_sha256": "0" * 64, "images": 10, "classes": []}
    (run / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_noise(tmp_path / "others.npy", 12)
    done = inspect(run, "--data", "others.npy", "--seeds", "1", "--count", 0)
    assert "not the images that the model was trained on" in done.stderr
