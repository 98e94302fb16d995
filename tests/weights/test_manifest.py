"""The manifest of published weights is read strictly, and written so that it reads the same."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from ganzoo.errors import GanzooError, WeightsError
from ganzoo.weights.manifest import check_model_name, parse_manifest, read_manifest

FILE = {"sha256": "0123456789abcdef" * 4, "bytes": 10}
ENTRY: dict[str, Any] = {
    "recipe": "dcgan-mnist",
    "licence": "Apache-2.0",
    "data": "MNIST",
    "torch": "2.15.0",
    "packaged": True,
    "urls": ["https://example.org/models/"],
    "metrics": [{"name": "FID", "value": 12, "protocol": "10,000 images"}],
    "files": {name: dict(FILE) for name in ("config.json", "generator.safetensors", "README.md")},
}


def manifest(entry: object, name: str = "dcgan-mnist", **more: object) -> str:
    return tomli_w.dumps({"schema_version": 1, "models": {name: entry}, **more})


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the entry with one value set, or removed where it is None."""
    entry = copy.deepcopy(ENTRY)
    *parents, last = path.split("/")
    at: Any = entry
    for key in parents:
        at = at[int(key) if isinstance(at, list) else key]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return entry


def refusal(text: str) -> str:
    with pytest.raises(WeightsError) as caught:
        parse_manifest(text, "manifest.toml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("manifest.toml")
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_an_entry_says_what_it_holds() -> None:
    model = parse_manifest(manifest(ENTRY), "x").models["dcgan-mnist"]
    assert (model.name, model.recipe, model.licence, model.torch) == (
        "dcgan-mnist",
        "dcgan-mnist",
        "Apache-2.0",
        "2.15.0",
    )
    assert model.files["README.md"].sha256 == FILE["sha256"]
    assert model.bytes == 30
    assert model.metrics == ({"name": "FID", "value": 12.0, "protocol": "10,000 images"},)
    assert (model.urls, model.packaged) == (("https://example.org/models/",), True)


def test_a_manifest_may_be_empty_and_an_entry_may_leave_out_what_is_optional() -> None:
    assert parse_manifest("schema_version = 1", "x").models == {}
    entry = {key: value for key, value in ENTRY.items() if key not in ("urls", "metrics")}
    model = parse_manifest(manifest(entry), "x").models["dcgan-mnist"]
    assert (model.urls, model.metrics) == ((), ())


def test_the_digest_is_of_names_and_contents() -> None:
    def digest(entry: dict[str, Any]) -> str:
        return parse_manifest(manifest(entry), "x").models["dcgan-mnist"].digest

    assert len(digest(ENTRY)) == 64
    assert digest(changed("licence", "MIT")) == digest(ENTRY)
    assert digest(changed("files/README.md/sha256", "f" * 64)) != digest(ENTRY)
    assert digest(changed("files/CARD.md", FILE)) != digest(ENTRY)


@pytest.mark.parametrize("key", ["recipe", "licence", "data", "torch", "files", "files/config.json"])
def test_what_is_required_must_be_there(key: str) -> None:
    said = refusal(manifest(changed(key, None)))
    assert key.split("/")[-1] in said
    assert "missing" in said or "lacks" in said


@pytest.mark.parametrize(
    ("path", "nearest"),
    [("license", "licence"), ("url", "urls"), ("files/README.md/size", "bytes"), ("metrics/0/protocal", "protocol")],
)
def test_an_unknown_key_is_answered_with_the_nearest(path: str, nearest: str) -> None:
    said = refusal(manifest(changed(path, "x")))
    assert f"{path.replace('/', '.')}' is not known" in said
    assert nearest in said


def test_an_unknown_key_beside_the_models_is_refused() -> None:
    assert "'modles' is not known. Did you mean 'models'?" in refusal(manifest(ENTRY, modles=1))


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "",
        ".hidden",
        "a/b",
        "a\\b",
        "C:evil",
        "a..b",
        "a.",
        "nul\0",
        "line\n",
        "sp ace",
        "é",
        "~",
        "a" * 200,
    ],
)
def test_a_name_that_is_no_plain_file_name_is_refused(name: str) -> None:
    entry = copy.deepcopy(ENTRY)
    entry["files"][name] = FILE
    assert "no plain file name" in refusal(manifest(entry))
    assert "no model's name" in refusal(manifest(ENTRY, name=name))
    with pytest.raises(GanzooError, match="no model's name"):
        check_model_name(name)


def test_names_that_are_one_on_other_file_systems_are_refused() -> None:
    assert "upper and lower case" in refusal(manifest(changed("files/readme.MD", FILE)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("files/README.md/sha256", "0" * 63),
        ("files/README.md/sha256", "A" * 64),
        ("files/README.md/sha256", 1),
        ("files/README.md/bytes", 0),
        ("files/README.md/bytes", -1),
        ("files/README.md/bytes", 1 << 62),
        ("files/README.md/bytes", True),
        ("files/README.md/bytes", 1.5),
        ("files/README.md", "x"),
        ("files", []),
        ("licence", ""),
        ("licence", "two\nlines"),
        ("licence", 3),
        ("packaged", 1),
        ("urls", "https://example.org"),
        ("urls/0", "ftp://example.org"),
        ("urls/0", "example.org"),
        ("urls/0", "https://example.org/?x="),
        ("urls/0", "https://example.org/#x"),
        ("urls/0", 7),
        ("metrics", {}),
        ("metrics/0", "FID"),
        ("metrics/0/value", "12"),
        ("metrics/0/value", math.nan),
        ("metrics/0/value", math.inf),
        ("metrics/0/protocol", " "),
    ],
)
def test_a_value_that_cannot_be_is_refused(path: str, value: object) -> None:
    said = refusal(manifest(changed(path, value)))
    assert f"models.dcgan-mnist.{path.split('/')[0]}" in said


def test_a_model_that_is_nowhere_to_be_had_is_refused() -> None:
    entry = changed("urls", []) | {"packaged": False}
    assert "neither packaged nor has it urls" in refusal(manifest(entry))


@pytest.mark.parametrize("version", ["2", "999"])
def test_a_newer_manifest_says_to_update(version: str) -> None:
    assert refusal(f"schema_version = {version}\nnew_key = 1").endswith("(1). Update ganzoo.")


@pytest.mark.parametrize(
    "text", ["", "x", "schema_version = 'a'", "schema_version = true", "schema_version = 0", "a = " + "[" * 5000]
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    refusal(text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        read_manifest(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"x = '\xff'")
    with pytest.raises(WeightsError, match="not UTF-8"):
        read_manifest(tmp_path / "latin.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (5 << 20))
    with pytest.raises(WeightsError, match="larger than 4 MiB"):
        read_manifest(tmp_path / "large.toml")


WHOLE = manifest(ENTRY)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 20), st.text(max_size=6))
def test_a_damaged_manifest_raises_nothing_but_our_error(start: int, length: int, put: str) -> None:
    try:
        models = parse_manifest(WHOLE[:start] + put + WHOLE[start + length :], "manifest.toml").models
    except WeightsError as error:
        models = {}
        lines = str(error).splitlines()
        assert len(lines) == 1, lines
    for model in models.values():
        for name in model.files:
            assert Path(name).name == name
            assert ".." not in name
