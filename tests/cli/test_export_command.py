"""`ganzoo export`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from ganzoo.cli.export import default_path, suffix_of
from ganzoo.cli.main import root
from ganzoo.errors import GanzooError
from ganzoo.export.onnx import exporting, latency, outputs, parity, tracing
from ganzoo.files import sha256_of
from ganzoo.references import ModelLocation

Make = Callable[..., Path]

_TRACES: dict[tuple[tracing.Interface, int], bytes] = {}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own; the untrained model of all of them is traced once, for that takes seconds."""

    def to_graph(generator: object, interface: tracing.Interface, opset: int) -> onnx.ModelProto:
        key = interface, opset
        if key not in _TRACES:
            _TRACES[key] = tracing.to_graph(generator, interface, opset).SerializeToString()  # type: ignore[arg-type]
        return onnx.load_from_string(_TRACES[key])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporting, "to_graph", to_graph)
    monkeypatch.setattr(latency, "_MOST", 1)


def export(*arguments: object) -> Result:
    done = CliRunner().invoke(root, ["export", *map(str, arguments)])
    assert done.exit_code == 0, done.stderr
    return done


def test_with_nothing_but_onnx_the_newest_runs_model_is_exported_beside_its_weights(model: Make) -> None:
    old, new = model(name="00000-tiny"), model(name="00001-tiny")
    os.utime(old / "model" / "config.json", (1e9, 1e9))
    path = Path("runs", new.name, "model", "model.onnx")
    done = export("--onnx")
    assert done.stderr == f"Using the newest run, {Path('runs') / new.name}.\n"
    lines = done.stdout.splitlines()
    assert lines[0] == str(path)
    assert lines[1].endswith(f" KiB, fp32, float nchw, opset 18, sha256 {sha256_of(path)}")
    assert lines[3] == "Difference from torch, held to a largest error of at most 1e-05 of the range"
    assert lines[4].split("  ")[-1] == "PSNR"
    assert [line.split()[0] for line in lines[5:9]] == ["1", "2", "7", "64"]
    assert all(re.fullmatch(r" +\d+( +[\d.e-]+){2} +(\d+\.\d dB|equal)", line) for line in lines[5:9])
    assert re.fullmatch(r"One batch on the CPU, \d+ threads?", lines[10])
    assert [line.split()[0] for line in lines[12:14]] == ["1", "64"]
    assert lines[14:] == ["", f"Next: ganzoo sample {path}"]


def test_json_is_one_object_and_the_next_command_draws(model: Make) -> None:
    run = model(3)
    done = export(run, "--onnx", "--json", "--pixels", "uint8", "--layout", "nhwc", "--opset", 19)
    value = json.loads(done.stdout)
    assert done.stderr == ""
    path = run / "model" / "model-uint8-nhwc.onnx"
    assert (value["path"], value["model"]) == (str(path), str(run / "model"))
    assert (value["precision"], value["pixels"], value["layout"], value["opset"]) == ("fp32", "uint8", "nhwc", 19)
    assert (value["bytes"], value["sha256"]) == (path.stat().st_size, sha256_of(path))
    assert [row["batch"] for row in value["parity"]] == [1, 2, 7, 64]
    assert {row.keys() >= {"max_error", "mean_error", "psnr"} for row in value["parity"]} == {True}
    assert all(row["onnx_ms"] > 0 and row["torch_ms"] > 0 for row in value["latency"])
    command = value["next_command"].split()
    assert command[:2] == ["ganzoo", "sample"]
    drawn = CliRunner().invoke(root, [*command[1:], "--seeds", "0-3", "--provider", "cpu"])
    assert (drawn.exit_code, drawn.stdout) == (0, "samples.png\n"), drawn.stderr


@pytest.mark.parametrize(
    ("settings", "suffix"),
    [
        (("fp32", "float", "nchw"), ""),
        (("fp16", "float", "nchw"), "-fp16"),
        (("int8", "uint8", "nchw"), "-int8-uint8"),
        (("fp32", "uint8", "nhwc"), "-uint8-nhwc"),
    ],
)
def test_the_settings_are_in_the_files_name(settings: tuple[str, str, str], suffix: str) -> None:
    assert suffix_of(*settings) == suffix


