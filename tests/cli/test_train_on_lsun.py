"""`ganzoo train dcgan-lsun` on a database in LSUN's format: the paper's recipe from encoded images to a model."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ganzoo.cli.main import root
from ganzoo.models import load_model


def write_bedrooms(path: Path, count: int) -> None:
    """Write an LMDB as LSUN's: keys of 40 hexadecimal digits, values that are encoded images of 256 and more pixels."""
    lmdb = pytest.importorskip("lmdb")
    random = np.random.default_rng(0)
    with lmdb.open(str(path), map_size=1 << 26) as database, database.begin(write=True) as transaction:
        for index in range(count):
            pixels = random.integers(0, 256, (8, 10, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).resize((341, 256)).save(buffer, "WEBP", quality=50)
            transaction.put(f"{index:040x}".encode(), buffer.getvalue())


def test_dcgan_lsun_trains_on_an_lmdb_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bedrooms(tmp_path / "bedroom_train_lmdb", 40)
    monkeypatch.chdir(tmp_path)
    narrow = ["generator.widths=[16,8,8,4]", "discriminator.widths=[4,8,8,16]", "train.batch_size=8"]
    changes = [word for change in narrow for word in ("--set", change)]
    result = CliRunner().invoke(root, ["train", "dcgan-lsun", "--steps", "3", "--json", "--out", "run", *changes])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["step"] == 3
    assert report["kimg"] == pytest.approx(3 * 2 * 8 / 1000)  # each of the two networks has a minibatch of its own
    model = load_model(tmp_path / "run/model")
    assert model.config.recipe.data.source == "lsun:bedroom_train"
    assert model.config.data["images"] == 40
    with Image.open(tmp_path / "run/model/samples.png") as picture:
        assert picture.size[0] > 8 * 64
