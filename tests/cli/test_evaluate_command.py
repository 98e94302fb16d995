"""`ganzoo evaluate`: what it prints, where the report goes, and one line for whatever is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny_features import Brightness, register_tiny
from tiny_runs import images as tiny_images
from tiny_runs import quick, table, train

from ganzoo.cli.main import root
from ganzoo.evaluation import read_evaluation
from ganzoo.files import cache_home

NAMES = ["--metrics", "gap,brightness", "--features", "quarters"]


@pytest.fixture(scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        place = tmp_path_factory.mktemp("trained")
        write_images(place / "ten", tiny_images())
        train(table(), place / "run", data=place / "ten")
    return place


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _trained: Path) -> None:
    """A folder with a finished run, caches of its own, and the tiny features."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "home"))
    shutil.copytree(_trained / "run", tmp_path / "runs" / "00000-tiny")
    register_tiny(monkeypatch)
    quick(monkeypatch)


def write_images(folder: Path, images: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"{number:03d}.png")
    return folder


def noise(count: int, size: int = 8, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 1), dtype=np.uint8)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(root, ["evaluate", "--device", "cpu", *map(str, arguments)])


def evaluate(*arguments: object) -> Result:
    done = invoke(*arguments)
    assert done.exit_code == 0, done.stderr
    return done


def refused(*arguments: object) -> tuple[int, str]:
    """The exit code and the line of a command that fails; nothing of it may stay."""
    done = invoke(*arguments)
    lines = [line for line in done.stderr.splitlines() if line.startswith("ganzoo: error: ")]
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    assert not Path("evaluations").exists()
    assert nothing_left()
    return done.exit_code, lines[0].removeprefix("ganzoo: error: ")


def nothing_left() -> bool:
    place = cache_home() / "evaluating"
    return not place.exists() or [one.name for one in place.iterdir()] == [".locks"]


def test_the_table_stands_above_its_protocol(tmp_path: Path) -> None:
    done = evaluate("runs/00000-tiny", "--count", "40", *NAMES)
    told = json.loads((tmp_path / "runs/00000-tiny/evaluation/metrics.json").read_text(encoding="utf-8"))
    lines = done.stdout.splitlines()
    assert lines[0] == "00000-tiny"
    assert lines[1].split() == ["metric", "value", "better"]
    assert lines[2].split()[0] == "gap-quarters"
    assert lines[3].split()[0] == "brightness"
    assert float(lines[3].split()[1]) == pytest.approx(told["values"][1]["value"], rel=1e-2)
    protocol = "\n".join(lines[4:])
    for part in (
        "40 images of 00000-tiny, 8×8 grey, seeds 0-39, EMA at 0.024 kimg (step 6), sha256 ",
        "10 images of folder 'ten', 8×8 grey, ",
        "split not known, crop center, lanczos",
        "quarters, sha256 abababababab, images as they are",
        "0, cpu, ganzoo ",
    ):
        assert part in protocol
    assert "The report is runs/00000-tiny/evaluation/report.html" in done.stderr


def test_a_second_report_of_a_run_lies_beside_the_first_and_others_are_numbered(tmp_path: Path) -> None:
    for folder in ("evaluation", "evaluation-2"):
        evaluate("runs/00000-tiny", "--count", "40", *NAMES)
        assert read_evaluation(tmp_path / "runs" / "00000-tiny" / folder / "metrics.json").values
    write_images(tmp_path / "my pictures", noise(20))
    for folder in ("00000-my pictures", "00001-my pictures"):
        evaluate("my pictures", "--data", write_images(tmp_path / "real", noise(9, seed=1)), *NAMES)
        assert {"metrics.json", "report.html", "samples.png", "reference.png"} <= {
            path.name for path in (tmp_path / "evaluations" / folder).iterdir()
        }


def test_json_is_the_evaluation_and_stands_alone(tmp_path: Path) -> None:
    done = evaluate("runs/00000-tiny", "--seeds", "5-24", "--out", "there", "--json", *NAMES)
    told = json.loads(done.stdout)
    assert told["subject"] == "00000-tiny"
    assert [value["name"] for value in told["values"]] == ["gap-quarters", "brightness"]
    assert told["protocol"]["generated"]["seeds"] == "5-24"
    assert told == json.loads((tmp_path / "there" / "metrics.json").read_text(encoding="utf-8"))
    assert evaluate("runs/00000-tiny", "--seeds", "5-24", "--json", "--no-report", *NAMES).stdout == done.stdout
    assert not (tmp_path / "runs/00000-tiny/evaluation").exists()


def test_left_out_the_model_is_the_newest_run_which_is_named() -> None:
    done = evaluate("--count", "40", "--no-report", *NAMES)
    assert done.stderr.startswith("Using the newest run, runs/00000-tiny.\n")


