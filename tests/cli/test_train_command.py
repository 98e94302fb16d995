"""`ganzoo train`: what it passes on, what it prints, and one whole training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ganzoo.cli.main import root
from ganzoo.errors import InterruptedTraining, MissingDataError
from ganzoo.training.trainer import TrainingResult

Make = Callable[..., Path]
Calls = list[tuple[str | None, dict[str, Any]]]

RESULT = TrainingResult(
    run=Path("runs/00000-tiny"),
    model=Path("runs/00000-tiny/model"),
    step=3000,
    kimg=192.0,
    seconds=96.0,
    pictures={"evolution": Path("runs/00000-tiny/evolution.gif"), "samples": Path("runs/00000-tiny/model/samples.png")},
)


def train(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["train", *arguments])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Replace the trainer by one that only remembers what it was asked for."""
    made: Calls = []

    def fake(recipe: str | None, **options: Any) -> TrainingResult:
        made.append((recipe, options))
        return RESULT

    monkeypatch.setattr("ganzoo.training.api.train", fake)
    return made


def test_every_option_reaches_the_trainer(calls: Calls) -> None:
    words = (
        "tiny --data digits --kimg 2.5 --set a.b=1 --set c=2 --init m --device cuda:1 --precision bf16 "
        "--engine eager --seed 7 --out o"
    )
    assert train(*words.split()).exit_code == 0
    ((recipe, options),) = calls
    assert len(options.pop("reporters")) == 1
    assert callable(options.pop("pack_progress"))
    assert (recipe, options) == (
        "tiny",
        {
            "data": "digits",
            "kimg": 2.5,
            "epochs": None,
            "steps": None,
            "overrides": ("a.b=1", "c=2"),
            "init": "m",
            "device": "cuda:1",
            "precision": "bf16",
            "engine": "eager",
            "seed": 7,
            "out": "o",
            "resume": None,
        },
    )


def test_left_out_options_are_left_to_the_recipe(calls: Calls) -> None:
    assert train("tiny").exit_code == 0
    options = calls[0][1]
    assert {name for name, value in options.items() if value is None} == {
        "data", "kimg", "epochs", "steps", "init", "precision", "engine", "seed", "out", "resume",
    }  # fmt: skip
    assert options["device"] == "auto"


@pytest.mark.usefixtures("calls")
def test_the_result_is_on_standard_output_and_the_next_commands_are_not() -> None:
    done = train("tiny")
    assert done.stdout.splitlines() == [
        "Done: 192 kimg, 3,000 steps in 1 min 36 s (2,000 images/s).",
        "  run        runs/00000-tiny".replace("/", os.sep),
        "  model      runs/00000-tiny/model".replace("/", os.sep),
        "  samples    runs/00000-tiny/model/samples.png".replace("/", os.sep),
        "  evolution  runs/00000-tiny/evolution.gif".replace("/", os.sep),
    ]
    assert "ganzoo sample runs" in done.stderr
    assert "--kimg 384" in done.stderr


@pytest.mark.usefixtures("calls")
def test_json_is_one_object_and_nothing_else() -> None:
    done = train("tiny", "--json")
    value = json.loads(done.stdout)
    assert (value["step"], value["kimg"], value["images_per_second"], value["already_done"]) == (
        3000,
        192.0,
        2000.0,
        False,
    )
    assert Path(value["pictures"]["samples"]) == RESULT.pictures["samples"]


