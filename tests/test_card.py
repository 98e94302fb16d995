"""The card of a model: valid for the Hub whatever its data are called, honest about what is not known, the same for the
same model."""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

import huggingface_hub
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import CONDITIONAL, recipe

from ganzoo.building import load_recipe
from ganzoo.card import Metric, card_numbers, model_card
from ganzoo.card_header import HUB_LICENCES, card_header, has_header
from ganzoo.errors import WeightsError
from ganzoo.model_config import ModelConfig
from ganzoo.recipes import list_recipes

DATA = {"description": "ten images", "content_sha256": "0" * 64, "images": 10, "classes": []}
HOSTILE = [
    "a: b: 'c' \"d\" {e} [f] & *g !h %i @j",
    "---\nlicense: mit\n---\n# Not a title",
    "| one | more | cell |",
    "<script>alert(1)</script> <img src=x onerror=y>",
    "[free](https://example.org) ![pixel](https://example.org/p.png) `code` **bold** ~~gone~~",
    "```\nnot a fence\n```",
    "\x00\x1b[31m\x85\u2028\u202e\ufeff\ud800 end",
    "x" * 10_000,
    "back\\slash \\| \\",
    "",
]


def config(licence: str | None = None, step: int = 6, data: dict[str, Any] = DATA, **changes: Any) -> ModelConfig:
    return ModelConfig(recipe(**changes), "ema", step, 0.024, data, licence)


def header(card: str) -> dict[str, Any]:
    assert card.startswith("---\n")
    found: dict[str, Any] = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert huggingface_hub.ModelCard(card).data.to_dict() == found
    return found


def body(card: str) -> str:
    return card.split("\n---\n", 1)[1]


