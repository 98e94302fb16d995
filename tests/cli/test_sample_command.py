"""`ganzoo sample`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ganzoo import weights
from ganzoo.cli.main import root
from ganzoo.cli.sample import parse_labels
from ganzoo.errors import UsageError
from ganzoo.models import load_model
from ganzoo.pictures import to_uint8
from ganzoo.sampling import TorchSampler, labels_of

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sample(*arguments: object) -> Result:
    done = CliRunner().invoke(root, ["sample", "--device", "cpu", *map(str, arguments)])
    assert done.exit_code == 0, done.stderr
    return done


def test_the_newest_run_is_used_and_named_and_the_path_printed(model: Make) -> None:
    old, new = model(name="00000-tiny"), model(name="00001-tiny")
    os.utime(old / "model" / "config.json", (1e9, 1e9))
    done = sample()
    assert done.stdout == "samples.png\n"
    assert done.stderr.startswith(f"Using the newest run, {Path('runs') / new.name}.\n64 images in ")
    with Image.open("samples.png") as image:
        assert image.width == image.height > 8 * 8


@pytest.mark.parametrize("classes", [0, 3])
def test_the_pixels_are_the_samplers_whatever_the_batch(model: Make, classes: int) -> None:
    run = model(classes)
    seeds = np.array([5, 3, 4, 900], dtype=np.uint64)
    expected = to_uint8(TorchSampler(load_model(run / "model"), device="cpu").sample(seeds))
    for batch_size in (1, 3, 64):
        sample(run, "--seeds", "5,3-4,900", "--out", "a.npz", "--batch-size", batch_size)
        with np.load("a.npz") as arrays:
            assert arrays["seeds"].tolist() == seeds.tolist()
            assert np.abs(arrays["images"].astype(int) - expected).max() <= 1
            if classes:
                assert arrays["labels"].tolist() == labels_of(seeds, classes).tolist()


def test_labels_are_taken_in_turn(model: Make) -> None:
    sample(model(4), "--seeds", "0-4", "--labels", "3,0-1", "--out", "a.npz")
    with np.load("a.npz") as arrays:
        assert arrays["labels"].tolist() == [3, 0, 1, 3, 0]
        assert arrays["seeds"].tolist() == [0, 1, 2, 3, 4]


def test_each_draws_every_seed_with_every_class(model: Make) -> None:
    sample(model(3), "--seeds", "7-8", "--labels", "each", "--out", "all/")
    assert sorted(path.name for path in Path("all").iterdir()) == [
        f"seed{seed:08d}_label{label}.png" for seed in (7, 8) for label in range(3)
    ]


def test_a_zip_has_stylegans_labels(model: Make) -> None:
    sample(model(3), "--seeds", "0-4", "--labels", "2", "--out", "a.zip", "--batch-size", 2)
    with zipfile.ZipFile("a.zip") as archive:
        labels = json.loads(archive.read("dataset.json"))["labels"]
        assert labels == [[f"00000/img{index:08d}.png", 2] for index in range(5)]


def test_json_is_the_only_thing_on_standard_output(model: Make) -> None:
    run = model(3)
    done = sample("--json", "--seeds", "0-9", "--out", "images.zip")
    value = json.loads(done.stdout)
    assert (value["images"], value["kind"], value["out"], value["num_classes"]) == (10, "zip", "images.zip", 3)
    assert Path(value["model"]).resolve() == (run / "model").resolve()
    assert "Using the newest run" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "a.jpg"], "Images cannot be written to 'a.jpg'"),
        (["--seeds", "-3"], "neither a number nor a range"),
        (["--seeds", "9-3"], "goes backwards"),
        (["--seeds", str(2**64)], "seeds are below 2^64"),
        (["--seeds", "one"], "neither a number nor a range"),
        (["--seeds", "0-9999999"], "too many for one picture"),
        (["--labels", "0"], "This model knows no classes"),
        (["--batch-size", "0"], "Invalid value for '--batch-size'"),
        (["--device", "tpu"], "'tpu' is none of auto, cpu, cuda, cuda:N"),
        (["nowhere"], "There is no model 'nowhere': no zoo name, run or model folder, or file"),
        (["no/where"], "Write hf-hub:no/where for the Hub, ./no/where for a path"),
        (["weights.pt"], "There is no file 'weights.pt' here"),
        (["--truncation", "0"], "Invalid value for '--truncation'"),
        (["--truncation", "1.5"], "Invalid value for '--truncation'"),
        (["--runtime", "numpy"], "There is no runtime 'numpy'."),
        (["--runtime", "onx"], "There is no runtime 'onx'. Did you mean 'onnx'?"),
        (["--precision", "int8"], "Invalid value for '--precision'"),
        (["--runtime", "openvino", "--provider", "cuda"], "A provider (=cuda) is of ONNX Runtime. Use --runtime onnx."),
        (["--provider", "cuda"], "A provider (=cuda) is of ONNX Runtime. Use --runtime onnx"),
        (["--runtime", "onnx"], "model.onnx. Export it first: ganzoo export"),
        (["dcgan-lsun"], "The recipe 'dcgan-lsun' has no published weights"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_writes_nothing(model: Make, arguments: list[str], said: str) -> None:
    model()
    done = CliRunner().invoke(root, ["sample", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith("ganzoo: error: ")
    assert said in line
    assert not list(Path.cwd().glob("*.png"))


def test_labels_beyond_the_models_classes_are_refused(model: Make) -> None:
    model(3)
    done = CliRunner().invoke(root, ["sample", "--labels", "3"])
    assert done.exit_code == 2
    assert "there is no class 3. The classes are 0 to 2." in done.stderr


def test_without_any_run_it_says_what_to_do() -> None:
    done = CliRunner().invoke(root, ["sample"])
    assert done.exit_code == 2
    assert "no finished run in runs. Name one, or train: ganzoo train dcgan-digits" in done.stderr


def test_an_interruption_leaves_no_file(model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model()
    draw = TorchSampler._draw
    calls: list[int] = []

    def interrupted(self: TorchSampler, z: Any, label: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return draw(self, z, label)

    monkeypatch.setattr(TorchSampler, "_draw", interrupted)
    before = sorted(Path.cwd().iterdir())
    done = CliRunner().invoke(root, ["sample", "--out", "a.zip", "--batch-size", "8"])
    assert done.exit_code == 1
    assert done.stderr.endswith("ganzoo: error: Stopped by Ctrl-C.\n")
    assert sorted(Path.cwd().iterdir()) == before


@pytest.mark.parametrize("text", ["", "a", "1,,2", "-1", "1-", "9999999999"])
def test_labels_that_are_no_classes_are_not_understood(text: str) -> None:
    with pytest.raises(UsageError, match="is not understood"):
        parse_labels(text, 10)


def test_a_range_of_labels_that_runs_backwards_is_refused() -> None:
    assert parse_labels("2-4, 0", 10).tolist() == [2, 3, 4, 0]
    with pytest.raises(UsageError, match="runs backwards"):
        parse_labels("4-2", 10)


def test_truncation_is_the_samplers(model: Make) -> None:
    run = model()
    expected = to_uint8(TorchSampler(load_model(run / "model"), device="cpu").sample(range(3), truncation=0.25))
    done = sample(run, "--seeds", "0-2", "--out", "a.npz", "--truncation", "0.25", "--json")
    assert json.loads(done.stdout)["truncation"] == 0.25
    with np.load("a.npz") as arrays:
        assert np.array_equal(arrays["images"], expected)


def test_a_weights_file_is_a_model(model: Make) -> None:
    run = model()
    sample(run, "--seeds", "0-2", "--out", "run.npz")
    sample(run / "model" / "generator.safetensors", "--seeds", "0-2", "--out", "file.npz")
    assert Path("file.npz").read_bytes() == Path("run.npz").read_bytes()


def test_a_zoo_name_wins_over_a_folder_and_it_is_said(model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model()
    monkeypatch.setattr(weights, "published_models", lambda: {"mine": None})
    monkeypatch.setattr(weights, "fetch_published", lambda name, **_: run / "model")
    Path("mine").mkdir()
    done = sample("mine", "--seeds", "0", "--json")
    assert "Using the zoo's model mine; what is called so here is ./mine." in done.stderr
    assert json.loads(done.stdout)["model"] == str(run / "model")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with three classes and its export beside it."""
    from ganzoo.export import export_onnx
    from ganzoo.zoo import create_model

    small = {"data": {"image_size": 8, "num_classes": 3}, "generator": {"widths": [8], "latent_dim": 4}}
    made = create_model("dcgan-digits", discriminator={"widths": [8]}, **small)
    folder = made.save(tmp_path_factory.mktemp("exported") / "model")
    export_onnx(load_model(folder), folder / "model.onnx")
    return folder


