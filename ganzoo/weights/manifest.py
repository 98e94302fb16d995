"""The manifest of published weights: which models there are, what their files must be, where they are to be had.

It is TOML, `ganzoo/weights/manifest.toml`; its first comment explains the fields. It is read strictly: an unknown key,
a name that is no plain file name or a digest that is none is refused. Reading it takes milliseconds and imports neither
torch nor pydantic, because `ganzoo list` reads it.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import UsageError, WeightsError, suggest
from ganzoo.fetching import is_address

if TYPE_CHECKING:
    from ganzoo.card import Metric

SCHEMA_VERSION = 1
REQUIRED_FILES = ("config.json", "generator.safetensors")

_MODEL_NAME = re.compile(
    r"(?=.{1,64}$)[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*"
)  # a recipe's, but no ".." nor "." at its end
_NAME_REMEDY = "Use up to 64 of a-z, 0-9, '_', '-' and single dots."
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")  # no separators, no "..", not hidden
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 1 << 40
_MAX_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True)
class PublishedFile:
    """What a file must be.

    Args:
        sha256: of its bytes, in hexadecimal.
        bytes: its size.
    """

    sha256: str
    bytes: int


@dataclass(frozen=True)
class PublishedModel:
    """One model of the manifest.

    Args:
        name: by which it is loaded.
        recipe: the name of the recipe that it was trained by.
        licence: of its weights.
        data: what it was trained on.
        torch: version that trained it.
        files: name → what the file must be.
        metrics: what was measured of it: name, value and protocol.
        urls: addresses of folders that hold its files.
        packaged: whether ganzoo's package holds its files.
    """

    name: str
    recipe: str
    licence: str
    data: str
    torch: str
    files: Mapping[str, PublishedFile]
    metrics: tuple[Metric, ...] = ()
    urls: tuple[str, ...] = ()
    packaged: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 over names and digests of all files, in hexadecimal: two versions of a model differ in it."""
        lines = "".join(f"{file.sha256}  {name}\n" for name, file in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.bytes for file in self.files.values())


@dataclass(frozen=True)
class Manifest:
    """All published models, by name."""

    models: Mapping[str, PublishedModel]


def read_manifest(path: Path) -> Manifest:
    """Return what a manifest file says.

    Raises:
        WeightsError: it is missing, is no manifest, or was written by a newer ganzoo.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise WeightsError(f"The manifest {path} cannot be read: {reason}.", "Install ganzoo again.") from error
    if len(content) > _MAX_MANIFEST_BYTES:
        raise WeightsError(f"{path} is larger than 4 MiB: it is no manifest.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is not TOML: it is not UTF-8 text.") from error
    return parse_manifest(text, str(path))


def parse_manifest(text: str, where: str) -> Manifest:
    """Return what a manifest's text says.

    Args:
        text: TOML.
        where: the file's name, for messages.

    Raises:
        WeightsError: it is no manifest, holds an unknown key or a value that cannot be, or is newer.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{where} is not TOML: {(str(error).splitlines() or ['?'])[0].rstrip('.')}.") from error
    version = table.get("schema_version")
    if type(version) is not int or version < 1:
        raise WeightsError(f"{where} is no manifest of weights: schema_version = {version!r}.")
    if version > SCHEMA_VERSION:
        raise WeightsError(
            f"{where}: schema_version = {version} is newer than this ganzoo knows ({SCHEMA_VERSION}).", "Update ganzoo."
        )
    root = _Table(table, where, "")
    root.take("schema_version", int)
    models = root.take("models", dict, {})
    root.end()
    return Manifest({name: _model(name, one, where) for name, one in sorted(models.items())})


def check_model_name(name: str) -> None:
    """Refuse a name under which no model can be published: a folder is called by it.

    Raises:
        UsageError: it is no such name.
    """
    if not _is_model_name(name):
        raise UsageError(f"{name[:80]!r} is no model's name.", _NAME_REMEDY)


def _is_model_name(name: str) -> bool:
    return _MODEL_NAME.fullmatch(name) is not None


