"""Mutated files and texts: whatever is in them, nothing but ganzoo's own errors comes out, each one line.

Whole files are damaged byte by byte, and their JSON entry by entry: flipped bits, cuts, insertions, other values, other
kinds of value, other keys. On every run the same 6,000 files and more are tried; for others, and for more of them:

    GANZOO_FUZZ_TIMES=20 pytest tests/test_fuzz.py
"""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import shutil
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import recipe

from ganzoo.errors import CheckpointError, GanzooError, UnknownNameError, UsageError, WeightsError
from ganzoo.model_config import ModelConfig, parse_config, read_config
from ganzoo.models import load_model, save_model
from ganzoo.references import resolve_model
from ganzoo.seeds import parse_seeds
from ganzoo.strict_json import parse_json
from ganzoo.tensors import read_header, read_metadata, read_tensors, save_tensors
from ganzoo.training.checkpoints import Counters, find_checkpoint, load_checkpoint, save_checkpoint
from ganzoo.training.networks import build_networks, build_step

TIMES = int(os.environ.get("GANZOO_FUZZ_TIMES", "1"))
TINY: dict[str, Any] = {
    "generator__widths": [2],
    "discriminator__widths": [2],
    "generator__latent_dim": 2,
    "data__image_size": 4,
}


def fuzz(examples: int, *strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Run a function on so many examples, the same ones every time unless more are asked for."""

    def decorate(function: Callable[..., None]) -> Callable[[], None]:
        asked = settings(
            max_examples=examples * TIMES,
            deadline=None,
            derandomize=TIMES == 1,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        return asked(given(*strategies)(function))

    return decorate


def is_one_line(error: GanzooError) -> None:
    """What is wrong is told in one line that a terminal can hold."""
    assert "\n" not in str(error)
    assert 0 < len(error.message) < 2000


# ---------------------------------------------------------------------------------------------------- mutations

PLACE = st.integers(0, 9999).map(lambda number: number / 10_000)  # in a file or a tree, as a share of its size
BYTES = st.binary(min_size=1, max_size=12) | st.sampled_from(
    [
        b"{",
        b"}",
        b'"',
        b"[" * 200,
        b"\xff",
        b"\0" * 8,
        b"NaN",
        b"1e999",
        b"9" * 40,
        b"\xef\xbb\xbf",
        b"-",
        b",",
        b"\\ud800",
    ]
)
NUMBERS = [0, 1, -1, 2, 3, 4, 7, 1 << 31, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63), 10**30, 0.5, -0.0, 1e308]
TEXTS = ["", "x", "dcgan", "F32", "F16", "I64", "BOOL", "ema", "\ud800", "ä" * 300]
NESTED = [[], {}, [0], [1, 2], [[]], {"x": 1}, {"name": "dcgan"}, [1] * 40, ["relu"], [0, 8], [8, 0]]
VALUES = st.sampled_from([None, True, False, float("nan"), float("inf"), *NUMBERS, *TEXTS, *NESTED])
BYTE_EDITS = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
    st.tuples(st.just("cut"), PLACE, st.none()),
    st.tuples(st.just("insert"), PLACE, BYTES),
    st.tuples(st.just("overwrite"), PLACE, BYTES),
    st.tuples(st.just("remove"), PLACE, st.integers(1, 40)),
    st.tuples(st.just("repeat"), PLACE, st.integers(1, 40)),
)
TREE_EDITS = st.one_of(
    st.tuples(st.just("value"), PLACE, VALUES),
    st.tuples(st.just("value"), PLACE, VALUES),
    st.tuples(st.just("delete"), PLACE, st.none()),
    st.tuples(st.just("rename"), PLACE, st.text(max_size=8)),
    st.tuples(st.just("add"), PLACE, VALUES),
    st.tuples(st.just("swap"), PLACE, PLACE),
    st.tuples(st.just("scale"), PLACE, st.sampled_from([-1, 0, 2, 1 << 31, 1 << 62, 0.5])),
    st.tuples(st.just("nest"), PLACE, st.integers(1, 60)),
)
SOME_BYTE_EDITS = st.lists(BYTE_EDITS, min_size=4, max_size=8)
SOME_TREE_EDITS = st.lists(TREE_EDITS, min_size=4, max_size=8)


def damaged(content: bytes, edits: list[Any]) -> Iterator[bytes]:
    """A file's bytes after each of some edits, and after all of them."""
    for edit in edits:
        yield damage(content, edit)
    yield functools.reduce(damage, edits, content)


def damage(content: bytes, edit: Any) -> bytes:
    """A file's bytes after an edit."""
    kind, place, value = edit
    at = int(place * len(content))
    before, after = content[:at], content[at:]
    if kind == "flip" and after:
        return before + bytes([after[0] ^ 1 << value]) + after[1:]
    if kind == "cut":
        return before
    if kind == "insert":
        return b"".join((before, value, after))
    if kind == "overwrite":
        return b"".join((before, value, after[len(value) :]))
    if kind == "remove":
        return before + after[value:]
    return before + after[: value if kind == "repeat" else 0] + after


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    found = []
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        keys: list[Any] = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        found += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    return found


def edited(tree: Any, edits: list[Any]) -> Iterator[Any]:
    """A tree of JSON after each of some edits, and after all of them."""
    for some in (*([one] for one in edits), edits):
        root = [copy.deepcopy(tree)]
        for edit in some:
            change(root, *edit)
        yield root[0]


def change(root: list[Any], kind: str, place: float, value: Any) -> None:
    """Edit the tree that is a list's only entry."""
    there = places(root)
    holder, key = there[int(place * len(there))]
    old = holder[key]
    if kind == "value":
        holder[key] = copy.deepcopy(value)
    elif kind == "delete" and holder is not root:
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[value] = holder.pop(key)
    elif kind == "add" and isinstance(old, dict):
        old["more"] = copy.deepcopy(value)
    elif kind == "add" and isinstance(old, list):
        old.append(copy.deepcopy(value))
    elif kind == "swap":
        other, name = there[int(value * len(there))]
        holder[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(old)
    elif kind == "scale" and type(old) in (int, float):
        holder[key] = old * value
    elif kind == "nest":
        for _ in range(value):
            old = [old]
        holder[key] = old


# ---------------------------------------------------------------------------------------------------- safetensors


def header_of(content: bytes) -> Any:
    """The JSON of a safetensors file's header."""
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def with_header(content: bytes, header: Any) -> bytes:
    """A safetensors file with another header, its length set right."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + int.from_bytes(content[:8], "little") :]


def with_metadata(content: bytes, metadata: Any) -> bytes:
    """A safetensors file with other metadata of ganzoo's, all else as it was."""
    return with_header(content, header_of(content) | {"__metadata__": {"ganzoo": json.dumps(metadata)}})


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    path = tmp_path / "weights.safetensors"
    tensors = {
        "layer.weight": torch.tensor([[1.0, -2.0]]),
        "layer.half": torch.tensor([0.5], dtype=torch.float16),
        "layer.count": torch.tensor(3),
        "layer.none": torch.zeros(0, 2),
    }
    save_tensors(path, tensors, {"schema_version": 1, "network": "generator"})
    return path.read_bytes()


def read_weights(content: bytes, path: Path) -> bool:
    """Read a file in every way; whether it was taken for whole, and if so, all that is said of it is true."""
    path.write_bytes(content)
    try:
        header = read_header(path)
        assert read_metadata(path) == header.metadata
        tensors, metadata = read_tensors(path)
    except WeightsError as error:
        is_one_line(error)
        return False
    assert metadata == header.metadata
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: entry.shape for name, entry in header.tensors.items()
    }
    return True


def test_damaged_weights_are_read_or_refused_with_a_weights_error(weights: bytes, tmp_path: Path) -> None:
    outcomes: list[bool] = []

    def read(content: bytes) -> None:
        outcomes.append(read_weights(content, tmp_path / "x.safetensors"))

    @fuzz(200, SOME_BYTE_EDITS)
    def of_bytes(edits: list[Any]) -> None:
        for content in damaged(weights, edits):
            read(content)

    @fuzz(200, SOME_TREE_EDITS)
    def of_the_header(edits: list[Any]) -> None:
        for header in edited(header_of(weights), edits):
            read(with_header(weights, header))

    @fuzz(60, SOME_TREE_EDITS)
    def of_the_metadata(edits: list[Any]) -> None:
        for metadata in edited(json.loads(header_of(weights)["__metadata__"]["ganzoo"]), edits):
            read(with_metadata(weights, metadata))

    of_bytes()
    of_the_header()
    of_the_metadata()
    assert len(outcomes) >= 2300
    assert any(outcomes)
    assert outcomes.count(False) > 0.8 * len(outcomes)


# ---------------------------------------------------------------------------------------------------- config


@pytest.fixture(scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    folder.mkdir()
    made = recipe(**TINY)
    data = {"description": "ten images", "content_sha256": "0" * 64, "images": 10, "classes": ["a", "b"]}
    save_model(folder, ModelConfig(made, "ema", 6, 0.024, data), *build_networks(made))
    return folder


@pytest.fixture
def model(_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_model, tmp_path / "model"))


def test_a_damaged_config_is_read_or_refused_with_an_error_of_ganzoo(model: Path) -> None:
    path = model / "config.json"
    whole = path.read_bytes()
    tried = 0

    def read(content: bytes) -> None:
        nonlocal tried
        tried += 1
        path.write_bytes(content)
        try:
            config = read_config(model)
        except (WeightsError, UnknownNameError) as error:
            is_one_line(error)
        else:
            again = parse_json(config.to_json().encode())  # what was taken can be written, and is then taken again
            assert parse_config(again, "x") == config

    @fuzz(150, SOME_BYTE_EDITS)
    def of_bytes(edits: list[Any]) -> None:
        for content in damaged(whole, edits):
            read(content)

    @fuzz(250, SOME_TREE_EDITS)
    def of_entries(edits: list[Any]) -> None:
        for fields in edited(json.loads(whole), edits):
            read(json.dumps(fields).encode())

    of_bytes()
    of_entries()
    assert tried >= 2000


def test_a_model_with_a_damaged_config_is_loaded_or_refused(model: Path) -> None:
    path = model / "config.json"
    whole = json.loads(path.read_bytes())

    @fuzz(20, st.sampled_from(["data", "generator", "discriminator"]), SOME_TREE_EDITS)
    def of_the_networks(section: str, edits: list[Any]) -> None:
        for changed in edited(whole["recipe"][section], edits):
            path.write_text(json.dumps(whole | {"recipe": whole["recipe"] | {section: changed}}))
            try:
                loaded = load_model(model)
            except GanzooError as error:
                is_one_line(error)
            else:
                assert loaded.sample(1).shape == (1, 1, 4, 4)

    of_the_networks()


# ---------------------------------------------------------------------------------------------------- checkpoint

CHECKPOINT_FILES = ("state.safetensors", "state.json", "manifest.json")


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    step = build_step(recipe(**TINY), torch.device("cpu"), "fp32")
    older, _ = save_checkpoint(tmp_path, step, Counters(1, 0.5, {"diversity": 0.25}), keep=2)
    newer, _ = save_checkpoint(tmp_path, step, Counters(2, 0.5, {"diversity": 0.25}), keep=2)
    whole = {name: (newer / name).read_bytes() for name in CHECKPOINT_FILES}
    tried = 0

    def look(name: str, content: bytes) -> None:
        nonlocal tried
        tried += 1
        (newer / name).write_bytes(content)
        found, notes = find_checkpoint(tmp_path)
        if found == newer:  # blanks, or more keys, in the manifest change nothing
            assert content == whole[name] or name == "manifest.json"
            assert notes == ()
        else:
            assert found == older
            assert len(notes) == 1
            assert "\n" not in notes[0]
            assert len(notes[0]) < 1000

    @fuzz(100, st.sampled_from(CHECKPOINT_FILES), SOME_BYTE_EDITS)
    def of_bytes(name: str, edits: list[Any]) -> None:
        for content in damaged(whole[name], edits):
            look(name, content)
        (newer / name).write_bytes(whole[name])

    @fuzz(40, SOME_TREE_EDITS)
    def of_the_manifest(edits: list[Any]) -> None:
        for manifest in edited(json.loads(whole["manifest.json"]), edits):
            look("manifest.json", json.dumps(manifest).encode())

    of_bytes()
    of_the_manifest()
    assert tried >= 700


def test_a_checkpoint_that_its_manifest_wrongly_calls_whole_is_loaded_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    step = build_step(recipe(**TINY), torch.device("cpu"), "fp32")
    counters = Counters(1, 0.5, {"diversity": 0.25})
    folder, _ = save_checkpoint(tmp_path, step, counters, keep=1)
    whole = {name: (folder / name).read_bytes() for name in CHECKPOINT_FILES}
    tried = 0

    def load(name: str, content: bytes) -> None:
        nonlocal tried
        tried += 1
        (folder / name).write_bytes(content)
        try:
            found = load_checkpoint(folder, step)
            assert type(found.step) is int
            assert found.step >= 0
        except CheckpointError as error:
            is_one_line(error)
        (folder / name).write_bytes(whole[name])

    @fuzz(80, SOME_BYTE_EDITS)
    def of_bytes(edits: list[Any]) -> None:
        for content in damaged(whole["state.safetensors"], edits):
            load("state.safetensors", content)

    @fuzz(100, SOME_TREE_EDITS)
    def of_the_header(edits: list[Any]) -> None:
        for header in edited(header_of(whole["state.safetensors"]), edits):
            load("state.safetensors", with_header(whole["state.safetensors"], header))

    @fuzz(80, SOME_TREE_EDITS)
    def of_the_counters(edits: list[Any]) -> None:
        for counters in edited(json.loads(whole["state.json"]), edits):
            load("state.json", json.dumps(counters).encode())

    of_bytes()
    of_the_header()
    of_the_counters()
    assert tried >= 1300
    assert load_checkpoint(folder, step) == counters


# ---------------------------------------------------------------------------------------------------- texts

SIGNS = ["/", "@", "~", "..", ".", "./", "../", "\\", "\0", "\n", " ", "%s", "-", "ä", "\ud800", "x" * 300]
NAMES = [
    "hf-hub:",
    "hf:",
    "http://",
    "C:",
    "org",
    "name",
    "main",
    "model",
    "dcgan-mnist",
    ".safetensors",
    ".onnx",
    ".pt",
]
REFERENCES = st.lists(st.sampled_from([*SIGNS, *NAMES]) | st.text(max_size=3), max_size=6).map("".join)


def test_a_reference_names_something_or_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    monkeypatch.setenv("GANZOO_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(model.parent))

    @fuzz(300, REFERENCES)
    def of_pieces(text: str) -> None:
        try:
            location = resolve_model(text, cache_dir=model.parent / "cache", local_files_only=True)
        except GanzooError as error:
            is_one_line(error)
        else:
            assert location.path.exists()

    of_pieces()


SEEDS = st.lists(
    st.integers(0, 300).map(str)
    | st.integers((1 << 64) - 9, 1 << 65).map(str)
    | st.sampled_from(["-", ",", " ", "", "--", ",,", "٣", "²", "\n", "1e3", "0x1", "1" * 5000, "\0", "+1", "_"]),
    max_size=6,
).map("".join)


def expected_seeds(text: str) -> list[int] | None:
    """What a text of seeds means, told in another way; None: it means nothing."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,20})( *- *([0-9]{1,20}))?", part.strip())
        if match is None:
            return None
        first, last = int(match[1]), int(match[3] or match[1])
        if last < first or last >= 1 << 64 or last - first > 10**6:
            return None
        found += range(first, last + 1)
    return found


def test_seeds_are_what_the_text_says_or_refused() -> None:
    outcomes = []

    @fuzz(400, SEEDS | st.text(string.digits[:3] + "-, ", max_size=8))
    def of_pieces(text: str) -> None:
        expected = expected_seeds(text)
        outcomes.append(expected is not None)
        try:
            assert parse_seeds(text).tolist() == expected
        except UsageError as error:
            is_one_line(error)
            assert expected is None

    of_pieces()
    assert 0.05 < sum(outcomes) / len(outcomes) < 0.95
