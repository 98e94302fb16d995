"""Registries: what wins over what, what is refused, and that nothing is imported before it is asked for."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ganzoo import registry
from ganzoo.errors import PluginError, UnknownNameError, UsageError, suggest
from ganzoo.registry import Entry, Registry

Installer = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """Install a package with entry points: (its name, the lines of its entry_points.txt)."""

    def install(package: str, entry_points: str) -> None:
        metadata = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(entry_points)
        importlib.invalidate_caches()
        registry._entry_points.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entry_points.cache_clear()
    yield install
    registry._entry_points.cache_clear()


@pytest.fixture
def networks() -> Registry[Any]:
    return Registry("network", group="test.networks", builtin={"path": "pathlib:PurePath", "date": "datetime:date"})


def define(module: str, name: str = "Net") -> type:
    return type(name, (), {"__module__": module})


def test_a_builtin_name_is_imported_when_it_is_asked_for(networks: Registry[Any]) -> None:
    from pathlib import PurePath

    assert networks.get("path") is PurePath


def test_a_registered_class_is_returned_by_the_decorator_and_found_by_name(networks: Registry[Any]) -> None:
    net = define("mine")
    assert networks.decorator("net")(net) is net
    assert networks.get("net") is net
    assert networks.name_of(net) == "net"
    assert networks.name_of(define("mine")) is None


def test_the_same_class_defined_again_replaces_the_old_one(networks: Registry[Any]) -> None:
    networks.register("net", define("notebook"))
    again = define("notebook")
    networks.register("net", again)
    assert networks.get("net") is again


@pytest.mark.parametrize(("module", "name"), [("other", "Net"), ("notebook", "Another")])
def test_another_class_of_the_same_name_is_refused(networks: Registry[Any], module: str, name: str) -> None:
    networks.register("net", define("notebook"))
    with pytest.raises(UsageError, match=r"'net' is registered already: notebook\.Net"):
        networks.register("net", define(module, name))


def test_ganzoos_own_names_cannot_be_registered(networks: Registry[Any]) -> None:
    with pytest.raises(UsageError, match=r"'path' is the name of one of ganzoo's own: pathlib:PurePath"):
        networks.register("path", define("mine"))


def test_names_come_in_natural_order_and_by_pattern(networks: Registry[Any]) -> None:
    for name in ("net-64", "net-9", "net-128"):
        networks.register(name, define("mine"))
    assert networks.names() == ["date", "net-9", "net-64", "net-128", "path"]
    assert networks.names("net-*") == ["net-9", "net-64", "net-128"]
    assert "net-9" in networks
    assert "net-8" not in networks


def test_an_unknown_name_is_answered_with_the_nearest(networks: Registry[Any]) -> None:
    with pytest.raises(UnknownNameError, match=r"There is no network named 'pth'\. Did you mean 'path'\?") as caught:
        networks.get("pth")
    assert caught.value.exit_code == 2


def test_what_is_far_from_all_names_is_answered_with_all_of_them() -> None:
    assert suggest("zzz", ["b", "a"]) == "Known: a, b."
    assert suggest("zzz", []) == "None is registered."
    assert suggest("zzz", [f"name-{index:02}" for index in range(20)]).endswith("name-11 and 8 more.")


def test_a_packages_entry_is_loaded_by_name_and_listed_with_its_package(
    networks: Registry[Any], install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("plugin_module")
    module.Net = define("plugin_module")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "plugin_module", module)
    install("ganzoo-plugin", "[test.networks]\nforeign = plugin_module:Net\n")
    assert Entry("foreign", "ganzoo-plugin") in networks.entries()
    assert networks.get("foreign") is module.Net  # type: ignore[attr-defined]


def test_listing_names_does_not_import_the_package(networks: Registry[Any], install: Installer) -> None:
    install("ganzoo-plugin", "[test.networks]\nforeign = no_such_module:Net\n")
    assert networks.names() == ["date", "foreign", "path"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('two\\nlines.')", "RuntimeError: two lines"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("syntax error", "SyntaxError"),
        ("Other = 1", "AttributeError"),
    ],
)
def test_a_broken_package_is_reported_with_its_name_and_breaks_nothing_else(
    networks: Registry[Any], install: Installer, tmp_path: Path, code: str, reason: str
) -> None:
    module = f"broken_{abs(hash(code))}"
    (tmp_path / f"{module}.py").write_text(code)
    install("ganzoo-broken", f"[test.networks]\nforeign = {module}:Net\n")
    with pytest.raises(PluginError, match="'foreign' of the package 'ganzoo-broken' cannot be loaded") as caught:
        networks.get("foreign")
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert networks.get("path").__name__ == "PurePath"
    assert "foreign" in networks.names()


def test_plugins_can_be_turned_off(
    networks: Registry[Any], install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("ganzoo-plugin", "[test.networks]\nforeign = no_such_module:Net\n")
    monkeypatch.setenv("GANZOO_PLUGINS", "0")
    assert "foreign" not in networks
    with pytest.raises(UnknownNameError):
        networks.get("foreign")
    monkeypatch.setenv("GANZOO_PLUGINS", "1")
    assert "foreign" in networks


def test_a_package_cannot_replace_ganzoos_own(networks: Registry[Any], install: Installer) -> None:
    install("ganzoo-plugin", "[test.networks]\npath = no_such_module:Net\n")
    assert Entry("path", "ganzoo") in networks.entries()
    assert networks.get("path").__name__ == "PurePath"


def test_two_packages_that_offer_one_name_are_both_named(networks: Registry[Any], install: Installer) -> None:
    install("ganzoo-one", "[test.networks]\nforeign = one:Net\n")
    install("ganzoo-two", "[test.networks]\nforeign = two:Net\n")
    with pytest.raises(PluginError, match="offered by several packages: ganzoo-one and ganzoo-two"):
        networks.get("foreign")


def test_a_packages_name_is_refused_to_others_but_not_to_the_package_itself(
    networks: Registry[Any], install: Installer
) -> None:
    install("ganzoo-plugin", "[test.networks]\nforeign = plugin_package.networks:Net\n")
    with pytest.raises(UsageError, match="'foreign' is offered by the package 'ganzoo-plugin'"):
        networks.register("foreign", define("notebook"))
    own = define("plugin_package.other")
    networks.register("foreign", own)
    assert networks.get("foreign") is own


@pytest.mark.parametrize(
    "known",
    [
        registry.generators,
        registry.discriminators,
        registry.objectives,
        registry.penalties,
        registry.sources,
    ],
    ids=lambda known: known.kind,
)
def test_every_name_of_ganzoos_own_can_be_loaded_and_called(known: Registry[Any]) -> None:
    for entry in known.entries():
        if entry.origin == "ganzoo":
            assert callable(known.get(entry.name)), entry.name


def test_listing_all_names_imports_no_torch() -> None:
    code = (
        "import sys; from ganzoo import registry as r; "
        "print([len(k.names()) > 0 for k in (r.generators, r.discriminators, r.objectives, r.penalties, r.sources)]); "
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[True, True, True, True, True]", "False False"]
