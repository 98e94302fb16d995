"""Numbers of evaluations for packaged models: their card, their numbers, their entry, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.results import Evaluation
from ganzoo.files import sha256_of
from ganzoo.models import load_model
from ganzoo.weights import __main__ as tool
from ganzoo.weights import published_models, verify

FD = Value("fd-pixels", 3.25, "lower", protocol={"k": 3})
LINE = "1,000 samples (seeds 0-999) against 1,797 images of digits; k 3"


def evaluation_file(path: Path, *values: Value, sha256: str | None = None) -> Path:
    generated = {"count": 1000, "seeds": "0-999"} | ({"generator_sha256": sha256} if sha256 else {})
    reference = {"count": 1797, "description": "digits"}
    found = Evaluation("tiny", values or (FD,), {"generated": generated, "reference": reference})
    path.write_text(found.to_json(), encoding="utf-8")
    return path


def add(weights_folder: Path, model: Path, *more: str) -> int:
    common = ["--name", "tiny", "--licence", "MIT", "--torch", "2.15.0", "--data", "digits"]
    return tool.main(["--weights", str(weights_folder), "add", str(model), *common, *more])


def judge(weights_folder: Path, *more: str | Path, name: str = "tiny") -> int:
    return tool.main(["--weights", str(weights_folder), "judge", name, *map(str, more)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_model_is_added_with_the_numbers_of_evaluations(
    own_weights: Path, model_folder: Path, tmp_path: Path
) -> None:
    one = evaluation_file(tmp_path / "one.json")
    two = evaluation_file(tmp_path / "two.json", Value("recall-pixels", 0.5, "higher"))
    arguments = ("--metric", "KID=0.5: by hand", "--evaluation", str(one), "--evaluation", str(two))
    assert add(own_weights, model_folder, *arguments) == 0
    verify(own_weights / "tiny", published_models()["tiny"])
    assert list(published_models()["tiny"].metrics) == [
        {"name": "KID", "value": 0.5, "protocol": "by hand"},
        {"name": "fd-pixels", "value": 3.25, "protocol": LINE},
        {"name": "recall-pixels", "value": 0.5, "protocol": LINE.removesuffix("; k 3")},
    ]
    assert load_model(own_weights / "tiny").metrics["metrics"] == list(published_models()["tiny"].metrics)


def test_judging_gives_the_bytes_that_adding_with_the_numbers_gives(
    own_weights: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = evaluation_file(tmp_path / "metrics.json")
    assert add(own_weights, model_folder) == 0
    bare = contents(own_weights)
    capsys.readouterr()
    assert judge(own_weights, "--evaluation", file) == 0
    assert capsys.readouterr().out == f"fd-pixels = 3.25: {LINE}\n"
    judged = contents(own_weights)
    changed = {name for name in judged if judged[name] != bare[name]}
    assert changed == {"manifest.toml", "tiny/README.md", "tiny/metrics.json"}
    assert add(own_weights, model_folder, "--evaluation", str(file)) == 0
    assert contents(own_weights) == judged
    assert tool.main(["--weights", str(own_weights), "verify"]) == 0
    assert f"| fd-pixels | 3.25 | {LINE} |" in (own_weights / "tiny" / "README.md").read_text(encoding="utf-8")
    assert (own_weights / "manifest.toml").read_text(encoding="utf-8").startswith("# A comment.\n\nschema_version")


def test_earlier_numbers_stay_unless_they_are_dropped(own_weights: Path, model_folder: Path, tmp_path: Path) -> None:
    add(own_weights, model_folder, "--metric", "diversity=0.5: by hand")
    file = evaluation_file(tmp_path / "metrics.json")
    for _ in range(2):
        assert judge(own_weights, "--evaluation", file) == 0
        assert [one["name"] for one in published_models()["tiny"].metrics] == ["diversity", "fd-pixels"]
    assert judge(own_weights, "--evaluation", file, "--anew") == 0
    assert [one["name"] for one in published_models()["tiny"].metrics] == ["fd-pixels"]
    verify(own_weights / "tiny", published_models()["tiny"])


def test_other_models_of_the_manifest_stay_as_they_are(own_weights: Path, model_folder: Path, tmp_path: Path) -> None:
    add(own_weights, model_folder)
    common = ["--licence", "MIT", "--torch", "2.15.0"]
    tool.main(["--weights", str(own_weights), "add", str(model_folder), "--name", "other", *common])
    before = published_models()["other"]
    judge(own_weights, "--evaluation", evaluation_file(tmp_path / "metrics.json"))
    assert published_models()["other"] == before
    verify(own_weights / "other", before)


def test_an_evaluation_of_other_weights_is_refused(
    own_weights: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(own_weights, model_folder)
    before = contents(own_weights)
    wrong = evaluation_file(tmp_path / "wrong.json", sha256="0" * 64)
    assert judge(own_weights, "--evaluation", wrong) == 1
    assert add(own_weights, model_folder, "--evaluation", str(wrong)) == 1
    assert capsys.readouterr().err.count("is of other weights (00000000)") == 2
    assert contents(own_weights) == before
    right = evaluation_file(tmp_path / "right.json", sha256=sha256_of(own_weights / "tiny" / "generator.safetensors"))
    assert judge(own_weights, "--evaluation", right) == 0


def test_what_cannot_be_judged_is_one_line_and_changes_nothing(
    own_weights: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(own_weights, model_folder)
    file = evaluation_file(tmp_path / "metrics.json")
    (tmp_path / "none.json").write_text("{}", encoding="utf-8")
    capsys.readouterr()
    before = contents(own_weights)
    assert judge(own_weights, "--evaluation", file, name="tinny") == 2
    assert "Did you mean 'tiny'?" in capsys.readouterr().err
    assert judge(own_weights, "--evaluation", tmp_path / "none.json") == 1
    assert judge(own_weights, "--evaluation", tmp_path / "missing.json") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("holds no evaluation" in line for line in lines)
    assert contents(own_weights) == before


def test_damaged_weights_are_not_blessed(
    own_weights: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(own_weights, model_folder)
    file = evaluation_file(tmp_path / "metrics.json")
    generator = own_weights / "tiny" / "generator.safetensors"
    whole = generator.read_bytes()
    generator.write_bytes(whole[:-1] + b"!")
    before = contents(own_weights)
    assert judge(own_weights, "--evaluation", file) == 1
    assert "are damaged: generator.safetensors has another sha256" in capsys.readouterr().err
    assert contents(own_weights) == before


def test_judging_again_mends_a_card_that_an_interruption_left_behind(
    own_weights: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganzoo.weights import judging

    add(own_weights, model_folder)
    file = evaluation_file(tmp_path / "metrics.json")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(judging, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            judge(own_weights, "--evaluation", file)
    assert tool.main(["--weights", str(own_weights), "verify"]) == 1
    assert judge(own_weights, "--evaluation", file) == 0
    verify(own_weights / "tiny", published_models()["tiny"])
    numbers = json.loads((own_weights / "tiny" / "metrics.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in numbers["metrics"]] == ["fd-pixels"]
