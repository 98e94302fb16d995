"""Bad input by way of the commands: one line that begins "ganzoo: error:", exit code 1 or 2, nothing half-written.

What is wrong with a file is found by its parser, and tested with it; here it is whether each command passes it on.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from tiny_runs import TABLE, recipe
from tomli_w import dumps

from ganzoo.cli.main import root
from ganzoo.models import ModelConfig, save_model
from ganzoo.tensors import read_tensors, save_tensors
from ganzoo.training.networks import build_networks

COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "sample": lambda model: ["sample", model, "--seeds", "0-3", "--out", "new/out.png", "--device", "cpu"],
    "show": lambda model: ["show", model],
    "export": lambda model: ["export", model, "--onnx", "--out", "new/out.onnx"],
    "convert": lambda model: ["convert", model, "new/out"],
    "convert to a file": lambda model: ["convert", model, "new/out.safetensors"],
    "train": lambda model: [
        "train",
        "tiny.toml",
        "--init",
        model,
        "--steps",
        "1",
        "--out",
        "new/out",
        "--device",
        "cpu",
    ],
}


@pytest.fixture(scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "model"
    folder.mkdir()
    data = {"description": "ten images", "content_sha256": "0" * 64, "images": 10, "classes": []}
    save_model(folder, ModelConfig(recipe(), "raw", 6, 0.024, data), build_networks(recipe())[0], None)
    return folder


@pytest.fixture
def model(_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder in the current folder, beside its recipe."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(dumps(TABLE))
    return Path(shutil.copytree(_model, "model"))


def there() -> dict[str, int]:
    """All that lies in the current folder, with the sizes of files."""
    return {str(path): path.stat().st_size if path.is_file() else -1 for path in sorted(Path().rglob("*"))}


def refused(*arguments: str, code: int | None = None) -> str:
    """Run a command that must be refused, and return the line that it says."""
    before = there()
    done: Result = CliRunner().invoke(root, list(arguments))
    assert done.exit_code in ((1, 2) if code is None else (code,)), done.output
    assert done.stdout == ""
    assert done.stderr.startswith("ganzoo: error: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 1200
    assert "bug in ganzoo" not in done.stderr
    assert there() == before
    return done.stderr


# ---------------------------------------------------------------------------------------------------- models


def config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def recipe_in_config(folder: Path, section: str, **changes: Any) -> None:
    fields = json.loads((folder / "config.json").read_text())
    fields["recipe"][section] |= changes
    config(folder, recipe=fields["recipe"])


def weights(folder: Path) -> Path:
    return folder / "generator.safetensors"


def bytes_of_weights(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: weights(folder).write_bytes(change(weights(folder).read_bytes()))


def no_number(folder: Path) -> None:
    tensors, metadata = read_tensors(weights(folder))
    tensors["output.weight"][0, 0, 0, 0] = float("nan")
    save_tensors(weights(folder), tensors, metadata)


def of_another_recipe(folder: Path) -> None:
    other = recipe(generator__widths=[6, 4])
    Path("other").mkdir()
    save_model(Path("other"), ModelConfig(other, "raw", 1, 1.0, {}), build_networks(other)[0], None)
    shutil.copy("other/generator.safetensors", weights(folder))


def of_the_same_shapes(folder: Path) -> None:
    other = recipe(generator__activation="leaky_relu_0.2")
    Path("other").mkdir()
    save_model(Path("other"), ModelConfig(other, "raw", 1, 1.0, {}), build_networks(other)[0], None)
    shutil.copy("other/generator.safetensors", weights(folder))


def replaced(by: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(folder: Path) -> None:
        weights(folder).unlink()
        by(weights(folder))

    return replace


WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "none": (lambda folder: weights(folder).unlink(), "generator.safetensors"),
    "empty": (bytes_of_weights(lambda _: b""), "is no safetensors file: it is empty"),
    "truncated": (bytes_of_weights(lambda content: content[:-7]), "it is cut short"),
    "a bit flipped": (
        bytes_of_weights(lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        "is damaged: its tensors are not those that were written",
    ),
    "a header of 2^60 bytes": (
        bytes_of_weights(lambda content: (1 << 60).to_bytes(8, "little") + content[8:]),
        "it claims a header of",
    ),
    "not finite": (no_number, "output.weight holds NaN or Inf (1 of its"),
    "of another recipe": (of_another_recipe, "of another shape: "),
    "of the same shapes": (of_the_same_shapes, "holds the weights of another generator"),
    "a web page": (bytes_of_weights(lambda _: b"<!DOCTYPE html><html></html>"), "it is a web page (HTML)"),
    "a Git LFS pointer": (bytes_of_weights(lambda _: b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "a pickle": (bytes_of_weights(lambda _: pickle.dumps([1])), "it is a pickle. `ganzoo convert"),
    "of torch": (lambda folder: torch.save({}, weights(folder)), "`ganzoo convert"),
    "a folder": (replaced(Path.mkdir), "it is a folder, no ordinary file"),
    "a pipe": (replaced(lambda path: os.mkfifo(path)), "it is a named pipe, no ordinary file"),
}
CONFIGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda folder: (folder / "config.json").write_text(""), "it is not JSON"),
    "cut": (lambda folder: (folder / "config.json").write_text("{"), "it is not JSON"),
    "not UTF-8": (lambda folder: (folder / "config.json").write_bytes(b'{"\xff": 1}'), "it is not UTF-8 text"),
    "10 MB": (lambda folder: (folder / "config.json").write_bytes(b" " * 10_000_000), "it is larger than"),
    "nested": (lambda folder: (folder / "config.json").write_text("[" * 99_999), "nested too deep"),
    "an unknown key": (lambda folder: config(folder, more=1), "more"),
    "a newer schema": (lambda folder: config(folder, schema_version=2), "Update ganzoo."),
    "NaN": (lambda folder: config(folder, kimg=float("nan")), "it holds NaN, which is no number"),
    "another type": (lambda folder: config(folder, step="6"), "step"),
    "10^12 parameters": (
        lambda folder: recipe_in_config(folder, "generator", widths=[10**6, 10**6]),
        "of another shape: ",
    ),
    "10^30 parameters": (lambda folder: recipe_in_config(folder, "generator", widths=[10**15, 10**15]), ""),
    "fifty thousand layers": (
        lambda folder: recipe_in_config(folder, "generator", widths=[1] * 50_000),
        "a list of at most 64 entries",
    ),
    "an unknown network": (lambda folder: recipe_in_config(folder, "generator", name="dcgam"), "dcgan"),
    "a network that cannot be": (lambda folder: recipe_in_config(folder, "generator", strides=[2] * 7), "strides"),
}
SAYS_WITHOUT_TENSORS = ("not finite", "a bit flipped", "of another recipe", "of the same shapes")
"""What `show` does not see, for it reads no tensors."""


@pytest.mark.parametrize("kind", WEIGHTS)
def test_bad_weights_are_refused_by_every_command(kind: str, model: Path) -> None:
    harm, reason = WEIGHTS[kind]
    harm(model)
    for name, command in COMMANDS.items():
        if name == "show" and kind in SAYS_WITHOUT_TENSORS:
            continue
        assert reason in refused(*command("./model"), code=1), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_bad_configs_are_refused_by_every_command(kind: str, model: Path) -> None:
    harm, reason = CONFIGS[kind]
    harm(model)
    for name, command in COMMANDS.items():
        if name == "show" and kind.startswith("10^"):
            continue
        line = refused(*command("./model"))
        assert reason in line, name


@pytest.mark.parametrize("kind", ["truncated", "a web page", "a pickle", "a folder", "a pipe", "a bit flipped"])
def test_a_bad_weights_file_alone_is_refused_by_every_command(kind: str, model: Path) -> None:
    WEIGHTS[kind][0](model)
    for name, command in COMMANDS.items():
        if name == "show" and kind in SAYS_WITHOUT_TENSORS:
            continue
        refused(*command("./model/generator.safetensors"))


def test_finite_weights_that_draw_no_finite_images_are_refused(model: Path) -> None:
    tensors, metadata = read_tensors(weights(model))
    tensors["layers.0.norm.running_var"] -= 2.0
    save_tensors(weights(model), tensors, metadata)
    for name in ("sample", "convert", "export"):
        assert "NaN" in refused(*WRITERS[name]("out"), code=1), name


def test_a_folder_without_anything_and_what_is_not_there_are_refused(model: Path) -> None:
    Path("empty").mkdir()
    for command in COMMANDS.values():
        assert "empty" in refused(*command("./empty"), code=2)
        assert "nowhere" in refused(*command("./nowhere"))


def test_onnx_files_that_are_not_ours_are_refused(model: Path) -> None:
    value = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 4])
    out = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 4])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["z"], ["image"])], "g", [value], [out])
    of_others = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    contents = {
        "others": of_others.SerializeToString(),
        "garbage": b"garbage" * 99,
        "empty": b"",
        "page": b"<!DOCTYPE html><html></html>",
        "cut": of_others.SerializeToString()[:-9],
    }
    for name, content in contents.items():
        Path(f"{name}.onnx").write_bytes(content)
        for command in ("sample", "show", "export", "convert", "train"):
            assert f"{name}.onnx" in refused(*COMMANDS[command](f"./{name}.onnx")), command


# ---------------------------------------------------------------------------------------------------- targets

WRITERS: dict[str, Callable[[str], list[str]]] = {
    "sample": lambda out: ["sample", "./model", "--out", f"{out}.png", "--device", "cpu"],
    "sample to npz": lambda out: ["sample", "./model", "--out", f"{out}.npz", "--device", "cpu"],
    "sample to zip": lambda out: ["sample", "./model", "--out", f"{out}.zip", "--device", "cpu"],
    "sample to a folder": lambda out: ["sample", "./model", "--out", f"{out}/", "--device", "cpu"],
    "export": lambda out: ["export", "./model", "--onnx", "--out", f"{out}.onnx"],
    "convert": lambda out: ["convert", "./model", out],
    "convert to a file": lambda out: ["convert", "./model", f"{out}.safetensors"],
}
WHOLE_OR_NOTHING = [name for name in WRITERS if name != "sample to a folder"]
FLUSHED = [name for name in WHOLE_OR_NOTHING if name != "sample"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_target_that_cannot_be_written_is_answered(writer: str, model: Path) -> None:
    Path("file").write_text("not a folder")
    assert "file" in refused(*WRITERS[writer]("file/out"), code=1)


@pytest.mark.skipif(sys.platform != "linux", reason="a place where not even root may write")
@pytest.mark.parametrize("writer", [name for name in WRITERS if name != "export"])  # as above, and it takes seconds
def test_a_place_that_is_read_only_is_answered(writer: str, model: Path) -> None:
    assert "/proc/nowhere" in refused(*WRITERS[writer]("/proc/nowhere/out"), code=1)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the operating system refuse larger files to this process, as a full disk does."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such bound")
@pytest.mark.parametrize("writer", WHOLE_OR_NOTHING)
def test_a_disk_that_fills_leaves_nothing(writer: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with files_no_larger_than(64):
        line = refused(*WRITERS[writer]("out"), code=1)
    assert "File too large" in line


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such bound")
def test_a_disk_that_fills_leaves_whole_images_alone_in_a_folder(model: Path) -> None:
    assert CliRunner().invoke(root, WRITERS["sample to a folder"]("whole")).exit_code == 0
    sizes = sorted(path.stat().st_size for path in Path("whole").iterdir())
    with files_no_larger_than(sizes[len(sizes) // 2]):
        done = CliRunner().invoke(root, WRITERS["sample to a folder"]("out"))
    assert done.exit_code == 1
    assert "File too large" in done.stderr
    written = list(Path("out").iterdir())
    assert len(written) < len(sizes)
    for path in written:
        assert path.read_bytes() == (Path("whole") / path.name).read_bytes()


@pytest.mark.parametrize("writer", [name for name in FLUSHED if name != "export"])
def test_a_full_disk_is_told_with_what_to_do(writer: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = refused(*WRITERS[writer]("out"), code=1)
    assert line.startswith("ganzoo: error: The disk is full (No space left on device). Free some space")


@pytest.mark.parametrize("writer", FLUSHED)
def test_ctrl_c_while_it_writes_leaves_nothing(writer: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    before = there()
    done = CliRunner().invoke(root, WRITERS[writer]("out"))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == "\nganzoo: error: Stopped by Ctrl-C.\n"  # what is typed stands on a line of its own
    assert there() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_ctrl_c_ends_a_command_in_one_line_and_leaves_nothing(model: Path) -> None:
    before = there()
    command = [sys.executable, "-m", "ganzoo", "sample", "./model", "--seeds", "0-9999999", "--out", "out.zip"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while there() == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert there() != before, process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err.strip()) == (1, "", "ganzoo: error: Stopped by Ctrl-C.")
    assert there() == before