def cells(line: str) -> list[str]:
    """The cells of a table's row, as GitHub's Markdown splits it: at every | that no backslash stands before."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    return re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]


def assert_well_made(card: str) -> None:
    """One header, one title, tables with as many cells in each row as in their head, and no markup but our own."""
    text = card.encode("utf-8").decode("utf-8")  # a lone surrogate could not be written
    assert header(text)["library_name"] == "ganzoo"
    lines = body(text).split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("#")] == [
        next(line for line in lines if line.startswith("# ")),
        *(f"## {name}" for name in ("How to use it", "Data and licence", "Training", "Evaluation", "Limits", "Files")),
    ]
    assert [line for line in lines if re.match(r"\s*(---|===)", line)] == []
    assert [line for line in lines if line.startswith("```")] == ["```python", "```", "```", "```"]
    width = 0
    for line in lines:
        if line.startswith("|"):
            width = width or len(cells(line))
            assert len(cells(line)) == width, line
        else:
            width = 0
    without_code = re.sub(r"`[^`\n]*`", "", body(text))
    assert not re.search(r"(?<!\\)[<>*~]", without_code)
    assert re.findall(r"(?<!\\)!?\[[^\]]*\]\([^)]*\)", without_code) == ["![images of seeds 0 to 63](samples.png)"]


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipes_card_is_well_made_and_the_same_twice(name: str) -> None:
    known = load_recipe(name)
    card = model_card(
        ModelConfig(known, "ema" if known.ema.enabled else "raw", 1000, 64.0, DATA), {"loss/generator": 1.5}
    )
    assert_well_made(card)
    assert card == model_card(
        ModelConfig(load_recipe(name), "ema" if known.ema.enabled else "raw", 1000, 64.0, DATA), {"loss/generator": 1.5}
    )
    assert f"# {name}\n" in card
    assert f"{known.data.image_size}×{known.data.image_size}" in card
    assert f"`{known.objective.name}`" in card
    assert card.count("| penalty |") == len(known.penalty)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_cannot_break_a_card(text: str) -> None:
    data = {"description": text, "content_sha256": text, "images": 10, "classes": [text, text, text], "notice": text}
    card = model_card(
        config(text, data=data, **CONDITIONAL),
        {text: 1.0},
        metrics=[Metric(name=text, value=1.0, protocol=text)],
        reference="hf-hub:somebody/tiny",
    )
    assert_well_made(card)


@given(st.text())
def test_no_text_breaks_a_card(text: str) -> None:
    assert_well_made(model_card(config(text, data={"description": text, "images": 1}), {}))


def test_hostile_text_is_shown_as_it_is() -> None:
    card = model_card(config(data={"description": "<b>|x|</b> a_b"}), {})
    assert r"| trained on | \<b\>\|x\|\</b\> a\_b |" in card
    assert "| trained on | two lines |" in model_card(config(data={"description": "two\n\t lines "}), {})


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        (None, {}),
        (" ", {}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("CC-BY-SA-3.0", {"license": "cc-by-sa-3.0"}),
        ("CC0-1.0", {"license": "cc0-1.0"}),
        ("GPL-3.0-or-later", {"license": "gpl-3.0"}),
        ("AGPL-3.0-only", {"license": "agpl-3.0"}),
        ("My own: licence, v2", {"license": "other", "license_name": "my-own-licence-v2"}),
        ("BSD-Source-Code", {"license": "other", "license_name": "bsd-source-code"}),
        ("許可", {"license": "other", "license_name": "see-card"}),
        ("1.0", {"license": "other", "license_name": "1.0"}),
        ("no", {"license": "other", "license_name": "no"}),
    ],
)
def test_the_licence_is_what_the_hub_calls_it(licence: str | None, expected: dict[str, str]) -> None:
    found = header(model_card(config(licence), {}))
    assert {key: value for key, value in found.items() if key.startswith("license")} == expected
    stated = licence if licence and licence.strip() else "not stated"
    assert f"| licence of the weights | {stated} |" in model_card(config(licence), {})


def test_every_licence_of_the_hub_is_taken_as_it_is() -> None:
    assert "other" not in HUB_LICENCES
    for licence in HUB_LICENCES:
        assert yaml.safe_load(card_header(config(licence.upper())).split("---")[1])["license"] == licence


def test_the_header_says_what_the_hub_files_a_model_by() -> None:
    assert header(model_card(config("MIT"), {})) == {
        "library_name": "ganzoo",
        "license": "mit",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "dcgan", "image-generation"],
    }
    assert "class-conditional" in header(model_card(config(**CONDITIONAL), {}))["tags"]


@pytest.mark.parametrize(
    ("source", "step", "datasets"),
    [("mnist", 6, ["ylecun/mnist"]), ("cifar10", 6, ["uoft-cs/cifar10"]), ("./mnist", 6, None), ("mnist", 0, None)],
)
def test_data_are_named_to_the_hub_where_it_has_them(source: str, step: int, datasets: list[str] | None) -> None:
    assert header(model_card(config(step=step, data__source=source), {})).get("datasets") == datasets


@pytest.mark.parametrize(
    "reference", ["dcgan-mnist", "hf-hub:org/name@v1", './a folder/it\'s "here"', "PATH-OF-THIS-FOLDER"]
)
def test_the_commands_name_the_reference(reference: str) -> None:
    card = model_card(config(), {}, reference=reference)
    python, shell = re.findall(r"```(?:python)?\n(.*?)```", card, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "ganzoo.load_pretrained"]
    assert [ast.literal_eval(call.args[0]) for call in loads] == [reference]
    commands = [shlex.split(line) for line in shell.splitlines()]
    assert [command[:3] for command in commands] == [["ganzoo", "sample", reference], ["ganzoo", "export", reference]]
    assert ("pip install 'ganzoo[hub]'" in card) == reference.startswith("hf-hub:")


def test_a_conditional_models_card_says_its_labels() -> None:
    data = DATA | {"classes": ["cat", "dog", "cow"]}
    card = model_card(config(data=data, **CONDITIONAL), {})
    assert "| labels | 0 cat, 1 dog, 2 cow |" in card
    assert "labels=0" in card
    assert "3 classes" in card
    many = model_card(config(data=DATA | {"classes": [f"c{n}" for n in range(100)]}, **CONDITIONAL), {})
    assert "19 c19 and 80 more |" in many
    assert "labels" not in model_card(config(data=data), {}).split("## Training")[0].replace("without labels", "")


def test_metrics_come_with_their_protocol_and_their_lack_is_said() -> None:
    bare = model_card(config(), {})
    assert "Not evaluated: no metric of image quality was measured." in bare
    assert "statistics" not in bare
    measured = model_card(config(), {"loss/generator": 0.25}, metrics=[Metric(name="FID", value=12.5, protocol="50k")])
    assert "| FID | 12.5 | 50k |" in measured
    assert "Not evaluated" not in measured
    assert "| `loss/generator` | 0.25 |" in measured


def metric(
    name: str = "fd-mnist-convnet", value: float = 3.25, protocol: str = "50,000 samples against ten images"
) -> Metric:
    return Metric(name=name, value=value, protocol=protocol)


def test_the_hub_is_told_the_numbers_that_were_measured_against_the_models_own_data() -> None:
    protocol = "50,000 samples against 10 images of ten images; k 3"
    others = [metric("diversity", 0.5, "mean distance"), metric("fd-x", 1e-07, protocol)]
    card = model_card(config(), {}, metrics=[metric(protocol=protocol), *others])
    assert header(card)["model-index"] == [
        {
            "name": "tiny",
            "results": [
                {
                    "task": {"type": "unconditional-image-generation"},
                    "dataset": {"name": "ten images", "type": "other"},
                    "metrics": [
                        {
                            "type": "fd-mnist-convnet",
                            "name": "fd-mnist-convnet",
                            "value": 3.25,
                            "args": {"protocol": protocol},
                        },
                        {"type": "fd-x", "name": "fd-x", "value": 1e-07, "args": {"protocol": protocol}},
                    ],
                }
            ],
        }
    ]
    found = huggingface_hub.ModelCard(card).data.eval_results
    assert [(one.metric_name, one.metric_value) for one in found] == [("fd-mnist-convnet", 3.25), ("fd-x", 1e-07)]
    assert "| diversity | 0.5 | mean distance |" in card


def test_the_hub_files_numbers_under_its_own_name_of_the_data() -> None:
    card = model_card(config(data__source="mnist"), {}, metrics=[metric()])
    assert header(card)["model-index"][0]["results"][0]["dataset"] == {"name": "ten images", "type": "ylecun/mnist"}


@pytest.mark.parametrize("data", [{}, {"description": ""}, {"description": "other images"}])
def test_a_header_without_numbers_of_its_data_has_no_index(data: dict[str, Any]) -> None:
    assert "model-index" not in header(model_card(config(data=data), {}, metrics=[metric()]))


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("modes-mnist-convnet", "which of the kinds"),
        ("recall-cifar-convnet", "which of the kinds"),
        ("memorisation-pixels", "near copies"),
    ],
)
def test_what_was_measured_is_no_longer_called_unknown(name: str, gone: str) -> None:
    def limits(*metrics: Metric) -> str:
        return " ".join(model_card(config(), {}, metrics=metrics).split("## Limits")[1].split("## Files")[0].split())

    assert gone in limits()
    assert gone in limits(metric())
    assert gone not in limits(metric(name))
    assert limits(metric(name)).endswith("whether it is fit for anything but research.")
    both = limits(metric("modes"), metric("memorisation"))
    assert both.endswith("Not examined: whether it is fit for anything but research.")


def test_a_long_protocol_is_told_whole() -> None:
    protocol = "word " * 100 + "end"
    assert protocol in model_card(config(), {}, metrics=[metric(protocol=protocol)])


def test_a_model_without_training_claims_none() -> None:
    card = model_card(config(step=0), {})
    assert "No training is recorded" in card
    for claim in ("optimiser", "kimg", "objective", "moving average"):
        assert claim not in card


def test_training_is_told_in_words() -> None:
    schedule = {"schedule": "cosine", "start": 8e-4, "end": 1e-4, "kimg": 160}
    changes = {
        "optimizer__lr": schedule,
        "optimizer__discriminator": {"lr": 4e-4},
        "train__discriminator_steps": 5,
        "ema__ramp": 0.1,
    }
    card = model_card(config(**changes), {})
    assert "| G's optimiser | `adam`, learning rate 0.0008 to 0.0001 (cosine to 160 kimg), betas 0.5 and 0.9 |" in card
    assert "| D's optimiser | `adam`, learning rate 0.0004, betas 0.5 and 0.9 |" in card
    assert "| update | `sequential`, batches of 4, 5 updates of D for one of G |" in card
    assert "| average's half-life | 0.02 kimg, at most 0.1 of the images drawn so far |" in card


def test_metrics_json_gives_the_numbers_of_a_card() -> None:
    fields = {"schema_version": 1, "training": {"a": 1}, "metrics": [{"name": "FID", "value": 2, "protocol": "p"}]}
    assert card_numbers(fields) == ({"a": 1.0}, [{"name": "FID", "value": 2.0, "protocol": "p"}])
    assert card_numbers({}) == ({}, [])


@pytest.mark.parametrize("fields", [{"training": []}, {"training": {"a": "x"}}, {"metrics": [{}]}, {"metrics": 3}])
def test_metrics_that_are_none_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match=r"metrics\.json does not hold metrics as it should"):
        card_numbers(fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("---\na: b\n---\n", True), ("---\r\n", True), ("# x\n---\n", False), ("", False), ("----\n", False)],
)
def test_a_header_is_known_by_its_first_line(text: str, expected: bool) -> None:
    assert has_header(text) == expected
