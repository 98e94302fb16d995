"""`ganzoo data`: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
from PIL import Image

from ganzoo.cli.main import root

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    monkeypatch.delenv("GANZOO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(root, ["data", *arguments])


def run_json(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(path)
    (tmp_path / "pets" / "dog" / "broken.png").write_bytes(b"broken")
    return tmp_path / "pets"


def test_pack_reports_what_was_packed_and_info_tells_the_same(tmp_path: Path) -> None:
    packed = run_json("pack", str(images(tmp_path)), "--image-size", "8")
    assert packed["images"] == 3
    assert packed["classes"] == {"cat": 2, "dog": 1}
    assert (packed["image_size"], packed["channels"], packed["bytes"]) == (8, 3, 3 * 8 * 8 * 3)
    assert packed["skipped"] == 1
    assert packed["skipped_examples"] == [{"name": "dog/broken.png", "reason": "not an image that can be read"}]
    assert run_json("info", packed["path"], "--verify") == packed


def test_pack_into_a_folder_of_ones_own_with_every_option(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    looks = ["--image-size", "6", "--channels", "1", "--crop", "none", "--resize", "box"]
    packed = run_json("pack", str(images(tmp_path)), *looks, "--max-images", "2", "--out", str(out))
    assert Path(packed["path"]) == out
    assert np.load(out / "images.npy").shape == (2, 6, 6, 1)
    assert json.loads((out / "manifest.json").read_text())["request"] == {
        "image_size": 6,
        "channels": 1,
        "crop": "none",
        "resize": "box",
        "max_images": 2,
    }


def test_info_of_a_source_packs_nothing(tmp_path: Path) -> None:
    told = run_json("info", str(images(tmp_path)))
    assert (told["images"], told["first_image"], told["classes"]) == (4, "12×10", {"cat": 2, "dog": 2})
    assert not (tmp_path / "home").exists()


def test_info_writes_a_grid_of_images(tmp_path: Path) -> None:
    grid = tmp_path / "look.png"
    assert run_json("info", str(images(tmp_path)), "--grid", str(grid))["grid"] == str(grid)
    with Image.open(grid) as picture:
        assert min(picture.size) >= 64
        assert len(picture.getcolors(1 << 24) or []) > 100


def test_info_tells_the_factors_of_a_source_and_of_its_pack(tmp_path: Path) -> None:
    packed = run_json("pack", "rooms:count=20", "--image-size", "16")
    told = packed["factors"]
    assert told["window_box"]["shape"] == [4]
    assert told["window_box"]["type"] == "float64"
    assert (told["window"]["type"], told["window"]["low"], told["window"]["high"]) == ("int64", 0, 1)
    assert run_json("info", packed["path"])["factors"] == told == run_json("info", "rooms:count=20")["factors"]
    shown = run("info", packed["path"]).stdout
    assert re.search(rf"^factors +{len(told)}$", shown, re.MULTILINE)
    assert "window: 0 to 1\n" in shown
    assert "window_box: 4 values 0 to " in shown
    assert run_json("info", "digits")["factors"] is None
    assert "factors" not in run("info", "digits").stdout


@pytest.mark.parametrize("spec", ["shards", "shards/{8..9}.tar", "a.parquet"])
def test_tars_and_parquet_files_are_sources_like_any_other(tmp_path: Path, spec: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = images(tmp_path)
    png = (folder / "cat" / "1.png").read_bytes()
    (tmp_path / "shards").mkdir()
    for shard in (8, 9):
        with tarfile.open(tmp_path / "shards" / f"{shard}.tar", "w") as tar:
            tar.add(folder / "cat" / "1.png", f"{shard}.png")
    pq.write_table(pa.table({"image": [png, png]}), tmp_path / "a.parquet")
    told = run_json("info", spec)
    assert (told["images"], told["first_image"], told["classes"]) == (2, "12×10", None)
    packed = run_json("pack", spec, "--image-size", "8")
    assert (packed["images"], packed["skipped"]) == (2, 0)


def test_results_are_on_standard_output_and_the_rest_is_not(tmp_path: Path) -> None:
    result = run("pack", str(images(tmp_path)), "--image-size", "8")
    assert result.exit_code == 0
    assert "8×8×3" in result.stdout
    assert "cat: 2" in result.stdout
    assert "dog/broken.png: not an image" in result.stdout
    assert "packing" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("pack", "minst"), 2, "Did you mean 'mnist'?"),
        (("pack", "./nothing"), 1, "There is nothing at"),
        (("pack", "lsun:bedroom_train"), 1, "43 GB"),
        (("pack", "digits", "--image-size", "0"), 2, "--image-size"),
        (("pack", "digits", "--crop", "left"), 2, "--crop"),
        (("info", "digits", "--verify"), 2, "Only a pack"),
        (("info", "hf:a/b/c"), 2, "no name of a data set"),
        (("pack", "hf:somebody/pets"), 1, "Unset GANZOO_OFFLINE"),
        (("info", "./{0..3}.tar"), 1, "4 of the 4 files"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert result.stdout == ""


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys, click.testing; from ganzoo.cli.main import root;"
        "run = click.testing.CliRunner().invoke;"
        "results = [run(root, ['data', *more, '--help']) for more in ([], ['pack'], ['info'])];"
        "assert all(result.exit_code == 0 and 'SOURCE' in result.output for result in results);"
        "assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
