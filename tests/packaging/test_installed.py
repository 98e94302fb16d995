"""ganzoo and third parties' packages really installed: plain, editable, and run from the repository's root."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from environments import PLUGINS, Environment, succeed

import ganzoo


@pytest.fixture(params=["plain", "editable"])
def environment(request: pytest.FixtureRequest) -> Environment:
    chosen: Environment = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def outside_and_root(environment: Environment) -> dict[str, Path]:
    return {"outside": environment.outside, "root": environment.checkout}


_WHERE = """
import json, importlib, importlib.util
modules = ["ganzoo", "ganzoo.cli.main", "ganzoo.export", "ganzoo.zoo_configs"]
print(json.dumps({
    "files": [importlib.import_module(name).__file__ for name in modules],
    "recipes": importlib.import_module("ganzoo").list_recipes("dcgan-*"),
    "stray": [name for name in ("cli", "export", "zoo_configs") if importlib.util.find_spec(name) is not None],
}))
"""


def _found(environment: Environment, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(environment.evaluate(_WHERE, cwd=folder))
    return found


def test_after_a_plain_install_everything_comes_from_the_environment_and_no_stray_names(plain: Environment) -> None:
    found = _found(plain, plain.outside)
    assert all(Path(file).is_relative_to(plain.site / "ganzoo") for file in found["files"])
    assert "dcgan-digits" in found["recipes"]
    assert found["stray"] == []
    assert {path.name.partition("-")[0] for path in plain.site.iterdir() if path.is_dir()} == {
        "ganzoo",
        "ganzoo_broken",
        "ganzoo_swirl",
    }


def test_after_an_editable_install_everything_comes_from_the_checkout_and_no_stray_names(editable: Environment) -> None:
    found = _found(editable, editable.outside)
    assert all(Path(file).is_relative_to(editable.checkout) for file in found["files"])
    assert "dcgan-digits" in found["recipes"]
    assert found["stray"] == []


def test_from_the_repositorys_root_the_checkout_is_used_whole(environment: Environment) -> None:
    """With the root on sys.path ./ganzoo hides the installed package, and cli/ lies beside it, not in it."""
    found = _found(environment, environment.checkout)
    assert all(Path(file).is_relative_to(environment.checkout) for file in found["files"])
    assert "dcgan-digits" in found["recipes"]


_PRETRAINED = """
import socket
def refused(*_): raise AssertionError("a connection was tried")
socket.socket.connect = refused
import ganzoo
print({name: tuple(ganzoo.load_pretrained(name).sample(2).shape) for name in ganzoo.list_pretrained()})
"""


def test_after_a_plain_install_pretrained_models_load_without_a_network(plain: Environment) -> None:
    assert plain.evaluate(_PRETRAINED).strip() == str(
        {
            "dcgan-cifar10": (2, 3, 32, 32),
            "dcgan-digits": (2, 1, 16, 16),
            "dcgan-mnist": (2, 1, 28, 28),
            "dcgan-mnist-cond": (2, 1, 28, 28),
            "dcgan-rooms": (2, 3, 64, 64),
        }
    )


@pytest.mark.parametrize("place", ["outside", "root"])
def test_the_command_and_the_module_give_the_version(
    environment: Environment, outside_and_root: dict[str, Path], place: str
) -> None:
    folder = outside_and_root[place]
    expected = f"ganzoo {ganzoo.__version__}\n"
    assert environment.ganzoo("--version", cwd=folder).stdout == expected
    assert succeed([environment.python, "-m", "ganzoo", "--version"], folder) == expected


def test_pytest_works_from_the_root_as_a_module_and_as_a_command(environment: Environment) -> None:
    """The module puts the root on sys.path, the command (here: -P, which leaves it off) does not."""
    for options in ([], ["-P"]):
        output = succeed(
            [environment.python, *options, "-m", "pytest", "-q", "-p", "no:cacheprovider"], environment.checkout
        )
        assert "1 passed" in output.splitlines()[-1]


# ---------------------------------------------------------------------------------------------------- third parties


def test_a_plugins_recipe_is_listed_with_its_package_and_a_broken_one_with_the_reason(plain: Environment) -> None:
    done = plain.ganzoo("list", "--json")
    assert done.returncode == 0, done.stderr
    lines = {line["name"]: line for line in json.loads(done.stdout)["entries"]}
    assert lines["swirl-rings"]["origin"] == "ganzoo-swirl"
    assert lines["swirl-rings"]["broken"] is None
    assert lines["swirl-rings"]["description"].startswith("Coloured rings")
    assert lines["cracked-recipe"]["origin"] == "ganzoo-broken"
    assert "ImportError: libcracked.so.7" in lines["cracked-recipe"]["broken"]
    assert lines["dcgan-digits"]["broken"] is None


def test_a_plugins_networks_and_losses_are_used_by_name(plain: Environment) -> None:
    done = plain.ganzoo("show", "swirl-rings", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    recipe = shown["recipe"]
    assert (recipe["generator"]["name"], recipe["generator"]["width"]) == ("swirl", 16)
    assert (recipe["objective"]["name"], recipe["objective"]["margin"]) == ("swirl_margin", 0.5)
    # place 3·16 + 16, latent 8·16 + 16, two layers of 16·16 + 16, output 16·3 + 3
    assert shown["generator"]["parameters"] == 64 + 144 + 2 * 272 + 51
    wrong = plain.ganzoo("show", "swirl-rings", "--set", "generator.widht=3")
    assert wrong.returncode == 2
    assert "generator.widht is not a key (did you mean 'width'?)" in wrong.stderr


def test_a_plugins_recipe_trains_on_the_plugins_images(plain: Environment, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = plain.ganzoo("train", "swirl-rings", "--steps", "2", "--device", "cpu", "--out", str(run))
    assert done.returncode == 0, done.stderr
    config = json.loads((run / "model" / "config.json").read_text())
    assert "swirl" in json.dumps(config)
    assert (run / "model" / "generator.safetensors").is_file()


def test_a_broken_plugin_is_named_where_it_is_asked_for(plain: Environment) -> None:
    done = plain.ganzoo("show", "dcgan-digits", "--set", "generator={name='cracked', latent_dim=8}")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert (
        "The generator 'cracked' of the package 'ganzoo-broken' cannot be loaded: ImportError: libcracked.so.7" in line
    )


def test_plugins_can_be_turned_off(plain: Environment) -> None:
    names = [line["name"] for line in json.loads(plain.ganzoo("list", "--json", GANZOO_PLUGINS="0").stdout)["entries"]]
    assert "dcgan-digits" in names
    assert not {"swirl-rings", "cracked-recipe"} & set(names)
    done = plain.ganzoo("show", "swirl-rings", GANZOO_PLUGINS="0")
    assert done.returncode == 2
    assert "There is no recipe or model named 'swirl-rings'" in done.stderr


def test_a_plugins_own_tests_hold_it_to_the_contract(plain: Environment) -> None:
    folder = PLUGINS / "swirl" / "tests"
    output = succeed(
        [plain.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, folder], plain.outside
    )
    assert "4 passed" in output.splitlines()[-1]
