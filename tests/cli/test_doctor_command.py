"""`ganzoo doctor`."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ganzoo import registry
from ganzoo.cli import doctor
from ganzoo.cli.main import root


def findings(check: Any) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in check()}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions of packages to pretend; None for one that is not installed."""
    pretended: dict[str, str | None] = {}
    real = importlib.metadata.version

    def version(package: str) -> str:
        if package not in pretended:
            return real(package)
        if pretended[package] is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return str(pretended[package])

    monkeypatch.setattr(importlib.metadata, "version", version)
    return pretended


def break_import(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    real = importlib.import_module

    def import_module(module: str, package: str | None = None) -> Any:
        if module == name:
            raise error
        return real(module, package)

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_everything_that_matters_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_HOME", str(tmp_path / "not" / "there"))
    done = CliRunner().invoke(root, ["doctor", "--json"])
    value = json.loads(done.stdout)
    names = {finding["name"] for finding in value["findings"]}
    assert names >= {
        "ganzoo",
        "python",
        "torch",
        "torchvision",
        "onnx",
        "onnxruntime",
        "processor",
        "memory",
        "cache",
        "drawing",
    }
    assert value["problems"] == sum(finding["status"] == "problem" for finding in value["findings"])
    assert done.exit_code == (1 if value["problems"] else 0)
    assert all(finding["remedy"] for finding in value["findings"] if finding["status"] != "ok")
    assert not (tmp_path / "not").exists()


def test_lines_end_with_a_verdict_and_a_problem_exits_1(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = doctor.Finding("one", "ok", "fine"), doctor.Finding("two", "problem", "broken", "Mend it.")
    monkeypatch.setattr(doctor, "examine", lambda: iter([good]))
    done = CliRunner().invoke(root, ["doctor"])
    assert (done.exit_code, done.stdout) == (0, "ok       one             fine\n\nAll is well.\n")
    monkeypatch.setattr(doctor, "examine", lambda: iter([good, bad]))
    done = CliRunner().invoke(root, ["doctor"])
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1:] == ["problem  two             broken", " " * 25 + "Mend it.", "", "1 problem."]


def test_a_check_that_breaks_is_a_problem_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("first\nsecond")
        yield

    monkeypatch.setattr(doctor, "_CHECKS", (("odd", broken), ("python", doctor._python)))
    found = list(doctor.examine())
    assert (found[0].name, found[0].status, found[0].text) == ("odd", "problem", "RuntimeError: first")
    assert [finding.name for finding in found[1:]] == ["ganzoo", "python"]


def test_a_broken_torchvision_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    break_import(monkeypatch, "torchvision.ops", RuntimeError("operator torchvision::nms does not exist\nmore"))
    finding = findings(doctor._torchvision)["torchvision"]
    assert finding.status == "warning"
    assert finding.text == "cannot be imported: RuntimeError: operator torchvision::nms does not exist"
    assert "pip install --force-reinstall torch torchvision" in str(finding.remedy)


def test_both_onnxruntimes_are_a_warning(versions: dict[str, str | None]) -> None:
    versions.update({"onnxruntime": "1.22.0", "onnxruntime-gpu": "1.22.0"})
    finding = findings(doctor._onnx)["onnxruntime"]
    assert finding.status == "warning"
    assert "onnxruntime-gpu 1.22.0 and onnxruntime 1.22.0 are both installed" in finding.text
    assert "pip uninstall onnxruntime onnxruntime-gpu" in str(finding.remedy)


def test_one_onnxruntime_is_well_and_tells_its_providers(versions: dict[str, str | None]) -> None:
    versions.update({"onnxruntime": "1.22.0", "onnxruntime-gpu": None})
    finding = findings(doctor._onnx)["onnxruntime"]
    assert (finding.status, finding.text[:28]) == ("ok", "onnxruntime 1.22.0, provider")
    assert finding.text.endswith("CPU")


def test_a_missing_library_is_a_problem_and_a_missing_extra_is_not(
    versions: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions.update({"rich": None, "lmdb": None})
    break_import(monkeypatch, "rich", ModuleNotFoundError("No module named 'rich'"))
    found = findings(doctor._libraries)
    assert (found["rich"].status, found["rich"].text) == ("problem", "is not installed")
    assert found["lmdb"].status == "ok"
    assert found["lmdb"].text == "not installed: LSUN's databases cannot be read (pip install 'ganzoo[lsun]' adds it)"


def test_a_full_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    finding = findings(doctor._cache)["cache"]
    assert finding.status == "warning"
    assert "1 B free" in finding.text


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory_bytes", lambda: (8 << 30, 1 << 30))
    finding = findings(doctor._memory)["memory"]
    assert (finding.status, finding.text) == ("warning", "8.0 GiB, 1.0 GiB free")
    monkeypatch.setattr(doctor, "_memory_bytes", lambda: (8 << 30, 4 << 30))
    assert findings(doctor._memory)["memory"].status == "ok"


def test_plug_ins_are_named_and_a_broken_one_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "ganzoo.objectives": [("good", "json:loads"), ("bad", "their_absent_package:Objective")],
    }
    monkeypatch.setattr(
        registry,
        "_entry_points",
        lambda group: tuple(importlib.metadata.EntryPoint(name, at, group) for name, at in points.get(group, [])),
    )
    by_status = {finding.status: finding for finding in doctor._plugins()}
    assert by_status["ok"].text == "the objective 'good' of json"
    assert by_status["warning"].text.startswith("the objective 'bad' of their_absent_package: PluginError:")
    monkeypatch.setenv("GANZOO_PLUGINS", "0")
    assert findings(doctor._plugins)["plug-ins"].text == "turned off by GANZOO_PLUGINS=0"
