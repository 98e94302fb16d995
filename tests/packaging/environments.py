"""Building wheels, and environments into which they are really installed.

The environments are made without pip (ours installs into them) and see the packages of the running environment, all but
ganzoo, through a .pth file: so what is tested is what was installed, and torch need not be installed again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "tests" / "plugin_package"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index"]


def run(command: list[str | Path], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, nothing of this process's Python settings handed down."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GANZOO_", "COV"))}
    environment = {**kept, "GANZOO_HOME": str(cwd / "ganzoo_home"), **variables}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def succeed(command: list[str | Path], cwd: Path, **variables: str) -> str:
    """Run a program that must succeed and return what it printed."""
    done = run(command, cwd, **variables)
    assert done.returncode == 0, f"{command} in {cwd}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment with ganzoo in it.

    Args:
        python: its interpreter.
        site: where its own packages lie.
        outside: a folder far from any source tree.
        checkout: the source tree that it was installed from.
    """

    python: Path
    site: Path
    outside: Path
    checkout: Path

    def ganzoo(self, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command `ganzoo`."""
        return run([self.python.parent / "ganzoo", *arguments], cwd or self.outside, **variables)

    def evaluate(self, code: str, cwd: Path | None = None) -> str:
        """Return what a piece of Python prints, with the current folder on sys.path."""
        return succeed([self.python, "-c", code], cwd or self.outside).strip()


def copy_checkout(folder: Path) -> Path:
    """Copy what a wheel is built from, so that building leaves nothing in the source tree."""
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("ganzoo", "cli", "export", "zoo_configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    (folder / "tests" / "test_import.py").write_text(
        "import ganzoo.cli.main\n\n\ndef test_version():\n    assert ganzoo.__version__\n"
    )
    return folder


def _borrow(folder: Path) -> Path:
    """Fill a folder with links to the running environment's packages, but for ganzoo: an editable one comes last."""
    folder.mkdir()
    for place in dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))):
        for path in Path(place).iterdir():
            if not path.name.startswith(("ganzoo", "__editable__", "__pycache__")) and path.suffix != ".pth":
                (folder / path.name).symlink_to(path)
    return folder


def make_environment(folder: Path, *what: str | Path, checkout: Path) -> Environment:
    """Return a new environment in a folder, into which pip has installed `what`."""
    succeed([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    site = Path(succeed([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    # What builds the editable install, and nothing else of the running environment: pip must find no other ganzoo.
    tools = folder / "tools"
    tools.mkdir()
    for pattern in ("setuptools*", "_distutils_hack", "wheel*"):
        for path in Path(sysconfig.get_path("purelib")).glob(pattern):
            (tools / path.name).symlink_to(path)
    succeed([*PIP, "--python", python, "install", *OFFLINE, *what], folder, PYTHONPATH=str(tools))
    (site / "zz_running_environment.pth").write_text(f"{_borrow(folder / 'borrowed')}\n")
    (folder / "outside").mkdir()
    return Environment(python, site, folder / "outside", checkout)