def test_a_finished_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    result = TrainingResult(RESULT.run, RESULT.model, 3000, 192.0, 0.0, already_done=True)
    monkeypatch.setattr("ganzoo.training.api.train", lambda *_, **__: result)
    assert train("--resume", "runs/00000-tiny").stdout.startswith(
        "This run is finished already: 192 kimg, 3,000 steps.\n"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InterruptedTraining("Stopped by SIGINT after step 9; a checkpoint was written.", "Go on with: x"), 1),
        (MissingDataError("LSUN is not here.", "Get it there; `--data digits` works at once."), 1),
    ],
)
def test_what_the_trainer_raises_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ganzoo.training.api.train", fail)
    done = train("tiny")
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", f"ganzoo: error: {error}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name a recipe, such as dcgan-digits, or a run to go on with (--resume RUN)."),
        (["tiny", "--kimg", "1", "--steps", "2"], "--kimg and --steps are several lengths; give one."),
        (["tiny", "--kimg", "0"], "Invalid value for '--kimg'"),
        (["tiny", "--steps", "1.5"], "Invalid value for '--steps'"),
        (["tiny", "--seed", "-1"], "--seed -1 is not between 0 and 2^63 - 1."),
        (["tiny", "--device", "gpu"], "'gpu' is none of auto, cpu, cuda, cuda:N."),
        (["tiny", "--device", "cuda:x"], "'cuda:x' is none of auto, cpu, cuda, cuda:N."),
        (["tiny", "--precision", "fp16"], "Invalid value for '--precision'"),
        (["--resume", "r", "--out", "o"], "--out cannot be given with --resume"),
        (["--resume", "r", "--init", "m"], "--init cannot be given with --resume"),
        (["dcgan-digit", "--dry-run"], "There is no recipe named 'dcgan-digit'. Did you mean 'dcgan-digits'"),
        (["dcgan-digits", "--set", "optimizer.rl=1"], "dcgan-digits: optimizer.rl is not a key"),
    ],
)
def test_wrong_usage_is_told_in_a_line(arguments: list[str], said: str) -> None:
    done = train(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("ganzoo: error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny()
    monkeypatch.chdir(recipe.parent)
    done = train(str(recipe), "--dry-run", "--device", "cpu", "--precision", "fp32", "--steps", "5")
    assert done.exit_code == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["recipe"] == "tiny"
    assert lines["run"] == f"{Path('runs') / '00000-tiny'}, new"
    assert lines["device"] == "cpu, fp32"
    assert lines["data"] == "digits, as 1×8×8"
    assert lines["length"] == "0.08 kimg = 5 steps of 16 images"
    value = json.loads(train(str(recipe), "--dry-run", "--device", "cpu", "--json").stdout)
    assert (value["total_steps"], value["images_per_step"], value["recipe"]["name"]) == (3, 16, "tiny")
    assert [path.name for path in recipe.parent.iterdir()] == [recipe.name]


def test_lsun_that_is_not_there_is_answered_with_where_to_get_it() -> None:
    done = train("dcgan-lsun", "--device", "cpu")
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    for said in ("LSUN", "GB", "http", "ganzoo train", "--data", "digits"):
        assert said in line


@pytest.mark.parametrize("classes", [0, 10])
def test_a_whole_training_then_samples_then_longer(tiny: Make, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(classes)
    monkeypatch.chdir(recipe.parent)
    arguments = [str(recipe), "--device", "cpu", "--precision", "fp32", "--out", "run"]

    done = train(*arguments)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Done: 0.048 kimg, 3 steps in ")
    assert "tiny, a new training" in done.stderr
    assert "1,797 images of scikit-learn's digits" in done.stderr
    assert "samples/step-00000002.png" in done.stderr
    assert "checkpoints/step-00000003" in done.stderr
    assert "\x1b" not in done.stderr
    for name in ("model/generator.safetensors", "model/samples.png", "evolution.gif", "curves.png", "metrics.jsonl"):
        assert (Path("run") / name).is_file()

    again = train(*arguments, "--json")
    assert json.loads(again.stdout)["already_done"] is True

    sampled = CliRunner().invoke(root, ["sample", "run", "--device", "cpu", "--seeds", "0-3"])
    assert (sampled.exit_code, sampled.stdout) == (0, "samples.png\n")

    shown = CliRunner().invoke(root, ["show", "run", "--json"])
    assert json.loads(shown.stdout)["recipe"]["data"]["num_classes"] == classes

    longer = train("--resume", "run", "--steps", "4", "--device", "cpu", "--json")
    assert longer.exit_code == 0, longer.stderr
    assert "going on from 0.05 kimg" in longer.stderr
    assert json.loads(longer.stdout)["step"] == 4


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_stops_with_a_checkpoint_and_says_how_to_go_on(tiny: Make) -> None:
    recipe = tiny()
    command = [
        sys.executable,
        "-m",
        "ganzoo",
        "train",
        str(recipe),
        "--device",
        "cpu",
        "--out",
        "run",
        "--steps",
        "1000000",
        "--set",
        "train.checkpoint_every=100000",
        "--set",
        "train.sample_every=100000",
    ]
    with subprocess.Popen(
        command, cwd=recipe.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        metrics = recipe.parent / "run" / "metrics.jsonl"
        end = time.monotonic() + 60
        while not (metrics.is_file() and '"tick"' in metrics.read_text(encoding="utf-8")) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "a checkpoint was written. Go on with: ganzoo train --resume run" in err.splitlines()[-1]
    assert "Traceback" not in err
