"""`ganzoo convert`."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from ganzoo.cli.main import root
from ganzoo.files import sha256_of
from ganzoo.models import load_model


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """A Lightning-like file with an average, of a net in the tutorial's style."""
    torch.manual_seed(0)

    def generator() -> nn.Sequential:
        first = nn.ConvTranspose2d(5, 4, 4, bias=False)
        return nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False))

    nets = {"netG": generator(), "netG_ema": generator()}
    state = {f"{net}.main.{name}": one for net, network in nets.items() for name, one in network.state_dict().items()}
    torch.save({"epoch": 9, "state_dict": state}, tmp_path / "last.ckpt")
    return "last.ckpt"


def convert(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["convert", *arguments])


def test_it_prints_the_path_what_was_recognised_and_what_comes_next(checkpoint: str) -> None:
    done = convert(checkpoint, "dcgan", "--licence", "MIT")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "dcgan"
    shown = " ".join(done.stdout.split())
    assert "images 8×8 RGB, z of 5" in shown
    assert (
        "generator the PyTorch tutorial's DCGAN, 520 parameters, at state_dict, without the prefix netG_ema." in shown
    )
    assert "Taken: the exponential moving average (state_dict → netG_ema), not state_dict → netG." in shown
    assert "z from a normal prior, ReLU, tanh at the end" in shown
    assert sha256_of("dcgan/generator.safetensors") in done.stdout
    assert lines[-3:] == ["Next:", "  ganzoo sample ./dcgan", "  ganzoo export ./dcgan --onnx"]
    assert load_model("dcgan").config.licence == "MIT"


def test_the_next_commands_name_the_model_as_a_shell_reads_it(checkpoint: str) -> None:
    done = convert(checkpoint, "my nets/one")
    assert done.stdout.splitlines()[-2] == "  ganzoo sample 'my nets/one'"
    sampled = CliRunner().invoke(root, ["sample", "my nets/one", "--device", "cpu", "--seeds", "0-3"])
    assert sampled.exit_code == 0, sampled.stderr


def test_json_is_the_only_thing_on_standard_output(checkpoint: str) -> None:
    done = convert(checkpoint, "half.safetensors", "--dtype", "fp16", "--json")
    value: dict[str, Any] = json.loads(done.stdout)
    assert (value["kind"], value["image_size"], value["latent_dim"], value["dtype"]) == (
        "safetensors",
        8,
        5,
        ["float16"],
    )
    assert value["sha256"] == sha256_of("half.safetensors")
    assert value["networks"][0] | {"dtype": []} == {
        "role": "generator",
        "architecture": "the PyTorch tutorial's DCGAN",
        "place": ["state_dict"],
        "prefix": "netG_ema.",
        "ema": True,
        "dtype": [],
        "parameters": 520,
    }
    assert value["next"] == ["ganzoo sample ./half.safetensors", "ganzoo export ./half.safetensors --onnx"]
    assert 0 < value["difference"] < 5e-3


def test_a_model_that_is_there_needs_force(checkpoint: str) -> None:
    convert(checkpoint, "dcgan")
    again = convert(checkpoint, "dcgan")
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr == ("ganzoo: error: dcgan exists already. Name another target, or replace it with --force.\n")
    assert convert(checkpoint, "dcgan", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing.pt", "x"], 1, "There is no file nothing.pt."),
        (["nothing", "x"], 2, "nothing"),
        (["last.ckpt", "x.onnx"], 2, "Use: ganzoo export MODEL --onnx"),
        (["last.ckpt", "x", "--recipe", "dcgan-tutorial46"], 2, "Did you mean 'dcgan-tutorial64'"),
        (["last.ckpt", "x", "--recipe", "dcgan-tutorial64"], 1, "does not fit the recipe dcgan-tutorial64"),
        (["last.ckpt", "x", "--dtype", "int8"], 2, "Invalid value for '--dtype'"),
        (["last.ckpt", "x", "--discriminator", "last.ckpt"], 1, "last.ckpt holds no discriminator that is known"),
        (["last.ckpt"], 2, "Missing argument 'DST'"),
        (["empty.pth", "x"], 1, "empty.pth is empty"),
        (["hostile.pt", "x"], 1, "hostile.pt was refused: it asks for posix.mkdir"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_writes_nothing(
    arguments: list[str], code: int, said: str, checkpoint: str
) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, ("it_ran",)

    Path("empty.pth").write_bytes(b"")
    torch.save({"netG": Hostile()}, "hostile.pt")
    done = convert(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()[-1:]
    assert line.startswith("ganzoo: error: ")
    assert said in line
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["empty.pth", "hostile.pt", checkpoint]


def test_a_full_disk_is_one_line(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    done = convert(checkpoint, "x")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("ganzoo: error: The disk is full")
    assert [path.name for path in Path.cwd().iterdir()] == [checkpoint]