def test_a_checkpoint_and_raw_weights_are_named_in_the_table() -> None:
    done = evaluate("runs/00000-tiny", "--checkpoint", "4", "--weights", "raw", "--count", "40", "--no-report", *NAMES)
    assert done.stdout.startswith("00000-tiny, step 4, raw weights\n")
    assert "raw weights at 0.016 kimg (step 4)" in done.stdout


def test_numbers_get_into_the_card(tmp_path: Path) -> None:
    evaluate("runs/00000-tiny", "--count", "40", "--card", "--no-report", *NAMES)
    assert "gap-quarters" in (tmp_path / "runs/00000-tiny/model/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("what", ["dcgan-digits", "pictures", "runs/00000-tiny --checkpoint 4"])
def test_a_card_is_only_that_of_a_model_folder_of_ones_own(what: str, tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", noise(20))
    code, line = refused(*what.split(), "--card", *NAMES)
    assert code == 2
    assert "--card writes into a model's folder of one's own" in line


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    write_images(tmp_path / "mine", noise(20))
    (tmp_path / "mine" / "003.png").write_bytes(b"broken")
    done = evaluate("mine", "--metrics", "all", "--features", "plain", "--no-report")
    assert "1 image is left out of the folder 'mine': '003.png' (not an image that can be read)." in done.stderr
    assert "gap is left out. The metric gap needs real images to compare with." in done.stderr
    assert ", 1 left out" in done.stdout


def test_classes_are_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    for name in ("mine", "real"):
        for number in range(3):
            write_images(tmp_path / name / f"class{number}", noise(4, seed=number))
    words = ("mine", "--data", "real", "--by-class", "--no-report", *NAMES)
    told = json.loads(evaluate(*words, "--json").stdout)["values"][0]["details"]["by_class"]
    assert set(told) == {"class0", "class1", "class2"}
    lines = evaluate(*words).stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:1] == ["class"])
    assert lines[start].split() == ["class", "gap-quarters", "brightness"]
    assert lines[start + 2].split()[0] == "class1"
    assert float(lines[start + 2].split()[1]) == pytest.approx(told["class1"], abs=1e-3)


def test_the_command_stands_in_the_protocol_but_no_place_on_the_machine(tmp_path: Path) -> None:
    words = ["runs/00000-tiny", "--count", "9", "--seed", "3", *NAMES]
    told = json.loads(evaluate(*words, "--json", "--out", "there").stdout)["protocol"]["command"]
    assert told == "ganzoo evaluate runs/00000-tiny --count 9 --metrics gap,brightness --features quarters --seed 3"
    words[0] = str(tmp_path / words[0])
    done = evaluate(*words, "--json", "--no-report")
    assert "command" not in json.loads(done.stdout)["protocol"]
    assert str(tmp_path) not in done.stdout


