"""Numbers in a model folder: in metrics.json with one line of protocol each, and in the card, whoever wrote it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ganzoo.card import PLACEHOLDER, Metric
from ganzoo.errors import WeightsError
from ganzoo.evaluation.contract import Value
from ganzoo.evaluation.report import save_to_card
from ganzoo.evaluation.report.model_card import card_metrics, merged
from ganzoo.evaluation.results import Evaluation
from ganzoo.files import sha256_of
from ganzoo.models import load_model
from ganzoo.zoo import create_model

TINY: dict[str, Any] = {
    "schema_version": 1,
    "name": "tiny",
    "data": {"source": "digits", "image_size": 8, "channels": 1},
    "generator": {"name": "dcgan", "latent_dim": 4, "widths": [8], "kernel_size": 4},
    "discriminator": {"name": "dcgan", "widths": [8], "kernel_size": 4},
    "objective": {"name": "non_saturating"},
    "optimizer": {"name": "adam", "lr": 2e-4, "betas": [0.5, 0.999]},
    "train": {"batch_size": 8, "kimg": 1},
}
PROTOCOL = {
    "generated": {"count": 1000, "seeds": "0-999", "weights": "raw"},
    "reference": {"count": 1797, "description": "ten digits", "image_size": 8},
}
FD = Value("fd-pixels", 3.2145678, "lower", error=0.11, reference=0.4, protocol={"error": "standard deviation"})
RECALL = Value("recall-pixels", 0.5, "higher", protocol={"k": 3})
EVALUATION = Evaluation("tiny", (FD, RECALL, Value("ms-ssim", math.nan, "reference")), PROTOCOL)
LINE = "1,000 samples (seeds 0-999) against 1,797 images at 8×8 of ten digits; raw weights"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = create_model(TINY)
    config = replace(model.config, data={"description": "ten digits"}, step=5)
    return replace(model, config=config, metrics={"training": {"loss/generator": 1.5}}).save(tmp_path / "model")


def written(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    return found


def card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def index(folder: Path) -> list[tuple[str, float]]:
    header = yaml.safe_load(card(folder).split("---\n")[1])
    results = header.get("model-index", [{"results": [{"metrics": []}]}])[0]["results"][0]
    return [(one["name"], one["value"]) for one in results["metrics"]]


def test_numbers_stand_in_metrics_json_in_the_card_and_in_its_header(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    returned = save_to_card(EVALUATION, folder)
    fd = LINE + "; ± 0.11 (standard deviation); real images: 0.4"
    expected = [
        {"name": "fd-pixels", "value": 3.21457, "protocol": fd},
        {"name": "recall-pixels", "value": 0.5, "protocol": LINE + "; k 3"},
    ]
    assert returned == written(folder) == expected
    assert f"| fd-pixels | 3.215 | {fd} |" in card(folder)
    assert "| `loss/generator` | 1.5 |" in card(folder)
    assert "Not evaluated" not in card(folder)
    assert index(folder) == [("fd-pixels", 3.21457), ("recall-pixels", 0.5)]
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"README.md", "metrics.json"}
    assert after.keys() == before.keys()
    assert load_model(folder).metrics["metrics"] == expected
    assert load_model(folder).metrics["training"] == {"loss/generator": 1.5}


def test_doing_it_twice_changes_nothing(folder: Path) -> None:
    save_to_card(EVALUATION, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    save_to_card(EVALUATION, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_number_of_the_same_name_and_protocol_is_replaced_and_others_are_kept(folder: Path) -> None:
    save_to_card(EVALUATION, folder)
    later = replace(FD, value=2.0, error=0.2, reference=None)
    save_to_card(Evaluation("tiny", (later,), PROTOCOL), folder)
    assert [(one["name"], one["value"]) for one in written(folder)] == [("fd-pixels", 2.0), ("recall-pixels", 0.5)]
    more = {**PROTOCOL, "generated": {"count": 2000, "seeds": "0-1999", "weights": "raw"}}
    save_to_card(Evaluation("tiny", (replace(FD, value=1.0),), more), folder)
    assert [(one["name"], one["value"]) for one in written(folder)] == [
        ("fd-pixels", 2.0),
        ("recall-pixels", 0.5),
        ("fd-pixels", 1.0),
    ]
    assert index(folder) == [("fd-pixels", 2.0), ("recall-pixels", 0.5), ("fd-pixels", 1.0)]
    assert card(folder).count("| fd-pixels |") == 2


def test_a_card_that_ganzoo_wrote_is_written_anew_under_its_own_name(folder: Path) -> None:
    model = load_model(folder)
    own = replace(model, card=model.card.replace(PLACEHOLDER, "my/place"))
    own.save(folder)
    save_to_card(EVALUATION, folder)
    assert 'load_pretrained("my/place")' in card(folder)
    assert PLACEHOLDER not in card(folder)
    assert "which of the kinds" not in card(folder)  # recall was measured, and the card's limits say it no more


def test_what_somebody_wrote_into_a_card_stays(folder: Path) -> None:
    text = (
        card(folder).replace("# tiny\n", "# My own title\n\nA sentence of mine.\n").replace("## Limits", "## My limits")
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    save_to_card(EVALUATION, folder)
    changed = card(folder)
    assert "A sentence of mine." in changed
    assert changed.index("| fd-pixels |") < changed.index("## My limits")
    assert "Not evaluated" not in changed
    assert changed.count("## Evaluation") == 1
    assert index(folder) == [("fd-pixels", 3.21457), ("recall-pixels", 0.5)]
    save_to_card(Evaluation("tiny", (replace(RECALL, value=0.25),), PROTOCOL), folder)
    assert index(folder) == [("fd-pixels", 3.21457), ("recall-pixels", 0.25)]
    assert card(folder).count("| recall-pixels |") == 1
    assert "A sentence of mine." in card(folder)


def test_a_card_without_a_section_or_header_gets_a_section(folder: Path) -> None:
    (folder / "README.md").write_text("# Mine\n\n```\n## Evaluation\n```\n\nText.", encoding="utf-8")
    save_to_card(EVALUATION, folder)
    assert card(folder).startswith("# Mine\n\n```\n## Evaluation\n```\n\nText.\n\n## Evaluation\n\n| metric |")
    save_to_card(Evaluation("tiny", (replace(FD, value=9.0),), PROTOCOL), folder)
    assert card(folder).count("\n## Evaluation\n") == 2
    assert card(folder).count("| fd-pixels | 9 |") == 1


def test_an_index_of_somebody_elses_is_left_alone(folder: Path) -> None:
    text = card(folder).replace("tags:\n", "model-index:\n- name: other\n  results: []\ntags:\n", 1)
    (folder / "README.md").write_text(text, encoding="utf-8")
    save_to_card(EVALUATION, folder)
    header = yaml.safe_load(card(folder).split("---\n")[1])
    assert header["model-index"] == [{"name": "other", "results": []}]
    assert "| fd-pixels |" in card(folder)


def test_a_missing_card_and_missing_numbers_are_made(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "metrics.json").unlink()
    save_to_card(EVALUATION, folder)
    assert [one["name"] for one in written(folder)] == ["fd-pixels", "recall-pixels"]
    assert "# tiny" in card(folder)


def test_other_weights_are_refused_and_nothing_is_changed(folder: Path) -> None:
    generator = sha256_of(folder / "generator.safetensors")

    def judged(sha256: str) -> Evaluation:
        facts = {**PROTOCOL["generated"], "generator_sha256": sha256}
        return Evaluation("tiny", (FD,), {**PROTOCOL, "generated": facts})

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(WeightsError, match=r"other weights \(00000000\)"):
        save_to_card(judged("0" * 64), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_to_card(judged(generator), folder)
    assert [one["name"] for one in written(folder)] == ["fd-pixels"]


@pytest.mark.parametrize("wrong", ["[]", '{"metrics": 3}', "{"])
def test_damaged_numbers_are_refused_and_nothing_is_changed(folder: Path, wrong: str) -> None:
    (folder / "metrics.json").write_text(wrong, encoding="utf-8")
    before = card(folder)
    with pytest.raises(WeightsError, match=r"metrics\.json"):
        save_to_card(EVALUATION, folder)
    assert (card(folder), (folder / "metrics.json").read_text(encoding="utf-8")) == (before, wrong)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no model folder"):
        save_to_card(EVALUATION, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numbers_keep_six_digits_and_names_one_line() -> None:
    values = (Value("a\nb", 1.23456789e-9, "lower"), Value("c", math.inf, "lower"))
    assert card_metrics(Evaluation("x", values)) == [Metric(name="a b", value=1.23457e-9, protocol="")]


def test_merging_goes_by_name_and_protocol_alone() -> None:
    def one(name: str, value: float, protocol: str) -> Metric:
        return Metric(name=name, value=value, protocol=protocol)

    before = [one("a", 1, "p; ± 0.1"), one("a", 2, "q"), one("b", 3, "p")]
    assert merged(before, [one("a", 9, "p; real images: 4"), one("c", 8, "p")]) == [
        one("a", 9, "p; real images: 4"),
        one("a", 2, "q"),
        one("b", 3, "p"),
        one("c", 8, "p"),
    ]