@pytest.mark.parametrize(
    ("location", "reference", "expected"),
    [
        (ModelLocation(Path("here/model"), origin="run"), None, "here/model/model-x.onnx"),
        (ModelLocation(Path("here/model"), origin="folder"), "here/model", "here/model/model-x.onnx"),
        (ModelLocation(Path("here/g.safetensors"), "safetensors", None, "file"), "here/g.safetensors", "here/g-x.onnx"),
        (ModelLocation(Path("/site/dcgan-mnist"), origin="zoo"), "dcgan-mnist", "dcgan-mnist-x.onnx"),
        (ModelLocation(Path("/cache/snapshots/1f2e"), origin="hub"), "hf-hub:me/cats@main", "cats-x.onnx"),
    ],
)
def test_an_export_lies_beside_its_weights_but_of_the_zoo_and_the_hub_here(
    location: ModelLocation, reference: str | None, expected: str
) -> None:
    Path("here/model").mkdir(parents=True)
    assert default_path(location, reference, "-x") == Path(expected)


def test_a_model_folder_that_may_not_be_written_to_is_answered_with_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # chmod does not bind root
    with pytest.raises(GanzooError, match=r"model cannot be written to\. Say where the file shall be: --out PATH"):
        default_path(ModelLocation(Path("model")), "model", "")


def test_out_names_the_file_and_a_foreign_one_is_replaced_only_by_force(model: Make) -> None:
    model()
    Path("mine.onnx").write_bytes(b"something else")
    done = CliRunner().invoke(root, ["export", "--onnx", "--out", "mine.onnx"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "mine.onnx is there already, and is no export of ganzoo." in done.stderr
    assert Path("mine.onnx").read_bytes() == b"something else"
    export("--onnx", "--out", "mine.onnx", "--force")
    first = Path("mine.onnx").read_bytes()
    assert outputs.is_export(Path("mine.onnx"))
    export("--onnx", "--out", "mine.onnx")
    assert Path("mine.onnx").read_bytes() == first


def test_a_failed_proof_ends_with_1_the_numbers_and_no_file(model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = model()
    before = sorted(Path(run, "model").iterdir())
    monkeypatch.setitem(parity.MAX_ERRORS, "fp32", -1.0)
    done = CliRunner().invoke(root, ["export", "--onnx"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.search(r"ganzoo: error: .* largest error \S+, mean \S+ of the range, PSNR", done.stderr)
    assert sorted(Path(run, "model").iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Nothing says what to export to. Add --onnx: ganzoo export --onnx"),
        (["--onnx", "--opset", "11"], "Opset 11 is not supported. Choose one of 18 to 22"),
        (["--onnx", "--precision", "bf16"], "'bf16' is not one of 'fp32', 'fp16', 'int8'"),
        (["--onnx", "--layout", "nhwc"], "Choose pixels uint8 too"),
        (["--onnx", "--out", "model.pt"], "'model.pt' is no name for an ONNX file. Let it end in .onnx."),
        (["--onnx", "no/where"], "no/where"),
        (["a.onnx", "--onnx"], "a.onnx is an ONNX file already. Name the model that it was made of."),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(model: Make, arguments: list[str], said: str) -> None:
    model()
    Path("a.onnx").write_bytes(b"any")
    before = sorted(Path.cwd().rglob("*"))
    done = CliRunner().invoke(root, ["export", *arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("ganzoo: error: ")
    assert said in done.stderr
    assert sorted(Path.cwd().rglob("*")) == before


def test_without_any_run_it_says_what_to_do() -> None:
    done = CliRunner().invoke(root, ["export", "--onnx"])
    assert done.exit_code == 2
    assert "ganzoo train dcgan-digits" in done.stderr


def test_the_help_names_every_option() -> None:
    text = CliRunner().invoke(root, ["export", "--help"]).stdout
    for option in ("--onnx", "--out", "--precision", "--pixels", "--layout", "--opset", "--force", "--json"):
        assert option in text