# ------------------------------------------------------------------ wrong usage and bad input


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["dcgan-mnits"], 2, "Did you mean 'dcgan-mnist'"),
        (["runs/00009"], 2, "There is nothing at 'runs/00009'"),
        (["runs"], 2, "'runs' holds runs, and is none. Name one of them: runs/00000-tiny"),
        (["runs/00000-tiny", "--metrics", "fdd"], 2, "no metric named 'fdd'"),
        (["runs/00000-tiny", "--metrics", ","], 2, "--metrics names none"),
        (["runs/00000-tiny", "--features", "quartes"], 2, "Did you mean 'quarters'"),
        (["runs/00000-tiny", "--metrics", "held"], 2, "--test-data SOURCE"),
        (["runs/00000-tiny", "--metrics", "brightness", "--feature-weights", "w"], 2, "rests on features"),
        (["runs/00000-tiny", "--data", "minst"], 2, "Did you mean 'mnist'"),
        (["runs/00000-tiny", "--data", "./gone"], 1, "There is nothing at 'gone'"),
        (["runs/00000-tiny", "--data", "lsun:bedroom_val"], 1, "LSUN"),
        (["runs/00000-tiny", "--checkpoint", "5"], 1, "Checkpoints are there of steps 0, 4, 6"),
        (["runs/00000-tiny", "--checkpoint", "best"], 2, "'best' is no checkpoint"),
        (["runs/00000-tiny", "--count", "2"], 2, "gap needs at least 3 generated images, and there are 2"),
        (["runs/00000-tiny", "--reference-count", "2", "--count", "9"], 2, "gap needs at least 3 real images"),
        (["runs/00000-tiny", "--count", "9", "--seeds", "1"], 2, "Both a count and seeds"),
        (["runs/00000-tiny", "--seeds", "9-1"], 2, "backwards"),
        (["runs/00000-tiny", "--by-class", "--count", "9"], 2, "have no classes"),
        (["runs/00000-tiny", "--image-size", "16"], 2, "cannot be judged at 16"),
        (["runs/00000-tiny", "--no-report", "--out", "x"], 2, "--no-report writes nothing"),
        (["runs/00000-tiny", "--out", "runs/00000-tiny"], 2, "holds no report"),
        (["runs/00000-tiny", "--out", "file"], 2, "'file' is a file"),
        (["runs/00000-tiny/checkpoints/step-00000006/state.safetensors"], 1, "does not say what network it is"),
        (["empty"], 1, "holds no images"),
        (["sizes"], 1, "10×10 grey. --image-size N"),
        (["oblong"], 1, "not square"),
        (["nan.npy"], 1, "floats from nan to nan"),
        (["half.npz"], 1, "cannot be read"),
        (["file"], 1, "of no kind that can be read"),
        (["few", "--data", "real"], 2, "gap needs at least 3 generated images"),
        (["real", "--data", "small"], 1, "would be enlarged"),
        (["real", "--weights", "raw"], 2, "--weights is of models"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("words")
    write_images(write_images(tmp_path / "sizes", noise(3)), noise(1, size=10)[:0])
    Image.fromarray(noise(1, size=10)[0, ..., 0]).save(tmp_path / "sizes" / "z.png")
    write_images(tmp_path / "oblong", noise(3)[:, :5])
    write_images(tmp_path / "few", noise(2))
    write_images(tmp_path / "real", noise(9))
    write_images(tmp_path / "small", noise(9, size=4))
    np.save("nan.npy", np.full((4, 8, 8, 1), np.nan, np.float32))
    np.savez("half.npz", images=noise(9))
    (tmp_path / "half.npz").write_bytes((tmp_path / "half.npz").read_bytes()[:200])
    named = [] if "--metrics" in arguments else ["--metrics", "gap"]
    features = [] if "--features" in arguments else ["--features", "quarters"]
    found, line = refused(*arguments, *named, *features)
    assert message in line
    assert found == code
    assert not (tmp_path / "runs" / "00000-tiny" / "evaluation").exists()


def test_a_model_that_draws_nan_is_told_in_one_line(tmp_path: Path) -> None:
    from ganzoo.tensors import read_tensors, save_tensors

    path = tmp_path / "runs" / "00000-tiny" / "model" / "generator.safetensors"
    tensors, metadata = read_tensors(path)
    metadata.pop("content_sha256", None)
    name = next(name for name in tensors if name.endswith("running_var"))
    tensors[name] = tensors[name] * 0 - 1.0  # finite weights, images of NaN
    save_tensors(path, tensors, metadata)
    code, line = refused("runs/00000-tiny", "--count", "9", *NAMES)
    assert (code, line) == (1, "The model draws images that hold NaN or Inf. Its weights are of no use.")


def test_a_full_disk_is_told_after_the_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr("ganzoo.evaluation.report.write_report", full)
    done = invoke("runs/00000-tiny", "--count", "9", *NAMES)
    assert done.exit_code == 1
    assert "gap-quarters" in done.stdout
    assert "ganzoo: error: The disk is full: report.html" in done.stderr
    assert [one.name for one in (tmp_path / "runs" / "00000-tiny").glob("*evaluation*")] == []


def test_ctrl_c_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> Any:
        assert not nothing_left()
        raise KeyboardInterrupt

    monkeypatch.setattr(Brightness, "measure", stopped)
    assert refused("runs/00000-tiny", "--count", "9", *NAMES) == (1, "Stopped by Ctrl-C.")


def test_a_signal_from_outside_leaves_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        textwrap.dedent(
            """
            import time
            from pathlib import Path
            import ganzoo
            from ganzoo.evaluation import Metric

            @ganzoo.register_metric("slow")
            class Slow(Metric):
                needs = frozenset()
                def measure(self, subject):
                    subject.generated.images.read(0, 9)
                    Path("begun").touch()
                    time.sleep(600)

            from ganzoo.cli.main import main
            main()
            """
        )
    )
    words = ["evaluate", "runs/00000-tiny", "--metrics", "slow", "--count", "20", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "slow.py", *words], stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        deadline = time.monotonic() + 120
        while not Path("begun").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        assert not nothing_left()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert errors.strip() == "ganzoo: error: Stopped by Ctrl-C."
    assert nothing_left()


def test_help_imports_no_torch_and_shows_every_option() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from ganzoo.cli.main import root; "
        "done = CliRunner().invoke(root, ['evaluate', '--help']); print(done.stdout); "
        "print('torch' in sys.modules, 'rich' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False False"
    from ganzoo.cli.evaluate import command

    for parameter in command.params[1:]:
        assert parameter.opts[0] in done.stdout
