"""The JSON Schema of a recipe: what ganzoo reads it allows, typical mistakes it marks, and the shipped file is its."""

from __future__ import annotations

import copy
import functools
import importlib.resources
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from torch import nn

from ganzoo import registry
from ganzoo.building import load_recipe
from ganzoo.errors import GanzooError, PluginError, RecipeError
from ganzoo.recipes import Recipe, options_model, parse_recipe, read_table
from ganzoo.recipes.json_schema import NAME_PATTERN, recipe_json_schema, schema_text

TABLES = {
    "generator": ("GeneratorSection", registry.generators),
    "discriminator": ("DiscriminatorSection", registry.discriminators),
    "objective": ("ObjectiveSection", registry.objectives),
    "penalty": ("PenaltySection", registry.penalties),
    "regularizer": ("RegularizerSection", registry.regularizers),
    "augmentation": ("AugmentationSection", registry.augmentations),
}
OWN = [
    (table, entry.name) for table, (_, known) in TABLES.items() for entry in known.entries() if entry.origin == "ganzoo"
]
ZOO = [path.stem for path in sorted((Path(__file__).resolve().parents[1] / "zoo_configs").glob("*.toml"))]
ALL_TABLES = """
schema_version = 1
name = "tiny"
[data]
source = "digits"
image_size = 8
channels = 1
[generator]
name = "dcgan"
latent_dim = 4
widths = [8]
[discriminator]
name = "dcgan"
widths = [8]
norm = "none"
[objective]
name = "non_saturating"
label_smoothing = 0.1
[[penalty]]
where = "real"
weight = { schedule = "cosine", start = 1.0, end = 0, kimg = 3 }
[[regularizer]]
name = "lecam"
weight = 0.1
[augmentation]
name = "flip"
probability = { target = 0.6 }
[optimizer]
lr = { schedule = "linear", start = 2e-4, end = 1e-5, kimg = 10 }
betas = [0, { schedule = "cosine", start = 0.9, end = 0.99, kimg = 2 }]
[optimizer.generator]
lr = 1e-4
[ema]
half_life_kimg = 5
[train]
batch_size = 16
kimg = 1
"""


@functools.cache
def schema() -> dict[str, Any]:
    return recipe_json_schema()


def complaints(table: Any, against: dict[str, Any] | None = None) -> list[str]:
    validator = jsonschema.Draft202012Validator(against or schema())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(table)]


def whole() -> dict[str, Any]:
    return copy.deepcopy(tomllib.loads(ALL_TABLES))


def test_the_shipped_file_is_of_this_version() -> None:
    """`ganzoo schema --out zoo_configs/recipe.schema.json` makes it anew."""
    shipped = importlib.resources.files("ganzoo.zoo_configs").joinpath("recipe.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == json.loads(schema_text(schema()))


def test_it_is_a_schema_of_its_dialect_and_every_reference_leads_somewhere() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    places = {f"#/$defs/{name}" for name in schema()["$defs"]}
    assert set(references(schema())) <= places
    assert {f"#/$defs/{table}-{name}" for table, name in OWN} <= set(references(schema()))


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for one in schema:
            yield from references(one)
    elif isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for one in schema.values():
            yield from references(one)


@pytest.mark.parametrize("name", ZOO)
def test_every_recipe_of_the_zoo_fits(name: str) -> None:
    table, _ = read_table(name)
    assert complaints(table) == []
    assert complaints(load_recipe(name).to_dict()) == []  # as a run's folder holds it, all defaults filled in


def test_all_tables_and_schedules_fit() -> None:
    parse_recipe(whole())
    assert complaints(whole()) == []


@pytest.mark.parametrize(("table", "name"), OWN)
def test_every_class_has_all_keys_of_its_constructor(table: str, name: str) -> None:
    section, known = TABLES[table]
    definitions = schema()["$defs"]
    given = {"image_size", "channels", "num_classes", *Recipe.model_fields, "latent_dim", "prior", "weight", "every"}
    keys = options_model(known.get(name), given - {"generator", "discriminator"}, table).model_fields.keys()
    own = definitions[f"{table}-{name}"]
    assert keys <= own["properties"].keys()
    assert own["additionalProperties"] is False
    assert own["properties"].keys() <= definitions[section]["properties"].keys()  # what editors complete
    assert name in definitions[section]["properties"]["name"]["enum"]
    assert own["description"]


MISTAKES: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("a key of a table", lambda r: r["data"].update(image_sise=8), "'image_sise' was unexpected"),
    ("a table", lambda r: r.update(optimiser={}), "'optimiser' was unexpected"),
    ("a key of a network", lambda r: r["generator"].update(wdths=[8]), "'wdths' was unexpected"),
    ("another family's key", lambda r: r["generator"].update(cardinality=1), "'cardinality' was unexpected"),
    ("a key of an objective", lambda r: r["objective"].update(margin=1.0), "'margin' was unexpected"),
    ("a key of a penalty", lambda r: r["penalty"][0].update(rul="x"), "'rul' was unexpected"),
    ("a key of a regularizer", lambda r: r["regularizer"][0].update(deacy=1), "'deacy' was unexpected"),
    ("a key of an augmentation", lambda r: r["augmentation"].update(cutout=0.5), "'cutout' was unexpected"),
    ("an unknown family", lambda r: r["generator"].update(name="dcgam"), "'dcgam' is not one of ["),
    ("no name", lambda r: r["generator"].pop("name"), "'name' is a required property"),
    ("no latent_dim", lambda r: r["generator"].pop("latent_dim"), "'latent_dim' is a required property"),
    ("no weight", lambda r: r["penalty"][0].pop("weight"), "'weight' is a required property"),
    ("no optimizer", lambda r: r.pop("optimizer"), "'optimizer' is a required property"),
    ("text for a number", lambda r: r["train"].update(kimg="1"), "'1' is not of type 'number'"),
    ("out of range", lambda r: r["data"].update(image_size=2), "2 is less than the minimum of 4"),
    ("a wrong choice", lambda r: r["data"].update(crop="centre"), "'centre' is not one of ["),
    ("a wrong choice of a class", lambda r: r["penalty"][0].update(where="reals"), "'reals' is not one of ["),
    ("a broken schedule", lambda r: r["optimizer"]["lr"].pop("kimg"), "is not valid under any of the given schemas"),
    ("a name that is no folder's", lambda r: r.update(name="My Net"), "does not match"),
    ("a later schema", lambda r: r.update(schema_version=2), "1 was expected"),
    ("a table for a list", lambda r: r.update(penalty={"weight": 1.0}), "is not of type 'array'"),
]


