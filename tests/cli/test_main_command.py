"""The root command: lazy help, exit codes, and errors in one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ganzoo.cli import main as cli
from ganzoo.errors import DataError, GanzooError, InterruptedTraining, MissingDataError, RecipeError

HELPS = [[], ["list"], ["show"], ["train"], ["sample"], ["data"], ["data", "pack"], ["data", "info"], ["doctor"]]

# Imports the console script's function, asks for help, and says which of the slow packages came along.
_HELP_SCRIPT = """
import sys
from ganzoo.cli.main import main
sys.argv = ["ganzoo", *sys.argv[1:], "--help"]
try:
    main()
except SystemExit as end:
    slow = {"torch", "numpy", "pydantic", "rich", "PIL", "sklearn", "torchvision", "matplotlib"} & set(sys.modules)
    print("\\nSLOW:", *sorted(slow), file=sys.stderr)
    raise
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m ganzoo` as a process of its own, where no output is a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "ganzoo", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        check=False,
        timeout=120,
    )


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make `ganzoo doctor` a command that raises."""

    def install(error: BaseException) -> None:
        def callback() -> None:
            raise error

        command = click.Command("doctor", callback=callback)
        monkeypatch.setattr("ganzoo.cli.doctor.command", command)

    return install


@pytest.mark.parametrize("command", HELPS, ids=lambda words: " ".join(words) or "ganzoo")
def test_help_imports_nothing_slow(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HELP_SCRIPT, *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.startswith(" ".join(["Usage: ganzoo", *command]))
    assert done.stderr.strip() == "SLOW:"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_help_of_a_command_begins_as_the_table_says(command: str) -> None:
    help_text = CliRunner().invoke(cli.root, [command, "--help"]).stdout
    assert f"Usage: ganzoo {command}" in help_text
    assert cli.COMMANDS[command][2] in CliRunner().invoke(cli.root, ["--help"]).stdout


def test_help_of_the_root_does_not_import_the_commands() -> None:
    script = "import sys, ganzoo.cli.main as m\ntry: m.root.main(['--help'])\nexcept SystemExit: pass\n"
    script += "print([name for name in sys.modules if name.startswith('ganzoo.cli.')], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert sorted(eval(done.stderr)) == ["ganzoo.cli.main", "ganzoo.cli.output"]


def test_version_is_the_packages() -> None:
    from ganzoo import __version__

    assert CliRunner().invoke(cli.root, ["--version"]).stdout == f"ganzoo {__version__}\n"


def test_no_command_shows_the_help() -> None:
    done = CliRunner().invoke(cli.root, [])
    assert done.exit_code == 2
    assert "Usage: ganzoo" in done.output


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    done = CliRunner().invoke(cli.root, ["trian"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "ganzoo: error: There is no command 'trian'. Did you mean 'train'? See `ganzoo --help`.\n"


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    done = CliRunner().invoke(cli.root, ["train", "dcgan-digits", "--kimgs", "3"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("ganzoo: error: No such option")
    assert "--kimg" in done.stderr
    assert done.stderr.endswith("See `ganzoo train --help`.\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (GanzooError("It broke.", "Mend it."), 1, "It broke. Mend it."),
        (RecipeError("No such key."), 2, "No such key."),
        (DataError("Two\nlines."), 1, "Two lines."),
        (
            InterruptedTraining("Stopped at step 3.", "Go on with --resume."),
            1,
            "Stopped at step 3. Go on with --resume.",
        ),
        (MissingDataError("LSUN is not here.", "Get it."), 1, "LSUN is not here. Get it."),
        (KeyboardInterrupt(), 1, "Stopped by Ctrl-C."),
        (
            PermissionError(errno.EACCES, "Permission denied", "/there"),
            1,
            "Not allowed: /there (Permission denied). Choose",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "/there"), 1, "The disk is full: /there (No space left"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.png"), 1, "No such file: x.png."),
        (MemoryError("huge"), 1, "Out of memory: huge. Make batches smaller"),
        (
            ModuleNotFoundError("No module named 'onnx'", name="onnx"),
            1,
            "onnx is missing or broken: No module named 'onnx'.",
        ),
        (
            ValueError("first\nsecond"),
            1,
            "This is a bug in ganzoo, or in a plug-in: ValueError: first. Run it again with",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_line_on_standard_error(
    raising: Callable[[BaseException], None], error: BaseException, code: int, line: str
) -> None:
    raising(error)
    done = CliRunner().invoke(cli.root, ["doctor"])
    assert (done.exit_code, done.stdout) == (code, "")
    lines = done.stderr.strip().splitlines()  # after Ctrl-C click begins a new line, behind the terminal's ^C
    assert len(lines) == 1
    assert lines[0].startswith(f"ganzoo: error: {line}")


def test_a_traceback_is_shown_only_for_debugging(
    raising: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(GanzooError("It broke."))
    assert "Traceback" not in CliRunner().invoke(cli.root, ["doctor"]).stderr
    monkeypatch.setenv("GANZOO_DEBUG", "1")
    lines = CliRunner().invoke(cli.root, ["doctor"]).stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ganzoo: error: It broke."


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    cli._warn("two\nlines", UserWarning, "file.py", 3)
    cli._warn("old", DeprecationWarning, "file.py", 3)
    assert capsys.readouterr().err == "ganzoo: warning: two lines\nganzoo: warning: DeprecationWarning: old\n"


def test_python_m_ganzoo_works_and_fails_as_the_command_does() -> None:
    done = run("show", "dcgan-digit")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "ganzoo: error: There is no recipe or model named 'dcgan-digit'. Did you mean 'dcgan-digits'"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_broken_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen([sys.executable, "-m", "ganzoo", "list"], stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        assert process.communicate(timeout=60)[1] == b""
        assert process.returncode == 1


def test_signs_that_the_stream_does_not_know_become_ascii() -> None:
    done = run("list", "dcgan-digits", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "16x16" in done.stdout
    assert done.stdout.isascii()


def test_the_commands_are_found_from_the_repositorys_root_and_from_elsewhere(tmp_path: Path) -> None:
    for folder in (Path(__file__).parents[2], tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "ganzoo", "--version"], cwd=folder, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("ganzoo ")