def _model(name: str, given: Any, where: str) -> PublishedModel:
    place = f"models.{name}"
    if not _is_model_name(name):
        raise WeightsError(f"{where}: {name[:80]!r} is no model's name.", _NAME_REMEDY)
    table = _Table(given, where, place)
    model = PublishedModel(
        name=name,
        recipe=table.text("recipe"),
        licence=table.text("licence"),
        data=table.text("data"),
        torch=table.text("torch"),
        files=_files(table.take("files", dict), where, f"{place}.files"),
        metrics=tuple(
            read_metric(one, where, f"{place}.metrics.{index}")
            for index, one in enumerate(table.take("metrics", list, []))
        ),
        urls=tuple(_url(one, where, f"{place}.urls") for one in table.take("urls", list, [])),
        packaged=table.take("packaged", bool, False),
    )
    table.end()
    if not model.packaged and not model.urls:
        raise WeightsError(f"{where}: {place} is neither packaged nor has it urls, so it is nowhere to be had.")
    return model


def _files(given: Mapping[str, Any], where: str, place: str) -> dict[str, PublishedFile]:
    files = {}
    for name, entry in given.items():
        if not _FILE_NAME.fullmatch(name) or len(name) > 128:
            raise WeightsError(f"{where}: {place} names {name[:80]!r}, which is no plain file name.")
        table = _Table(entry, where, f"{place}.{name}")
        sha256, size = table.text("sha256"), table.take("bytes", int)
        table.end()
        if not _SHA256.fullmatch(sha256):
            raise WeightsError(f"{where}: {place}.{name}.sha256 = {sha256[:80]!r} is not 64 hexadecimal digits.")
        if not 0 < size <= _MOST_BYTES:
            raise WeightsError(f"{where}: {place}.{name}.bytes = {size} is no size.")
        files[name] = PublishedFile(sha256, size)
    if len({name.lower() for name in files}) != len(files):
        raise WeightsError(f"{where}: {place} has names that differ only in upper and lower case.")
    if missing := [name for name in REQUIRED_FILES if name not in files]:
        raise WeightsError(f"{where}: {place} lacks {' and '.join(missing)}.")
    return files


def read_metric(given: Any, where: str, place: str) -> Metric:
    """Return a metric as a table tells it.

    Args:
        given: with name, value and protocol.
        where: the file's name, for messages.
        place: the table's place in it, with dots.

    Raises:
        WeightsError: it is something else.
    """
    table = _Table(given, where, place)
    name, value, protocol = table.text("name"), table.take("value", float), table.text("protocol")
    table.end()
    if not math.isfinite(value):
        raise WeightsError(f"{where}: {place}.value = {value} is no finite number.")
    return {"name": name, "value": value, "protocol": protocol}


def _url(given: Any, where: str, place: str) -> str:
    if not isinstance(given, str) or not is_address(given) or "?" in given or "#" in given:
        raise WeightsError(f"{where}: {place} holds {str(given)[:80]!r}, which is no address of a folder.")
    return given


_REQUIRED: Any = object()
_KINDS: dict[object, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class _Table:
    """A table of which each key is taken once; `end` refuses those that nobody took."""

    def __init__(self, given: Any, where: str, place: str) -> None:
        self._where, self._place = where, place
        if not isinstance(given, dict):
            raise WeightsError(f"{where}: {place} should be a table, not {given!r:.80}.")
        self._left = dict(given)
        self._known: list[str] = []

    def take(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        """Return a value of one of `_KINDS`; a whole number is taken for a float too."""
        self._known.append(key)
        if key not in self._left:
            if default is _REQUIRED:
                raise WeightsError(f"{self._where}: {self._dotted(key)} is missing.")
            return default
        value = self._left.pop(key)
        if kind is float and type(value) is int and abs(value) < 1 << 53:
            return float(value)
        if type(value) is not kind:
            raise WeightsError(f"{self._where}: {self._dotted(key)} should be {_KINDS[kind]}, not {value!r:.80}.")
        return value

    def text(self, key: str) -> str:
        """Return a text that is one line and not empty."""
        value: str = self.take(key, str)
        if not value.strip() or not value.isprintable():
            raise WeightsError(f"{self._where}: {self._dotted(key)} = {value!r:.80} should be one line of text.")
        return value

    def end(self) -> None:
        """Refuse the keys that are left."""
        if self._left:
            unknown = min(self._left)
            raise WeightsError(
                f"{self._where}: the key {self._dotted(unknown)!r:.120} is not known.", suggest(unknown, self._known)
            )

    def _dotted(self, key: str) -> str:
        return f"{self._place}.{key}" if self._place else key