@pytest.mark.parametrize(("change", "message"), [one[1:] for one in MISTAKES], ids=[one[0] for one in MISTAKES])
def test_typical_mistakes_are_marked_as_ganzoo_refuses_them(
    change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    table = whole()
    change(table)
    assert any(message in one for one in complaints(table)), complaints(table)
    with pytest.raises(GanzooError):
        parse_recipe(table)


def test_a_penalty_needs_no_name_and_is_then_held_to_the_default_one() -> None:
    table = whole()
    assert "name" not in table["penalty"][0]
    assert complaints(table) == []


@pytest.mark.parametrize("name", ["a", "a-b.c_9", "9", "A", "-a", "a b", "", "ä"])
def test_the_pattern_of_a_name_is_the_one_of_the_reader(name: str) -> None:
    table = whole() | {"name": name}
    try:
        parse_recipe(table)
        allowed = True
    except RecipeError:
        allowed = False
    assert (re.search(NAME_PATTERN, name) is not None) == allowed == (complaints(table) == [])


def test_descriptions_come_from_fields_and_docstrings() -> None:
    definitions = schema()["$defs"]
    assert definitions["GeneratorSection"]["properties"]["prior"]["description"].startswith("of z:")
    assert definitions["penalty-gradient"]["properties"]["where"]["description"]
    assert definitions["generator-dcgan"]["properties"]["widths"]["description"].startswith("channels of")
    assert "digits" in definitions["DataSection"]["properties"]["source"]["description"]


def test_toml_has_no_null_and_so_has_the_schema() -> None:
    text = json.dumps(schema())
    assert '"null"' not in text
    assert ": null" not in text


# ----------------------------------------------------------------------------------------------------- plug-ins


class Wobble(nn.Module):
    """A generator of a test.

    Args:
        size: how far it
            wobbles.
        shape, speed: of the wobble.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        latent_dim: int,
        num_classes: int = 0,
        size: float = 1.0,
        shape: Literal["round", "square"] = "round",
        speed: int | None = None,
    ) -> None:
        super().__init__()


@pytest.fixture
def wobble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.generators._registered, "wobble", Wobble)


def test_classes_of_others_are_in_it_where_that_is_asked_for(wobble: None) -> None:
    assert recipe_json_schema() == schema()
    full = recipe_json_schema(plugins=True)
    table = whole()
    table["generator"] = {"name": "wobble", "latent_dim": 3, "size": 2, "shape": "square"}
    assert complaints(table, full) == []
    assert complaints(table)
    properties = full["$defs"]["generator-wobble"]["properties"]
    assert properties["size"] == {"default": 1.0, "description": "how far it wobbles.", "type": "number"}
    assert properties["speed"] == {"type": "integer", "description": "of the wobble."}
    table["generator"]["shape"] = "oval"
    assert any("'oval' is not one of" in one for one in complaints(table, full))


def test_a_plugin_that_is_broken_is_left_out_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: int) -> None:
        raise NotImplementedError

    monkeypatch.setitem(registry.objectives._registered, "broken", broken)
    told: list[PluginError] = []
    full = recipe_json_schema(plugins=True, on_broken=told.append)
    assert "broken" not in full["$defs"]["ObjectiveSection"]["properties"]["name"]["enum"]
    assert ["arguments" in str(error) for error in told] == [True]
    with pytest.raises(PluginError):
        recipe_json_schema(plugins=True)