def test_an_onnx_file_draws_the_same_pixels_without_torch(exported: Path) -> None:
    sample(exported, "--seeds", "4-9", "--out", "torch.npz", "--truncation", "0.7")
    script = (
        "import sys; from ganzoo.cli.main import root\n"
        "try: root.main(['sample', sys.argv[1], '--seeds', '4-9', '--out', 'onnx.npz', '--truncation', '0.7'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('torch', 'onnx', 'pydantic', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, exported / "model.onnx"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["onnx.npz", "[]"]
    with np.load("torch.npz") as first, np.load("onnx.npz") as second:
        assert np.array_equal(first["labels"], second["labels"])
        assert np.abs(first["images"].astype(int) - second["images"]).max() <= 1


def test_the_runtime_of_a_model_folder_can_be_chosen(exported: Path) -> None:
    for runtime, provider in (("auto", "auto"), ("onnx", "cpu"), ("onnx", "auto")):
        sample(exported, "--runtime", runtime, "--provider", provider, "--seeds", "0-7", "--out", f"{runtime}.png")
    with Image.open("auto.png") as first, Image.open("onnx.png") as second:
        assert np.abs(np.asarray(first).astype(int) - np.asarray(second)).max() <= 1
    done = CliRunner().invoke(root, ["sample", str(exported / "model.onnx"), "--runtime", "torch"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "is an ONNX file, which torch cannot draw. Leave out --runtime torch." in done.stderr


def drawn(model: Path, out: str, *more: str) -> Any:
    sample(model, "--seeds", "0-15", "--out", out, *more)
    with np.load(out) as arrays:
        return arrays["images"].astype(int)


def test_openvino_draws_a_model_folder_and_its_file_with_the_same_pixels(exported: Path) -> None:
    expected = drawn(exported, "torch.npz")
    for number, model in enumerate((exported, exported / "model.onnx")):
        assert np.abs(drawn(model, f"{number}.npz", "--runtime", "openvino") - expected).max() <= 1


def test_bf16_is_chosen_by_the_precision(exported: Path) -> None:
    """Its images are others, by rounding; the default's are those of float32."""
    expected = drawn(exported, "fp32.npz")
    assert np.array_equal(drawn(exported, "same.npz", "--precision", "fp32"), expected)
    rounded = drawn(exported, "bf16.npz", "--precision", "bf16")
    assert 0 < np.abs(rounded - expected).max() <= 8
    done = CliRunner().invoke(root, ["sample", str(exported / "model.onnx"), "--precision", "bf16"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "model.onnx computes in fp32 in ONNX Runtime, not in bf16. Leave out --precision, or" in done.stderr
